#!/bin/sh
# faults.sh: the n-th write, fsync or rename, or the n-th piece of memory, fails, in a short run: an
# error with a code, or a good result; what is left can be checked, and the next run ends in the
# same bits. And kill -9 at random moments. FAULT_STRIDE and KILLS: how thorough (tests/prove/faults.sh).
. "$(dirname "$0")/lib.sh"
STRIDE=${FAULT_STRIDE:-9} KILLS=${KILLS:-6} SEED=${FAULT_SEED:-1}
chat_rows 12 >chat.jsonl
FLAGS="-m $TINY -d chat.jsonl --lora-r 4 --lr 1e-2 --warmup-steps 2 --batch-size 2 --max-seq-length 64 --gradient-accumulation 1"
SHORT="train $FLAGS --steps 2 --save-steps 1"
run $SHORT -o whole; expect_code 0
same() { cmp -s "$1/lora/adapter_model.safetensors" "$2/lora/adapter_model.safetensors" || fail "'$2' has other bits"; }
clean() {
    left=$(find "$1" -name '*.partial' -o -name '*.old')
    [ -z "$left" ] || fail "left over: $left"
}
# go_on OUT COMMAND…: resumes, or starts again when there is nothing to go on from
go_on() {
    out=$1; shift
    if [ -e "$out/run_history.json" ]; then run resume -o "$out"; else CODE=1; fi
    [ "$CODE" -eq 0 ] || run "$@" -o "$out"
    expect_code 0
}
for kind in write full memory; do
  n=1 failures=0 good=0
  while [ $good -lt 3 ] && [ $n -lt 2000 ]; do
    rm -rf broken
    BACKPROPAGATE_FAULT=$kind:$n "$BACKPROP" $SHORT -o broken >out 2>err; CODE=$?; LAST="$kind:$n"
    if [ "$CODE" -eq 0 ]; then
      good=$((good + 1))
      [ -e broken/lora/adapter_model.safetensors ] || fail 'no error and no adapter'
    else
      good=0 failures=$((failures + 1))
      grep -q '^\[[A-Z_]*\] ' err || fail 'no error code'
    fi
    if [ -e broken/run_history.json ]; then run check -o broken; [ "$CODE" -eq 0 ] || fail 'what is left is bad'; fi
    [ $kind = memory ] || { go_on broken $SHORT; same whole broken; clean broken; }
    if [ $kind = memory ]; then n=$((n + 1)); else n=$((n + STRIDE)); fi
  done
  LAST="$kind sweep"; [ $failures -gt 0 ] && [ $n -lt 2000 ] || fail "$failures failures, $n operations"
  echo "$kind: $failures failures up to operation $n"
done
# kill -9 at random moments of a run and of a session, each with a checkpoint a step
LONG="train $FLAGS --steps 40 --save-steps 1"
SESSION="multi-run $FLAGS --steps 12 --runs 3 --save-steps 1"
run $LONG -o straight; expect_code 0
run $SESSION -o session; expect_code 0
kill_at() { # OUT SECONDS COMMAND…
    out=$1 wait_for=$2; shift 2
    "$BACKPROP" "$@" -o "$out" >killed.out 2>killed.err & PID=$!
    sleep "$wait_for"; kill -9 $PID 2>/dev/null; wait $PID 2>/dev/null
}
k=0
while [ $k -lt "$KILLS" ]; do
  k=$((k + 1))
  delay=$(awk -v s="$SEED$k" 'BEGIN { srand(s); printf "%.3f", rand() * 0.9 }')
  again=$(awk -v s="$SEED$k" 'BEGIN { srand(s + 7); printf "%.3f", rand() * 0.6 }')
  if [ $((k % 2)) -eq 0 ]; then command=$LONG reference=straight; else command=$SESSION reference=session; fi
  rm -rf killed; LAST="killed after $delay s and $again s: $command"
  kill_at killed "$delay" $command
  [ -e killed/run_history.json ] && kill_at killed "$again" resume
  run check -o killed; [ "$CODE" -eq 0 ] || fail 'what is left is bad'
  go_on killed $command; same $reference killed; clean killed
done
echo "kill -9: $k times"
finish
