"""Makes the seeds of the fuzz target in tests/fuzz/corpus/tokenizer: small tokenizers with a text.

    python make_corpus.py
"""

import json
import pathlib
import struct

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE.parents[1] / "fuzz/corpus/tokenizer"
VOCAB = ["a", "b", "c", "Ġ", "Ċ", "1", "2", "'", "s", "Ã", "©", "ab", "Ġa", "abc", "Ã©", "Ġab"]
MERGES = [["a", "b"], ["Ġ", "a"], ["ab", "c"], ["Ã", "©"], ["Ġ", "ab"]]
TEXT = "abc ab's <s> 12\n\n é e\u0301 <u> \u00a0x".encode() + b"\xff\xc3<s>"


def added(id, content, **flags):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": False, **flags}


def base(**change):
    split = {"type": "Split", "pattern": {"Regex": " ?\\p{L}+|\\s+(?!\\S)|(?i:'s)|\\p{N}{1,3}"},
             "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"added_tokens": [added(16, "<s>", special=True, lstrip=True),
                             added(17, "<u>", normalized=True, rstrip=True, single_word=True)],
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
            "post_processor": {"type": "TemplateProcessing", "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]},
            "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(VOCAB)}, "merges": MERGES},
            **change}


def text(s):
    s = s.encode()
    return struct.pack("<Q", len(s)) + s


def strings(key, values):
    return text(key) + struct.pack("<IIQ", 9, 8, len(values)) + b"".join(map(text, values))


def gguf():
    types = [1] * len(VOCAB) + [3, 4]
    keys = [text("tokenizer.ggml.model") + struct.pack("<I", 8) + text("gpt2"),
            text("tokenizer.ggml.pre") + struct.pack("<I", 8) + text("smollm"),
            strings("tokenizer.ggml.tokens", VOCAB + ["<s>", "<u>"]),
            strings("tokenizer.ggml.merges", [" ".join(m) for m in MERGES]),
            text("tokenizer.ggml.token_type") + struct.pack("<IIQ", 9, 5, len(types)) +
            struct.pack(f"<{len(types)}i", *types),
            text("tokenizer.ggml.eos_token_id") + struct.pack("<II", 4, 16)]
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(keys)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    digits = {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {"type": "Split", "pattern": {"String": "a"}, "behavior": "MergedWithNext", "invert": True},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}]}
    prefix = {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}
    seeds = {"plain": base(), "digits": base(pre_tokenizer=digits, normalizer=None),
             "prefix": base(pre_tokenizer=prefix, normalizer={"type": "NFKD"})}
    for name, seed in seeds.items():
        (OUT / name).write_bytes(json.dumps(seed, ensure_ascii=False).encode() + b"\0\xff" + TEXT)
    (OUT / "gguf").write_bytes(gguf() + b"\0\xff" + TEXT)


if __name__ == "__main__":
    main()
