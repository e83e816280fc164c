#!/bin/sh
# faults.sh: the fault harness in full: every n-th write, fsync, rename and piece of memory, kill -9 at
# 200 random moments of runs and sessions (KILLS), then some under the sanitizers where they are built.
# Gets BACKPROP; finds the test programs beside it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$(dirname "$BACKPROP")
OMP_WAIT_POLICY=passive
export OMP_WAIT_POLICY
MAKE_TINY_MODEL=$build/tests/make_tiny_model FAULT_STRIDE=1 KILLS=${KILLS:-200} sh "$here/../cli/faults.sh"
FAULT_STRIDE=1 "$build/tests/test_runs_multi" >/dev/null
"$build/tests/test_train_durable" >/dev/null
asan=$here/../../build-asan
if [ -x "$asan/backprop" ]; then
    BACKPROP=$asan/backprop MAKE_TINY_MODEL=$asan/tests/make_tiny_model FAULT_STRIDE=5 \
        KILLS=${ASAN_KILLS:-20} sh "$here/../cli/faults.sh"
fi
