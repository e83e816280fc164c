#!/usr/bin/env python3
"""A safetensors file by the Python package, for tests/unit/test_format_safetensors.c.

python3 make.py                   small.safetensors
python3 make.py --verify FILE     reads FILE, written by our writer, and compares its values
"""
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

here = Path(__file__).parent
count = torch.arange(6, dtype=torch.float32)
tensors = {
    "f32": (count / 4 - 1).reshape(2, 3),
    "f16": (count / 8).to(torch.float16).reshape(3, 2),
    "bf16": (count * 3).to(torch.bfloat16),
    "i32": torch.tensor([-5, 2**31 - 1], dtype=torch.int32),
    "i64": torch.tensor([1, 2, 3], dtype=torch.int64),
    "u8": torch.tensor([9, 8, 7], dtype=torch.uint8),
    "bool": torch.tensor([True, False]),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 4),
    "five": torch.ones(1, 2, 1, 2, 1),
    "base.layers.0.\"ü\"": torch.ones(2),
}
ours = ("f32", "f16", "bf16", "i32", "scalar", "empty", "base.layers.0.\"ü\"")

if len(sys.argv) == 3 and sys.argv[1] == "--verify":
    with safe_open(sys.argv[2], "pt") as f:
        assert f.metadata() == {"format": "pt", "note": "a \"quoted\" line\n"}, f.metadata()
        assert sorted(f.keys()) == sorted(ours), f.keys()
        for name in ours:
            got = f.get_tensor(name)
            assert got.dtype == tensors[name].dtype and got.shape == tensors[name].shape, name
            assert torch.equal(got, tensors[name]), name
    print(f"{sys.argv[2]}: {len(ours)} tensors equal")
else:
    save_file(tensors, here / "small.safetensors", metadata={"format": "pt", "by": "torch"})
