#!/bin/sh
# multi_run.sh: sessions of runs: files in sequence, merge modes, the matrix, stop, kill and resume to
# equal bits, what goes wrong.
. "$(dirname "$0")/lib.sh"
chat_rows 20 >first.jsonl
chat_rows 20 | sed 's/answer/reply/' >second.jsonl
T="multi-run -m $TINY --lora-r 4 --lr 1e-2 --warmup-steps 1 --batch-size 2 --max-seq-length 64 --gradient-accumulation 1 --steps 3"
TWO="$T -d first.jsonl -d second.jsonl"
run $TWO -o whole; expect_code 0; expect_out '2 runs complete'; expect_out '^  base model'; expect_out '^  run 2 .*\*'
expect_out '^  forgotten'; expect_err 'Run 2 of 2: second.jsonl'
expect_file whole/lora/tokenizer.json; expect_file whole/run_002/slao/merge_history.json
ID=$(cat whole/lora/run_id); expect_file "whole/losses-$(echo "$ID" | cut -c1-12).svg"
run generate whole 'q1?' --temperature 0 --max-new-tokens 4; expect_code 0
run export whole --format gguf -q q8_0; expect_code 0
run show-run "$ID" -o whole --json; expect_code 0; expect_out '"session_kind": "multi_run"'; expect_out '"merge_mode": "slao"'
expect_out '"scale_factor": 0.707'; expect_out '"task_losses"'
# the same bits again, on one thread, and when it was killed anywhere
run $TWO -o again --threads 1 --json; expect_code 0; expect_out '"matrix"'; expect_out '"forgotten"'
cmp -s whole/lora/adapter_model.safetensors again/lora/adapter_model.safetensors || fail 'two sessions differ'
for n in 20 60 100 150 190; do
  rm -rf killed
  BACKPROPAGATE_FAULT=kill:$n "$BACKPROP" $TWO --save-steps 1 -o killed >out 2>err; CODE=$?; LAST="killed at $n"
  [ "$CODE" -ne 0 ] || fail 'the fault did not kill the session'
  run resume -o killed; expect_code 0; expect_err run_resumed
  cmp -s whole/lora/adapter_model.safetensors killed/lora/adapter_model.safetensors || fail "a resumed session differs (kill $n)"
done
run replay "$ID" -o whole; expect_code 0; NEW=$(cat whole/lora/run_id)
[ "$NEW" != "$ID" ] || fail 'the replay has the old id'
cmp -s again/lora/adapter_model.safetensors whole/lora/adapter_model.safetensors || fail 'a replay differs'
expect_file "whole/runs/$(echo "$ID" | cut -c1-12)/run_001/lora"
run train --resume "$ID" -o whole; expect_error INPUT_VALIDATION_FAILED 1
# modes and options
for mode in simple linear ties dare; do
  run $TWO -o "$mode" --merge-mode $mode; expect_code 0
  cmp -s whole/lora/adapter_model.safetensors $mode/lora/adapter_model.safetensors && fail "$mode is slao"
done
run $T -d first.jsonl --runs 3 -o one --replay-fraction 0.2 --replay-strategy random --lr-decay cosine --json; expect_code 0
expect_out '"replayed": 1'; expect_out '"total_runs": 3'
run $TWO -o early --runs 6 --early-stopping --early-stopping-patience 1 --early-stopping-threshold 9; expect_code 0; expect_out 'stopped early'
run $TWO -o drift --drift-gate --drift-threshold 1; expect_code 0; expect_out 'not merged: the drift gate'
run $TWO -o dora --use-dora; expect_code 0
run $TWO -o merged --slao-init merged --slao-scaling linear --slao-adaptive --slao-layers; expect_code 0
# bad input
run $TWO -o bad --runs 1; expect_error CONFIG_INVALID 1
run $TWO -o bad --samples 19; expect_error CONFIG_INVALID 1
run $TWO -o bad --eval-gate --validation-samples 0; expect_error CONFIG_INVALID_SETTING 1
run $TWO -o bad --merge-mode average; expect_error CONFIG_INVALID_SETTING 64
chat_rows 1 >tiny.jsonl
run $T -d first.jsonl -d tiny.jsonl -o bad2; expect_error CONFIG_INVALID 1; expect_err 'held out'
expect_no_file bad2
run multi-run -m "$TINY" -o bad2; expect_error INPUT_VALIDATION_FAILED 1
run $TWO -o diverged --lr 10 --final-lr 0 --max-grad-norm 0 --warmup-steps 0 --steps 9 --lora-alpha 1000000 --weight-decay 10; expect_error PARTIAL_SUCCESS 3; expect_out '1 runs complete'
finish
