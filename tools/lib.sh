# lib.sh — what demo, check and the tools share; sourced with `root` set to the top of the tree.
# shellcheck shell=sh disable=SC2034,SC2154

cache=$root/.cache
venv=$cache/venv
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

die() { echo "$me: $*" >&2; exit 1; }
say() { echo "$me: $*" >&2; }

# Processors for parallel work; 2 when nothing tells.
jobs() {
  n=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
  case $n in '' | *[!0-9]* | 0) n=2 ;; esac
  echo "$n"
}

# make_venv FOLDER: a Python environment of our own.
make_venv() {
  [ -x "$1/bin/pip" ] && return
  rm -rf "$1"
  mkdir -p "$(dirname "$1")"
  python3 -m venv "$1" >&2 || die "python3 cannot make '$1'; on Debian: apt-get install python3-venv"
}

# build PRESET: configures and builds one preset of CMakePresets.json, quietly when it works.
build() {
  log=$cache/build-$1.log
  mkdir -p "$cache"
  say "building ($1), log in ${log#"$root"/}"
  (cd "$root" && cmake --preset "$1" && cmake --build --preset "$1" -j "$(jobs)") >"$log" 2>&1 || {
    tail -40 "$log" >&2
    die "the build failed"
  }
}
