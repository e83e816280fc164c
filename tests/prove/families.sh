#!/bin/sh
# families.sh: for a tiny random model of every family, with a real tokenizer: what our
# exporter writes against llama.cpp's own converter, tensor by tensor and key by key; both files' loss
# in llama.cpp and ours against transformers'; and back from GGUF to a folder, bit by bit. Gets
# BACKPROP, BP_TEST_MODEL, BP_TEST_PYTHON, LLAMA_CPP (binaries) and LLAMA_CPP_SOURCE.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$BP_TEST_PYTHON" "$here/families.py" "$BACKPROP" "$(dirname "$BACKPROP")/libbackprop.so" \
    "$BP_TEST_MODEL" "$LLAMA_CPP/llama-perplexity" "$LLAMA_CPP_SOURCE" \
    "$work" "$@"
