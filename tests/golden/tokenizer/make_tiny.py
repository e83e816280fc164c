"""Makes tiny/tokenizer.json, a byte-level BPE of 256 + 150 tokens, and variants.jsonl: changes to it
with the ids that Hugging Face's tokenizers then gives.

    python make_tiny.py

The first line of variants.jsonl is the list of texts; then {"patch": {key of tokenizer.json: value},
"use": [index of a text], "ids": [[...]]}. A patch of "model" holds only the members that change.
"""

import json
import pathlib

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from tokenizers import AddedToken

import lines

HERE = pathlib.Path(__file__).parent
TEXTS = lines.texts(130, 7)
FLAGS = ["a <left> b", "a \t\u2003<left>b", "x<right>  y", "<right>\n\nz", "<both> ", " <both> <both> ",
         "one<word>two", "one <word> two", "<word>", "é<word>", "_<word>", "-<word>-", "1<word>",
         "<naïve> <nai\u0308ve> NAI\u0308VE", "<plain><plain>", "<pla", "<plain", "<<plain>>", "<longer>",
         "<long><longer>", "  <right>  <left>  <both>  ", "a\u0301<left>e\u0301 <right> o\u0308"]


def byte_level(**options):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False,
            **options}


def split(pattern, behavior, invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def train():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=256 + 150, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(lines.texts(400, 3), trainer)
    special = [AddedToken("<s>", special=True), AddedToken("<|end|>", special=True),
               AddedToken("<left>", lstrip=True, normalized=False),
               AddedToken("<right>", rstrip=True, normalized=False),
               AddedToken("<both>", lstrip=True, rstrip=True, normalized=False),
               AddedToken("<word>", single_word=True, normalized=False),
               AddedToken("<naïve>", normalized=True), AddedToken("<plain>", normalized=False),
               AddedToken("<long>", normalized=False), AddedToken("<longer>", normalized=False)]
    tokenizer.add_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1",
        special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    return json.loads(tokenizer.to_str())


def variants(base):
    """Patches by what they try."""
    regex = {"Regex": "\\s+|\\p{N}{1,3}"}
    yield {}
    for name in ("NFC", "NFD", "NFKC", "NFKD"):
        yield {"normalizer": {"type": name}}
    yield {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "NFC"}]}}
    for behavior in ("Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            yield {"pre_tokenizer": sequence(split(regex, behavior, invert), byte_level())}
    yield {"pre_tokenizer": sequence(split({"String": "+ ("}, "Isolated"),
                                     split({"String": "a"}, "MergedWithNext"), byte_level())}
    yield {"pre_tokenizer": sequence(split({"Regex": "a*"}, "Isolated"), byte_level())}
    yield {"pre_tokenizer": sequence(split({"Regex": "^.|\\w+$|\\u4f60"}, "Isolated"), byte_level())}
    yield {"pre_tokenizer": sequence(split({"Regex": "[\\s\\d]+|\\S\\w*\\W"}, "Isolated"), byte_level())}
    for individual in (False, True):
        digits = {"type": "Digits", "individual_digits": individual}
        yield {"pre_tokenizer": sequence(digits, byte_level(use_regex=True))}
    yield {"pre_tokenizer": byte_level(add_prefix_space=True, use_regex=True)}
    yield {"pre_tokenizer": byte_level(add_prefix_space=True, use_regex=True),
           "normalizer": {"type": "NFD"}}
    yield {"pre_tokenizer": byte_level()}
    yield {"model": {**base["model"], "ignore_merges": True}}
    model = json.loads(json.dumps(base["model"]))
    for gone in "zĂ":
        model["merges"] = [m for m in model["merges"] if not any(gone in part for part in m)]
        # tokens keep their places: tokenizers numbers added tokens from the vocabulary's size on
        model["vocab"] = {f"<gone{i}>" if gone in t else t: i for t, i in model["vocab"].items()}
    yield {"model": model}
    yield {"model": {**model, "unk_token": "x"}}
    yield {"model": {**model, "unk_token": "x", "fuse_unk": True}}


def main():
    base = train()
    (HERE / "tiny").mkdir(exist_ok=True)
    with open(HERE / "tiny/tokenizer.json", "w", encoding="utf-8") as out:
        json.dump(base, out, ensure_ascii=False, separators=(",", ":"))
    config = {"bos_token": "<s>", "eos_token": {"content": "<|end|>"}, "chat_template": [
        {"name": "tools", "template": "no"}, {"name": "default", "template": "{{ messages }}"}]}
    with open(HERE / "tiny/tokenizer_config.json", "w", encoding="utf-8") as out:
        json.dump(config, out)
    texts = [t for t in FLAGS + TEXTS if "\0" not in t and len(t) < 200]
    with open(HERE / "variants.jsonl", "w", encoding="utf-8") as out:
        out.write(json.dumps(texts, ensure_ascii=False, separators=(",", ":")) + "\n")
        for n, patch in enumerate(variants(base)):
            fast = Tokenizer.from_str(json.dumps({**base, **patch}))
            use = [i for i in range(len(texts)) if n == 0 or i < len(FLAGS) or i % 5 == n % 5]
            ids = [fast.encode(texts[i], add_special_tokens=False).ids for i in use]
            small = dict(patch)
            if "model" in patch:  # what differs from the base, as the test applies it
                small["model"] = {k: v for k, v in patch["model"].items() if v != base["model"][k]}
            row = {"patch": small, "use": use, "ids": ids}
            out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
