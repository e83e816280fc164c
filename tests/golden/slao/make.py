#!/usr/bin/env python3
"""make.py — references for the merge of adapters: NumPy in double, from the formulas of the paper
(arXiv 2512.23017) and of TIES and DARE, independent of the program's code.

Writes slao.safetensors: the adapters that four runs end in (two layers of q, k, v and down projections
of a tiny model, r 4), and for each mode the adapter merged from all four, and the next start. Flat
vectors: layer, role (q, k, v, o, gate, up, down), A [r, in] then B [out, r].

    python3 make.py        needs numpy and safetensors
"""
import json
import pathlib

import numpy as np
from safetensors.numpy import save_file

R, LAYERS, RUNS, TRIM, DROP = 4, 2, 4, 0.2, 0.5
# role: (out, in); the roles in the order of the flat vector
SHAPES = {"q": (32, 32), "k": (16, 32), "v": (16, 32), "o": (32, 32),
          "gate": (48, 32), "up": (48, 32), "down": (32, 48)}
ROLE_COUNT = 9  # in the program's table, which also has fused roles


def matrices():
    """(layer, role index, factor, shape, offset) in the order of the flat vector."""
    offset, found = 0, []
    for layer in range(LAYERS):
        for index, (out, inn) in enumerate(SHAPES.values()):
            for factor, shape in (("A", (R, inn)), ("B", (out, R))):
                found.append((layer, index, factor, shape, offset))
                offset += shape[0] * shape[1]
    return found, offset


MATRICES, N = matrices()


def philox_uniform(seed, stream, sub, counter):
    """Philox 4x32-10 (Salmon et al. 2011), 53 bits of the first two words."""
    key, c = [seed & 0xFFFFFFFF, seed >> 32], [counter & 0xFFFFFFFF, counter >> 32, sub, stream]
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ key[0], p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ key[1], p0 & 0xFFFFFFFF]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return ((c[1] << 32 | c[0]) >> 11) / 2.0**53


def part(vector, m):
    _, _, _, shape, offset = m
    return vector[offset:offset + shape[0] * shape[1]].reshape(shape)


def all_b(vector):
    return np.concatenate([part(vector, m).ravel() for m in MATRICES if m[2] == "B"])


def next_start(tuned, merged, init):
    start = (tuned if init == "tuned" else merged).copy()
    for m in MATRICES:
        if m[2] == "A":
            q, r = np.linalg.qr(part(tuned, m).T)
            part(start, m)[:] = (q * np.sign(np.diag(r))).T
    return start


def ties(old, new):
    def trimmed(t):
        magnitude = np.abs(t)
        return np.where(magnitude >= np.sort(magnitude.ravel())[int(TRIM * t.size)], t, 0)
    x, y = trimmed(old), trimmed(new)
    sign = np.sign(x + y)
    agree = np.stack([np.sign(x) == sign, np.sign(y) == sign]) & (sign != 0)
    total = x * agree[0] + y * agree[1]
    return total / np.maximum(agree.sum(axis=0), 1)


def dare(old, new, seed, sub):
    keep = np.array([philox_uniform(seed, 7, sub, i) >= DROP for i in range(old.size)])
    return old + np.where(keep.reshape(old.shape), (new - old) / (1 - DROP), 0)


def merge(old, new, run, mode, adaptive=False, layers=False):
    out = old.copy()
    scale = 1 / np.sqrt(run)
    if adaptive:
        x, y = all_b(old), all_b(new)
        scale *= 0.5 + (x @ y / (np.linalg.norm(x) * np.linalg.norm(y)) + 1) / 2
    for m in MATRICES:
        layer, role, factor, _, _ = m
        s = scale
        if layers:
            at = layer / (LAYERS - 1)
            s = scale * (0.3 if at < 0.33 else 0.5 if at < 0.66 else 0.7)
        a, b = part(old, m), part(new, m)
        if mode == "slao":
            result = b if factor == "A" else a + s * (b - a)
        elif mode == "linear":
            result = a + s * (b - a)
        elif mode == "ties":
            result = ties(a, b)
        else:
            sub = (layer * ROLE_COUNT + role) * 2 + (factor == "B")
            result = dare(a, b, 0x5A0D0000 ^ run, sub)
        part(out, m)[:] = result
    return out


def main():
    rng = np.random.default_rng(20251223)
    tensors, tuned = {}, []
    for i in range(RUNS):  # later runs stay near earlier ones, as trained adapters do
        step = rng.normal(size=N) * 0.1
        tuned.append((tuned[-1] + step if tuned else step * 2).astype(np.float32).astype(np.float64))
        tensors[f"tuned.{i + 1}"] = tuned[-1]
    variants = {"slao": {}, "linear": {}, "ties": {}, "dare": {}, "slao.adaptive": {"adaptive": True},
                "slao.layers": {"layers": True}}
    for name, options in variants.items():
        merged = tuned[0].copy()
        for i in range(1, RUNS):
            merged = merge(merged, tuned[i], i + 1, name.split(".")[0], **options)
            if i + 1 == RUNS:
                tensors[name] = merged
            merged = merged.astype(np.float32).astype(np.float64)  # as it is stored between runs
        if name == "slao":
            tensors["start.tuned"] = next_start(tuned[-1], merged, "tuned")
            tensors["start.merged"] = next_start(tuned[-1], merged, "merged")
    folder = pathlib.Path(__file__).parent
    save_file({k: v.astype(np.float32) for k, v in tensors.items()}, folder / "slao.safetensors",
              metadata={"numpy": np.__version__, "facts": json.dumps({"n": N, "runs": RUNS})})


main()
