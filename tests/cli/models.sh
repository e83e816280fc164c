#!/bin/sh
# models.sh: a model as a folder and back, models by preset and by id from the cache that other
# programs fill, targets that a model does not have.
. "$(dirname "$0")/lib.sh"
chat_rows 4 >good.jsonl
# a GGUF file as a folder: the same model
run export "$TINY" --format merged -o folder; expect_code 0
for file in config.json model.safetensors tokenizer.json tokenizer_config.json; do
    expect_file "folder/$file"
done
expect_no_file folder.partial
run generate "$TINY" hello --raw --temperature 0 --max-new-tokens 12; expect_code 0; cp out first
run generate folder hello --raw --temperature 0 --max-new-tokens 12; expect_code 0
cmp -s out first || fail 'the folder says something else'
run export folder --format merged -o again; expect_code 0
cmp -s folder/model.safetensors again/model.safetensors || fail 'the copy has other weights'
run export folder --format merged -o again; expect_code 0 # replaced
# folders that are not a model's stay as they are
mkdir notes; : >notes/diary.md
run export folder --format merged -o notes; expect_error RUNTIME_EXPORT_FAILED 2
expect_file notes/diary.md; expect_no_file notes/config.json
run export folder --format merged -q q8_0 -o small; expect_error INPUT_VALIDATION_FAILED 1
# several weight files, one of them gone
mkdir parts; cp folder/*.json parts
cat >parts/model.safetensors.index.json <<'EOF'
{"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors",
                "lm_head.weight": "model-00002-of-00002.safetensors"}}
EOF
cp folder/model.safetensors parts/model-00001-of-00002.safetensors
run generate parts hello; expect_error DEP_MODEL_LOAD_FAILED 2; expect_err 'is missing (2 of 2)'
# presets and ids
HF_HUB_CACHE=$WORK/hub; export HF_HUB_CACHE
run generate smollm3-3b hello; expect_error DEP_MODEL_LOAD_FAILED 2
expect_err HuggingFaceTB/SmolLM3-3B; expect_err 'not on this machine'
cached=hub/models--HuggingFaceTB--SmolLM3-3B
mkdir -p "$cached/refs" "$cached/snapshots"
mv folder "$cached/snapshots/0abc"; printf '0abc\n' >"$cached/refs/main"
for name in smollm3-3b SmolLM3-3B HuggingFaceTB/SmolLM3-3B; do
    run generate "$name" hello --raw --temperature 0 --max-new-tokens 12; expect_code 0
    cmp -s out first || fail 'the cached model says something else'
done
printf '../../../..' >"$cached/refs/main"
run generate smollm3-3b hello; expect_error DEP_MODEL_LOAD_FAILED 2
run generate ../HuggingFaceTB/SmolLM3-3B hello; expect_error DEP_MODEL_LOAD_FAILED 2
# targets
run train -m "$TINY" -d good.jsonl --lora-targets qkv_proj; expect_error CONFIG_INVALID_SETTING 1
expect_err "'qkv_proj' matches no linear"
# the preset's rank fits the smallest matrix that the model has
run train -m "$TINY" -d good.jsonl --steps 1 -o out1 --log-format console; expect_code 0
grep -q '"r": [0-9]*[02468],' out1/lora/adapter_config.json || fail 'a preset of rank 1'
finish
