"""model_golden.py - what the make.py of every family's golden folder shares: the batch, the loss, ten
steps of PyTorch and PEFT in f32 on the CPU, and the files that hold the outcome.

A folder holds a tiny random model as transformers saves it (bf16 weights, read back as f32), an
adapter as PEFT saves it (adapter/, B not zero so that every gradient is there), and
reference.safetensors:
  tokens, lengths, carries   the flat batch: ids, sequence lengths, 1 = this token is a loss target
  logits                     [T, V] of every position
  loss                       mean over the targets at the start; losses: before each of 10 steps
  grad.<tensor>              of the adapter, at the start
  after.<tensor>             the adapter after 10 steps of AdamW with clipping
  full.<tensor>              of some base weights, at the start, without the adapter (where asked for)
A folder with reference-full.safetensors has losses and some weights ("after.") of 10 steps in which all
weights were trained, matrices with decay and vectors without. A folder with adapter-dora/ and reference-dora.safetensors has the same of a DoRA adapter, its magnitudes
away from the rows' own lengths.
test_model_golden.c repeats the numbers of AdamW.
"""

import json
import os
import shutil

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

PLAIN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
VOCAB, LENGTHS = 96, [13, 20, 9]
LR, DECAY, CLIP, STEPS = 1e-3, 0.01, 1.0, 10
BASE = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
            rms_norm_eps=1e-5, initializer_range=0.2, bos_token_id=1, eos_token_id=2,
            pad_token_id=None)


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


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                attn_implementation="eager")


def random_model(config, seed, norm_mean):
    """Weights in bf16, norm weights around norm_mean, biases large enough to be seen."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    for key, param in model.named_parameters():
        if "norm" in key:
            param.data = norm_mean + 0.2 * torch.randn_like(param)
        elif key.endswith("bias"):
            param.data = 0.5 * torch.randn_like(param)
    return model


def make(folder, config, targets, rank, alpha, norm_mean=1.0, full=(), edit=None, seed=3, dora=None,
         train_all=False):
    """edit: changes the folder's config.json before it is read back. seed: of the adapter; None goes on
    with the model's. dora: settings of a DoRA adapter beside the plain one. train_all: also ten steps in full."""
    torch.set_num_threads(1)
    shutil.rmtree(folder, ignore_errors=True)
    random_model(config, 11 + len(os.path.basename(folder)), norm_mean).save_pretrained(folder)
    generation = os.path.join(folder, "generation_config.json")
    if os.path.exists(generation):
        os.remove(generation)
    if edit is not None:
        edit(os.path.join(folder, "config.json"))
    reference(folder, targets, rank, alpha, full, seed)
    if train_all:
        reference_full(folder)
    if dora is not None:
        reference(folder, targets, rank, alpha, (), 4, "-dora", use_dora=True, **dora)


def sort_targets(path):
    """PEFT writes its set of target modules in an order that changes from run to run."""
    with open(path) as file:
        config = json.load(file)
    config["target_modules"].sort()
    with open(path, "w") as file:
        json.dump(config, file, indent=2, sort_keys=True)


def reference_full(folder):
    """Ten steps of all weights: the losses, and afterwards a weight of each kind."""
    tokens, carries, starts = batch()
    model = load(folder)
    params = dict(model.named_parameters())
    last = "layers.%d." % (model.config.num_hidden_layers - 1)
    optimizer = torch.optim.AdamW([
        {"params": [p for p in params.values() if p.dim() == 2], "weight_decay": DECAY},
        {"params": [p for p in params.values() if p.dim() == 1], "weight_decay": 0.0}], lr=LR)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss, _ = forward(model, tokens, carries, starts)
        loss.backward()
        losses.append(loss.detach())
        torch.nn.utils.clip_grad_norm_(params.values(), CLIP)
        optimizer.step()
    out = {"tokens": tokens, "carries": carries, "losses": torch.stack(losses),
           "lengths": torch.tensor(LENGTHS, dtype=torch.int32)}
    kinds = ("embed_tokens", "lm_head", "model.norm", last)
    for key, param in params.items():
        if any(kind in key for kind in kinds) and "mlp.up" not in key and "o_proj" not in key:
            out["after." + key] = param.detach()
    save_file({k: v.contiguous() for k, v in out.items()},
              os.path.join(folder, "reference-full.safetensors"))
    print(os.path.basename(folder), "full", f"{losses[0]:.6f} -> {losses[-1]:.6f}")


def file_name(key):
    """Of a parameter in an adapter's file."""
    return key.replace(".default", "").replace("magnitude_vector.weight", "magnitude_vector")


def reference(folder, targets, rank, alpha, full, seed, variant="", **method):
    """Adapter and reference of the model that lies in folder."""
    tokens, carries, starts = batch()
    out = {"tokens": tokens, "carries": carries,
           "lengths": torch.tensor(LENGTHS, dtype=torch.int32)}
    if full:
        model = load(folder)
        forward(model, tokens, carries, starts)[0].backward()
        for key, param in model.named_parameters():
            if key in full:
                out["full." + key] = param.grad

    if seed is not None:
        torch.manual_seed(seed)
    model = get_peft_model(load(folder), LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets,
                                                    task_type="CAUSAL_LM", **method))
    trained = {k: p for k, p in model.named_parameters() if p.requires_grad}
    for key, param in trained.items():
        if "lora_B" in key:
            param.data = 0.1 * torch.randn_like(param)
        elif "magnitude" in key:
            param.data = param.data * (1 + 0.1 * torch.randn_like(param))
    model.peft_config["default"].base_model_name_or_path = os.path.basename(folder)
    saved = os.path.join(folder, "adapter" + variant)
    model.save_pretrained(saved)
    sort_targets(os.path.join(saved, "adapter_config.json"))
    os.remove(os.path.join(saved, "README.md"))

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
                out["grad." + file_name(key)] = param.grad.clone()
        torch.nn.utils.clip_grad_norm_(trained.values(), CLIP)
        optimizer.step()
    out["losses"] = torch.stack(losses)
    for key, param in trained.items():
        out["after." + file_name(key)] = param.detach()
    save_file({k: v.contiguous() for k, v in out.items()},
              os.path.join(folder, "reference" + variant + ".safetensors"))
    print(os.path.basename(folder), "loss", f"{losses[0]:.6f} -> {losses[-1]:.6f}")
