#!/usr/bin/env python3
"""GGUF files written by the Python package `gguf`, for tests/unit/test_format_gguf*.c.

python3 make.py                   small.gguf, small_v2.gguf, aligned.gguf
python3 make.py --sums MODEL      smollm2_sums.txt from a real GGUF file (dequantised by gguf.quants)
python3 make.py --verify FILE     reads FILE, written by our writer, with GGUFReader and compares it
                                  with small.gguf, key by key and tensor by tensor
"""
import sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFReader, GGUFValueType, GGUFWriter, quants

here = Path(__file__).parent


def write(path, alignment=None):
    w = GGUFWriter(path, "llama")
    if alignment:
        w.add_custom_alignment(alignment)
    w.add_string("general.name", "Kleines Modell – ü")
    w.add_uint8("t.u8", 250)
    w.add_int8("t.i8", -100)
    w.add_uint16("t.u16", 65000)
    w.add_int16("t.i16", -30000)
    w.add_uint32("t.u32", 4000000000)
    w.add_int32("t.i32", -2000000000)
    w.add_uint64("t.u64", 2**63 + 5)
    w.add_int64("t.i64", -(2**62))
    w.add_float32("t.f32", 0.1)
    w.add_float64("t.f64", 0.1)
    w.add_bool("t.bool", True)
    w.add_key_value("t.empty", "", GGUFValueType.STRING)
    w.add_array("t.strings", ["<s>", "", "Ġhello", "日本"])
    w.add_key_value("t.i32s", [1, -2, 3], GGUFValueType.ARRAY, GGUFValueType.INT32)
    w.add_key_value("t.f32s", [0.5, -1000.0], GGUFValueType.ARRAY, GGUFValueType.FLOAT32)
    w.add_key_value("t.u8s", [7, 255], GGUFValueType.ARRAY, GGUFValueType.UINT8)
    w.add_key_value("t.bools", [True, False, True], GGUFValueType.ARRAY, GGUFValueType.BOOL)
    w.add_key_value("t.f64s", [1e300], GGUFValueType.ARRAY, GGUFValueType.FLOAT64)
    rng = np.random.default_rng(7)
    w.add_tensor("token_embd.weight", rng.standard_normal((3, 5)).astype(np.float32))
    w.add_tensor("output_norm.weight", rng.standard_normal(7).astype(np.float32))
    w.add_tensor("half.weight", rng.standard_normal((2, 3)).astype(np.float16))
    w.add_tensor("cube.weight", rng.standard_normal((2, 3, 4)).astype(np.float32))
    w.add_tensor("ids", np.arange(-3, 4, dtype=np.int32))
    for name, qtype in (("q4_0", T.Q4_0), ("q4_1", T.Q4_1), ("q8_0", T.Q8_0), ("bf16", T.BF16)):
        x = rng.standard_normal((3, 64)).astype(np.float32)
        w.add_tensor(f"{name}.weight", quants.quantize(x, qtype), raw_dtype=qtype)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def sums(model):
    with open(here / "smollm2_sums.txt", "w") as out:
        for t in GGUFReader(model).tensors:
            x = quants.dequantize(t.data, t.tensor_type).astype(np.float64)
            shape = " ".join(str(int(n)) for n in t.shape)
            print(t.name, t.tensor_type.name.lower(), repr(float(x.sum())),
                  repr(float(np.abs(x).sum())), repr(float(x.flat[-1])), shape, file=out)


def verify(path):
    ours, theirs = GGUFReader(path), GGUFReader(here / "small.gguf")
    assert list(ours.fields) == list(theirs.fields), "keys differ"
    for key, field in theirs.fields.items():
        assert ours.fields[key].types == field.types, key
        assert ours.fields[key].contents() == field.contents(), key
    assert [t.name for t in ours.tensors] == [t.name for t in theirs.tensors]
    for a, b in zip(ours.tensors, theirs.tensors):
        assert a.tensor_type == b.tensor_type and list(a.shape) == list(b.shape), a.name
        assert a.data.tobytes() == b.data.tobytes(), a.name
    print(f"{path}: {len(ours.fields)} fields and {len(ours.tensors)} tensors equal")


if len(sys.argv) == 3 and sys.argv[1] == "--sums":
    sums(sys.argv[2])
elif len(sys.argv) == 3 and sys.argv[1] == "--verify":
    verify(sys.argv[2])
else:
    write(here / "small.gguf")
    write(here / "aligned.gguf", alignment=64)
    data = bytearray((here / "small.gguf").read_bytes())
    data[4] = 2  # versions 2 and 3 differ in nothing else on little-endian machines
    (here / "small_v2.gguf").write_bytes(data)
