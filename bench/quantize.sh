#!/bin/sh
# quantize.sh — writes a model as q4_k_m (or the mixes named) with backprop and with llama-quantize, in turn,
# on the same processors; prints the best of N seconds of each and the ratio.
#   sh bench/quantize.sh F16.gguf PATH/llama-quantize [MIX...]     (THREADS=2, TRIES=5, BACKPROP=build/backprop)
set -eu
model=$1; peer=$2; shift 2
[ $# -gt 0 ] || set -- q4_k_m
threads=${THREADS:-2}; tries=${TRIES:-5}; program=${BACKPROP:-build/backprop}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
seconds() { # wall time of a command
  start=$(date +%s%N); "$@" >"$work/log" 2>&1 || { tail "$work/log" >&2; exit 1; }; end=$(date +%s%N)
  echo $(((end - start) / 1000000))
}
for mix in "$@"; do
  best_ours=999999; best_theirs=999999; i=0
  while [ $i -lt "$tries" ]; do
    ours=$(seconds "$program" export "$model" --format gguf -q "$mix" --name m -o "$work/ours" --threads "$threads")
    theirs=$(seconds "$peer" "$model" "$work/theirs.gguf" "$mix" "$threads")
    [ "$ours" -lt $best_ours ] && best_ours=$ours
    [ "$theirs" -lt $best_theirs ] && best_theirs=$theirs
    i=$((i + 1))
  done
  cmp -s "$work/ours/m-$mix.gguf" "$work/theirs.gguf" && equal='same bytes' || equal='bytes differ'
  echo "$mix: backprop $best_ours ms, llama-quantize $best_theirs ms, ratio $((best_theirs * 100 / best_ours)) %, $equal"
done
