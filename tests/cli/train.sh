#!/bin/sh
# train.sh: train, history, generate and export on the tiny model; stop, resume, equal bits.
. "$(dirname "$0")/lib.sh"
chat_rows 12 >chat.jsonl
T="train -m $TINY -d chat.jsonl --lora-r 4 --lr 1e-2 --warmup-steps 2 --batch-size 2 --max-seq-length 64 --gradient-accumulation 2"
run $T --steps 6 --save-steps 3 -o whole
expect_code 0; expect_out 'Final loss'; expect_err 'run_started'
expect_file whole/lora/adapter_model.safetensors; expect_file whole/lora/adapter_config.json
expect_file whole/lora/tokenizer.json; expect_file whole/checkpoint-3/state.safetensors
expect_file whole/run_history.json
run list-runs -o whole; expect_code 0; expect_out completed
run list-runs -o whole --json; expect_code 0; expect_out '"status": "completed"'
ID=$(sed -n 's/.*"run_id": "\([0-9a-f]*\)".*/\1/p' out | head -1)
run show-run "$(echo "$ID" | cut -c1-8)" -o whole; expect_code 0; expect_out "$ID"; expect_out 'Loss history'
# quiet: results on stdout, nothing else; the log file has it all
run $T --steps 1 -o quiet --quiet --log-file quiet.log; expect_code 0; expect_out "Final loss"
[ -s err ] && fail "--quiet says something"
grep -q run_started quiet.log || fail "the log file is empty"
run train -m nowhere -d chat.jsonl --quiet; expect_error DEP_MODEL_LOAD_FAILED 2
# the same again: the same bits; one thread, recomputation: the same bits
run $T --steps 6 --save-steps 3 -o again --threads 1; expect_code 0
cmp -s whole/lora/adapter_model.safetensors again/lora/adapter_model.safetensors || fail 'two runs differ'
run $T --steps 6 -o recomputed --gradient-checkpointing true; expect_code 0
cmp -s whole/lora/adapter_model.safetensors recomputed/lora/adapter_model.safetensors || fail 'recomputation changes bits'
run $T --steps 6 -o offloaded --gradient-checkpointing offload; expect_code 0
cmp -s whole/lora/adapter_model.safetensors offloaded/lora/adapter_model.safetensors || fail 'offloading changes bits'
# killed at the checkpoint after step 3, resumed: the same bits
BACKPROPAGATE_FAULT=kill:30 "$BACKPROP" $T --steps 6 --save-steps 1 -o killed >out 2>err; CODE=$?; LAST='killed run'
[ "$CODE" -ne 0 ] || fail 'the fault did not kill the run'
run list-runs -o killed --json
ID=$(sed -n 's/.*"run_id": "\([0-9a-f]*\)".*/\1/p' out | head -1)
run train --resume "$ID" -o killed; expect_code 0; expect_err 'run_resumed'
cmp -s whole/lora/adapter_model.safetensors killed/lora/adapter_model.safetensors || fail 'a resumed run differs'
run train --resume "$ID" -o killed --lr 0.5; expect_error CONFIG_INVALID 1
# results
run generate whole 'q1?' --temperature 0 --max-new-tokens 8; expect_code 0
run generate whole/lora 'q1?' --temperature 0 --max-new-tokens 8 --json; expect_code 0; expect_out '"new_tokens"'
run generate "$TINY" 'q1?' --max-new-tokens 4 --seed 3; expect_code 0
run export whole --format gguf -q q8_0; expect_code 0; expect_file whole/gguf/Modelfile
expect_file whole/gguf/tiny-q8_0.gguf
run generate whole/gguf/tiny-q8_0.gguf 'q1?' --temperature 0 --max-new-tokens 4; expect_code 0
# every mix (rows of 64 fall back), with an importance matrix made, then read again: the same file
printf 'one two three, four five six. seven eight nine ten; one two three and so on, again and again.' >text.txt
for mix in q2_k q3_k_m q4_0 q4_1 q4_k_m q5_0 q5_1 q5_k_s q6_k iq4_nl iq4_xs; do
  run export whole --format gguf -q $mix -o mixes; expect_code 0; expect_file mixes/tiny-$mix.gguf
done
run generate mixes/tiny-iq4_nl.gguf 'q1?' --temperature 0 --max-new-tokens 4; expect_code 0
run export whole --format gguf -o made --imatrix-data text.txt; expect_code 0; expect_file made/imatrix.gguf
run export whole --format gguf -o read --imatrix made/imatrix.gguf; expect_code 0
cmp -s made/tiny-q4_k_m.gguf read/tiny-q4_k_m.gguf || fail 'a matrix that was read differs from the one that was made'
cmp -s made/tiny-q4_k_m.gguf mixes/tiny-q4_k_m.gguf && fail 'importance changed nothing'
run export whole --format gguf -o bad --imatrix text.txt; expect_error INPUT_VALIDATION_FAILED 1
run export whole --format gguf -o bad --imatrix text.txt --imatrix-data text.txt; expect_error INPUT_VALIDATION_FAILED 1
# a quantised base is trained as it is
run train -m mixes/tiny-q5_1.gguf -d chat.jsonl --lora-r 4 --batch-size 2 --max-seq-length 64 --steps 2 -o again; expect_code 0
run export whole --format gguf-adapter -o adapter; expect_code 0; expect_file adapter/tiny-lora-f32.gguf
run export whole --format lora -o copy; expect_code 0
cmp -s whole/lora/adapter_model.safetensors copy/adapter_model.safetensors || fail 'the copied adapter differs'
run export "$TINY" --format gguf -q f16 -o plain; expect_code 0; expect_file plain/tiny-f16.gguf
finish
