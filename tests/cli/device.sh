#!/bin/sh
# device.sh: what a plug-in that is no plug-in, or a part of one, does to --device cuda and auto.
. "$(dirname "$0")/lib.sh"
chat_rows 4 >chat.jsonl
mkdir alone
cp "$BACKPROP" alone/backprop
BACKPROP=$WORK/alone/backprop
T="train -m $TINY -d chat.jsonl --lora-r 4 --steps 1 --batch-size 2 --max-seq-length 64"
run $T --device nonsense -o out0; expect_error CONFIG_INVALID_SETTING 1; expect_no_file out0/lora
echo 'not a library' >alone/libbackprop-cuda.so
run $T --device cuda -o out1; expect_error DEP_GPU_NOT_AVAILABLE 2; expect_err "$WORK/alone/libbackprop-cuda.so"
expect_no_file out1/lora
run $T --device auto -o out2; expect_code 0; expect_file out2/lora
# cut off: the system's own loader would die of it
head -c 100000 "$BACKPROP" >alone/libbackprop-cuda.so
run $T --device cuda:1 -o out3; expect_error DEP_GPU_NOT_AVAILABLE 2; expect_err 'only a part'
run $T --device auto -o out4; expect_code 0; expect_file out4/lora
# whole, and something else
cp "$BACKPROP" alone/libbackprop-cuda.so
run $T --device cuda -o out5; expect_error DEP_GPU_NOT_AVAILABLE 2
finish
