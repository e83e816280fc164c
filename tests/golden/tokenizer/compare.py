"""Compares our ids with those of Hugging Face's tokenizers on generated texts, for whole tokenizers.

    python compare.py PROGRAM [--count N] [--seed S] FOLDER|MODEL.gguf...

PROGRAM is build/tests/test_text_tokenizer_golden. A FOLDER holds tokenizer.json (and, if it has one,
tokenizer_config.json). For a GGUF file the reference is read by make.py. Each tokenizer is checked
 - on N texts, control tokens parsed and as plain text;
 - for a GGUF file: the tokenizer.json that we write from it, loaded by transformers, gives the same;
 - for a folder: the tokenizer.* keys that we write equal those of the `gguf` package's SpecialVocab,
   and our ids from that GGUF file equal those from the folder.
Exit status 1 when anything differs. Nothing is downloaded.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import gguf
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

import lines
import make


def ours(program, source, texts, as_text=False):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        for text in texts:
            row = {"hex": text.encode().hex()} if "\0" in text else {"text": text}
            if as_text:
                row["special"] = False
            file.write(json.dumps(row) + "\n")
        file.flush()
        done = subprocess.run([program, "ids", source, file.name], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{source}: {done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def write(program, what, source, target):
    done = subprocess.run([program, what, source, target], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{source}: {done.stderr}")


def report(name, texts, got, want):
    wrong = [i for i, (g, w) in enumerate(zip(got, want)) if g != w]
    print(f"{name}: {len(want) - len(wrong)} of {len(want)} equal")
    for i in wrong[:3]:
        print(f"  {texts[i]!r}\n    ours {got[i]}\n    want {want[i]}")
    return len(wrong) + abs(len(got) - len(want))


def ids(fast, texts, as_text=False):
    fast.encode_special_tokens = as_text
    return [e.ids for e in fast.encode_batch(texts, add_special_tokens=False)]


def value(field):
    return field.contents()


def check_keys(folder, written):
    """Our keys against the converter's own reader of the same folder."""
    reader = gguf.GGUFReader(written)
    have = {k: value(f) for k, f in reader.fields.items() if k.startswith("tokenizer.")}
    vocab = gguf.SpecialVocab(folder, load_merges=True)
    want = {"tokenizer.ggml.merges": vocab.merges}
    names = {"unk": "unknown", "sep": "seperator", "pad": "padding"}
    for role, token in vocab.special_token_ids.items():
        want[f"tokenizer.ggml.{names.get(role, role)}_token_id"] = token
    for role, adds in vocab.add_special_token.items():
        want[f"tokenizer.ggml.add_{role}_token"] = adds
    if isinstance(vocab.chat_template, str):
        want["tokenizer.chat_template"] = vocab.chat_template
    if "eos" not in vocab.add_special_token:  # gguf up to 0.19 does not say it, llama.cpp's tree does
        have.pop("tokenizer.ggml.add_eos_token", None)
    order = [k for k in have if k in want]
    bad = [k for k in want if have.get(k) != want[k]]
    extra = [k for k in have if k not in want and k not in (
        "tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens",
        "tokenizer.ggml.token_type")]
    fast = Tokenizer.from_file(str(pathlib.Path(folder) / "tokenizer.json"))
    for text, token in fast.get_vocab(with_added_tokens=True).items():
        if have["tokenizer.ggml.tokens"][token] != text:
            bad.append(f"token {token}")
    for key in bad + extra:
        print(f"  key {key}: ours {str(have.get(key))[:80]}, want {str(want.get(key))[:80]}")
    print(f"{folder}: pre '{have['tokenizer.ggml.pre']}', {len(order)} keys, "
          f"{len(bad) + len(extra)} differ")
    return len(bad) + len(extra)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=make.SEED)
    args = parser.parse_args()
    texts, wrong = lines.texts(args.count, args.seed), 0
    for source in args.sources:
        is_gguf = source.endswith(".gguf")
        fast = make.load(source) if is_gguf else Tokenizer.from_file(source + "/tokenizer.json")
        want = ids(fast, texts)
        wrong += report(source, texts, ours(args.program, source, texts), want)
        wrong += report(source + " as text", texts, ours(args.program, source, texts, True),
                        ids(fast, texts, True))
        with tempfile.TemporaryDirectory() as folder:
            if is_gguf:
                write(args.program, "folder", source, folder)
                saved = PreTrainedTokenizerFast.from_pretrained(folder)
                got = [saved.encode(t, add_special_tokens=False) for t in texts]
                wrong += report(source + " -> transformers", texts, got, want)
                wrong += report(source + " -> folder", texts, ours(args.program, folder, texts),
                                want)
            else:
                written = folder + "/vocab.gguf"
                write(args.program, "gguf", source, written)
                wrong += check_keys(source, written)
                wrong += report(source + " -> GGUF", texts, ours(args.program, written, texts),
                                want)
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
