#!/bin/sh
# tidy.sh — the enforced half of STYLE.md. Prints offenders and a table of lines and assertions per
# folder; exits 1 when a rule is broken. The rules about single files are in tidy.awk, those about
# the tree are here. Usage: tools/tidy.sh [root of the tree]
set -eu
LC_ALL=C
export LC_ALL
here=$(cd "$(dirname "$0")" && pwd)
cd "${1:-$(dirname "$here")}"

set -- src
for folder in include tests bench; do
  if [ -d "$folder" ]; then set -- "$@" "$folder"; fi
done
files=$(find "$@" \( -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' -o -name '*.def' \) |
  sort)
[ -n "$files" ] || { echo "tidy: no sources in $(pwd)" >&2; exit 1; }
status=0

deep=$(find src -mindepth 3 -type d)
if [ -n "$deep" ]; then
  echo "$deep" | sed 's/$/: folder deeper than 2 under src/'
  status=1
fi

twice=$(echo "$files" | sed 's|.*/||' | sort | uniq -d)
for name in $twice; do
  echo "$files" | grep "/$name\$" | sed 's/$/:1: basename is not unique/'
  status=1
done

# The families are the files of their folder, and the names that models come under.
families=$(find src/model/family -name '*.c' 2>/dev/null | sed 's|.*/||; s/\.c$//' |
  grep -v '^family$' | tr '\n' '|')
families="${families}llama|qwen|qwen2|qwen3|mistral|gemma|gemma2|gemma3|phi|phi3|smollm|smollm2|smollm3"

# shellcheck disable=SC2086 # names in this tree have no spaces
awk -v FAMILIES="$families" -f "$here/tidy.awk" $files || status=1
exit $status
