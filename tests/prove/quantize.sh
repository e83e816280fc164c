#!/bin/sh
# quantize.sh: every mix of SmolLM2 (f16 source), without and with an importance matrix in both
# formats, is llama-quantize's file, byte for byte. Needs BACKPROP, BP_TEST_MODEL, LLAMA_CPP (a build
# with -ffp-contract=off: tools/oracles.sh).
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$BACKPROP" export "$BP_TEST_MODEL" --format gguf -q f16 --name m -o f16 >/dev/null 2>log || { cat log; exit 1; }
i=0
while [ $i -lt 60 ]; do
  echo "Sentence $i: the river carries $i boats, and $((i * i)) birds follow them to the sea." >>text.txt
  i=$((i + 1))
done
"$LLAMA_CPP/llama-imatrix" -m f16/m-f16.gguf -f text.txt -o i.gguf -t 2 --no-ppl >log 2>&1 || { tail log; exit 1; }
"$LLAMA_CPP/llama-imatrix" -m f16/m-f16.gguf -f text.txt -o i.dat -t 2 --no-ppl --output-format dat >log 2>&1 ||
  { tail log; exit 1; }

# same MIX IMATRIX
same() {
  set -- "$1" "$2" ${2:+--imatrix "$2"}
  mix=$1; name=$2; shift 2
  "$BACKPROP" export f16/m-f16.gguf --format gguf -q "$mix" --name m -o ours "$@" >/dev/null 2>log || { cat log; exit 1; }
  "$LLAMA_CPP/llama-quantize" "$@" f16/m-f16.gguf theirs.gguf "$mix" >log 2>&1 || { tail log; exit 1; }
  cmp "ours/m-$mix.gguf" theirs.gguf || { echo "$mix ${name:-plain}: differs"; exit 1; }
  echo "$mix ${name:-plain}: equal, $(wc -c <theirs.gguf) bytes"
}
for mix in q8_0 q6_k q5_k_m q5_k_s q5_1 q5_0 q4_k_m q4_k_s q4_1 q4_0 iq4_nl iq4_xs q3_k_l q3_k_m q3_k_s q2_k; do
  same $mix ''
  same $mix i.gguf
done
same q4_k_m i.dat
