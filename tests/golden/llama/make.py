"""make.py - golden references of family llama, from PyTorch, transformers and PEFT in f32 on the CPU.

Run: python make.py        (writes the folders tied/, untied/ and scaled/ beside this file)
     python make.py check FOLDER MODEL   loss of model MODEL with the PEFT adapter in FOLDER

Each folder is a tiny random model as transformers saves it (bf16 weights, read back as f32), an
adapter as PEFT saves it (adapter/, B not zero so that every gradient is there), and
reference.safetensors:
  tokens, lengths, carries   the flat batch: ids, sequence lengths, 1 = this token is a loss target
  logits                     [T, V] of every position
  loss                       mean over the targets at the start; losses: before each of 10 steps
  grad.<tensor>              of the adapter, at the start
  after.<tensor>             the adapter after 10 steps of AdamW with clipping
  full.<tensor>              of some base weights, at the start, without the adapter (scaled/ only)
The numbers of AdamW and the batch are below; test_model_golden.c repeats them. Other families'
make.py take everything from here but their models.
"""

import json
import os
import shutil
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
VOCAB, LENGTHS = 96, [13, 20, 9]
LR, DECAY, CLIP, STEPS = 1e-3, 0.01, 1.0, 10
FULL = ["model.embed_tokens.weight", "model.norm.weight", "model.layers.0.input_layernorm.weight",
        "model.layers.1.post_attention_layernorm.weight", "model.layers.0.self_attn.q_proj.weight",
        "model.layers.1.self_attn.v_proj.weight", "model.layers.1.mlp.down_proj.weight"]

CONFIG, CAUSAL = LlamaConfig, LlamaForCausalLM
BASE = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
            rms_norm_eps=1e-5, initializer_range=0.2, bos_token_id=1, eos_token_id=2)
MODELS = {
    "tied": (dict(tie_word_embeddings=True), ALL, 4, 8),
    "untied": (dict(tie_word_embeddings=False, head_dim=24), ["q_proj", "v_proj"], 3, 6),
    "scaled": (dict(tie_word_embeddings=True, rope_parameters=dict(
        rope_type="llama3", rope_theta=1000.0, factor=4.0, low_freq_factor=1.0,
        high_freq_factor=4.0, original_max_position_embeddings=32)), ALL, 4, 4),
}


def batch():
    generator = torch.Generator().manual_seed(7)
    total = sum(LENGTHS)
    tokens = torch.randint(0, VOCAB, (total,), generator=generator, dtype=torch.int32)
    carries = (torch.rand(total, generator=generator) < 0.6).int()
    starts = [sum(LENGTHS[:i]) for i in range(len(LENGTHS))]
    carries[starts] = 0  # the first token of a sequence is nobody's target
    return tokens, carries, starts


def forward(model, tokens, carries, starts):
    """Mean loss over the targets, each sequence on its own; logits of every position."""
    logits, total = [], torch.zeros(())
    for start, length in zip(starts, LENGTHS):
        ids = tokens[start:start + length].long()
        out = model(input_ids=ids[None]).logits[0]
        nll = torch.nn.functional.cross_entropy(out[:-1], ids[1:], reduction="none")
        total = total + (nll * carries[start + 1:start + length]).sum()
        logits.append(out)
    return total / carries.sum(), torch.cat(logits)


def old_style(folder):
    """config.json as transformers 4 wrote it: rope_theta at the top."""
    path = os.path.join(folder, "config.json")
    config = json.load(open(path))
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["rope_scaling"] = None
    config["torch_dtype"] = config.pop("dtype")
    json.dump(config, open(path, "w"), indent=2)


def load(name):
    return CAUSAL.from_pretrained(os.path.join(HERE, name), dtype=torch.float32,
                                  attn_implementation="eager")


def sort_targets(path):
    """PEFT writes its set of target modules in an order that changes from run to run."""
    with open(path) as file:
        config = json.load(file)
    config["target_modules"].sort()
    with open(path, "w") as file:
        json.dump(config, file, indent=2, sort_keys=True)


def make(name):
    changes, targets, rank, alpha = MODELS[name]
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(11 + len(name))
    model = CAUSAL(CONFIG(**(BASE | changes))).to(torch.bfloat16)
    for key, param in model.named_parameters():
        if "norm" in key:
            param.data = 1 + 0.2 * torch.randn_like(param)
        if key.endswith("bias"):
            param.data = 0.5 * torch.randn_like(param)
    model.save_pretrained(folder)
    os.remove(os.path.join(folder, "generation_config.json"))
    if name == "untied":
        old_style(folder)

    tokens, carries, starts = batch()
    out = {"tokens": tokens, "carries": carries,
           "lengths": torch.tensor(LENGTHS, dtype=torch.int32)}
    if name == "scaled":
        model = load(name)
        forward(model, tokens, carries, starts)[0].backward()
        for key, param in model.named_parameters():
            if key in FULL:
                out["full." + key] = param.grad

    model = get_peft_model(load(name), LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets,
                                                  task_type="CAUSAL_LM"))
    trained = {k: p for k, p in model.named_parameters() if p.requires_grad}
    for key, param in trained.items():
        if "lora_B" in key:
            param.data = 0.1 * torch.randn_like(param)
    model.peft_config["default"].base_model_name_or_path = name
    model.save_pretrained(os.path.join(folder, "adapter"))
    sort_targets(os.path.join(folder, "adapter", "adapter_config.json"))
    os.remove(os.path.join(folder, "adapter", "README.md"))

    optimizer = torch.optim.AdamW(trained.values(), lr=LR, weight_decay=DECAY)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss, logits = forward(model, tokens, carries, starts)
        loss.backward()
        losses.append(loss.detach())
        if step == 0:
            out["loss"], out["logits"] = loss.detach().reshape(1), logits.detach()
            for key, param in trained.items():
                out["grad." + key.replace(".default", "")] = param.grad.clone()
        torch.nn.utils.clip_grad_norm_(trained.values(), CLIP)
        optimizer.step()
    out["losses"] = torch.stack(losses)
    for key, param in trained.items():
        out["after." + key.replace(".default", "")] = param.detach()
    save_file({k: v.contiguous() for k, v in out.items()},
              os.path.join(folder, "reference.safetensors"))
    print(name, "loss", f"{losses[0]:.6f} -> {losses[-1]:.6f}")


def check(folder, name):
    model = PeftModel.from_pretrained(load(name), folder)
    tokens, carries, starts = batch()
    with torch.no_grad():
        print(f"{forward(model, tokens, carries, starts)[0].item():.9g}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) == 4 and sys.argv[1] == "check":
        check(sys.argv[2], sys.argv[3])
    else:
        for model_name in MODELS:
            make(model_name)
