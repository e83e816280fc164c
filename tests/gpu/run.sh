#!/bin/sh
# Everything that a card can show, in one command: op parity and equal bits, whole steps of the
# tiny models against the CPU, timings, and with
# --memcheck the small cases under compute-sanitizer. BUILD names the build folder (default build).
# Exit code 77: no usable card.
set -u
build=${BUILD:-build}
export LD_LIBRARY_PATH="$build/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
status=0
"$build/gpu_ops" || status=$?
[ "$status" -eq 77 ] && exit 77
for program in gpu_model gpu_bench; do
    "$build/$program" || status=1
done
if [ "${1:-}" = --memcheck ]; then
    compute-sanitizer --error-exitcode 9 "$build/gpu_ops" 64 || status=1
fi
exit "$status"
