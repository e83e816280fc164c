#!/bin/sh
# broken_data.sh: a corpus of broken data files and chat templates. Each line of the table says what training and
# validating it must answer: the error's code, a piece of its message with the line, the exit status.
. "$(dirname "$0")/lib.sh"
CASES=0
# broken NAME BYTES (printf's escapes) | TRAIN: CODE EXIT PATTERN | VALIDATE: EXIT PATTERN (on stdout or stderr)
broken() {
    CASES=$((CASES + 1))
    # shellcheck disable=SC2059 # the bytes are a format
    [ "$2" = - ] || printf "$2" >"$1"
    run train -m "$TINY" -d "$1" --steps 1 --batch-size 1 -o never; expect_error "$3" "$4"
    expect_err "$5"
    run validate "$1"; expect_code "$6"
    grep -q -e "$7" "$WORK/out" "$WORK/err" || fail "validate lacks '$7'"
    run validate "$1" --json; expect_code "$6"; expect_out '"schema_version": "1"'
}
# half NAME BYTES PATTERN EXIT PATTERN: one row is broken, the run goes on with the others and names it by line.
half() {
    CASES=$((CASES + 1))
    # shellcheck disable=SC2059
    [ "$2" = - ] || printf "$2" >"$1"
    rm -rf ran
    run train -m "$TINY" -d "$1" --steps 1 --batch-size 1 --max-seq-length 128 -o ran; expect_code 0; expect_err "$3"
    run validate "$1"; expect_code "$4"
    grep -q -e "$5" "$WORK/out" "$WORK/err" || fail "validate lacks '$5'"
}
P=INPUT_DATASET_PARSE_FAILED V=INPUT_DATASET_VALIDATION_FAILED I=INPUT_DATASET_INVALID U=INPUT_DATASET_FORMAT_UNSUPPORTED
GOOD='{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}'

# --- files
broken missing.jsonl - INPUT_DATASET_NOT_FOUND 1 "'missing.jsonl' does not exist" 1 'INPUT_DATASET_NOT_FOUND'
mkdir folder.jsonl
broken folder.jsonl - $I 1 'is a folder' 1 'is a folder'
broken empty.jsonl '' $I 1 'has no rows' 65 'has no rows'
broken blank.jsonl ' \n\r\n\t\n' $I 1 'has no rows' 65 'has no rows'
broken bom.jsonl '\357\273\277\n' $I 1 'has no rows' 65 'has no rows'
broken utf16.jsonl '\377\376{\000}\000' $I 1 'is UTF-16' 1 'UTF-16'
broken latin1.jsonl '{"text": "caf\351"}\n' $P 1 'line 1: not UTF-8' 1 'not UTF-8 (line 1)'
broken binary.jsonl '\001\002\200\377\n' $P 1 'line 1: not UTF-8' 1 'not UTF-8 (line 1)'
broken fake.jsonl.gz 'not gzip at all\n' $I 1 'is not gzip data' 1 'is not gzip data'
printf '%s\n%s\n%s\n' "$GOOD" "$GOOD" "$GOOD" | gzip | head -c 60 >cut.jsonl.gz
broken cut.jsonl.gz - $I 1 'ends in the middle of its gzip data' 1 'ends in the middle'
{ printf '%s\n' "$GOOD" | gzip; printf 'garbage'; } >tail.jsonl.gz
broken tail.jsonl.gz - $I 1 'is not valid gzip' 1 'not valid gzip'
# --- JSON lines
broken words.jsonl 'hello\nworld\n' $P 1 'line 1: not JSON.*line 2: not JSON' 65 'line 1'
broken open.jsonl '{"text": "never closed\n' $P 1 'line 1: not JSON' 65 'line 1'
broken quote.jsonl "{'text': 'single quotes'}\n" $P 1 'line 1: not JSON' 65 'line 1'
broken comma.jsonl '{"text": "a",}\n' $P 1 'line 1: not JSON' 65 'line 1'
broken two.jsonl '\n\n{"text": "a"} {"text": "b"}\n' $P 1 'line 3: not JSON' 65 'line 3'
broken nan.jsonl '{"text": NaN}\n' $P 1 'line 1: not JSON' 65 'line 1'
broken nul.jsonl '{"text": "a\\u0000b"}\n' $P 1 'line 1: not JSON' 65 'line 1'
awk 'BEGIN{for(i=0;i<200;i++)printf "[";for(i=0;i<200;i++)printf "]"; print ""}' >deep.jsonl
broken deep.jsonl - $P 1 'nested deeper than 128' 65 'nested deeper'
broken number.jsonl '42\n' $U 1 'line 1: the row is neither an object nor a text' 65 'unknown_format'
broken keys.jsonl '{"foo": 1}\n{"bar": 2}\n' $U 1 'line 1: no known format.*line 2: no known' 65 'unknown_format'
broken nulls.jsonl '{"messages": null, "text": null}\n' $V 1 "'messages' is missing or null" 65 'missing_field'
# --- .json
broken list.json '[{"text": "a"}' $P 1 'the list is not closed (line 1)' 65 'the list is not closed'
broken comma.json '[{"text": "a"} {"text": "b"}]' $P 1 'a comma is missing' 65 'a comma is missing'
broken behind.json '[{"text": "a"}]\n\nmore' $P 1 'text behind the list (line 3)' 65 'text behind the list'
broken string.json '[\n{"text": "a}\n]' $P 1 'a value is not closed (line 2)' 65 'a value is not closed'
broken none.json '[]' $I 1 'has no rows' 65 'has no rows'
broken object.json '{"rows": 3}' $U 1 'line 1: no known format' 65 'unknown_format'
# --- .csv
broken header.csv 'instruction,output\n' $I 1 'has no rows' 65 'has no rows'
broken columns.csv 'name,age\nada,36\n' $U 1 'line 2: no known format' 65 'unknown_format'
broken cells.csv 'instruction,output\r\na,b,c\r\nx\r\n' $P 1 'line 2: the row has 3 cells, the header 2; line 3: the row has 1 cells' 65 'line 2'
broken quote.csv 'instruction,output\n"a,b\n' $P 1 'line 2: a quote is not closed' 65 'a quote is not closed'
broken behind.csv 'instruction,output\n"a"x,b\n' $P 1 'line 2: there is text behind a closing quote' 65 'behind a closing quote'
broken messages.csv 'messages\n"[{""role"": broken]"\n' $P 1 'line 2' 65 'line 2'
# --- .txt
broken blank.txt '\n  \n\n' $I 1 'has no rows' 65 'has no rows'
broken latin1.txt 'na\357ve\n' $P 1 'line 1: not UTF-8' 1 'not UTF-8'
# --- ShareGPT
broken sg1.jsonl '{"conversations": []}\n' $V 1 "'conversations' is empty" 65 'empty_conversations'
broken sg2.jsonl '{"conversations": "hi"}\n' $V 1 'is not a list' 65 'invalid_type'
broken sg3.jsonl '{"conversations": [{"value": "hi"}]}\n' $V 1 "turn 1 has no 'from'" 65 'missing_field'
broken sg4.jsonl '{"conversations": [{"from": "human", "value": null}]}\n' $V 1 "turn 1 has no 'value'" 65 'missing_field'
broken sg5.jsonl '{"conversations": [{"from": "alien", "value": "hi"}]}\n' $V 1 "from 'alien'" 0 'invalid_role'
broken sg6.jsonl '{"conversations": ["hi"]}\n' $V 1 'turn 1 is not an object' 65 'invalid_type'
broken sg7.jsonl '{"conversations": [{"from": "human", "value": "hi"}]}\n' $V 1 'line 1: no token would carry loss' 0 'no_assistant'
# --- OpenAI
broken oa1.jsonl '{"messages": []}\n' $V 1 "'messages' is empty" 65 'empty_messages'
broken oa2.jsonl '{"messages": [{"content": "hi"}]}\n' $V 1 "message 1 has no 'role'" 65 'missing_field'
broken oa3.jsonl '{"messages": [{"role": "user"}]}\n' $V 1 "message 1 has no 'content'" 65 'missing_field'
broken oa4.jsonl '{"messages": [{"role": "wizard", "content": "x"}]}\n' $V 1 "no known 'role'" 0 'invalid_role'
broken oa5.jsonl '{"messages": [{"role": "user", "content": 5}]}\n' $V 1 "no text in 'content'" 65 'invalid_type'
broken oa6.jsonl '{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}\n' $V 1 'a part that is not text' 65 'invalid_type'
broken oa7.jsonl '{"messages": [{"role": "assistant", "content": "a", "weight": 0}]}\n' $V 1 'no token would carry loss' 0 'OK'
# --- Alpaca, pairs, ChatML, text
broken al1.jsonl '{"instruction": "a", "output": null}\n' $V 1 "'output' is missing or null" 65 'missing_field'
broken al2.jsonl '{"instruction": 1, "output": "b"}\n' $V 1 "'instruction' is not text" 65 'invalid_type'
broken pc1.jsonl '{"prompt": "a", "completion": null}\n' $V 1 "'completion' is missing or null" 65 'missing_field'
broken pc2.jsonl '{"prompt": {"a": 1}, "completion": "b"}\n' $V 1 "'prompt' is neither text nor a list" 65 'invalid_type'
broken pr1.jsonl '{"chosen": [], "rejected": []}\n' $V 1 "'chosen' is empty" 65 'empty_messages'
broken cm1.jsonl '{"text": "<|im_start|>user\\nhey"}\n' $V 1 'not balanced' 65 'unbalanced_tags'
broken cm2.jsonl '{"text": "<|im_start|>elf\\nhey<|im_end|>"}\n' $V 1 'role is not known' 0 'invalid_role'
broken tx1.jsonl '{"text": "   "}\n' $V 1 'the text is empty' 0 'empty_content'
broken tools.jsonl '{"messages":[{"role":"assistant","content":"a"}], "tools": "nonsense"}\n' $V 1 "'tools' is not a list" 65 'invalid_type'
# --- broken among good ones: counted, named by line, the rest is used
half half1.jsonl "$GOOD\n{oops\n$GOOD\n" '3 rows, 2 used, 1 dropped (1 not readable)' 65 'line 2'
half half2.jsonl "$GOOD\n{\"text\": \"caf\351\"}\n" '2 rows, 1 used, 1 dropped' 1 'line 2'
half half3.jsonl "$GOOD\r\n\r\n{\"foo\":1}\r\n" '"line": 3' 65 'line 3'
half half4.json "[$GOOD, {\"text\": 5},\n{\"a\" 1}, $GOOD]" '4 rows, 2 used, 2 dropped' 65 'unknown_format'
half half5.csv 'instruction,output\na,b\nc\n' '2 rows, 1 used, 1 dropped (1 not readable)' 65 'line 3'
half dup.jsonl '{"text": "first", "text": "last one wins"}\n' '1 rows, 1 used' 0 'OK'
half mixed.jsonl "$GOOD\n{\"instruction\":\"i\",\"output\":\"o\"}\n\"plain words\"\n{\"prompt\":\"p\",\"completion\":\"c\"}\n" '4 rows, 4 used' 0 'mixed'
half last.jsonl "$GOOD" '1 rows, 1 used' 0 'OK'
{ printf '%s\n{"text": "' "$GOOD"; head -c 70000000 /dev/zero | tr '\0' a; printf '"}\n%s\n' "$GOOD"; } >huge.jsonl
half huge.jsonl - '3 rows, 2 used, 1 dropped (1 not readable)' 65 'line 2: the row is longer than 64 MiB'
rm -f huge.jsonl
# --- chat templates: what cannot be read names the template's line, what cannot be rendered the row's, too
printf '%s\n' "$GOOD" >good.jsonl
# template TEMPLATE (printf's escapes) PATTERN: it cannot be read. refuses: it cannot render the row.
template() {
    CASES=$((CASES + 1))
    # shellcheck disable=SC2059
    printf "$1" >x.jinja
    run data render good.jsonl --template x.jinja; expect_error DEP_CHAT_TEMPLATE_INVALID 2; expect_err "'x.jinja', line $2"
}
refuses() {
    CASES=$((CASES + 1))
    # shellcheck disable=SC2059
    printf "$1" >x.jinja
    run data render good.jsonl --template x.jinja; expect_code 65; expect_err "^line 1: chat template 'x.jinja', line $2"
}
template '{%% for m in messages %%}\nx' "2: the template ends before 'endfor'"
template '\n{{ x' "2: the template ends where '}}' is expected"
template '{%% if %%}{%% endif %%}' '1: expected an expression'
template "{{ 'a }}" '1: string has no end'
template 'a\n\n{# never' '3: missing end of comment'
template '{{ a b }}' "1: expected '}}', got 'b'"
template 'x\n{%% endfor %%}' "2: tag 'endfor' is not supported here"
template "{%% import 'os' as os %%}" "1: tag 'import' is not supported"
template '{{ x | urlencode }}' "1: filter 'urlencode' is not supported"
template '{{ 1 is wild }}' "1: test 'wild' is not supported"
template '{%% macro %%}{%% endmacro %%}' '1: expected a name'
template '{%% set %%}' '1: expected a name'
template '{{ [1, 2 }}' '1: closing parenthesis'
template '\377{{ 1 }}' '1: source is not UTF-8'
template "$(awk 'BEGIN{printf "{{ "; for(i=0;i<300;i++)printf "("; printf "1 }}"}')" '1: parentheses are nested too deeply'
template "$(awk 'BEGIN{for(i=0;i<300;i++)printf "{%%%% if 1 %%%%}"}')" '1: nested deeper than 120'
refuses "{{ raise_exception('no system') }}" '1: the template refuses: no system'
refuses '\n{{ messages[0].a.b }}' "2: 'a' is undefined"
refuses '{%% for i in range(100000000) %%}{%% endfor %%}' '1: range is too long: at most 100000'
refuses "{{ 'a' * 1000000000 }}" '1: a repeated value is too large'
refuses '{%% macro m() %%}{{ m() }}{%% endmacro %%}{{ m() }}' '1: evaluation is nested deeper than'
refuses '{{ 1 / 0 }}' '1: division by zero'
refuses "{{ ''.__class__ }}" "1: '__class__' of a str is not supported"
refuses '{{ [1].append(2) }}' "1: 'append' of a list is not supported"
expect_no_file never
[ "$CASES" -ge 40 ] || fail "only $CASES cases"
finish
