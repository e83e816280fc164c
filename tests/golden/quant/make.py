#!/usr/bin/env python3
"""Makes the golden bytes of tests/unit/test_format_quant.c with gguf.quants and numpy.

Run: python3 make.py   (versions in README.md). Everything is seeded; the files are reproducible.
"""
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants

here = Path(__file__).parent
rng = np.random.default_rng(20240117)

# Floats to encode, in rows of 32.
rows = [rng.standard_normal((16, 32)) * s for s in (1, 1e-3, 1e-6, 1e-8, 1e-20, 1e4, 1e6)]
rows.append(np.zeros((1, 32)))
rows.append(np.full((1, 32), -0.0))
ties = np.arange(32) - 15.5                    # with 127 in front, d = 1: every value is a tie
ties[0] = 127
rows.append(ties[None])
below = np.full(32, 0.49999997)                # x + 0.5 would round up to 1
below[0] = -127
rows.append(below[None])
half = rng.integers(0, 0x7C00, 32 * 16, dtype=np.uint16).view(np.float16).astype(np.float32)
rows.append(half.reshape(16, 32))              # exact halves,
step = np.nextafter(half.astype(np.float16), np.float16(np.inf)).astype(np.float32)
middle = (half + np.minimum(step, 65504)) / 2  # and the ties between them
rows.append(middle.reshape(16, 32))
rows.append(-np.nextafter(middle, np.float32(np.inf)).reshape(16, 32))
rows.append(np.nextafter(middle, np.float32(-np.inf)).reshape(16, 32))
rows.append(np.array([65504, 65519.996, 65520, 65536, 1e30, -65520, 6e-8, 2.9802322e-8,
                      2.9802326e-8, -1e-8, 6.1035156e-05, 6.1005e-05] + [1.0] * 20)[None])
x = np.concatenate(rows).astype(np.float32)
x.tofile(here / "input.f32")
with np.errstate(over="ignore"):
    x.astype(np.float16).tofile(here / "expected.f16")
quants.quantize(x, T.BF16).tofile(here / "expected.bf16")
with np.errstate(over="ignore"):
    quants.quantize(x, T.Q8_0).tofile(here / "expected.q8_0")

# Blocks to decode: random bytes with finite f16 scales, and quantized values.
for name, qtype, size, scales in (("q4_0", T.Q4_0, 18, 1), ("q4_1", T.Q4_1, 20, 2),
                                  ("q8_0", T.Q8_0, 34, 1)):
    blocks = rng.integers(0, 256, (48, size), dtype=np.uint8)
    for s in range(scales):
        blocks[:, 2 * s + 1] = np.where((blocks[:, 2 * s + 1] & 0x7C) == 0x7C,
                                        blocks[:, 2 * s + 1] & 0x3F, blocks[:, 2 * s + 1])
    made = quants.quantize(rng.standard_normal((16, 32)).astype(np.float32), qtype)
    blocks = np.concatenate([blocks, made.reshape(16, size)])
    blocks.tofile(here / f"blocks.{name}")
    quants.dequantize(blocks, qtype).astype(np.float32).tofile(here / f"blocks.{name}.f32")

# The other block types: (name, type, bytes, where their f16 scales lie, blocks).
for name, qtype, size, scales, count in (
        ("q5_0", T.Q5_0, 22, (0,), 64), ("q5_1", T.Q5_1, 24, (0, 2), 64),
        ("iq4_nl", T.IQ4_NL, 18, (0,), 64), ("q2_k", T.Q2_K, 84, (80, 82), 8),
        ("q3_k", T.Q3_K, 110, (108,), 8), ("q4_k", T.Q4_K, 144, (0, 2), 8),
        ("q5_k", T.Q5_K, 176, (0, 2), 8), ("q6_k", T.Q6_K, 210, (208,), 8),
        ("iq4_xs", T.IQ4_XS, 136, (0,), 8)):
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for s in scales:
        high = blocks[:, s + 1]
        blocks[:, s + 1] = np.where((high & 0x7C) == 0x7C, high & 0x3F, high)
    blocks.tofile(here / f"blocks.{name}")
    quants.dequantize(blocks, qtype).astype(np.float32).tofile(here / f"blocks.{name}.f32")
