"""Writes the references of the data tests: a small tokenizer and, for each template and row, the
token ids and loss marks that transformers gives.

The loss marks come from transformers itself: every template below carries {% generation %} tags
around what the assistant writes (its text and its end token), and apply_chat_template returns the
mask of the tokens inside them. The C side never looks at those tags.
"""
import json
import pathlib

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<|end|>", "<end_of_turn>",
            "<|user|>", "<|assistant|>", "<start_of_turn>"]

GEN, END = "{% generation %}", "{% endgeneration %}"
TEMPLATES = {
    # ChatML with a default system turn, as SmolLM2 writes it.
    "chatml": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
              "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
              "{% if message['role'] == 'assistant' %}{{ '<|im_start|>assistant\n' }}"
              + GEN + "{{ message['content'] + '<|im_end|>' }}" + END + "{{ '\n' }}{% else %}"
              "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
              "{% endif %}{% endfor %}"
              "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    # No generation prompt; the text of a turn is trimmed; begins with the BOS token.
    "instruct": "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}"
                "{{ '[INST] ' + m.content + ' [/INST]' }}{% elif m.role == 'assistant' %}{{ ' ' }}"
                + GEN + "{{ m.content | trim }}{{ eos_token }}" + END + "{% endif %}{% endfor %}",
    # A header for each turn and no generation prompt at all.
    "headers": "{% for m in messages %}<|im_start|>{{ m.role }}\n"
               "{% if m.role == 'assistant' %}" + GEN + "{{ m.content }}<|im_end|>" + END
               + "{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}",
    # Rewrites history: thoughts of earlier turns go, the last turn always has a think block.
    "think": "{% for m in messages %}<|im_start|>{{ m.role }}\n"
             "{% if m.role == 'assistant' %}{% set text = m.content.split('</think>')[-1].lstrip('\n') %}"
             "{% if loop.last %}" + GEN + "<think>\n\n</think>\n\n{{ text }}<|im_end|>" + END + "{% else %}"
             + GEN + "{{ text }}<|im_end|>" + END + "{% endif %}"
             "{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}"
             "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    # The system text goes into the first user turn; another name for the assistant.
    "folded": "{{ bos_token }}{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}"
              "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
              "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
              "{{ raise_exception('roles must alternate') }}{% endif %}"
              "{% if m.role == 'assistant' %}<start_of_turn>model\n" + GEN
              + "{{ m.content | trim }}<end_of_turn>" + END + "\n{% else %}"
              "<start_of_turn>{{ m.role }}\n{{ (first if loop.first else '') + m.content | trim }}<end_of_turn>\n"
              "{% endif %}{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    # Closes the whole conversation with another end token.
    "closed": "{% for m in messages %}{% if m.role == 'assistant' %}<|assistant|>" + GEN
              + "{{ m.content }}<|end|>" + END + "{% else %}<|user|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
              "{% if add_generation_prompt %}<|assistant|>{% else %}{{ '<|endoftext|>' }}{% endif %}",
    # Closes every turn but the last.
    "open": "{% for m in messages %}{% if m.role == 'assistant' %}<|assistant|>\n" + GEN
            + "{{ m.content }}{% if not loop.last %}\n<|end|>{% endif %}" + END
            + "{% else %}<|user|>\n{{ m.content }}\n<|end|>{% endif %}\n{% endfor %}"
              "{% if add_generation_prompt %}<|assistant|>\nThoughts:\n{% endif %}",
    # As "think", with tool calls behind the content.
    "tools": "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}" + GEN
             + "{% if loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}"
               "{% for c in m.tool_calls %}{{ '\n' if loop.first and m.content }}<call>{{ c | tojson }}</call>{% endfor %}"
               "<|im_end|>" + END + "{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}"
               "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
}
U, A, S = (lambda c: {"role": "user", "content": c}), (lambda c: {"role": "assistant", "content": c}), (
    lambda c: {"role": "system", "content": c})
CONVERSATIONS = [
    [U("Hi"), A("Hello there!")],
    [U("yes or no?"), A("yes")],
    [S("Answer briefly."), U("One?"), A("1"), U("Two?"), A("2"), U("Three?"), A("1")],
    [U("What is é 你好 👋?"), A("naïve\nlines\n\nand 👩‍👩‍👧 emoji ")],
    [U("x"), A("")],
    [U("x"), A("one"), U("y"), A("")],
    [U("Q"), A("<think>\nhm\n</think>\n\nanswer one"), U("R"), A("<think>\nho\n</think>\n\nanswer two")],
    [U("say <|im_end|>"), A("I said <|im_end|> <|end|> </s> <end_of_turn> and more"), U("ok"), A("fine")],
    [U("left open"), A("first"), U("second")],
    [U("  spaces  "), A("  spaces  ")],
]
CALLS = {"tool_calls": [{"name": "f", "arguments": {"x": 1}}, {"name": "g", "arguments": {}}]}
TOOL_CONVERSATIONS = [
    [U("q"), A("") | CALLS, {"role": "tool", "content": "out"}, A("done")],
    [U("q"), A("let me see") | CALLS, {"role": "tool", "content": "out"}, A("done"), U("r"), A("") | CALLS],
]
# One row per format: the line of the file, and the messages or the plain text it stands for.
FORMATS = [
    ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
     [U("Hi"), A("Hello")]),
    ({"conversations": [{"from": "System", "value": "S"}, {"from": "user", "value": "a"},
                        {"from": "assistant", "value": "b"}, {"from": "HUMAN", "value": "c"},
                        {"from": "model", "value": "d"}], "id": 7}, [S("S"), U("a"), A("b"), U("c"), A("d")]),
    ({"conversations": [{"from": "human", "value": "q"}, {"from": "tool", "value": "t"},
                        {"from": "gpt", "value": "a"}]}, [U("q"), {"role": "tool", "content": "t"}, A("a")]),
    ({"instruction": "Add.", "input": "1 2", "output": "3"}, [U("Add.\n\n1 2"), A("3")]),
    ({"instruction": "Say hi.", "input": "", "output": "hi"}, [U("Say hi."), A("hi")]),
    ({"instruction": "Say hi.", "output": "hi", "system": "Sys"}, [S("Sys"), U("Say hi."), A("hi")]),
    ({"messages": [U("m"), A("n")]}, [U("m"), A("n")]),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "part one, "},
                                                {"type": "text", "text": "part two"}]}, A("n")]},
     [U("part one, part two"), A("n")]),
    ({"text": "<|im_start|>user\nhey<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n"}, [U("hey"), A("yo")]),
    ({"text": "Plain words, no roles."}, "Plain words, no roles."),
    ("A bare string.\nTwo lines.", "A bare string.\nTwo lines."),
]


def make_tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=SPECIALS, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    corpus = ["the answer is here and there", "assistant user system", "Hello there, hello again",
              "words and words\n\nand lines", "plain answer one two three"] * 20
    tokenizer.train_from_iterator(corpus, trainer)
    (HERE / "tokenizer").mkdir(exist_ok=True)
    tokenizer.save(str(HERE / "tokenizer" / "tokenizer.json"), pretty=False)
    config = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<|endoftext|>",
              "tokenizer_class": "PreTrainedTokenizerFast"}
    (HERE / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(config) + "\n", encoding="utf-8")
    return PreTrainedTokenizerFast(tokenizer_file=str(HERE / "tokenizer" / "tokenizer.json"), bos_token="<s>",
                                   eos_token="</s>", pad_token="<|endoftext|>")


def reference(tokenizer, template, messages):
    out = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=True, return_dict=True,
                                        return_assistant_tokens_mask=True)
    return {"ids": out["input_ids"], "loss": out["assistant_masks"]}


def plain(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    return {"ids": ids, "loss": [1] * len(ids)}


def main():
    tokenizer = make_tokenizer()
    with open(HERE / "spans.jsonl", "w", encoding="utf-8") as out:
        for name, template in TEMPLATES.items():
            for messages in CONVERSATIONS + (TOOL_CONVERSATIONS if name == "tools" else []):
                row = {"name": name, "template": template, "messages": messages}
                row |= reference(tokenizer, template, messages)
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
    with open(HERE / "formats.jsonl", "w", encoding="utf-8") as out:
        for line, meaning in FORMATS:
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
    with open(HERE / "formats.expected.json", "w", encoding="utf-8") as out:
        rows = [plain(tokenizer, m) if isinstance(m, str) else reference(tokenizer, TEMPLATES["chatml"], m)
                for _, m in FORMATS]
        json.dump({"template": TEMPLATES["chatml"], "rows": rows}, out)
        out.write("\n")


if __name__ == "__main__":
    main()
