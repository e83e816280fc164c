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


def pieces():
    """As SentencePiece's tokenizers are written: U+2581, bytes as a last resort."""
    vocab = ["<unk>", "<s>", "\u2581", "a", "b", "ab", "\u2581a", "\u2581ab", "<0x0A>", "<0xC3>", "<0xA9>", "1"]
    steps = [{"type": "Prepend", "prepend": "\u2581"},
             {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]
    decoders = [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
                {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    return base(added_tokens=[added(0, "<unk>", special=True), added(1, "<s>", special=True)],
                normalizer={"type": "Sequence", "normalizers": steps}, pre_tokenizer=None,
                decoder={"type": "Sequence", "decoders": decoders},
                model={"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
                       "ignore_merges": True, "vocab": {t: i for i, t in enumerate(vocab)},
                       "merges": ["a b", "\u2581 ab", "\u2581 a"]})


def metaspace():
    steps = [{"type": "Strip", "strip_left": True, "strip_right": True}, {"type": "Lowercase"}, {"type": "NFKC"},
             {"type": "Replace", "pattern": {"Regex": "\\s{2,}|x(?=b)"}, "content": " "}]
    cuts = [{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True},
            {"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Contiguous"},
            {"type": "CharDelimiterSplit", "delimiter": ","}, {"type": "Digits", "individual_digits": False},
            {"type": "Split", "pattern": {"Regex": "[ab]"}, "behavior": "MergedWithPrevious", "invert": False},
            {"type": "Split", "pattern": {"String": "c"}, "behavior": "Removed", "invert": False}]
    vocab = ["a", "b", "\u2581", "\u2581a", "ab", "1"]
    return base(added_tokens=[], normalizer={"type": "Sequence", "normalizers": steps},
                pre_tokenizer={"type": "Sequence", "pretokenizers": cuts}, post_processor=None,
                decoder={"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True},
                model={"type": "BPE", "vocab": {t: i for i, t in enumerate(vocab)},
                       "merges": [["\u2581", "a"], ["a", "b"]]})


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
             "prefix": base(pre_tokenizer=prefix, normalizer={"type": "NFKD"}),
             "pieces": pieces(), "metaspace": metaspace()}
    for name, seed in seeds.items():
        (OUT / name).write_bytes(json.dumps(seed, ensure_ascii=False).encode() + b"\0\xff" + TEXT)
    (OUT / "gguf").write_bytes(gguf() + b"\0\xff" + TEXT)


if __name__ == "__main__":
    main()
