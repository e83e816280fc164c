#!/bin/sh
# fuzz.sh — builds the fuzz targets with libFuzzer and runs each for FUZZ_SECONDS (60), starting from
# its committed corpus. New inputs stay in .cache/fuzz; a crash is kept there and ends the run.
# Usage: [FUZZ_SECONDS=n] tools/fuzz.sh [target...]
set -eu
me=fuzz
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/lib.sh"
cd "$root"

sh tools/setup.sh fuzz
build fuzz
# shellcheck disable=SC2046 # a list
[ $# -gt 0 ] || set -- $(find tests/fuzz -name 'fuzz_*.c' | sed 's|.*/fuzz_||; s/\.c$//' | sort)
for target in "$@"; do
  mkdir -p "$cache/fuzz/$target"
  say "$target: ${FUZZ_SECONDS:-60} s"
  dictionary=$(find "tests/fuzz/corpus/$target.dict" 2>/dev/null || true)
  "build-fuzz/tests/fuzz_$target" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 -rss_limit_mb=3000 \
    -verbosity=0 -print_final_stats=1 -artifact_prefix="$cache/fuzz/$target-" \
    ${dictionary:+-dict="$dictionary"} "$cache/fuzz/$target" "tests/fuzz/corpus/$target" >&2 ||
    die "'$target' crashed; the input is in .cache/fuzz/$target-*"
done
say "$# targets, no crash"
