#!/usr/bin/env python3
"""Makes one small importance matrix in both of llama.cpp's formats, with gguf-py and struct.

Run: python3 make.py   (versions in README.md). Also the seeds of tests/fuzz/corpus/imatrix.
"""
import struct
from pathlib import Path

import numpy as np
from gguf import GGUFWriter

here = Path(__file__).parent
seeds = here.parent.parent / "fuzz" / "corpus" / "imatrix"
seeds.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(5)
sums = {"blk.0.attn_q.weight": rng.random((1, 8)) * 100, "blk.0.ffn_down_exps.weight": rng.random((2, 4)),
        "blk.1.attn_v.weight": rng.random((1, 3))}
counts = {"blk.0.attn_q.weight": [40], "blk.0.ffn_down_exps.weight": [7, 0], "blk.1.attn_v.weight": [3]}

w = GGUFWriter(here / "small.gguf", "")
w.kv_data[0].clear()                       # llama-imatrix writes no architecture
w.add_type("imatrix")
w.add_array("imatrix.datasets", ["calibration.txt", "more.txt"])
w.add_uint32("imatrix.chunk_count", 12)
w.add_uint32("imatrix.chunk_size", 512)
for name, value in sums.items():
    w.add_tensor(name + ".in_sum2", value.astype(np.float32))
    w.add_tensor(name + ".counts", np.array(counts[name], np.float32).reshape(-1, 1))
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()

old = struct.pack("<i", 2)
for name, calls in (("blk.0.attn_q.weight", 5), ("blk.1.attn_v.weight", 2)):
    value = (sums[name] * calls).astype(np.float32).tobytes()
    old += struct.pack("<i", len(name)) + name.encode()
    old += struct.pack("<ii", calls, len(value) // 4) + value
(seeds / "no_end.dat").write_bytes(old)
old += struct.pack("<ii", 9, 8) + b"wiki.txt"
(here / "small.dat").write_bytes(old)
(seeds / "small.dat").write_bytes(old)
(seeds / "cut.dat").write_bytes(old[:60])
(seeds / "small.gguf").write_bytes((here / "small.gguf").read_bytes())
for name, value in sums.items():
    np.concatenate([v / c if c else np.ones_like(v) for v, c in zip(value.astype(np.float32), counts[name])]
                   ).astype(np.float32).tofile(here / f"{name}.f32")
