#!/bin/sh
# help.sh: version, help and usage errors.
. "$(dirname "$0")/lib.sh"
run --version; expect_code 0; expect_out '^backprop [0-9]'
run --help; expect_code 0; expect_out 'train'; expect_out 'Examples'
run; expect_code 1; expect_err 'Verbs:'
for verb in train export generate info list-runs show-run; do
    run $verb --help; expect_code 0; expect_out '^Examples:'; expect_out 'Flags:'
done
run trian; expect_code 64; expect_err "did you mean 'train'"
run train --stesp 3; expect_code 64; expect_err "did you mean '--steps'"
run train --steps; expect_code 64; expect_err 'needs a value'
run train --steps banana; expect_error CONFIG_INVALID_SETTING 64
run train --steps 0; expect_error CONFIG_INVALID_SETTING 64
run train --lr 0x1p3; expect_error CONFIG_INVALID_SETTING 64
run train --lr-scheduler stairs; expect_error CONFIG_INVALID_SETTING 64
run generate model.gguf; expect_code 64; expect_err 'PATH PROMPT'
run generate a b c; expect_code 64
run --nonsense; expect_code 64
run info; expect_code 0; expect_out '^kernels'
run info --json; expect_code 0; expect_out '"schema_version": "1"'
run info --error-codes; expect_code 0; expect_out 'INPUT_DATASET_NOT_FOUND'
run info --env-vars; expect_code 0; expect_out 'BACKPROPAGATE_TRAINING__MAX_STEPS'
BACKPROPAGATE_TRAINING__MAX_STEPS=none; export BACKPROPAGATE_TRAINING__MAX_STEPS
run info; expect_code 64; expect_err 'BACKPROPAGATE_TRAINING__MAX_STEPS'
unset BACKPROPAGATE_TRAINING__MAX_STEPS
BACKPROPAGATE_TRAINING__MAX_STEP=3 "$BACKPROP" info >out 2>err; grep -q 'MAX_STEPS' err || fail 'no nearest name for an unknown variable'
finish
