#!/bin/sh
# forgetting.sh: five tasks in sequence on the real SmolLM2: SLAO forgets less than weights that go on.
# The tables of docs/runs.md are made by this. Gets BACKPROP, BP_TEST_MODEL, BP_TEST_PYTHON.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${FORGETTING_FOLDER:-$(mktemp -d)}
"$BP_TEST_PYTHON" "$here/forgetting.py" "$BACKPROP" "$BP_TEST_MODEL" "$work"
