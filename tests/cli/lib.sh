# lib.sh: what the command-line tests share. Sourced. Each script runs in a fresh folder of its own
# with the program in $BACKPROP and a tiny model in $TINY.
set -u
LC_ALL=C.UTF-8; export LC_ALL
unset NO_COLOR FORCE_COLOR
: "${BACKPROP:?path of the program}" "${MAKE_TINY_MODEL:?path of make_tiny_model}"
ASAN_OPTIONS=detect_leaks=1; export ASAN_OPTIONS
HERE=$(cd "$(dirname "$0")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
WORK=$(mktemp -d) || exit 1
trap 'chmod -R u+w "$WORK" 2>/dev/null; rm -rf "$WORK"' EXIT
cd "$WORK" || exit 1
XDG_CONFIG_HOME=$WORK/config; export XDG_CONFIG_HOME
TINY=$WORK/tiny.gguf
"$MAKE_TINY_MODEL" "$TINY" || exit 1
FAILED=0

# run ARGS: the program; stdout, stderr and exit code are kept for the expect_ functions.
run() {
    LAST="backprop $*"
    "$BACKPROP" "$@" >"$WORK/out" 2>"$WORK/err"
    CODE=$?
}
fail() {
    echo "FAIL: $LAST: $1"
    echo "  exit $CODE"; sed 's/^/  out| /' "$WORK/out" | head -20; sed 's/^/  err| /' "$WORK/err" | head -20
    FAILED=$((FAILED + 1))
}
expect_code() { [ "$CODE" -eq "$1" ] || fail "expected exit code $1"; }
expect_out() { grep -q -- "$1" "$WORK/out" || fail "stdout lacks '$1'"; }
expect_err() { grep -q -- "$1" "$WORK/err" || fail "stderr lacks '$1'"; }
expect_no_err() { if grep -q -- "$1" "$WORK/err"; then fail "stderr has '$1'"; fi; }
expect_file() { [ -e "$1" ] || fail "'$1' is missing"; }
expect_no_file() { if [ -e "$1" ]; then fail "'$1' should not exist"; fi; }
# expect_error CODE_NAME EXIT: a coded error with a hint.
expect_error() {
    expect_code "$2"
    expect_err "^\[$1\] "
    grep -A1 "^\[$1\] " "$WORK/err" | grep -q '^  [A-Z]' || fail "the error has no hint"
}
finish() {
    [ "$FAILED" -eq 0 ] && echo "ok: $(basename "$0")"
    exit "$FAILED"
}

chat_rows() { # N: ShareGPT rows
    i=0
    while [ "$i" -lt "$1" ]; do
        printf '{"conversations":[{"from":"human","value":"q%d?"},{"from":"gpt","value":"answer %d."}]}\n' $i $i
        i=$((i + 1))
    done
}
