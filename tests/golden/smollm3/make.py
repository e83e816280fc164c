"""make.py - golden references of family smollm3; what each file holds is at the head of
../model_golden.py. Run: python make.py        (writes the folders of MODELS beside this file)
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

from model_golden import BASE, PLAIN, make  # noqa: E402
from transformers import SmolLM3Config  # noqa: E402

# Layer 3 has no rope.
sizes = dict(BASE, num_hidden_layers=5, hidden_size=48, intermediate_size=64)
make(os.path.join(HERE, "nope"), SmolLM3Config(**sizes), PLAIN, 4, 8, train_all=True, dora={})
