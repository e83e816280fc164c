#!/bin/sh
# prove.sh — the long proof: ./check, then every golden file made anew by the reference libraries
# and compared, then longer fuzzing (FUZZ_SECONDS each, 60), then tests/prove/*.sh, which get the
# program, the model and the oracles by environment.
set -eu
me=prove
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/lib.sh"
cd "$root"

./check
sh tools/oracles.sh
model=$(sh tools/get_model.sh)
python=$cache/oracles/venv/bin/python
export HF_HUB_OFFLINE=1

fresh=$cache/prove/golden
rm -rf "$fresh"
mkdir -p "$fresh"
cp -R tests/golden/. "$fresh"
for recipe in "$fresh"/*/make.py; do
  name=$(basename "$(dirname "$recipe")")
  say "golden/$name: made anew"
  case $name in
    gguf) "$python" "$recipe" && "$python" "$recipe" --sums "$model" ;;
    tokenizer) "$python" "$recipe" "$model" ;;
    encode) "$python" "$recipe" "$cache/oracles/llama.cpp/bin/libggml-base.so" ;;
    mix) "$python" "$recipe" "$(ls -d "$cache"/oracles/llama_cpp_python-*/vendor/llama.cpp/tests/snapshots)" ;;
    *) "$python" "$recipe" ;;
  esac >"$cache/prove/$name.log" 2>&1 || { tail "$cache/prove/$name.log" >&2; die "golden/$name"; }
done
"$python" tools/compare_golden.py tests/golden "$fresh" || die "golden files differ"

FUZZ_SECONDS=${FUZZ_SECONDS:-60} sh tools/fuzz.sh

BACKPROP=$root/build/backprop
BP_TEST_MODEL=$model
BP_TEST_PYTHON=$python
LLAMA_CPP=$cache/oracles/llama.cpp/bin
LLAMA_CPP_SOURCE=$(echo "$cache"/oracles/llama_cpp_python-*/vendor/llama.cpp)
export BACKPROP BP_TEST_MODEL BP_TEST_PYTHON LLAMA_CPP LLAMA_CPP_SOURCE
for script in tests/prove/*.sh; do
  [ -f "$script" ] || continue
  say "$script"
  sh "$script" || die "'$script' failed"
done
echo "prove: everything holds"
