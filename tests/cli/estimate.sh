#!/bin/sh
# estimate.sh: estimate-vram for presets, a GGUF file and a folder that has a config.json and no
# weights; cards that are not there; what it refuses.
. "$(dirname "$0")/lib.sh"
run estimate-vram; expect_code 0; expect_out 'qwen2.5-32b'; expect_out 'too small'
run estimate-vram llama-3.2-1b --lora-r 16 --vram-gb 10 --json; expect_code 0
expect_out '"detected_via": "user (--vram-gb)"'; expect_out '"recommended_batch_size": [1-9]'
run estimate-vram Meta-Llama/Llama-3.2-1B-Instruct --lora-r 16; expect_code 0; expect_out '1.24 B'
run estimate-vram "$TINY" --lora-r 4 --max-seq-length 64 --batch-size 2; expect_code 0; expect_out 'batch 2'
run export "$TINY" --format merged -o folder; expect_code 0
run estimate-vram folder --lora-r 4 --max-seq-length 64 --json; expect_code 0; sed 's/"model".*//' out >whole
rm folder/model.safetensors
run estimate-vram folder --lora-r 4 --max-seq-length 64 --json; expect_code 0; sed 's/"model".*//' out >alone
cmp -s whole alone || fail 'the weights change what the configuration says'
rm folder/config.json
run estimate-vram folder; expect_error DEP_MODEL_LOAD_FAILED 2
run estimate-vram nothing-of-that-name; expect_error DEP_MODEL_LOAD_FAILED 2
run estimate-vram qwen3.5-4b; expect_error DEP_MODEL_LOAD_FAILED 2
run estimate-vram llama-3.2-1b --vram-gb 513; expect_code 64
run estimate-vram llama-3.2-1b --lora-r 60000; expect_error CONFIG_INVALID_SETTING 1
run estimate-vram llama-3.2-1b --use-dora; expect_error CONFIG_INVALID_SETTING 1
finish
