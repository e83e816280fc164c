#!/bin/sh
# resume.sh: a run on the GPU, killed with SIGKILL at several moments and resumed each time, ends
# with the bits of a run that nobody disturbed. Run by hand on a machine with a card:
#   tests/gpu/resume.sh BACKPROP MODEL.gguf DATA WORK_FOLDER
set -eu
program=$1 model=$2 data=$3 work=$4
steps=1500
common="-d $data --device cuda --json --log-level ERROR"
train="train -m $model $common --lora-preset fast --steps $steps --save-steps 50 --lr 1e-4"
mkdir -p "$work"
# shellcheck disable=SC2086 # lists
"$program" $train -o "$work/straight" >"$work/straight.json"
# shellcheck disable=SC2086
"$program" $train -o "$work/killed" >"$work/killed.json" 2>/dev/null &
process=$!
for moment in 1.0 1.2 0.9 1.4; do
    sleep "$moment"
    kill -9 "$process" || { echo "it had ended before the kill" >&2; exit 1; }
    wait "$process" 2>/dev/null || true
    echo "killed with $(ls -d "$work/killed"/checkpoint-* | wc -l) checkpoints"
    run=$(python3 -c 'import json, sys
text = json.load(open(sys.argv[1]))
runs = text["runs"] if isinstance(text, dict) else text
print(runs[-1]["run_id"])' "$work/killed/run_history.json")
    # shellcheck disable=SC2086
    "$program" resume "$run" $common -o "$work/killed" >"$work/resumed.json" 2>/dev/null &
    process=$!
done
wait "$process"
cmp "$work/straight/lora/adapter_model.safetensors" "$work/killed/lora/adapter_model.safetensors"
echo "equal bits after four kills"
