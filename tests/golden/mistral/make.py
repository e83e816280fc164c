"""make.py - golden references of family mistral; what each file holds is at the head of
../model_golden.py. Run: python make.py        (writes the folders of MODELS beside this file)
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from model_golden import BASE, PLAIN, make  # noqa: E402
from transformers import MistralConfig  # noqa: E402

make(os.path.join(HERE, "v03"), MistralConfig(**BASE, sliding_window=None, rope_parameters=dict(
    rope_type="default", rope_theta=1e6)), PLAIN, 4, 8, train_all=True, dora={})
