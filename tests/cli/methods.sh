#!/bin/sh
# methods.sh: what is trained beside a plain adapter: DoRA, rsLoRA, every weight. Stop, resume, equal
# bits, what each leaves behind, what each refuses.
. "$(dirname "$0")/lib.sh"
chat_rows 12 >chat.jsonl
T="train -m $TINY -d chat.jsonl --lr 1e-2 --warmup-steps 2 --batch-size 2 --max-seq-length 64 --gradient-accumulation 2"
# DoRA with rsLoRA: resumed, merged; a GGUF adapter has no place for magnitudes
D="$T --lora-r 4 --use-dora --use-rslora"
run $D --steps 6 -o dora; expect_code 0
grep -q '"use_dora": true' dora/lora/adapter_config.json || fail 'the adapter does not say that it is DoRA'
grep -q '"use_rslora": true' dora/lora/adapter_config.json || fail 'the adapter does not say that it is rsLoRA'
run $D --steps 6 -o threads --threads 1 --gradient-checkpointing true; expect_code 0
cmp -s dora/lora/adapter_model.safetensors threads/lora/adapter_model.safetensors || fail 'DoRA: bits differ'
BACKPROPAGATE_FAULT=kill:30 "$BACKPROP" $D --steps 6 --save-steps 1 -o killed >out 2>err && fail 'the fault did not kill the run'
run train --resume auto -o killed; expect_code 0; expect_err 'run_resumed'
cmp -s dora/lora/adapter_model.safetensors killed/lora/adapter_model.safetensors || fail 'DoRA: a resumed run differs'
run generate dora 'q1?' --temperature 0 --max-new-tokens 8; expect_code 0; cp out unmerged
run export dora --format gguf -q f32 -o merged; expect_code 0
run generate merged/tiny-f32.gguf 'q1?' --temperature 0 --max-new-tokens 8; expect_code 0
cmp -s out unmerged || fail 'a merged DoRA adapter answers otherwise'
run export dora --format gguf-adapter -o adapter; expect_error RUNTIME_GGUF_EXPORT_FAILED 2; expect_err 'Merge it'
# training goes on with an adapter; at a rate of 0 it stays what it was
run train -m dora -d chat.jsonl --lr 0 --batch-size 2 --max-seq-length 64 --steps 1 -o more; expect_code 0
cmp -s dora/lora/adapter_model.safetensors more/lora/adapter_model.safetensors || fail 'an adapter does not go on from where it was'
cmp -s dora/lora/adapter_config.json more/lora/adapter_config.json || fail 'an adapter that goes on says other things'
run train -m dora/lora -d chat.jsonl --lr 1e-2 --batch-size 2 --max-seq-length 64 --steps 2 -o more; expect_code 0
cmp -s dora/lora/adapter_model.safetensors more/lora/adapter_model.safetensors && fail 'nothing was learnt'
run train -m dora -d chat.jsonl --steps 1 --lora-r 8 -o bad; expect_error CONFIG_INVALID_SETTING 1; expect_err '--lora-r'
run train -m dora -d chat.jsonl --steps 1 -o dora; expect_error INPUT_VALIDATION_FAILED 1; expect_err 'another --output'
run train -m dora -d chat.jsonl --steps 1 --mode full -o bad; expect_error INPUT_VALIDATION_FAILED 1
# every weight
F="$T --mode full"
run $F --steps 6 --save-steps 3 -o full --eval-split 0.2; expect_code 0
expect_file full/model/model.safetensors; expect_file full/model/tokenizer.json
[ ! -e full/lora ] || fail 'a full run left an adapter'
run show-run "$(cat full/model/run_id)" -o full --json; expect_out '"mode": "full"'
run $F --steps 6 -o again --eval-split 0.2 --threads 1 --gradient-checkpointing true; expect_code 0
cmp -s full/model/model.safetensors again/model/model.safetensors || fail 'full: bits differ'
BACKPROPAGATE_FAULT=kill:26 "$BACKPROP" $F --steps 6 --save-steps 1 -o stopped --eval-split 0.2 >out 2>err && fail 'the fault did not kill the run'
run train --resume auto -o stopped; expect_code 0; expect_err 'run_resumed'
cmp -s full/model/model.safetensors stopped/model/model.safetensors || fail 'full: a resumed run differs'
run generate full 'q1?' --temperature 0 --max-new-tokens 8; expect_code 0
run export full --format gguf -q q8_0 -o gguf; expect_code 0; expect_file gguf/model-q8_0.gguf
run export full --format lora -o none; expect_error INPUT_VALIDATION_FAILED 1
run train -m full -d chat.jsonl --lora-r 4 --batch-size 2 --max-seq-length 64 --steps 1 -o onto; expect_code 0
# another run in the same folder sets the model aside
run $T --lora-r 4 --steps 1 -o full; expect_code 0; expect_file full/lora/adapter_model.safetensors
[ ! -e full/model ] || fail 'the model of an earlier run is still there'
ls full/runs/*/model/model.safetensors >/dev/null || fail 'the model of an earlier run is gone'
# refusals
run $F --steps 1 --lora-r 8 -o bad; expect_error CONFIG_INVALID_SETTING 1; expect_err '--lora-r'
run $F --steps 1 --use-dora -o bad; expect_error CONFIG_INVALID_SETTING 1
run $F --steps 1 --memory-gb 0.001 -o bad; expect_error RUNTIME_OUT_OF_MEMORY 137
run $T --steps 1 --mode half -o bad; expect_error CONFIG_INVALID_SETTING 64
finish
