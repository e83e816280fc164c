"""What bench_data does, with datasets and tokenizers: JSON lines to packed tokens with loss marks.

Usage: data_peer.py FILE MODEL_FOLDER [PROCESSES [bare]]. The usual way: load_dataset, map with a compiled
chat template and Tokenizer.encode_batch in batches, loss marks from the offsets of the assistant's
words, then best-fit packing into 2,048 tokens. `bare` leaves the loss marks out. Prints one line of numbers.
"""
import json
import os
import sys
import tempfile
import time

import datasets
from tokenizers import Tokenizer
from jinja2.sandbox import ImmutableSandboxedEnvironment

path, model = sys.argv[1], sys.argv[2]
processes = int(sys.argv[3]) if len(sys.argv) > 3 else 2
bare = sys.argv[4:] == ["bare"]
os.environ["TOKENIZERS_PARALLELISM"] = "false" if processes > 1 else "true"
datasets.disable_progress_bars()
config = json.load(open(f"{model}/tokenizer_config.json"))
environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
template = environment.from_string(config["chat_template"])
tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
START = "<|im_start|>assistant\n"


def prepare(batch):
    texts = [template.render(messages=m, add_generation_prompt=False) for m in batch["messages"]]
    if bare:
        return {"input_ids": [e.ids[:2048] for e in tokenizer.encode_batch(texts, add_special_tokens=False)]}
    ids, marks = [], []
    for text, encoded in zip(texts, tokenizer.encode_batch(texts, add_special_tokens=False)):
        loss, spans, at = [0] * len(encoded.ids), [], 0
        while (at := text.find(START, at)) >= 0:
            at += len(START)
            spans.append((at, text.find("<|im_end|>", at) + len("<|im_end|>")))
        k = 0
        for i, (_, end) in enumerate(encoded.offsets):
            while k < len(spans) and end > spans[k][1]:
                k += 1
            loss[i] = int(k < len(spans) and end > spans[k][0])
        ids.append(encoded.ids[:2048])
        marks.append(loss[:2048])
    return {"input_ids": ids, "loss": marks}


def pack(lengths, size=2048, window=1024):
    packs, fill = 0, 0
    for at in range(0, len(lengths), window):
        rooms = []
        for length in sorted(lengths[at:at + window], reverse=True):
            best = min((i for i, room in enumerate(rooms) if room >= length), key=rooms.__getitem__, default=None)
            if best is None:
                rooms.append(size - length)
            else:
                rooms[best] -= length
        packs += len(rooms)
        fill += size * len(rooms) - sum(rooms)
    return packs, fill


with tempfile.TemporaryDirectory() as cache:
    start = time.perf_counter()
    data = datasets.load_dataset("json", data_files=path, split="train", cache_dir=cache)
    data = data.map(prepare, batched=True, num_proc=processes if processes > 1 else None,
                    remove_columns=data.column_names)
    loaded = time.perf_counter()
    lengths = [len(row) for row in data["input_ids"]]
    packs, used = pack(lengths)
    seconds = time.perf_counter() - start
    print(json.dumps({"rows": len(data), "tokens": sum(lengths), "packs": packs, "load_s": round(loaded - start, 3),
                      "seconds": round(seconds, 3), "mb_per_s": round(os.path.getsize(path) / 1e6 / seconds, 1)}))
