#!/bin/sh
# reference.sh: the handbook's reference is what the tables say; every option, variable and error code is
# in it and used by the program; the man page and the completion scripts work.
. "$(dirname "$0")/lib.sh"
run reference markdown; expect_code 0
cmp -s out "$ROOT/docs/reference.md" || fail 'docs/reference.md is old: backprop reference markdown >docs/reference.md'
cp out page
# every row of the tables
run info --error-codes; expect_code 0
grep -v '^	' out | cut -f1 | while read -r code; do
  grep -q "^| \`$code\` |" page || echo "no documentation: $code"
  grep -rq "ERR_$code\b" "$ROOT/src" --include=*.c --include=*.h --include=*.cu || grep -q "\"$code\"" "$ROOT"/src/cli/*.c ||
    case $code in USAGE) grep -q '\[USAGE\]' "$ROOT/src/cli/args.c" ;; *) false ;; esac || echo "never reported: $code"
done >gaps
run info --env-vars; expect_code 0
cut -d' ' -f1 out | while read -r name; do grep -q "^| \`$name\` |" page || echo "no documentation: $name"; done >>gaps
sed -n 's/^O(\([A-Z_]*\), "\([a-z0-9-]*\)", "\([a-z0-9-]*\)".*/\1 \2 \3/p' "$ROOT/src/api/options.def" >options
while read -r id name flag; do
  grep -q "\`--$flag[\` ]" page || echo "no documentation: --$flag"
  grep -rq "OPTION_$id\b" "$ROOT/src/api" --include=*.c || grep -rq "\"$name\"" "$ROOT/src/cli" --include=*.c || echo "never read: $name"
done <options >>gaps
LAST='the tables'; CODE=0; [ -s gaps ] && { cp gaps out; fail 'gaps'; }
[ "$(wc -l <options)" -gt 100 ] || fail 'options.def was not read'
# every verb has help that names each of its flags
sed -n 's/^V([a-z_]*, "\([a-z -]*\)".*/\1/p' "$ROOT/src/cli/verbs.def" | while read -r verb; do
  # shellcheck disable=SC2086 # two words are two arguments
  "$BACKPROP" $verb --help >help 2>&1 || echo "no help: $verb"
  grep -q "^### $verb\$" page || echo "no documentation: $verb"
done >gaps
[ -s gaps ] && { cp gaps out; fail 'verbs'; }
# shells
run reference fish; expect_code 0; expect_out '__fish_seen_subcommand_from data; and __fish_seen_subcommand_from report'
if command -v fish >/dev/null; then fish --no-execute out || fail 'fish does not read it'; fi
run reference zsh; expect_code 0; expect_out '^#compdef backprop'
if command -v zsh >/dev/null; then zsh -n out || fail 'zsh does not read it'; fi
run reference bash; expect_code 0
if command -v bash >/dev/null; then
  cat >complete.sh <<'END'
. ./out
ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _backprop; echo "${COMPREPLY[*]}"; }
echo "1 $(ask backprop mul)"; echo "2 $(ask backprop train --lora-pre)"; echo "3 $(ask backprop train --lora-preset q)"
echo "4 $(ask backprop data rep)"; echo "5 $(ask backprop data report --dup)"; echo "6 $(ask backprop export --format g)"
END
  bash complete.sh >answers 2>&1
  for answer in '1 multi-run' '2 --lora-preset' '3 quality' '4 report' '5 --dup-threshold' '6 gguf gguf-adapter'; do
    grep -q "^$answer\$" answers || { cp answers out; fail "bash does not complete '$answer'"; }
  done
fi
run reference man; expect_code 0; expect_out '^\.TH BACKPROP 1'; expect_out '^\.SS backprop multi-run'
if command -v groff >/dev/null; then groff -k -man -Tutf8 -ww -W break out >/dev/null 2>warnings; [ -s warnings ] && { cp warnings out; fail 'groff warns'; }; fi
run reference poem; expect_code 64
finish
