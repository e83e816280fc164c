"""families.py: our export of every family against llama.cpp's converter and programs. See families.sh.

Usage: families.py BACKPROP LIBRARY TOKENIZER.gguf LLAMA_PERPLEXITY LLAMA_CPP_SOURCE WORK_FOLDER [FAMILY...]
The tokenizer is SmolLM2's, but for families whose class in transformers splits texts by a pattern of
its own whatever tokenizer.json says: the converter knows a tokenizer by what it makes of a text, so
those have the real vocabulary of llama.cpp's tree.
Bounds. Tensors: equal bits, but for rope factors (1e-6: f32 against f64 arithmetic). Loss of the
text's first WINDOW tokens: 2e-5 between ours and transformers' (both f32), 1e-4 on llama.cpp's, which
prints 4 decimals and takes GELU from an f16 table.
"""
import contextlib
import importlib
import io
import json
import logging
import math
import os
import re
import subprocess
import sys

import numpy as np

from backprop_library import our_loss

WINDOW = 64
# Keys that only one of the two writes, or with another value, and why.
NAMED = {
    "general.name": "ours is the folder's name, theirs a guess from it",
    "general.size_label": "theirs: parameters counted, for the file's name",
    "general.basename": "theirs: guessed from the folder's name",
    "general.finetune": "theirs: guessed from the folder's name",
    "general.version": "theirs: guessed from the folder's name",
    "general.sampling.temp": "theirs: from generation_config.json",
    "general.sampling.top_k": "theirs: from generation_config.json",
    "general.sampling.top_p": "theirs: from generation_config.json",
}


def configs():
    import transformers as t
    base = dict(vocab_size=49152, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
                rms_norm_eps=1e-5, initializer_range=0.2, bos_token_id=1, eos_token_id=2,
                pad_token_id=2)
    small = dict(base, hidden_size=48, intermediate_size=64)
    longrope = dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.75,
                    short_factor=[1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
                    long_factor=[1.0, 2.0, 4.0, 8.0, 16.0, 32.0],
                    original_max_position_embeddings=256)
    llama3 = dict(rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0,
                  high_freq_factor=4.0, original_max_position_embeddings=8192)
    gemma = dict(small, num_key_value_heads=1, head_dim=16, query_pre_attn_scalar=16,
                 sliding_window=8, num_hidden_layers=7)
    return {
        "llama": t.LlamaConfig(**base, tie_word_embeddings=True, rope_parameters=llama3),
        "mistral": t.MistralConfig(**base, sliding_window=None),
        "qwen2": t.Qwen2Config(**dict(base, vocab_size=151936), tie_word_embeddings=True),
        "qwen3": t.Qwen3Config(**dict(base, vocab_size=151936), head_dim=24),
        "smollm3": t.SmolLM3Config(**dict(small, num_hidden_layers=5)),
        "gemma3": t.Gemma3TextConfig(**gemma),
        # llama.cpp rounds every context up to 256 tokens, and takes the long factors above the switch.
        "phi-small": t.Phi3Config(**dict(base, max_position_embeddings=512), sliding_window=262144,
                                  rope_parameters=longrope, original_max_position_embeddings=256),
    }


def make(folder, name, config, tokenizer):
    """Weights in bf16, several files; norms and biases far from their first values."""
    import torch
    from transformers import AutoModelForCausalLM
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    for key, param in model.named_parameters():
        if "norm" in key:
            param.data = (0.0 if name == "gemma3" else 1.0) + 0.2 * torch.randn_like(param)
        elif key.endswith("bias"):
            param.data = 0.5 * torch.randn_like(param)
    model.save_pretrained(folder, max_shard_size="2MB")
    tokenizer.save_pretrained(folder)
    if config.model_type == "phi3":
        # By this class the converter knows that the tokenizer is byte-level, as Phi-4-mini's.
        path = os.path.join(folder, "tokenizer_config.json")
        said = json.load(open(path))
        said["tokenizer_class"] = "GPT2Tokenizer"
        json.dump(said, open(path, "w"))
    assert os.path.exists(os.path.join(folder, "model.safetensors.index.json"))


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit("%s\n%s" % (" ".join(command), done.stdout[-3000:]))
    return done.stdout


class Converter:
    """llama.cpp's convert_hf_to_gguf.py inside this process: its imports alone take seconds."""

    def __init__(self, source):
        # It looks for files beside the first of the search path; its own gguf comes with it.
        sys.path.insert(0, source)
        self.main = importlib.import_module("convert_hf_to_gguf").main

    def __call__(self, folder, kind, output):
        said, args = io.StringIO(), sys.argv
        sys.argv = ["convert_hf_to_gguf.py", folder, "--outtype", kind, "--outfile", output]
        handler = logging.StreamHandler(said)
        logging.getLogger().addHandler(handler)
        try:
            with contextlib.redirect_stderr(said):
                self.main()
        except BaseException:
            print(said.getvalue()[-3000:])
            raise
        finally:
            logging.getLogger().removeHandler(handler)
            sys.argv = args


def export(backprop, source, format, output, *more):
    run(backprop, "export", source, "--format", format, "-o", output, *more)
    files = [f for f in os.listdir(output) if f.endswith(".gguf")]
    return os.path.join(output, files[0]) if files else output


def values(field):
    return field.contents()


def compare_keys(name, ours, theirs, named):
    """Differences without a reason in NAMED; those with one are collected in `named`."""
    bad = 0
    for key in sorted(set(ours.fields) | set(theirs.fields)):
        if key.startswith("GGUF."):
            continue
        a = values(ours.fields[key]) if key in ours.fields else None
        b = values(theirs.fields[key]) if key in theirs.fields else None
        same_type = a is None or b is None or ours.fields[key].types == theirs.fields[key].types
        close = isinstance(a, float) and isinstance(b, float) and math.isclose(a, b, rel_tol=1e-6)
        if (a == b or close) and same_type:
            continue
        if key in NAMED:
            named.add(key)
        else:
            bad += 1
            print("  %s: key %s: ours %.80r, theirs %.80r" % (name, key, a, b))
    return bad


def compare_tensors(name, ours, theirs):
    bad = 0
    a = {t.name: t for t in ours.tensors}
    b = {t.name: t for t in theirs.tensors}
    for key in sorted(set(a) | set(b)):
        if key not in a or key not in b:
            print("  %s: tensor %s only in %s" % (name, key, "ours" if key in a else "theirs"))
            bad += 1
            continue
        x, y = a[key], b[key]
        same = x.tensor_type == y.tensor_type and list(x.shape) == list(y.shape)
        if same and "rope_f" in key:
            same = np.allclose(x.data, y.data, rtol=1e-6)
        elif same:
            same = x.data.tobytes() == y.data.tobytes()
        if not same:
            print("  %s: tensor %s differs: %s %s, %s %s" % (name, key, x.tensor_type.name, x.shape,
                                                            y.tensor_type.name, y.shape))
            bad += 1
    return bad, len(a)


def llama_cpp_loss(perplexity, gguf, path, window):
    """Chunks of `window` tokens; the second half of each is scored. Needs two chunks."""
    text = run(perplexity, "-m", gguf, "-f", path, "-c", str(window), "-b", str(window), "-t", "2",
               "-ctk", "f32", "-ctv", "f32", "-fa", "off", "--no-warmup")
    found = re.search(r"Final estimate: PPL = ([0-9.]+)", text)
    if found is None:
        sys.exit(text[-2000:])
    return math.log(float(found.group(1)))


def their_losses(folder, ids):
    """transformers, f32: mean over ids[1:WINDOW]; and as llama-perplexity scores two chunks."""
    import torch
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                 attn_implementation="eager")

    def nll(tokens):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([tokens])).logits[0, :-1].double()
        return torch.nn.functional.cross_entropy(logits, torch.tensor(tokens[1:]), reduction="none")

    whole = nll(ids[:WINDOW]).mean().item()
    half = WINDOW // 2
    chunks = torch.cat([nll(ids[i * WINDOW:(i + 1) * WINDOW])[half:] for i in range(2)])
    return whole, chunks.mean().item()


def same_folder(a, b):
    from safetensors.torch import load_file
    tensors = []
    for folder in (a, b):
        all_of = {}
        for file in os.listdir(folder):
            if file.endswith(".safetensors"):
                all_of.update(load_file(os.path.join(folder, file)))
        tensors.append(all_of)
    keys = set(tensors[0]) ^ set(tensors[1])
    keys |= {k for k in set(tensors[0]) & set(tensors[1])
             if tensors[0][k].dtype != tensors[1][k].dtype
             or tensors[0][k].view(-1).tolist() != tensors[1][k].view(-1).tolist()}
    return sorted(keys)


def prove(name, config, tools, work, subject):
    import gguf
    backprop, library, perplexity, converter = tools
    folder = os.path.join(work, "tiny-" + name)
    make(folder, name, config, subject.tokenizer)
    ids, texts = subject.ids, subject.texts
    bad, named = 0, set()
    for kind in ("f32", "f16", "bf16", "q8_0"):
        theirs = os.path.join(work, name + kind + ".gguf")
        converter(folder, kind, theirs)
        ours = export(backprop, folder, "gguf", os.path.join(work, name, kind), "-q", kind)
        a, b = gguf.GGUFReader(ours), gguf.GGUFReader(theirs)
        bad += compare_keys(name + " " + kind, a, b, named)
        wrong, n = compare_tensors(name + " " + kind, a, b)
        bad += wrong
    f32 = export(backprop, folder, "gguf", os.path.join(work, name, "f32"), "-q", "f32")
    whole, chunks = their_losses(folder, ids)
    mine, from_gguf = our_loss(library, folder, texts[0]), our_loss(library, f32, texts[0])
    cpp = llama_cpp_loss(perplexity, f32, texts[1], WINDOW)
    bound = [abs(mine - whole) / whole, abs(from_gguf - whole) / whole, abs(cpp - chunks) / chunks]
    bf16 = export(backprop, folder, "gguf", os.path.join(work, name, "bf16"), "-q", "bf16")
    merged = export(backprop, folder, "merged", os.path.join(work, name, "merged"))
    back = export(backprop, bf16, "merged", os.path.join(work, name, "back"), "-q", "bf16")
    differs = same_folder(folder, merged) + same_folder(folder, back)
    again = their_losses(back, ids)[0]
    ok = bad == 0 and bound[0] < 2e-5 and bound[1] < 2e-5 and bound[2] < 1e-4 and not differs \
        and abs(again - whole) <= 1e-6 * whole
    print("%-10s %d tensors x 4 types, %d differences; loss %.6f: ours %.1e, from GGUF %.1e, "
          "llama.cpp %.1e; folders differ in %s; transformers on ours %.6f: %s"
          % (name, n, bad, whole, *bound, differs, again, "ok" if ok else "FAILED"))
    for key in sorted(named):
        print("           %s: %s" % (key, NAMED[key]))
    return ok


# Families whose tokenizer class knows one pattern only, and the vocabulary that it was made for.
VOCABULARIES = {"qwen2": "ggml-vocab-qwen2.gguf", "qwen3": "ggml-vocab-qwen2.gguf"}


class Subject:
    """A tokenizer, and the beginning of a text in it: ids of two windows, files of one and of two."""

    def __init__(self, tokenizer, work):
        root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
        text = open(os.path.join(root, "STYLE.md"), encoding="utf-8").read()
        text = text.encode("ascii", "ignore").decode()
        self.tokenizer = tokenizer
        self.ids = tokenizer(text, add_special_tokens=False)["input_ids"][:2 * WINDOW]
        self.texts = []
        for n in (WINDOW, 2 * WINDOW):
            self.texts.append(os.path.join(work, "text%d-%d" % (n, len(tokenizer))))
            with open(self.texts[-1], "w") as out:
                out.write(tokenizer.decode(self.ids[:n]))


def main():
    source, work = sys.argv[5:7]
    logging.getLogger().addHandler(logging.NullHandler())  # else each conversion adds one to stderr
    tools = sys.argv[1:3] + [sys.argv[4], Converter(source)]
    from transformers import AutoTokenizer
    # SmolLM2's tokenizer as our program writes it.
    export(tools[0], sys.argv[3], "merged", os.path.join(work, "smollm2"))
    subjects = {None: Subject(AutoTokenizer.from_pretrained(os.path.join(work, "smollm2")), work)}
    ok = True
    for name, config in configs().items():
        if len(sys.argv) > 7 and name not in sys.argv[7:]:
            continue
        file = VOCABULARIES.get(name)
        if file not in subjects:
            subjects[file] = Subject(AutoTokenizer.from_pretrained(os.path.join(source, "models"),
                                                                   gguf_file=file), work)
        ok = prove(name, config, tools, work, subjects[file]) and ok
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
