#!/bin/sh
# config.sh: settings by flag, environment, .env and configuration file, in this order; what is kept,
# shown and forgotten; what is not a setting.
. "$(dirname "$0")/lib.sh"
XDG_CONFIG_HOME=$WORK/config; export XDG_CONFIG_HOME
FILE=$XDG_CONFIG_HOME/backpropagate/config.json
shown() { # NAME VALUE SOURCE
    run config; expect_code 0; grep -q "^$1  *$2  *$3\$" out || fail "'$1' is not '$2' from '$3'"
}
shown lora-r auto default
run config --set lora-r=8 --set learning-rate=1 ; expect_error CONFIG_INVALID_SETTING 1; expect_no_file "$FILE"
run config --set lora-r=8 --set lr=1e-3 --set warmup_steps=3 --set BACKPROPAGATE_TRAINING__SEED=7; expect_code 0; expect_file "$FILE"
shown lora-r 8 config; shown lr 1e-3 config; shown warmup-steps 3 config; shown seed 7 config
echo 'BACKPROPAGATE_LORA__R=16' >.env; shown lora-r 16 .env; shown lr 1e-3 config
BACKPROPAGATE_LORA__R=32; export BACKPROPAGATE_LORA__R; shown lora-r 32 environment
BACKPROPAGATE_LORA__R=; shown lora-r 16 .env; unset BACKPROPAGATE_LORA__R
run config --json; expect_code 0; expect_out '"source": ".env"'; expect_out '"env_var": "BACKPROPAGATE_LORA__R"'
# a run takes them, and a flag beats them
chat_rows 6 >chat.jsonl
T="train -m $TINY -d chat.jsonl --max-seq-length 64 --steps 1"
run $T -o kept --json; expect_code 0; expect_out '"lora_r": 16'
run $T -o flag --lora-r 4 --json; expect_code 0; expect_out '"lora_r": 4'
rm .env; run $T -o file --json; expect_out '"lora_r": 8'
run list-runs -o file --json; expect_out '"seed": 7'
run config --set data=x; expect_error CONFIG_INVALID_SETTING 1
run config --set lora-r; expect_error CONFIG_INVALID_SETTING 1
run config --set lora-r=many; expect_error CONFIG_INVALID_SETTING 1
run config --set lorar=4; expect_error CONFIG_INVALID_SETTING 1; expect_err 'Did you mean lora-r'
run config --reset; expect_code 0; shown lora-r auto default
# a broken file is named and left as it is; unknown members are kept
echo '{"lora-r": ' >"$FILE"; run config; expect_error CONFIG_INVALID 64; expect_err config.json
run config --set lora-r=4; [ "$(cat "$FILE")" = '{"lora-r": ' ] || fail 'the broken file was overwritten'
echo '{"lora-r": "many"}' >"$FILE"; run info; expect_code 64; expect_err 'many'
echo '{"colour": "red", "lora-r": "4"}' >"$FILE"; run config --set lr=1e-4; expect_code 0; grep -q colour "$FILE" || fail 'a member was lost'
shown lora-r 4 config
echo 'BACKPROPAGATE_LORA__R=many' >.env; run config; expect_code 64; expect_err BACKPROPAGATE_LORA__R; rm .env
BACKPROPAGATE_LORA_R=4; export BACKPROPAGATE_LORA_R; run config; expect_code 0; expect_err 'did_you_mean.*BACKPROPAGATE_LORA__R'
finish
