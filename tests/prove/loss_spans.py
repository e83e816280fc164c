"""Which tokens carry loss, for every chat template of llama.cpp's tree.

Usage: loss_spans.py BACKPROP TEMPLATES_FOLDER WORK_FOLDER [NAME…]. Needs no Python package.

For each template a tokenizer is written that knows the template's special tokens, and
`backprop data preview --json` shows how conversations are marked. What must be marked is defined
here by looking at the text alone, not by rendering parts of it: every turn has words that stand
nowhere else, so the text says where each turn's content is.

  1. The content of every assistant turn is marked, to its last character.
  2. No character of any other message's content is marked.
  3. Behind the content, the first thing that is no white space is marked if and only if it is an
     end-of-turn token, and nothing behind that is (tool calls stand between the two).
  4. In front of the content, nothing is marked but markup of reasoning and channels, which the
     generation prompt does not contain.

Prints a row for each template: conversations that were marked right, refused (with the reason),
wrong. Exits 1 when one is wrong, when a turn cannot be placed that is in the text, or when a template
marks nothing at all.
"""
import json
import pathlib
import re
import subprocess
import sys

# The model's eos_token where the texts of llama.cpp's end-of-generation set do not name it.
EOS = {
    "Apertus": "<|assistant_end|>", "Apriel": "<|end|>", "unsloth-Apriel": "<|end|>",
    "ByteDance": "<seed:eos>", "Cohere": "<|END_OF_TURN_TOKEN|>", "CohereForAI": "<|END_OF_TURN_TOKEN|>",
    "GLM": "<|user|>", "MiniMax-M1": "<end_of_sentence>", "MiniMax-M2": "[e~[", "MiniMax-M3": "[e~[",
    "deepseek": "<｜end▁of▁sentence｜>", "llama-cpp-deepseek": "<｜end▁of▁sentence｜>",
    "Reka": "<sep>", "GigaChat3": "<|message_sep|>", "StepFun": "<|im_end|>", "tencent": "<｜hy_eos｜>",
    "Mistral": "</s>", "mistralai": "</s>", "unsloth-mistral": "</s>", "NVIDIA-Nemotron-Nano-v2": "<SPECIAL_12>",
    "poolside": "</assistant>", "Kimi-K3": "<|end_of_msg|>", "Kimi": "<|im_end|>", "moonshotai": "<|im_end|>", "ibm": "<|end_of_text|>",
    "upstage": "<|end|>", "inclusionai": "<|role_end|>", "Spark": "<｜end▁of▁sentence｜>", "muse": "<|eot|>",
    "openbmb": "<|im_end|>", "Bielik": "<|im_end|>", "llama-cpp-rwkv": "\n\n",
    "Qwen": "<|im_end|>", "MiMo": "<|im_end|>", "LFM2": "<|im_end|>",
}
CLOSERS = ["<|END_RESPONSE|>", "<|END_TEXT|>", "<|inner_suffix|>", "<|close|>", "<|sep|>", "response", "message", "</assistant>"]
KNOWN_ENDS = ["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>",
              "<|eom_id|>", "<EOT>", "</s>", "<eos>", "<|return|>", "<|call|>", "<turn|>", "<|eot|>"]
MARKUP = re.compile(r"^(\s|</?[A-Za-z_|:=\"▁｜! -]+>|<[^<>]{1,40}>|\[/?[A-Z_]+\]|◁/?think▷|final|analysis|assistant"
                    r"|Here (is|are) my (reasoning steps|response):|\[BEGIN FINAL RESPONSE\]|thinking|think|response|content|all\n|to=user)*$")

# Templates that transformers cannot render either: they read a variable that nobody gives.
NOT_RENDERED = {"fireworks-ai-llama-3-firefunction-v2": "'functions' is undefined"}

# Templates that leave the conversation, or the tool call, out of the text: nothing can carry loss.
LEFT_OUT = {("CohereForAI-c4ai-command-r-plus-tool_use", "tool"), ("microsoft-Phi-3.5-mini-instruct", "tool")}

U, A, S = "user", "assistant", "system"


def talk(*turns):
    return {"messages": [{"role": r, "content": c} for r, c in turns]}


CALL = {"id": "call12345", "type": "function",
        "function": {"name": "get_weather", "arguments": {"city": "Kyotovale"}}}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather of a city",
          "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "Name"}},
                         "required": ["city"]}}}]
CONVERSATIONS = {
    "one turn": talk((U, "Whence zebrafinch?"), (A, "Fromthe quokkaland.")),
    "system": talk((S, "Bekind always."), (U, "Whence zebrafinch?"), (A, "Fromthe quokkaland.")),
    "three turns": talk((U, "Askone here"), (A, "Replyone there."), (U, "Asktwo here"), (A, "Replytwo there."),
                        (U, "Askthree here"), (A, "Replythree there.")),
    "system, two turns": talk((S, "Bekind always."), (U, "Askone here"), (A, "Replyone there."),
                              (U, "Asktwo here"), (A, "Replytwo there.")),
    "unicode": talk((U, "Grüße 鳥は？"), (A, "Ωmega 答えは鶴 🦩 fin.")),
    "lines": talk((U, "Listplease two"), (A, "Firstline.\n\n* secondline\n\n```c\nint thirdline;\n```")),
    "ends with the user": talk((U, "Askone here"), (A, "Replyone there."), (U, "Asktwo here")),
    "same words": talk((U, "echo echo"), (A, "Parrotsay echo echo"), (U, "echo again"), (A, "Parrotsay echo again")),
    "thinks": talk((U, "Askone here"), (A, "<think>\nPonderone deep.\n</think>\n\nReplyone there.")),
    "thinks twice": talk((U, "Askone here"), (A, "<think>\nPonderone deep.\n</think>\n\nReplyone there."),
                         (U, "Asktwo here"), (A, "<think>\nPondertwo deep.\n</think>\n\nReplytwo there.")),
    "tool": {"tools": TOOLS, "messages": [
        {"role": U, "content": "Askone weather"}, {"role": A, "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "Resultone 21C", "tool_call_id": "call12345", "name": "get_weather"},
        {"role": A, "content": "Replytwo sunny."}]},
    "tools unused": {"tools": TOOLS, **talk((U, "Askone here"), (A, "Replyone there."))},
}


def byte_alphabet():
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, n = {}, 0
    for b in range(256):
        table[b] = chr(b) if b in keep else chr(256 + n)
        n += b not in keep
    return table


def specials_of(source, eos):
    found = set(re.findall(r"<\|[^\s<>|{}]{1,40}\|>|<｜[^<>{}]{1,40}｜>|</?s>|<(?:start|end)_of_turn>|<SPECIAL_\d+>"
                           r"|<\|?turn\|?>|\[/?INST\]|<seed:[a-z]+>|\]<\]|\[e~\[", source))
    return sorted(found | {eos, "<s>"} - {"\n\n"})


def write_model(folder, source, eos):
    folder.mkdir(parents=True, exist_ok=True)
    vocab = {c: b for b, c in byte_alphabet().items()}
    added = [{"id": 256 + i, "content": text, "special": True, "single_word": False, "lstrip": False,
              "rstrip": False, "normalized": False} for i, text in enumerate(specials_of(source, eos))]
    (folder / "tokenizer.json").write_text(json.dumps({
        "added_tokens": added,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "model": {"type": "BPE", "merges": [], "vocab": vocab}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "bos_token": "<s>", "eos_token": eos if eos != "\n\n" else "<s>", "chat_template": source}))
    return [a["content"] for a in added]


def ends_behind(text, at, ends, closers):
    """Where an end-of-turn token behind `at` ends; `at` when there is none. White space and the template's
    own closing markup (END_RESPONSE) may stand before it."""
    pattern = r"(?:\s|" + "|".join(map(re.escape, closers)) + ")*?(" + "|".join(map(re.escape, ends)) + ")"
    found = re.match(pattern, text[at:])
    return at + found.end() if found else at


def visible(content, text):
    """The part of an assistant's content that the template shows: all of it, or what follows its thoughts."""
    whole = content.strip()
    parts = [part.replace("<think>", "").strip() for part in whole.split("</think>")]
    return [part for part in parts if part and part in text]


def check(conversation, row, ends):
    """None when the marks are right, else what is wrong."""
    text = "".join(s["text"] for s in row["segments"])
    marks = "".join(("1" if s["loss"] else "0") * len(s["text"]) for s in row["segments"])
    at = 0
    allowed = [False] * len(text)
    for message in conversation["messages"]:
        content = message["content"]
        if message["role"] != A:
            found = text.find(content.strip(), at)
            if found >= 0:
                at = found + len(content.strip())
                if "1" in marks[found:at]:
                    return f"words of {message['role']} are marked: {content!r}"
            continue
        begin = None
        for part in visible(content, text):
            found = text.find(part, at)
            if found < 0:
                return f"not found: {part!r}"
            begin = found if begin is None else begin
            at = found + len(part)
            if "0" in marks[found:at]:
                return f"not marked: {part!r}"
        if message.get("tool_calls"):
            found = text.find("Kyotovale", at)
            if found < 0:  # the template leaves tool calls out: an empty turn is what is left
                first = marks.find("1", at)
                last = ends_behind(text, first, ends, CLOSERS) if first >= 0 else -1
                if last > first:
                    allowed[first:last] = [True] * (last - first)
                    at = last
                continue
            if marks[found:found + 9] != "1" * 9:
                return "the tool call is not marked"
            last = marks.find("0", found)
            last = len(marks) if last < 0 else last
            begin, at = (begin if begin is not None else found), last
            while begin > 0 and marks[begin - 1] == "1":
                begin -= 1
            allowed[begin:last] = [True] * (last - begin)
            continue
        if begin is None:
            return f"nothing of {content!r} is in the text"
        first = begin
        while first > 0 and marks[first - 1] == "1":
            first -= 1
        if not MARKUP.match(text[first:begin]):
            return f"marked in front of the content: {text[first:begin]!r}"
        last = ends_behind(text, at, ends, CLOSERS)
        if "0" in marks[at:last]:
            return f"the end token is not marked: {text[at:last]!r}"
        if marks[last:last + 1] == "1":
            return f"marked behind the end of the turn: {text[at:last + 20]!r}"
        allowed[first:last] = [True] * (last - first)
    for i, mark in enumerate(marks):
        if mark == "1" and not allowed[i]:
            return f"marked outside of the turns: {text[i:i + 30]!r}"
    return None


def main():
    program, templates, work = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    rows = work / "rows.jsonl"
    work.mkdir(parents=True, exist_ok=True)
    rows.write_text("".join(json.dumps(c) + "\n" for c in CONVERSATIONS.values()))
    names = list(CONVERSATIONS)
    failed = total = 0
    for path in sorted(templates.glob("*.jinja")):
        if len(sys.argv) > 4 and path.stem not in sys.argv[4:]:
            continue
        source = path.read_text()
        eos = next((e for k, e in EOS.items() if path.stem.startswith(k)), "</s>")
        specials = write_model(work / path.stem, source, eos)
        ends = [e for e in {*KNOWN_ENDS, eos} if e in specials or e == "\n\n"]
        out = subprocess.run([program, "data", "preview", rows, "-m", work / path.stem, "--rows", "100", "--json",
                              "--max-seq-length", "100000"], capture_output=True, text=True)
        if out.returncode != 0:
            reason = out.stderr.strip().splitlines()[-2]
            print(f"{path.stem:55} refused: {reason[:120]}")
            failed += NOT_RENDERED.get(path.stem, "?") not in reason
            continue
        shown = json.loads(out.stdout)
        good, wrong = [], []
        for row in shown["rows"]:
            problem = check(CONVERSATIONS[names[row["line"] - 1]], row, ends)
            (wrong if problem else good).append((names[row["line"] - 1], problem))
        refused = [(names[n["line"] - 1], n["message"]) for n in shown["notes"]]
        total += len(good)
        # What a template refuses, transformers refuses, too: template_text.py.
        odd = [name for name, why in refused if "cannot be placed" in why and (path.stem, name) not in LEFT_OUT]
        failed += len(wrong) > 0 or not good or len(odd) > 0
        print(f"{path.stem:55} {len(good):3} right {len(refused):3} refused {len(wrong):3} wrong")
        for name, problem in wrong:
            print(f"    WRONG {name}: {problem}")
        for name, message in refused:
            print(f"    refused {name}: {message}")
    print(f"{total} conversations are marked right; {failed} templates are wrong")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
