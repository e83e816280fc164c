"""make.py - golden references of family phi3; what each file holds is at the head of
../model_golden.py. Run: python make.py        (writes the folders of MODELS beside this file)
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from model_golden import BASE, make  # noqa: E402
from transformers import Phi3Config  # noqa: E402

ALL = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
FULL = ["model.layers.0.self_attn.qkv_proj.weight", "model.layers.1.mlp.gate_up_proj.weight"]
# The switch is at 16 tokens: of the three sequences one is longer. 12 of 16 dimensions turn.
rope = dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.75,
            short_factor=[1.0, 1.1, 1.2, 1.3, 1.4, 1.5], long_factor=[1.0, 2.0, 4.0, 8.0, 16.0, 32.0],
            original_max_position_embeddings=16)
make(os.path.join(HERE, "longrope"), Phi3Config(**BASE, original_max_position_embeddings=16,
                                                tie_word_embeddings=True, rope_parameters=rope),
     ALL, 4, 8, full=FULL, train_all=True, dora={})
# As Phi-3-mini-4k: whole heads turn, a window in every layer.
make(os.path.join(HERE, "window"), Phi3Config(**BASE, sliding_window=7,
                                              original_max_position_embeddings=128),
     ["qkv_proj", "o_proj"], 3, 6)
