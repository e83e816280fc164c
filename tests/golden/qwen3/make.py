"""make.py - golden references of family qwen3; what each file holds is at the head of
../model_golden.py. Run: python make.py        (writes the folders of MODELS beside this file)
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from model_golden import BASE, PLAIN, make  # noqa: E402
from transformers import Qwen3Config  # noqa: E402

FULL = ["model.layers.0.self_attn.q_norm.weight", "model.layers.1.self_attn.k_norm.weight",
        "model.layers.0.self_attn.q_proj.weight", "model.embed_tokens.weight"]
# head_dim x heads is not the width.
make(os.path.join(HERE, "wide"), Qwen3Config(**BASE, head_dim=24, tie_word_embeddings=False),
     PLAIN, 4, 8, full=FULL)
make(os.path.join(HERE, "tied"), Qwen3Config(**BASE, head_dim=16, tie_word_embeddings=True),
     ["q_proj", "v_proj"], 3, 6, train_all=True, dora={})
