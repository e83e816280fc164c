"""gpu_peer.py - a peer's LoRA training step on one GPU: random weights of a real shape, all linears, AdamW, loss on every token.

    gpu_peer.py ENGINE NAME,BATCH,SEQ,RANK[,MEMORY]      one JSON line, fields as bench_train's
      ENGINE: eager | compile   transformers + PEFT, without and with torch.compile
              unsloth           needs --tokenizers FOLDER with llama/ and qwen2/ (tokenizer.json, tokenizer_config.json)
      MEMORY: keep | recompute | offload

One case a process. tok_s is the median of single synchronised steps after three to warm up, or the mean of unsynchronised ones
if that is faster. peak_gib is what NVML shows for the card less what it showed before; allocator_gib is PyTorch's own figure.
first_step_s counts from the start of the process, without making the random model.
"""
import time
START = time.time()
import argparse, json, os, shutil, threading  # noqa: E402

for key, value in dict(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", UNSLOTH_DISABLE_STATISTICS="1", HF_HUB_DISABLE_TELEMETRY="1",
                       WANDB_DISABLED="true", TOKENIZERS_PARALLELISM="false").items():
    os.environ.setdefault(key, value)

SHAPES = {  # family, width, feed-forward, layers, heads, key heads, head size, vocabulary, tied
    "smollm2-135m": ("llama", 576, 1536, 30, 9, 3, 64, 49152, True),
    "qwen2.5-0.5b": ("qwen2", 896, 4864, 24, 14, 2, 64, 151936, True),
    "llama3.2-1b": ("llama", 2048, 8192, 16, 32, 8, 64, 128256, True),
    "llama3.2-3b": ("llama", 3072, 8192, 28, 24, 8, 128, 128256, True),
    "qwen2.5-7b": ("qwen2", 3584, 18944, 28, 28, 4, 128, 152064, False),
    "llama3.1-8b": ("llama", 4096, 14336, 32, 32, 8, 128, 128256, False),
}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Memory(threading.Thread):
    """The card's used memory, read a hundred times a second."""

    def __init__(self):
        super().__init__(daemon=True)
        import pynvml
        pynvml.nvmlInit()
        self.nvml, self.card = pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)
        self.base, self.peak, self.mhz = self.used(), 0, []
        self.start()

    def used(self):
        return self.nvml.nvmlDeviceGetMemoryInfo(self.card).used

    def run(self):
        while True:
            self.peak = max(self.peak, self.used())
            self.mhz.append(self.nvml.nvmlDeviceGetClockInfo(self.card, self.nvml.NVML_CLOCK_SM))
            time.sleep(0.01)


def config_of(name):
    import transformers
    family, width, ff, layers, heads, kv, head, vocab, tied = SHAPES[name]
    kind = transformers.LlamaConfig if family == "llama" else transformers.Qwen2Config
    ids = (dict(bos_token_id=1, eos_token_id=2, pad_token_id=2) if vocab < 100000 else
           dict(bos_token_id=128000, eos_token_id=128009, pad_token_id=128004) if family == "llama" else
           dict(bos_token_id=151643, eos_token_id=151645, pad_token_id=151643))
    extra = dict(head_dim=head) if family == "llama" else {}
    return kind(hidden_size=width, intermediate_size=ff, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv,
                vocab_size=vocab, tie_word_embeddings=tied, max_position_embeddings=8192, dtype="bfloat16", **extra, **ids)


def random_model(name):
    import torch, transformers
    config = config_of(name)
    config._attn_implementation = "sdpa"
    kind = transformers.LlamaForCausalLM if SHAPES[name][0] == "llama" else transformers.Qwen2ForCausalLM
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = kind(config)
    torch.set_default_dtype(torch.float32)
    return model.to(torch.bfloat16)


def save_model(name, folder, tokenizers):
    """In a process of its own, so that its memory and time are not the engine's."""
    random_model(name).save_pretrained(folder, max_shard_size="6GB")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(tokenizers, SHAPES[name][0], file), folder)


def open_peft(args, name, rank, memory):
    """transformers + PEFT; the step that it returns takes token ids."""
    import torch
    from peft import LoraConfig, get_peft_model
    making = time.time()
    model = random_model(name)
    torch.cuda.synchronize()
    making = time.time() - making
    model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS, lora_dropout=0.0))
    if memory != "keep":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    model.config.use_cache = False
    model.train()
    return model, torch.compile(model) if args.engine == "compile" else model, making


def open_unsloth(args, name, rank, seq, memory):
    import multiprocessing
    folder = os.path.join(args.models, name)
    making = time.time()
    if not os.path.exists(folder):
        maker = multiprocessing.get_context("spawn").Process(target=save_model, args=(name, folder, args.tokenizers))
        maker.start()
        maker.join()
    making = time.time() - making
    from unsloth import FastLanguageModel
    import torch
    how = {"keep": False, "recompute": True, "offload": "unsloth"}[memory]
    model, _ = FastLanguageModel.from_pretrained(folder, max_seq_length=seq, dtype=torch.bfloat16, load_in_4bit=False,
                                                 use_gradient_checkpointing=how, local_files_only=True)
    model = FastLanguageModel.get_peft_model(model, r=rank, lora_alpha=2 * rank, lora_dropout=0, bias="none", target_modules=TARGETS,
                                             use_gradient_checkpointing=how, random_state=0, max_seq_length=seq)
    FastLanguageModel.for_training(model, use_gradient_checkpointing=how)
    model.train()
    return model, model, making


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=["eager", "compile", "unsloth"])
    parser.add_argument("case")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--models", default="/tmp/backpropagate-peer-models")
    parser.add_argument("--tokenizers", default="")
    args = parser.parse_args()
    name, batch, seq, rank, *memory = args.case.split(",")
    batch, seq, rank, memory = int(batch), int(seq), int(rank), (memory or ["keep"])[0]
    watch = Memory()
    opened = open_unsloth(args, name, rank, seq, memory) if args.engine == "unsloth" else open_peft(args, name, rank, memory)
    model, forward, making = opened
    import torch
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)
    ids = torch.randint(0, SHAPES[name][7], (args.steps + 3, batch, seq), device="cuda")

    def step(i):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = forward(input_ids=ids[i], labels=ids[i]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    step(0)
    torch.cuda.synchronize()
    first = time.time() - START - making
    for i in (1, 2):
        step(i)
    torch.cuda.synchronize()
    begun, watch.mhz = time.time(), []
    for i in range(args.steps):
        loss = step(3 + i)
    torch.cuda.synchronize()
    mean, mhz = (time.time() - begun) / args.steps, sorted(watch.mhz)
    single = []
    for i in range(args.steps):
        torch.cuda.synchronize()
        begun = time.time()
        step(3 + i)
        torch.cuda.synchronize()
        single.append(time.time() - begun)
    step_s = min(mean, sorted(single)[args.steps // 2])
    print(json.dumps({
        "engine": args.engine, "case": f"{name},{batch},{seq},{rank},{memory}", "tok_s": round(batch * seq / step_s),
        "peak_gib": round((watch.peak - watch.base) / 2**30, 2), "allocator_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        "first_step_s": round(first, 1), "step_ms": round(step_s * 1e3, 2), "sm_mhz": mhz[len(mhz) // 2] if mhz else 0,
        "loss": round(float(loss), 4), "card": torch.cuda.get_device_name()}), flush=True)


if __name__ == "__main__":
    main()
