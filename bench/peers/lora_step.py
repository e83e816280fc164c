"""One training case of transformers + PEFT on the CPU, as a user would write it: the yardstick of bench/cpu.

Random weights of a real shape, LoRA on all linears, synthetic tokens, causal-LM loss on every token. Prints one JSON
line. The caller measures the process itself (memory, time from its start), so nothing here counts memory.

    lora_step.py --shape smollm2-135m --batch 8 --seq 512 --dtype bf16 --compile --steps 3 --threads 2
"""
import argparse
import json
import sys
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

SHAPES = {
    "smollm2-135m": (LlamaForCausalLM, LlamaConfig, dict(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, vocab_size=49152)),
    "qwen2.5-0.5b": (Qwen2ForCausalLM, Qwen2Config, dict(
        hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
        num_key_value_heads=2, vocab_size=151936)),
}
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def make_model(shape, rank, dtype):
    model_class, config_class, sizes = SHAPES[shape]
    config = config_class(tie_word_embeddings=True, max_position_embeddings=8192, use_cache=False,
                          attn_implementation="sdpa", **sizes)
    torch.set_default_dtype(dtype)
    model = model_class(config)
    torch.set_default_dtype(torch.float32)
    adapter = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LINEARS, lora_dropout=0.0)
    model = get_peft_model(model, adapter)
    model.train()
    return model, config.vocab_size


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--seq", type=int, required=True)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    model, vocab = make_model(args.shape, args.rank, dtype)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4)
    forward = torch.compile(model) if args.compile else model
    seconds = []
    for _ in range(args.steps):
        ids = torch.randint(0, vocab, (args.batch, args.seq))
        start = time.monotonic()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = forward(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        seconds.append(time.monotonic() - start)
        print(f"step {len(seconds)}/{args.steps}", file=sys.stderr, flush=True)
    best = min(seconds[1:] or seconds)
    print(json.dumps(dict(tok_s=args.batch * args.seq / best, step_s=seconds, loss=float(loss),
                          torch=torch.__version__)))


if __name__ == "__main__":
    main()
