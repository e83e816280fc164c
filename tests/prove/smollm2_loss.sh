#!/bin/sh
# smollm2_loss.sh: the real SmolLM2's loss on a fixed text: ours = transformers' = llama.cpp's; and a
# trained adapter's loss: ours = PEFT's. Gets BACKPROP, BP_TEST_MODEL, BP_TEST_PYTHON, LLAMA_CPP.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$BACKPROP" train -m "$BP_TEST_MODEL" -d "$here/../../examples/quickstart.jsonl" --steps 4 \
    --lora-r 8 --lora-targets all-linear --lr 2e-3 --warmup-steps 0 -o "$work/run" >"$work/log" 2>&1 ||
    { tail "$work/log"; exit 1; }
"$BP_TEST_PYTHON" "$here/smollm2_loss.py" "$(dirname "$BACKPROP")/libbackprop.so" \
    "$BP_TEST_MODEL" "$work/run" "$LLAMA_CPP/llama-perplexity" "$work"
