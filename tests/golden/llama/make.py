"""make.py - golden references of family llama; what each file holds is at the head of
../model_golden.py.

Run: python make.py        (writes the folders of MODELS beside this file)
     python make.py check FOLDER MODEL   loss of model MODEL with the PEFT adapter in FOLDER
"""

import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

import torch  # noqa: E402
from model_golden import BASE, PLAIN, batch, forward, load, make  # noqa: E402
from peft import PeftModel  # noqa: E402
from transformers import LlamaConfig  # noqa: E402

FULL = ["model.embed_tokens.weight", "model.norm.weight", "model.layers.0.input_layernorm.weight",
        "model.layers.1.post_attention_layernorm.weight", "model.layers.0.self_attn.q_proj.weight",
        "model.layers.1.self_attn.v_proj.weight", "model.layers.1.mlp.down_proj.weight"]


def old_style(path):
    """config.json as transformers 4 wrote it: rope_theta at the top."""
    with open(path) as file:
        config = json.load(file)
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["rope_scaling"] = None
    config["torch_dtype"] = config.pop("dtype")
    with open(path, "w") as file:
        json.dump(config, file, indent=2)


def make_all():
    def one(name, targets, rank, alpha, changes, **more):
        make(os.path.join(HERE, name), LlamaConfig(**BASE, **changes), targets, rank, alpha, seed=None,
             **more)

    one("tied", PLAIN, 4, 8, dict(tie_word_embeddings=True))
    one("untied", ["q_proj", "v_proj"], 3, 6, dict(tie_word_embeddings=False, head_dim=24),
        edit=old_style, train_all=True, dora=dict(use_rslora=True))
    one("scaled", PLAIN, 4, 4, dict(tie_word_embeddings=True, rope_parameters=dict(
        rope_type="llama3", rope_theta=1000.0, factor=4.0, low_freq_factor=1.0,
        high_freq_factor=4.0, original_max_position_embeddings=32)), full=FULL)


def check(folder, name):
    model = PeftModel.from_pretrained(load(os.path.join(HERE, name)), folder)
    tokens, carries, starts = batch()
    with torch.no_grad():
        print(f"{forward(model, tokens, carries, starts)[0].item():.9g}")


if len(sys.argv) == 4 and sys.argv[1] == "check":
    check(sys.argv[2], sys.argv[3])
else:
    make_all()
