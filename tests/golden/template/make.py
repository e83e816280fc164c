"""Writes cases.jsonl: what transformers renders for small templates that use one construct each.

snippets.txt holds the templates; a line of four equal signs ends each. Every second one is rendered
with add_generation_prompt. A template that transformers refuses has "error" instead of "expected".
"""
import json
import pathlib
import sys

from transformers.utils.chat_template_utils import render_jinja_template

HERE = pathlib.Path(__file__).parent
MESSAGES = [
    {"role": "system", "content": " Be kind. "},
    {"role": "user", "content": "Hi\nthere"},
    {"role": "assistant", "content": "Héllo 👋"},
    {"role": "user", "content": "  Bye  "},
]


def cases():
    with open(HERE / "snippets.txt", encoding="utf-8", newline="") as file:
        yield from file.read().split("\n====\n")[:-1]


def main():
    with open(HERE / "cases.jsonl", "w", encoding="utf-8") as out:
        for i, template in enumerate(cases()):
            prompt = i % 2 == 1
            row = {"template": template, "add_generation_prompt": prompt}
            try:
                rendered, _ = render_jinja_template(
                    [MESSAGES], chat_template=template, add_generation_prompt=prompt,
                    bos_token="<s>", eos_token="</s>", custom=[1, 2])
                row["expected"] = rendered[0]
            except Exception as error:  # what the template may not do
                row["error"] = type(error).__name__
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    (HERE / "messages.json").write_text(json.dumps(MESSAGES, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
