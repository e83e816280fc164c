"""smollm2_loss.py: mean loss on a fixed text by four programs. See smollm2_loss.sh.

Usage: smollm2_loss.py LIBRARY MODEL.gguf RUN_FOLDER LLAMA_PERPLEXITY WORK_FOLDER
The text is text.txt beside this script. Bounds: 1e-4 between ours and
transformers (both f32 on the same dequantised weights), 0.5 % on llama.cpp's perplexity (its
products quantise the activations).
"""
import math
import os
import re
import subprocess
import sys

from backprop_library import our_loss

WINDOW = 512


def write(work, name, text):
    path = os.path.join(work, name)
    with open(path, "w") as out:
        out.write(text)
    return path


def main():
    library, gguf, run, perplexity, work = sys.argv[1:]
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = os.path.split(os.path.abspath(gguf))
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    here = os.path.dirname(os.path.abspath(__file__))
    text = open(os.path.join(here, "text.txt"), encoding="ascii").read()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    whole, half = tokenizer.decode(ids[:WINDOW]), tokenizer.decode(ids[:WINDOW // 2 + 1])
    assert tokenizer(whole, add_special_tokens=False)["input_ids"] == ids[:WINDOW]
    assert tokenizer(half, add_special_tokens=False)["input_ids"] == ids[:WINDOW // 2 + 1]

    def their_loss(net, n):
        tokens = torch.tensor([ids[:n]])
        with torch.no_grad():
            return net(tokens, labels=tokens).loss.item()

    paths = {WINDOW: write(work, "whole.txt", whole), WINDOW // 2 + 1: write(work, "half.txt", half)}
    failed = False

    def compare(what, ours, theirs, bound):
        nonlocal failed
        error = abs(ours - theirs) / abs(theirs)
        verdict = "ok" if error <= bound else "FAIL"
        failed |= error > bound
        print("%-44s ours %.6f theirs %.6f relative %.1e (<= %.0e) %s"
              % (what, ours, theirs, error, bound, verdict))

    ours = {n: our_loss(library, gguf, path) for n, path in paths.items()}
    for n in paths:
        compare("base, %d tokens, transformers" % n, ours[n], their_loss(model, n), 1e-4)
    # llama-perplexity scores the second half of a window.
    long = write(work, "long.txt", tokenizer.decode(ids[:2 * WINDOW + 8]))
    out = subprocess.run([perplexity, "-m", gguf, "-f", long, "-c", str(WINDOW), "--chunks", "1",
                          "-t", "2", "-b", str(WINDOW)], capture_output=True, text=True)
    match = re.search(r"Final estimate: PPL = ([0-9.]+)", out.stdout + out.stderr)
    if match is None:
        sys.exit("llama-perplexity: " + (out.stderr + out.stdout)[-2000:])
    n, h = WINDOW, WINDOW // 2 + 1
    scored = (ours[n] * (n - 1) - ours[h] * (h - 1)) / (n - h)
    compare("base, perplexity, llama.cpp", math.exp(scored), float(match.group(1)), 5e-3)
    tuned = PeftModel.from_pretrained(model, os.path.join(run, "lora"))
    compare("adapter, %d tokens, PEFT" % WINDOW, our_loss(library, run, paths[WINDOW]),
            their_loss(tuned, WINDOW), 1e-4)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
