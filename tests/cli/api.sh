#!/bin/sh
# api.sh: a user's C program against the shared library: compiles pedantically, trains, exports; errors
# stick and become the exit code; nothing but bp_* is exported.
. "$(dirname "$0")/lib.sh"
BUILD=$(dirname "$BACKPROP")
if [ "${BP_SANITIZE:-0}" = 1 ]; then echo 'skipped: a sanitized library needs a sanitized program'; exit 77; fi
LAST='compiling examples/three_lines.c'; CODE=0; : >out; : >err
cc -std=c17 -Wall -Wextra -pedantic -Werror -I"$ROOT/include" "$ROOT/examples/three_lines.c" -L"$BUILD" -lbackprop \
    -Wl,-rpath,"$BUILD" -o three 2>err || fail 'does not compile'
chat_rows 6 >chat.jsonl
LAST='three_lines'
./three "$TINY" chat.jsonl result >out 2>err; CODE=$?
expect_code 0; expect_file result/lora/adapter_model.safetensors; expect_file result/gguf/tiny-q8_0.gguf
./three missing.gguf chat.jsonl none >out 2>err; CODE=$?
expect_code 2; expect_err '^\[DEP_MODEL_LOAD_FAILED\]'; expect_out 'no answer'; expect_no_file none
[ "$(grep -c '^\[' err)" = 1 ] || fail 'the error is printed more than once'
./three "$TINY" missing.jsonl none >out 2>err; CODE=$?
expect_code 1; expect_err '^\[INPUT_DATASET_NOT_FOUND\]'
LAST='exported symbols'; CODE=0
if nm -D --defined-only "$BUILD/libbackprop.so" | awk '{print $3}' | grep -v '^bp_' | grep .; then fail 'more than bp_* is exported'; fi
finish
