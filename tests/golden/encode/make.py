#!/usr/bin/env python3
"""Makes the golden bytes of tests/unit/test_format_encode.c with ggml's own quantizers.

Run: python3 make.py PATH/libggml-base.so   (version and build in README.md). Seeded; reproducible.
"""
import ctypes
import sys
from pathlib import Path

import numpy as np

here = Path(__file__).parent
ggml = ctypes.CDLL(sys.argv[1])
ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + \
    [ctypes.c_int64] * 3 + [ctypes.c_void_p]
ggml.ggml_row_size.restype = ctypes.c_size_t
ggml.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]

COLS = 768
rng = np.random.default_rng(77)
n = lambda k=1: rng.standard_normal((k, COLS))
rows = [n(2) * 0.05, (n(2) * 0.02).astype(np.float16), n() * 1e-5, rng.standard_t(2, (1, COLS)),
        np.abs(n()), -np.abs(n()) * 3, np.round(n() * 2), n() * (rng.random((1, COLS)) < 0.05)]
mixed = n()
mixed[:, :256] = 0                      # a super-block of zeros,
mixed[:, 256:300] = -0.0                # zeros of both signs,
mixed[:, 300:512] = 0
mixed[:, 512:576] = 0.25                # equal values,
mixed[:, 576:640] = -0.5
mixed[:, 640:704] *= 1e-20              # what halves cannot hold,
mixed[:, 704:] *= 300
rows += [mixed, np.sign(n()) * 0.125, np.repeat(n()[:, ::16], 16, axis=1)]
x = np.ascontiguousarray(np.concatenate(rows).astype(np.float32))
weight = rng.lognormal(0, 2, COLS).astype(np.float32)
weight[::97] = 0
x.tofile(here / "input.f32")
weight.tofile(here / "importance.f32")

TYPES = {"q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q2_k": 10, "q3_k": 11, "q4_k": 12,
         "q5_k": 13, "q6_k": 14, "iq4_nl": 20, "iq4_xs": 23}
for name, kind in TYPES.items():
    for suffix, importance in (("", None), (".weighed", weight.ctypes.data)):
        if name == "q8_0" and importance:
            continue
        out = np.zeros(len(x) * ggml.ggml_row_size(kind, COLS), np.uint8)
        used = ggml.ggml_quantize_chunk(kind, x.ctypes.data, out.ctypes.data, 0, len(x), COLS,
                                        importance)
        assert used == len(out)
        out.tofile(here / f"expected.{name}{suffix}")
