"""What bench_tokenizer does, with Hugging Face's tokenizers on one thread.

Usage: tokenizer_peer.py FOLDER TEXT…. The same documents of about 4 KB, the best of five rounds.
"""
import os
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer


def documents(data):
    at = 0
    while at < len(data):
        end = data.find(b"\n", at + 4096) + 1 if len(data) - at > 4096 else 0
        end = end or len(data)
        yield data[at:end].decode("utf-8", "ignore")
        at = end


start = time.perf_counter()
tokenizer = Tokenizer.from_file(f"{sys.argv[1]}/tokenizer.json")
print(f"loaded in {time.perf_counter() - start:.3f} s")
for path in sys.argv[2:]:
    data = open(path, "rb").read()
    texts = list(documents(data))
    best = 1e9
    for _ in range(5):
        start = time.perf_counter()
        encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        best = min(best, time.perf_counter() - start)
    print(f"{path}: {sum(len(e.ids) for e in encoded)} tokens, {len(data) / best / 1e6:.2f} MB/s", flush=True)
