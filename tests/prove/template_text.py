"""What chat templates write, for every template of llama.cpp's tree, against transformers.

    python template_text.py BACKPROP TEMPLATES_FOLDER PAGE.md [NAME…]

Each template renders each conversation below, with and without the header of the next turn, by
`backprop data render` and by transformers' render_jinja_template: the texts are equal byte for
byte, or both refuse. Content that is a list of parts is joined before, as the reader of datasets
does. Exits 1 when a text differs, when only one of the two renders, when transformers refuses every
conversation (then nothing was compared), or when PAGE does not hold the table of the results.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
from transformers.utils.chat_template_utils import render_jinja_template

# It reads a variable that nobody gives.
NOT_RENDERED = {"fireworks-ai-llama-3-firefunction-v2"}
U, A, S, T = "user", "assistant", "system", "tool"


def talk(*turns, **more):
    return {"messages": [{"role": r, "content": c} for r, c in turns], **more}


def function(name, what, **properties):
    return {"type": "function", "function": {"name": name, "description": what, "parameters": {
        "type": "object", "properties": properties, "required": list(properties)}}}


def call(name, number=1, **arguments):
    return {"id": f"call{number:05d}", "type": "function",
            "function": {"name": name, "arguments": arguments}}


WEATHER = function("get_weather", "Weather of a \"city\" & more <b>", city={
    "type": "string", "description": "Its name — e.g. Zürich"})
SUM = function("add", "Adds numbers", a={"type": "number"}, b={"type": "integer", "enum": [1, 2]})
ASKED = [{"role": U, "content": "How warm is it?"}]
CALLED = ASKED + [{"role": A, "content": "", "tool_calls": [call("get_weather", city="Zürich")]}]
ANSWERED = CALLED + [{"role": T, "tool_call_id": "call00001", "name": "get_weather",
                      "content": "{\"celsius\": 21.5}"}]
CONVERSATIONS = {
    "one turn": talk((U, "Hi"), (A, "Hello!")),
    "system": talk((S, "You are kind."), (U, "Hi"), (A, "Hello!")),
    "three turns": talk((U, "1"), (A, "one"), (U, "2"), (A, "two"), (U, "3"), (A, "three")),
    "system, two turns": talk((S, "Be short."), (U, "a"), (A, "b"), (U, "c"), (A, "d")),
    "ends with the user": talk((U, "a"), (A, "b"), (U, "c")),
    "unicode": talk((S, "Ünï ©"), (U, "Grüße 鳥は 🦩\u2028?"), (A, "Ωmega\u00a0\u200bñ \U0001f469\u200d\U0001f680")),
    "white space": talk((U, "  a \n\n"), (A, "\n b\t\n "), (U, "\tc"), (A, "d  ")),
    "markup": talk((U, "<b>&amp;</b> {{ x }} {% if %}"), (A, "'\"\\ </s> <|im_end|>")),
    "empty texts": talk((S, ""), (U, ""), (A, "")),
    "thinks": talk((U, "a"), (A, "<think>\nhm\n</think>\n\nb"), (U, "c"), (A, "<think>\nso\n</think>\n\nd")),
    "reasoning": {"messages": [{"role": U, "content": "a"},
                               {"role": A, "reasoning_content": "hm", "content": "b"}]},
    "tools unused": talk((U, "a"), (A, "b"), tools=[WEATHER, SUM]),
    "tool called": {"messages": CALLED, "tools": [WEATHER]},
    "tool answered": {"messages": ANSWERED + [{"role": A, "content": "21.5 °C."}],
                      "tools": [WEATHER, SUM]},
    "two calls": {"tools": [SUM], "messages": [
        {"role": S, "content": "Count."}, {"role": U, "content": "1+2, 3+1?"},
        {"role": A, "content": "", "tool_calls": [call("add", 1, a=1, b=2), call("add", 2, a=3.5, b=1)]},
        {"role": T, "tool_call_id": "call00001", "name": "add", "content": "3"},
        {"role": T, "tool_call_id": "call00002", "name": "add", "content": "4.5"},
        {"role": A, "content": "3 and 4.5"}]},
    "parts": {"messages": [{"role": U, "content": [{"type": "text", "text": "Hi"},
                                                   {"type": "text", "text": " there"}]},
                           {"role": A, "content": [{"type": "text", "text": "Hello!"}]}]},
    "two users": talk((U, "a"), (U, "b"), (A, "c")),
}


def theirs(source, conversation, prompt):
    messages = [dict(m, content="".join(part["text"] for part in m["content"]))
                if isinstance(m["content"], list) else m for m in conversation["messages"]]
    try:
        texts, _ = render_jinja_template(
            [messages], tools=conversation.get("tools"), chat_template=source,
            add_generation_prompt=prompt, bos_token="<s>", eos_token="</s>")
        return texts[0], None
    except Exception as error:  # whatever a template may raise
        return None, f"{type(error).__name__}: {error}"


def ours(program, template, rows, prompt):
    command = [program, "data", "render", rows, "--template", str(template), "--bos", "<s>",
               "--eos", "</s>", "--json"] + ["--add-generation-prompt"] * prompt
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.split("\n") if line]
    if len(lines) != len(CONVERSATIONS):
        return [(None, done.stderr.strip())] * len(CONVERSATIONS)
    return [(line.get("text"), line.get("error")) for line in lines]


def first_difference(a, b):
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return f"byte {at}: ours {a[max(0, at - 30):at + 40]!r}, transformers {b[max(0, at - 30):at + 40]!r}"


def check(program, template, rows):
    """Equal texts, refused by both, and what is wrong."""
    source = template.read_text("utf-8")
    equal, refused, wrong = 0, [], []
    for prompt in (False, True):
        for (name, talked), mine in zip(CONVERSATIONS.items(), ours(program, template, rows, prompt)):
            text, why = theirs(source, talked, prompt)
            if text is None and mine[0] is None:
                refused.append((name, why, mine[1]))
            elif text is None or mine[0] is None:
                wrong.append(f"{name}: ours {mine[1] or 'renders'}, transformers {why or 'renders'}")
            elif text != mine[0]:
                wrong.append(f"{name}: {first_difference(mine[0], text)}")
            else:
                equal += 1
    return equal, refused, wrong


def main(program, folder, page, *names):
    bad, total, rows_out = 0, 0, []
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as rows:
        for conversation in CONVERSATIONS.values():
            rows.write(json.dumps(conversation, ensure_ascii=False) + "\n")
        rows.flush()
        for template in sorted(pathlib.Path(folder).glob("*.jinja")):
            if names and template.stem not in names:
                continue
            equal, refused, wrong = check(program, template, rows.name)
            bad += len(wrong) > 0 or equal == 0 and template.stem not in NOT_RENDERED
            total += equal
            print(f"{template.stem}: {equal} equal, {len(refused)} refused by both, {len(wrong)} wrong")
            for line in sorted(set(wrong)):
                print(f"  {line}")
            for line in refused if names else []:
                print(f"  {line}")
            rows_out.append(f"| {template.stem} | {equal} | {len(refused)} | {len(wrong)} |")
    text = "| template | equal | refused by both | differ |\n|---|---|---|---|\n" + "\n".join(rows_out) + "\n"
    if not names and text not in pathlib.Path(page).read_text():
        print(f"'{page}' does not hold this table:\n{text}")
        bad += 1
    print(f"templates: {len(rows_out)}, {total} texts equal, {bad} templates wrong")
    return bad != 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
