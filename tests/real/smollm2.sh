#!/bin/sh
# smollm2.sh: the real SmolLM2-135M-Instruct, trained, exported, and read by the real llama.cpp.
# Needs BACKPROP, MODEL (its GGUF) and PYTHON (with tests/requirements-check.txt installed).
. "$(dirname "$0")/../cli/lib.sh"
MODEL=${BP_TEST_MODEL:-$(ls "$ROOT"/.cache/models/SmolLM2*.gguf 2>/dev/null | head -1)}
PYTHON=${BP_TEST_PYTHON:-$ROOT/.cache/venv/bin/python}
if [ ! -e "$MODEL" ] || ! "$PYTHON" -c 'import xllamacpp' 2>/dev/null; then
    echo "skipped: ./check provides the model and llama.cpp"
    exit 77
fi
QUESTION='Name three colours of the rainbow.'
text_of() { "$PYTHON" -c 'import json,sys; print(json.load(open(sys.argv[1]))["text"])' "$1"; }
# same_text A B NAME: two JSON answers with the same text
same_text() {
    text_of "$1" >a.txt; text_of "$2" >b.txt
    [ -s a.txt ] || fail "$3: an empty answer"
    cmp -s a.txt b.txt || { diff a.txt b.txt; fail "$3: not the same text"; }
}
llama() { LAST="llama.cpp $*"; "$PYTHON" "$HERE/llama_cpp.py" "$@" 2>"$WORK/err" >llama.json || fail 'llama.cpp refused'; }

# A plain model: our f16 export, our greedy text = llama.cpp's.
run export "$MODEL" --format gguf -q f16 -o plain; expect_code 0
PLAIN=$(ls plain/*.gguf)
run generate "$PLAIN" "$QUESTION" --temperature 0 --max-new-tokens 32 --json; expect_code 0
cp out ours.json; llama "$PLAIN" "$QUESTION" 32; same_text ours.json llama.json 'plain f16'

# Trained: merged f16, merged q8_0, adapter on the base.
run train -m "$MODEL" -d "$ROOT/examples/quickstart.jsonl" --lora-preset fast --steps 6 --lr 2e-3 --warmup-steps 1 -o tuned
expect_code 0
run export tuned --format gguf -q f16 -o merged; expect_code 0
run export tuned --format gguf -q q8_0 -o merged; expect_code 0
run export tuned --format gguf-adapter -o adapter; expect_code 0
F16=$(ls merged/*-f16.gguf); Q8=$(ls merged/*-q8_0.gguf); ADAPTER=$(ls adapter/*.gguf)
run generate "$F16" "$QUESTION" --temperature 0 --max-new-tokens 32 --json; expect_code 0
cp out ours.json; llama "$F16" "$QUESTION" 32; same_text ours.json llama.json 'merged f16'
cp llama.json f16.json
# The adapter on its base, in our engine, says what the merged file says.
run generate tuned "$QUESTION" --temperature 0 --max-new-tokens 8 --json; expect_code 0
text_of out >a.txt; text_of f16.json >b.txt
[ "$(cut -c1-12 a.txt | head -1)" = "$(cut -c1-12 b.txt | head -1)" ] || fail 'adapter and merged model differ at once'
llama "$Q8" "$QUESTION" 16; text_of llama.json >a.txt; [ -s a.txt ] || fail 'q8_0: no text'
llama "$MODEL" "$QUESTION" 16 "$ADAPTER"; text_of llama.json >a.txt; [ -s a.txt ] || fail 'adapter: no text'
llama "$PLAIN" "$QUESTION" 32; cmp -s llama.json f16.json && fail 'the tuned model says what the base says'
finish
