"""make.py - golden references of family gemma3; what each file holds is at the head of
../model_golden.py. Run: python make.py        (writes the folders of MODELS beside this file)
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from model_golden import BASE, PLAIN, make  # noqa: E402
from transformers import Gemma3TextConfig  # noqa: E402

FULL = ["model.layers.0.self_attn.q_norm.weight", "model.layers.1.self_attn.k_norm.weight",
        "model.layers.0.input_layernorm.weight", "model.layers.1.post_attention_layernorm.weight",
        "model.layers.0.pre_feedforward_layernorm.weight",
        "model.layers.1.post_feedforward_layernorm.weight", "model.embed_tokens.weight"]
sizes = dict(BASE, hidden_size=48, intermediate_size=64, num_key_value_heads=1, head_dim=16,
             query_pre_attn_scalar=16, sliding_window=6, pad_token_id=0)
# Layer 5 is global, the others see 6 of up to 20 tokens.
make(os.path.join(HERE, "windows"), Gemma3TextConfig(**dict(sizes, num_hidden_layers=7)), PLAIN, 4,
     8, norm_mean=0.0, train_all=True, dora={})
# Another period, a scale that is not of the head size, a scaled global rope; base gradients.
rope = dict(sliding_attention=dict(rope_type="default", rope_theta=1e4),
            full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1e6))
make(os.path.join(HERE, "period2"), Gemma3TextConfig(**dict(
    sizes, query_pre_attn_scalar=24, rope_parameters=rope,
    layer_types=["sliding_attention", "full_attention"])), PLAIN, 3, 6, norm_mean=0.0, full=FULL)
