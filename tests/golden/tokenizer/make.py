"""Makes smollm2.jsonl: texts with the ids that Hugging Face's tokenizers gives for SmolLM2.

    python make.py SmolLM2-135M-Instruct.Q4_1.gguf [--save tokenizer.json]

The vocabulary is read from the GGUF file by transformers. Its GGUF reader drops the `Digits` step
that the model's own tokenizer.json has, so that step is put back (llama.cpp splits by it as well).
A line is {"text" (or "hex" where it holds a NUL or is no UTF-8), "ids", "as_text": ids with control tokens as plain text, if different}.
Bytes that are no UTF-8 become the token of that byte, or nothing if there is none.
"""

import argparse
import json
import os
import pathlib

os.environ["HF_HUB_OFFLINE"] = "1"
import tokenizers
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

import lines

COUNT, BROKEN, SEED = 1000, 100, 20261123


def byte_alphabet():
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {b: chr(b) for b in plain}
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + len(table) - len(plain))
    return table


def load(path):
    path = pathlib.Path(path)
    fast = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)._tokenizer
    fast.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    return fast


def encode(fast, text, as_text):
    fast.encode_special_tokens = as_text
    return fast.encode(text, add_special_tokens=False).ids


def encode_bytes(fast, data):
    """Stretches of UTF-8 through the tokenizer, every other byte alone."""
    ids, alphabet, vocab = [], byte_alphabet(), fast.get_vocab()
    while data:
        try:
            valid = len(data.decode().encode())
        except UnicodeDecodeError as problem:
            valid = problem.start
        ids += encode(fast, data[:valid].decode(), False)
        if valid < len(data):
            ids += [vocab[alphabet[data[valid]]]] if alphabet[data[valid]] in vocab else []
            valid += 1
        data = data[valid:]
    return ids


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("gguf")
    parser.add_argument("--out", default=str(pathlib.Path(__file__).with_name("smollm2.jsonl")))
    parser.add_argument("--save", help="write the reference tokenizer.json there")
    args = parser.parse_args()
    fast = load(args.gguf)
    if args.save:
        fast.save(args.save)
    with open(args.out, "w", encoding="utf-8") as out:
        for text in lines.texts(COUNT, SEED):
            row = {"hex": text.encode().hex()} if "\0" in text else {"text": text}
            row["ids"] = encode(fast, text, False)
            as_text = encode(fast, text, True)
            if as_text != row["ids"]:
                row["as_text"] = as_text
            out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
        for data in lines.broken(BROKEN, SEED):
            row = {"hex": data.hex(), "ids": encode_bytes(fast, data)}
            out.write(json.dumps(row, separators=(",", ":")) + "\n")
    print(f"{COUNT} texts and {BROKEN} broken ones by tokenizers {tokenizers.__version__}")


if __name__ == "__main__":
    main()
