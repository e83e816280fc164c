"""make.py - golden references of family qwen2 (biases on q, k and v), by PyTorch, transformers and PEFT.

Run: python make.py        (writes the folders biased/ and wide/ beside this file)

What a folder holds, the batch and the numbers of AdamW are in ../llama/make.py, which this script
drives with its own models. Biases are drawn with a deviation of 0.5, large enough to be seen.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "llama"))

import make as common  # noqa: E402
from transformers import Qwen2Config, Qwen2ForCausalLM  # noqa: E402

common.HERE, common.CONFIG, common.CAUSAL = HERE, Qwen2Config, Qwen2ForCausalLM
ROPE = dict(rope_parameters=dict(rope_type="default", rope_theta=1e6))
common.MODELS = {
    "biased": (dict(tie_word_embeddings=True, **ROPE), common.ALL, 4, 8),
    "wide": (dict(tie_word_embeddings=False, num_attention_heads=2, num_key_value_heads=1,
                  rms_norm_eps=1e-6, **ROPE), common.ALL, 4, 4),
}

if __name__ == "__main__":
    for name in common.MODELS:
        common.make(name)
