#!/bin/sh
# smollm2.sh: SmolLM2 trained on the GPU and on the CPU from one seed, and twice on the GPU: loss
# curves within 1 %, equal bits, plan = use. Run by hand on a machine with a card:
#   tests/gpu/smollm2.sh BACKPROP MODEL.gguf DATA WORK_FOLDER
set -eu
program=$1 model=$2 data=$3 work=$4
common="-m $model -d $data --lora-preset fast --lora-targets all-linear --steps 30 --lr 1e-3
  --warmup-steps 3 --gradient-accumulation 1 --json --log-level ERROR"
mkdir -p "$work"
# shellcheck disable=SC2086 # a list
for run in gpu:cuda gpu2:cuda cpu:cpu; do
    name=${run%%:*}
    "$program" train $common --device "${run#*:}" -o "$work/$name" >"$work/$name.json"
done
cmp "$work/gpu/lora/adapter_model.safetensors" "$work/gpu2/lora/adapter_model.safetensors" &&
    echo "two GPU runs: equal bits"
python3 - "$work" <<'PY'
import json, sys
gpu, cpu = (json.load(open("%s/%s.json" % (sys.argv[1], n))) for n in ("gpu", "cpu"))
worst = max(abs(a - b) / b for a, b in zip(gpu["losses"], cpu["losses"]))
mean = abs(gpu["final_loss"] - cpu["final_loss"]) / cpu["final_loss"]
for n, r in (("gpu", gpu), ("cpu", cpu)):
    m = r["memory_bytes"]
    print(n, "first %.4f last %.4f mean %.4f" % (r["losses"][0], r["losses"][-1], r["final_loss"]),
          "tok/s %.0f" % (r["tokens"] / r["seconds"]), "planned = used:",
          all(m["planned_" + k] == m["used_" + k] for k in ("weights", "run", "step")))
print("loss curves: worst step %.3f %%, mean %.3f %%" % (100 * worst, 100 * mean))
sys.exit(mean > 0.01)
PY
