#!/bin/sh
# smollm2.sh: SmolLM2 trained on the GPU and on the CPU from one seed, and twice on the GPU: every
# step's loss within 1 %, equal bits, plan = use. The text's loss stays far from 0, where a ratio
# would mean nothing. Run by hand on a machine with a card:
#   tests/gpu/smollm2.sh BACKPROP MODEL.gguf WORK_FOLDER
set -eu
program=$1 model=$2 work=$3
text=$(dirname "$0")/../prove/text.txt
common="-m $model -d $text --lora-preset fast --lora-targets all-linear --steps 30 --lr 2e-4
  --max-seq-length 256 --batch-size 1 --warmup-steps 3 --gradient-accumulation 1 --json
  --log-level ERROR"
mkdir -p "$work"
# shellcheck disable=SC2086 # a list
for run in gpu:cuda gpu2:cuda cpu:cpu; do
    name=${run%%:*}
    "$program" train $common --device "${run#*:}" --dtype f32 -o "$work/$name" >"$work/$name.json"
done
cmp "$work/gpu/lora/adapter_model.safetensors" "$work/gpu2/lora/adapter_model.safetensors" &&
    echo "two GPU runs: equal bits"
python3 - "$work" <<'PY'
import json, sys
gpu, cpu = (json.load(open("%s/%s.json" % (sys.argv[1], n))) for n in ("gpu", "cpu"))
worst = max(abs(a - b) / b for a, b in zip(gpu["losses"], cpu["losses"], strict=True))
for n, r in (("gpu", gpu), ("cpu", cpu)):
    m = r["memory_bytes"]
    equal = all(m["planned_" + k] == m["used_" + k] for k in ("weights", "run", "step"))
    print(n, "first %.4f last %.4f mean %.4f" % (r["losses"][0], r["losses"][-1], r["final_loss"]),
          "tok/s %.0f" % (r["tokens"] / r["seconds"]), "planned = used:", equal)
    assert equal
print("loss curves: worst of %d steps %.3f %%" % (len(gpu["losses"]), 100 * worst))
sys.exit(worst > 0.01)
PY
