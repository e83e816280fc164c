#!/bin/sh
# loss_spans.sh: which tokens carry loss, for every chat template of llama.cpp's tree, against a
# definition that looks at the text alone. Gets BACKPROP, BP_TEST_PYTHON, LLAMA_CPP_SOURCE.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
templates=$LLAMA_CPP_SOURCE/models/templates
[ -d "$templates" ] || { echo "loss_spans: no templates at '$templates'" >&2; exit 1; }
"$BP_TEST_PYTHON" "$here/loss_spans.py" "$BACKPROP" "$templates" "$work"
