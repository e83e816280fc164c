#!/bin/sh
# recovery.sh: heat (a fake NVML), SIGTERM and SIGINT, a full disk: pauses, exit codes, what is kept,
# and equal bits after going on.
. "$(dirname "$0")/lib.sh"
: "${FAKE_NVML:?the fake library}"
chat_rows 12 >chat.jsonl
T="train -m $TINY -d chat.jsonl --lora-r 4 --lr 1e-2 --warmup-steps 2 --batch-size 2 --max-seq-length 64 --gradient-accumulation 2"
run $T --steps 6 -o whole; expect_code 0; expect_no_err heat_pause
same() { cmp -s whole/lora/adapter_model.safetensors "$1/lora/adapter_model.safetensors" || fail "'$1' has other bits"; }
# heat: a pause with hysteresis (it goes on below 80, not at 85), and the history has the maximum
export BACKPROPAGATE_NVML="$FAKE_NVML" FAKE_NVML_DEGREES=70,91,85,79,60
run $T --steps 6 -o hot --gpu-poll-seconds 0; expect_code 0; expect_err '"heat_pause".*"degrees": "*91'; expect_err '"heat_over".*"degrees": "*79'
[ "$(grep -c heat_pause err)" = 1 ] || fail 'not one pause'
same hot
run list-runs -o hot --json; expect_out '"gpu_max_temp": 91'
FAKE_NVML_DEGREES=70,91,90; run $T --steps 6 -o ever --gpu-poll-seconds 0 --gpu-max-pause 0.2
expect_error RUNTIME_GPU_TEMPERATURE_CRITICAL 2; expect_file ever/checkpoint-1
FAKE_NVML_DEGREES=70,70,96; run $T --steps 6 -o danger --gpu-poll-seconds 0
expect_error RUNTIME_GPU_TEMPERATURE_CRITICAL 2; expect_err '96 degrees'; expect_file danger/checkpoint-2
FAKE_NVML_DEGREES=60; run resume -o danger; expect_code 0; same danger
FAKE_NVML_DEGREES=94; run $T --steps 6 -o off --gpu-max-temp 0; expect_code 0; expect_no_err heat_pause
unset BACKPROPAGATE_NVML FAKE_NVML_DEGREES
# SIGTERM and SIGINT: the step is finished, the state saved, the way on named
for signal in TERM INT; do
  "$BACKPROP" $T --steps 2000 --save-steps 0 -o "sig$signal" >out 2>err & PID=$!
  n=0; until grep -q 'step 10/' err || [ $n -gt 200 ]; do sleep 0.05; n=$((n + 1)); done
  kill -$signal $PID; wait $PID; CODE=$?; LAST="a run with SIG$signal"
  expect_error RUNTIME_TRAINING_ABORTED 130; expect_err 'backprop resume [0-9a-f]'
  run list-runs -o "sig$signal" --json; expect_out '"failure_reason": "interrupted"'
done
# a disk that is full from some operation on: an error, the last good checkpoint, and it goes on
for n in 40 60 90 120; do
  rm -rf full; BACKPROPAGATE_FAULT=full:$n "$BACKPROP" $T --steps 6 --save-steps 1 -o full >out 2>err; CODE=$?; LAST="full disk at $n"
  [ "$CODE" -eq 2 ] || fail 'expected exit code 2'
  expect_err '^\[STATE_\|^\[RUNTIME_'
  if [ -d full/checkpoint-1 ]; then run resume -o full; expect_code 0; same full; fi
done
finish
