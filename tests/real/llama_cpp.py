"""llama_cpp.py: what the real llama.cpp says, greedily, for a model file (and an adapter).

Usage: llama_cpp.py MODEL PROMPT TOKENS [ADAPTER]
Prints one JSON object {"text": …, "prompt_tokens": …}; the prompt goes through the model's own chat
template, rendered by llama.cpp. Needs the package in tests/requirements-check.txt.
"""
import json
import os
import sys


def main():
    model, prompt, tokens = sys.argv[1], sys.argv[2], int(sys.argv[3])
    # llama.cpp logs to stdout and stderr from its own threads: keep the real stdout aside.
    stdout = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = 1024
    params.n_parallel = 1
    params.warmup = False
    params.use_jinja = True
    params.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
    params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if len(sys.argv) > 4:
        adapter = xllamacpp.CommonAdapterLoraInfo()
        adapter.path = sys.argv[4]
        adapter.scale = 1.0
        params.lora_adapters = [adapter]
    server = xllamacpp.Server(params)
    answer = server.handle_chat_completions({
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens, "temperature": 0, "cache_prompt": False,
    })
    if not isinstance(answer, dict):
        answer = json.loads(answer)
    if "choices" not in answer:
        sys.exit("llama.cpp: %s" % answer)
    text = json.dumps({"text": answer["choices"][0]["message"]["content"],
                       "prompt_tokens": answer["usage"]["prompt_tokens"]}) + "\n"
    os.write(stdout, text.encode())
    os._exit(0)  # its threads need no farewell


if __name__ == "__main__":
    main()
