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
# the second run has set the first one's files aside, whole, and the history knows where they are
ASIDE=out_runs/runs/$(echo "$A" | cut -c1-12)
expect_file $ASIDE/lora/adapter_model.safetensors; expect_file $ASIDE/checkpoint-3/state.safetensors
expect_no_file out_runs/checkpoint-3; expect_file out_runs/checkpoint-4
[ "$(cat out_runs/lora/run_id)" = "$B" ] || fail 'lora is not of the second run'
run generate $ASIDE 'q1?' --temperature 0 --max-new-tokens 4; expect_code 0
run show-run "$A" -o out_runs --json; expect_out "\"checkpoint_path\": \"$ASIDE/checkpoint-3\""
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
run resume -o out_runs; expect_error INPUT_RESUME_NOT_FOUND 1; expect_err 'is unfinished'
cp -r $ASIDE/lora first
run resume "$A" -o out_runs; expect_code 0; expect_err run_resumed
cmp -s first/adapter_model.safetensors out_runs/lora/adapter_model.safetensors || fail 'the first run came back changed'
expect_file out_runs/checkpoint-3; expect_no_file $ASIDE/lora; expect_no_file out_runs/checkpoint-4
cmp -s before/adapter_model.safetensors "out_runs/runs/$(echo "$B" | cut -c1-12)/lora/adapter_model.safetensors" || fail 'the second run is lost'
# the newest unfinished run is found by itself, also from behind a later one
BACKPROPAGATE_FAULT=kill:60 "$BACKPROP" $T --steps 6 --save-steps 1 -o auto >out 2>err; CODE=$?; LAST='killed run'
[ "$CODE" -ne 0 ] || fail 'the fault did not kill the run'
expect_file auto/checkpoint-1
run $T --steps 6 -o straight; expect_code 0
run $T --steps 2 -o auto; expect_code 0
run resume -o auto; expect_code 0; expect_err resume_found; expect_err run_resumed
cmp -s straight/lora/adapter_model.safetensors auto/lora/adapter_model.safetensors || fail 'the resumed run differs'
# what cannot be told to be of a run is moved, not overwritten
mkdir -p foreign/lora foreign/checkpoint-2 && echo mine >foreign/lora/adapter_model.safetensors && echo mine >foreign/checkpoint-2/state.safetensors
run $T --steps 2 -o foreign; expect_code 0; expect_file foreign/runs/unknown/lora/adapter_model.safetensors
expect_file foreign/runs/unknown/checkpoint-2/state.safetensors
# a folder in which somebody trains is left alone, and so is the run's entry
cp auto/run_history.json entry.json
(exec 9>auto/.training.lock; flock -x 9; "$BACKPROP" train --resume "$(sed -n 's/.*"run_id": "\([0-9a-f]*\)".*/\1/p' auto/run_history.json | head -1)" -o auto >out 2>err); CODE=$?
LAST='a locked folder'; expect_error STATE_OUTPUT_IN_USE 2
cmp -s entry.json auto/run_history.json || fail 'the history has changed'
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
# the manifest knows every adapter, where it now lies, and keeps what others wrote
grep -q "\"path\": \"$ASIDE/lora\"\|\"path\": \"out_runs/lora\"" out_runs/manifest.json || fail 'the manifest lacks an adapter'
[ "$(grep -c '"is_final": true' out_runs/manifest.json)" -eq 1 ] || fail 'not one final adapter'
sed -i 's/"version": "1.0"/"version": "1.0", "colour": "red"/' out_runs/manifest.json
run replay "$B" -o out_runs; expect_code 0; grep -q '"colour": "red"' out_runs/manifest.json || fail 'a foreign member was lost'
echo '[1' >out_runs/manifest.json; run replay "$B" -o out_runs; expect_code 0; expect_err manifest_not_written
[ "$(cat out_runs/manifest.json)" = '[1' ] || fail 'a broken manifest was overwritten'
# check: everything is read again; what is spoiled is named
run check -o out_runs; expect_code 0; expect_out 'ok   *checkpoint'; expect_out 'ok   *adapter'; expect_out 'ok   *data'
run check "$A" -o out_runs --json; expect_code 0; expect_out '"bad": 0'
run multi-run -m "$TINY" -d chat.jsonl --runs 2 --steps 1 --lora-r 2 --max-seq-length 64 -o spoilt; expect_code 0
run check -o spoilt; expect_code 0; expect_out 'ok   *session .*run_002'
printf 'x' | dd of=spoilt/run_001/slao/merged.safetensors bs=1 seek=2000 conv=notrunc 2>/dev/null
printf 'x' | dd of=spoilt/run_002/checkpoint-1/state.safetensors bs=1 seek=3000 conv=notrunc 2>/dev/null
: >spoilt/lora/adapter_config.json; printf '\n' >>chat.jsonl
run check -o spoilt; expect_code 2; expect_out 'BAD *session .*run_001'; expect_out 'BAD *checkpoint'; expect_out 'BAD *adapter'; expect_out 'BAD *data'
run check -o absent; expect_code 0; expect_err 'no runs'
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
