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

# render: the exact text; rows that cannot be rendered are named, and the exit code says so
printf '{{ bos_token }}{%% for m in messages %%}{{ m.role }}:{{ m.content }}{{ eos_token }}\n{%% endfor %%}{%% if add_generation_prompt %%}A>{%% endif %%}' >t.jinja
run data render chat.jsonl --template t.jinja --bos '[B]' --eos '[E]'; expect_code 0
printf '[B]user:q%d?[E]\nassistant:answer %d.[E]\n\n' 0 0 1 1 2 2 | cmp -s - "$WORK/out" || fail 'not the exact text'
run data render chat.jsonl --template t.jinja --bos B --add-generation-prompt --json; expect_code 0
expect_out '^{"line": 2, "text": "Buser:q1?\\nassistant:answer 1.\\nA>", "schema_version": "1"}$'
run data render chat.jsonl --template "$TINY"; expect_code 0; expect_out '^answer 0.<|im_end|>$'
printf '{"messages":[{"role":"wizard","content":"x"}]}\n{"text":"as it is"}\n' >odd.jsonl
run data render odd.jsonl --template t.jinja; expect_code 65; expect_out '^as it is$'; expect_err '^line 1: .*role'
run data render odd.jsonl --template t.jinja --json; expect_code 65; expect_out '"line": 1, "error": '
run data render chat.jsonl; expect_error INPUT_VALIDATION_FAILED 1; expect_err 'with --template'
printf 'a\n{%% include "x" %%}' >broken.jinja
run data render chat.jsonl --template broken.jinja; expect_error DEP_CHAT_TEMPLATE_INVALID 2
expect_err "'broken.jinja', line 2: tag 'include' is not supported"
# tokenize: the ids of each line, the last one with or without its end; control tokens are parsed
printf 'hi\n\n<|im_end|>hi' >lines.txt
run tokenize "$TINY" lines.txt; expect_code 0; [ "$(wc -l <"$WORK/out")" -eq 3 ] || fail 'not three lines'
HI=$(head -1 "$WORK/out"); tail -1 "$WORK/out" | grep -q "^[0-9]* $HI\$" || fail 'a control token is not one'
run tokenize "$TINY" lines.txt --json; expect_out '^{"line": 2, "n_ids": 0, "ids": \[\], "schema_version": "1"}$'
printf 'hi\n' | "$BACKPROP" tokenize "$TINY" | grep -q "^$HI\$" || fail 'standard input is not read'
run tokenize "$TINY" missing.txt; expect_error INPUT_VALIDATION_FAILED 1
run tokenize missing.json lines.txt; expect_error DEP_MODEL_LOAD_FAILED 2

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
# held-out rows: their loss after the run is that of an untouched model when nothing was learnt
chat_rows 40 >h.jsonl
run $T -d h.jsonl --eval-split 0.25 -o held --json; expect_code 0; expect_out '"eval_loss": [0-9]'; expect_err 'held out'
run $T -d h.jsonl --eval-split 0.25 -o held2; expect_code 0; expect_out '^  Held out: .* over [0-9]* rows'
run $T -d one.csv --eval-split 0.5 -o held3; expect_code 1
run $T -d a.jsonl:0 -o weight; expect_error INPUT_VALIDATION_FAILED 1
run $T -d a.jsonl --curriculum -o curriculum; expect_code 0
run $T -d a.jsonl --max-seq-length 30 --truncation drop -o drop; expect_code 1; expect_err 'the limit is 30'
run $T -d a.jsonl --max-seq-length 30 -o cut; expect_code 0; expect_err "6 cut (6 inside an assistant's turn)"
run $T -d a.jsonl --max-seq-length 30 --truncation start -o cut2; expect_code 0; expect_err '6 cut'
run $T -d a.jsonl --max-seq-length 30 --truncation split -o cut3; expect_code 0; expect_err '6 used, 198 tokens, 54 with loss'

# validate: the fields that the original has
run validate a.jsonl; expect_code 0; expect_out '^Valid rows *6$'; expect_out '^Format detected *sharegpt$'
run validate a.jsonl --json; expect_code 0
for field in dataset lines_scanned samples_parsed format_hint format_detected total_rows valid_rows is_valid \
    parse_errors errors warnings; do expect_out "\"$field\": "; done
expect_out '"lines_scanned": 6'; expect_out '"is_valid": true'
run validate a.jsonl --format alpaca --max-errors 2; expect_code 65; expect_out "'instruction' is missing"
run validate c.jsonl.gz --json; expect_code 65; expect_out '"line": 4'; expect_out '"format_detected": "mixed"'
run validate c.jsonl.gz --max-samples 2; expect_code 0
run validate missing --json; expect_code 1; expect_out '"error": "dataset_not_found"'
run validate . --json; expect_code 1; expect_out '"error": "dataset_path_is_directory"'
run validate a.jsonl --format parquet; expect_error CONFIG_INVALID_SETTING 64
# report: duplicates, overlap with a test file, reasoning, gates
run data report a.jsonl; expect_code 0; expect_out 'PASS\|WARN'
{ cat a.jsonl; cat a.jsonl; printf '{"messages":[{"role":"user","content":"u"},{"role":"assistant","content":""}]}\n'
  printf '{"text":"<think>%0400d</think> done"}\nbroken\n' 7; } >r.jsonl
run data report r.jsonl --against b.csv --dup-threshold 0.99 --json; expect_code 0
for field in total_rows parseable_rows parse_errors format_distribution exact_duplicates duplicate_clusters \
    near_duplicate_rate empty_turn_rows outlier_rows no_assistant_rows token_histogram contamination verdict \
    failed_thresholds think_rows think_pct trace_histogram; do expect_out "\"$field\": "; done
expect_out '"total_rows": 15'; expect_out '"parseable_rows": 14'; expect_out '"exact_duplicates": 6'
expect_out '"duplicate_clusters": 6'; expect_out '"empty_turn_rows": 1'; expect_out '"think_rows": 1'; expect_out '"verdict": "WARN"'
run data report r.jsonl --strict; expect_error INPUT_DATASET_REPORT_THRESHOLD 65; expect_out '^FAIL'
run data report r.jsonl --fail-on-dups 0.9; expect_code 0
run data report r.jsonl --against a.jsonl --fail-on-contamination 0.5; expect_code 65; expect_err contamination
run data report a.jsonl -m "$TINY" --json; expect_code 0; expect_out '"tokens": "exact"'; expect_out '"longest_tokens": 33'
run data report missing.jsonl; expect_error INPUT_DATASET_NOT_FOUND 1
: >empty.jsonl; run data report empty.jsonl; expect_code 65
# split: exact, seeded, complete, the lines as they were
run data split r.jsonl; expect_error INPUT_DATASET_PARSE_FAILED 1; expect_err 'line 15'; expect_no_file r.train.jsonl
run data split a.jsonl --heldout-ratio 0.34 --seed 3; expect_code 0; expect_out '^a.heldout.jsonl: 2 rows'
cat a.train.jsonl a.heldout.jsonl | sort >both; sort a.jsonl | cmp -s - both || fail 'rows are lost or changed'
cp a.heldout.jsonl first; run data split a.jsonl --heldout-ratio 0.34 --seed 3 --json; cmp -s first a.heldout.jsonl || fail 'the seed does not decide'
run data split a.jsonl --heldout-ratio 0.0001; expect_code 0; expect_out 'heldout.jsonl: 1 rows'
run data split b.csv --heldout-ratio 0.5 --out-train t.jsonl --out-heldout h.jsonl; expect_code 0
run validate t.jsonl; expect_code 0; expect_out 'alpaca'
run data split a.jsonl --out-train a.jsonl; expect_error INPUT_VALIDATION_FAILED 1
run data split a.jsonl --heldout-ratio 0; expect_error CONFIG_INVALID_SETTING 1
head -1 a.jsonl >one.jsonl; run data split one.jsonl; expect_error INPUT_DATASET_INVALID 1
finish
