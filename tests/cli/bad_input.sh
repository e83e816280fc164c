#!/bin/sh
# bad_input.sh: every kind of bad input is a coded error with a hint, and leaves nothing behind.
. "$(dirname "$0")/lib.sh"
chat_rows 4 >good.jsonl
# models
run train -m missing.gguf -d good.jsonl; expect_error DEP_MODEL_LOAD_FAILED 2
: >empty.gguf
run train -m empty.gguf -d good.jsonl; expect_error DEP_MODEL_LOAD_FAILED 2
head -c 20000 "$TINY" >cut.gguf
run train -m cut.gguf -d good.jsonl; expect_error DEP_MODEL_LOAD_FAILED 2; expect_err cut.gguf
printf 'not a model at all, just words' >foreign.gguf
run train -m foreign.gguf -d good.jsonl; expect_error DEP_MODEL_LOAD_FAILED 2
sed 's/general.architecture\(.\{12\}\)llama/general.architecture\1lamma/' "$TINY" >arch.gguf
run generate arch.gguf hello; expect_code 2; expect_err '^\[DEP_MODEL_LOAD_FAILED\]'
mkdir nothing
run train -m nothing -d good.jsonl; expect_error DEP_MODEL_LOAD_FAILED 2
# data
run train -m "$TINY" -d missing.jsonl; expect_error INPUT_DATASET_NOT_FOUND 1
run train -m "$TINY"; expect_error INPUT_VALIDATION_FAILED 1
: >empty.jsonl
run train -m "$TINY" -d empty.jsonl; expect_code 1; expect_err '^\[INPUT_DATASET_'
printf '{"a": \nnot json\n{{{\n' >bad.jsonl
run train -m "$TINY" -d bad.jsonl; expect_error INPUT_DATASET_PARSE_FAILED 1
printf '{"foo": 1}\n{"bar": 2}\n' >strange.jsonl
run train -m "$TINY" -d strange.jsonl; expect_error INPUT_DATASET_FORMAT_UNSUPPORTED 1
printf '{"conversations":[{"from":"human","value":"only a question"}]}\n' >noloss.jsonl
run train -m "$TINY" -d noloss.jsonl; expect_code 1; expect_err '^\[INPUT_DATASET_'
mkdir folder.jsonl
run train -m "$TINY" -d folder.jsonl; expect_code 1; expect_err '^\[INPUT_DATASET_'
expect_no_file output
# output folder that cannot be made, that cannot be written
: >file
run train -m "$TINY" -d good.jsonl --steps 1 -o file/below; expect_code 2; expect_err '^\[RUNTIME_IO_FAILED\]'
run export "$TINY" --format gguf -o file/below; expect_code 2; expect_err '^\[RUNTIME_'
if [ -w /dev/full ]; then
    run info --log-file /dev/full; [ "$CODE" -le 2 ] || fail 'a full log file must not crash'
fi
# ranks, targets, devices, resume
run train -m "$TINY" -d good.jsonl --lora-r 999; expect_code 1; expect_err '^\[CONFIG_INVALID_SETTING\]'
run train -m "$TINY" -d good.jsonl --lora-targets nose_proj; expect_error CONFIG_INVALID_SETTING 1
run train -m "$TINY" -d good.jsonl --device teapot; expect_code 1; expect_err '^\[CONFIG_INVALID_SETTING\]'
run train -m "$TINY" -d good.jsonl --device cuda; expect_error DEP_GPU_NOT_AVAILABLE 2
run train -m "$TINY" -d good.jsonl --resume abcdef; expect_error INPUT_RESUME_NOT_FOUND 1
run show-run abcdef; expect_error INPUT_RESUME_NOT_FOUND 1
run export "$TINY" --format lora; expect_error INPUT_VALIDATION_FAILED 1
run export missing --format gguf; expect_error DEP_MODEL_LOAD_FAILED 2
run generate "$TINY" hello --temperature -1; expect_error CONFIG_INVALID_SETTING 64
# another base under the same name; an interrupt before the first step; JSON of a failure
cp "$TINY" base.gguf
chat_rows 6 >base_rows.jsonl
run train -m base.gguf -d base_rows.jsonl --lora-r 4 --steps 4 --save-steps 2 --max-seq-length 64 -o rebased; expect_code 0
ID=$(sed -n 's/.*"run_id": "\([0-9a-f]*\)".*/\1/p' rebased/run_history.json | head -1)
"$MAKE_TINY_MODEL" base.gguf 99
run resume "$ID" -o rebased; expect_error STATE_CHECKPOINT_INVALID 2; expect_err base_weights
run show-run nothing -o rebased --json; expect_error INPUT_RESUME_NOT_FOUND 1; expect_out '"code": "INPUT_RESUME_NOT_FOUND"'
# results that nobody can read; two processes in one folder
LAST='list-runs >/dev/full'; "$BACKPROP" info >/dev/full 2>err; CODE=$?; : >out; expect_error RUNTIME_IO_FAILED 2
LAST='info >&-'; "$BACKPROP" info >&- 2>err; CODE=$?; expect_error RUNTIME_IO_FAILED 2
LAST='info | true'; { "$BACKPROP" info 2>err; echo $? >code; } | true; CODE=$(cat code); expect_code 0
chat_rows 6 >rows.jsonl
"$BACKPROP" train -m "$TINY" -d rows.jsonl --lora-r 4 --steps 1000000 --max-seq-length 64 -o shared >first.log 2>&1 &
FIRST=$!
tries=0
until grep -q '^step 1/' first.log || [ $tries -gt 300 ]; do sleep 0.1; tries=$((tries + 1)); done
run train -m "$TINY" -d rows.jsonl --lora-r 4 --steps 1 --max-seq-length 64 -o shared; expect_error STATE_OUTPUT_IN_USE 2
kill -INT $FIRST; wait $FIRST; CODE=$?; LAST='the first process'; expect_code 130
run resume '' -o shared; expect_error INPUT_RESUME_NOT_FOUND 1
finish
