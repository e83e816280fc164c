#!/bin/sh
# template_text.sh: what every chat template of llama.cpp's tree writes, byte for byte against
# transformers; docs/templates.md holds the table. Gets BACKPROP, BP_TEST_PYTHON, LLAMA_CPP_SOURCE.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
templates=$LLAMA_CPP_SOURCE/models/templates
[ -d "$templates" ] || { echo "template_text: no templates at '$templates'" >&2; exit 1; }
"$BP_TEST_PYTHON" "$here/template_text.py" "$BACKPROP" "$templates" "$here/../../docs/templates.md"
