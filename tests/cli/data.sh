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

# several files with weights, csv, gzip, every filter; each drop is counted with its reason
chat_rows 6 >a.jsonl
printf 'instruction,output\r\n"say ""hi"", twice","hi, hi"\r\nq;1,a1\r\n' >b.csv
printf '{"prompt":"p","completion":"c"}\n{"prompt":"p","completion":"c"}\n{"text":"plain words"}\nnope\n' >c.jsonl
gzip c.jsonl
T="train -m $TINY --lora-r 2 --steps 1 --batch-size 2 --max-seq-length 64"
run $T -d a.jsonl -d b.csv:2 --data=c.jsonl.gz -o several --json; expect_code 0
expect_err '12 rows, 11 used, 1 dropped (1 not readable)'
expect_err 'c.jsonl.gz", "line": 4'
expect_out '"examples": 13'
run $T -d a.jsonl -d c.jsonl.gz --dedup exact -o dedup; expect_code 0; expect_err '1 duplicates'
expect_err 'the same as line 1'
run $T -d a.jsonl --dedup minhash --dup-threshold 0.5 -o near; expect_code 0; expect_err 'near duplicates'
run $T -d a.jsonl -d c.jsonl.gz --require-roles user,assistant -o roles; expect_code 0; expect_err '1 filtered by roles'
run $T -d a.jsonl --require-roles wizard -o roles; expect_error CONFIG_INVALID_SETTING 1
run $T -d a.jsonl --min-turns 3 -o turns; expect_error INPUT_DATASET_VALIDATION_FAILED 1; expect_err '2 turns, at least 3'
run $T -d a.jsonl --max-tokens 5 -o tokens; expect_error INPUT_DATASET_VALIDATION_FAILED 1; expect_err 'at most 5'
run $T -d a.jsonl:0 -o weight; expect_error INPUT_VALIDATION_FAILED 1
run $T -d a.jsonl --curriculum -o curriculum; expect_code 0
run $T -d a.jsonl --max-seq-length 30 --truncation drop -o drop; expect_code 1; expect_err 'the limit is 30'
run $T -d a.jsonl --max-seq-length 30 -o cut; expect_code 0; expect_err "6 cut (6 inside an assistant's turn)"
run $T -d a.jsonl --max-seq-length 30 --truncation start -o cut2; expect_code 0; expect_err '6 cut'
run $T -d a.jsonl --max-seq-length 30 --truncation split -o cut3; expect_code 0; expect_err '6 used, 198 tokens, 54 with loss'
finish
