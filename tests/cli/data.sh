#!/bin/sh
# data.sh: the verbs that look at data files, as a person runs them.
. "$(dirname "$0")/lib.sh"
run data; expect_code 1; expect_err 'data preview'
run data --help; expect_code 0; expect_out 'data preview'
run data preveiw; expect_code 64; expect_err "did you mean 'data preview'"
run data preview; expect_code 64; expect_err 'needs: FILE'
chat_rows 3 >chat.jsonl
run data preview chat.jsonl -m "$TINY"; expect_code 0; expect_out '^line 1: '
expect_out '⟦answer 0.<|im_end|>⟧'
run data preview chat.jsonl -m "$TINY" --row 2 --rows 5 --json; expect_code 0
expect_out '"line": 2'; expect_out '"line": 3'; expect_out '"text": "answer 1.<|im_end|>"'
run -v data preview chat.jsonl --model="$TINY" --train-on-prompts; expect_code 0; expect_out '⟦<|im_start|>user'
run data preview missing.jsonl -m "$TINY"; expect_error INPUT_DATASET_NOT_FOUND 1
run data preview chat.jsonl -m missing.gguf; expect_error DEP_MODEL_LOAD_FAILED 2
finish
