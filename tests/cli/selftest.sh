#!/bin/sh
# selftest.sh: the self-test holds on the tiny model, in f32 and in bf16, and says so in both forms.
. "$(dirname "$0")/lib.sh"
run selftest "$TINY" --device cpu --dtype f32; expect_code 0; expect_out 'adapter merged: same loss'
[ "$(grep -c '^\[OK\]' out)" -eq 6 ] || fail 'not all of six checks hold'
run selftest "$TINY" --device cpu --dtype bf16 --threads 2 --json; expect_code 0; expect_out '"all_hold": true'
run selftest nothing-of-that-name; expect_error DEP_MODEL_LOAD_FAILED 2
finish
