#!/bin/sh
# runs.sh: the history's verbs on runs of the tiny model and on histories of other writers.
. "$(dirname "$0")/lib.sh"
chat_rows 12 >chat.jsonl
T="train -m $TINY -d chat.jsonl --lora-r 4 --warmup-steps 2 --batch-size 2 --max-seq-length 64 --gradient-accumulation 2 -o out_runs"
run $T --steps 3 --lr 1e-2; expect_code 0
run $T --steps 4 --lr 2e-2; expect_code 0; cp -r out_runs/lora before
run list-runs -o out_runs --json; expect_code 0; expect_err "use 'runs'"
B=$(sed -n 's/.*"run_id": "\([0-9a-f]*\)".*/\1/p' out | sed -n 1p)
A=$(sed -n 's/.*"run_id": "\([0-9a-f]*\)".*/\1/p' out | sed -n 2p)
run runs -o out_runs; expect_code 0; expect_out "$(echo "$A" | cut -c1-12)"; expect_out completed; expect_out LEAST
run runs -o out_runs --limit 1 --json; expect_code 0; expect_out '"generated_at"'; expect_out "$B"; expect_out '"min"'
grep -q "$A" out && fail '--limit 1 shows two runs'
run show-run "$A" -o out_runs; expect_code 0; expect_out '█'
run diff-runs "$A" "$(echo "$B" | cut -c1-8)" -o out_runs; expect_code 0
expect_out '^\* hp.learning_rate  *0.0100  *0.0200'; expect_out '^  hp.seed  *42  *42'; expect_out 'fields differ'
run diff-runs "$A" "$A" -o out_runs --format json; expect_code 0; expect_out '"changed_count": 0'
run diff-runs "$A" 00000000 -o out_runs; expect_error INPUT_RESUME_NOT_FOUND 1
run export-runs -o out_runs; expect_code 0; expect_err '2 runs'
[ "$(wc -l <out)" -eq 2 ] || fail 'not one line a run'
run export-runs -o out_runs --to new/folder/runs.jsonl --status completed; expect_code 0; expect_file new/folder/runs.jsonl
[ -s out ] && fail 'stdout is not empty'
run export-runs -o absent; expect_error INPUT_VALIDATION_FAILED 1
run runs -o absent; expect_code 0; expect_err 'no runs'
run resume "$A" -o out_runs; expect_code 0; expect_err run_resumed
# a replay gives the same bits; an override changes them; what cannot be overridden is named
run replay "$B" -o out_runs --json; expect_code 0; expect_out "\"original_run_id\": \"$B\""
cmp -s before/adapter_model.safetensors out_runs/lora/adapter_model.safetensors || fail 'a replay differs'
run replay "$B" -o out_runs --override seed=7 --override packing=false; expect_code 0
cmp -s before/adapter_model.safetensors out_runs/lora/adapter_model.safetensors && fail 'the override did nothing'
run replay "$B" -o out_runs --override depth=3; expect_error CONFIG_INVALID 1
run replay "$B" -o out_runs --override seed; expect_error CONFIG_INVALID 1
run replay "$B" -o out_runs --override seed=x; expect_code 1
run runs -o out_runs --json; [ "$(grep -c run_id out)" -eq 4 ] || fail 'not four runs'
run info --error-codes --json; expect_code 0; expect_out '"code": "INPUT_DATASET_NOT_FOUND"'
run info --subcommand-tiers; expect_code 0; expect_out '^experimental  *diff-runs'; expect_out '^deprecated-prefer-runs  *list-runs'
# what other programs write: members absent, odd or unknown
mkdir odd && cat >odd/run_history.json <<'EOF'
[{"run_id": "aa", "status": "failed", "hyperparameters": {"lr": 1, "targets": ["q", "v"]}, "loss_history": [3, null, "x", 1]},
 {"run_id": "bb", "hyperparameters": {"lr": 1.0, "targets": ["v"]}, "started_at": "2026-05-25T10:00:00", "completed_at": "2026-05-25T10:01:40.5"},
 {"run_id": 7}, "text", null]
EOF
run runs -o odd --json; expect_code 0; expect_out '"min": 1'; expect_out '"duration_seconds": 100.5'
run runs -o odd; expect_code 0
run show-run aa -o odd; expect_code 0
run diff-runs aa bb -o odd; expect_code 0; expect_out '^  hp.lr'; expect_out '^\* hp.targets'
run export-runs -o odd; expect_code 0
run replay aa -o odd; [ "$CODE" -ne 0 ] || fail "a run without data was replayed"
finish
