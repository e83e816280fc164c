#!/usr/bin/env python3
"""Makes snapshots.json from llama.cpp's tests/snapshots: which types its rules give real models.

Run: python3 make.py PATH/llama.cpp/tests/snapshots   (version in README.md)

A snapshot lists, for every mix, the tensors that do not get the mix's default type. Here: the model's
numbers, every tensor that is listed anywhere (the others get the default everywhere), the length of
a row as far as it matters, and for each of our mixes the listed types, names grouped by layers.
"""
import json
import re
import sys
from pathlib import Path

MIXES = ("Q8_0 Q6_K Q5_K_M Q5_K_S Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_1 Q4_0 IQ4_NL IQ4_XS Q3_K_L Q3_K_M Q3_K_S Q2_K").split()
here = Path(__file__).parent
models = []


def grouped(names):
    """{"blk.%d.attn_v.weight": [[first, last], ...]}; [] for a name without a layer."""
    out = {}
    for name in names:
        match = re.match(r"blk\.(\d+)\.(.*)", name)
        if not match:
            out[name] = []
            continue
        runs, layer = out.setdefault("blk.%d." + match[2], []), int(match[1])
        if runs and runs[-1][1] == layer - 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return out


for path in sorted(Path(sys.argv[1]).glob("*.schema")):
    lines = path.read_text().splitlines()
    numbers = {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", lines[1])}
    sections, current = {}, None
    for line in lines[2:]:
        if line.startswith("["):
            current = sections.setdefault(line[1:line.index("]")], {})
        elif line:
            name, kind = line.rsplit(" ", 1)
            current[name] = kind.lower()
    every = dict.fromkeys(name for s in sections.values() for name in s)
    key = lambda n: (int(n.split(".")[1]) if n.startswith("blk.") else -1, n)
    # With q6_k no rule but the output's chooses: what else is not q6_k does not divide by 256.
    odd = [n for n, kind in sections["Q6_K"].items() if kind == "q8_0"]
    odd_32 = [n for n, kind in sections["Q8_0"].items() if kind == "f16"]
    mixes = {}
    for mix in MIXES:
        by_type = {}
        for name in sorted(sections[mix], key=key):
            by_type.setdefault(sections[mix][name], []).append(name)
        mixes[mix.lower()] = {kind: grouped(names) for kind, names in by_type.items()}
    models.append({"name": lines[0].split(": ")[1], "n_layers": numbers["n_layer"], "n_heads": numbers["n_head"],
                   "n_kv_heads": numbers["n_head_kv"], "n_experts": numbers.get("n_expert", 0),
                   "tensors": grouped(sorted(every, key=key)), "not_of_256": grouped(sorted(odd, key=key)),
                   "not_of_32": grouped(sorted(odd_32, key=key)), "mixes": mixes})
text = ",\n".join(json.dumps(m, separators=(",", ":")) for m in models)
(here / "snapshots.json").write_text("[" + text + "]\n")
