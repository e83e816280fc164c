"""make.py - golden references of family qwen2 (biases on q, k and v); what each file holds is at the
head of ../model_golden.py. Run: python make.py        (writes the folders biased/ and wide/ beside
this file)
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from model_golden import BASE, PLAIN, make  # noqa: E402
from transformers import Qwen2Config  # noqa: E402

ROPE = dict(rope_parameters=dict(rope_type="default", rope_theta=1e6))
make(os.path.join(HERE, "biased"), Qwen2Config(**BASE, tie_word_embeddings=True, **ROPE),
     PLAIN, 4, 8, seed=None, train_all=True, dora={})
make(os.path.join(HERE, "wide"),
     Qwen2Config(**(BASE | dict(num_attention_heads=2, num_key_value_heads=1, rms_norm_eps=1e-6)),
                 tie_word_embeddings=False, **ROPE), PLAIN, 4, 4, seed=None)
