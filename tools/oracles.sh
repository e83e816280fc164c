#!/bin/sh
# oracles.sh — installs the reference libraries into .cache/oracles and builds llama.cpp's programs
# out of the source tree that llama-cpp-python carries (6 GB, some minutes). Idempotent.
set -eu
me=oracles
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tools/lib.sh"
cd "$root"
oracles=$cache/oracles
version=$(sed -n 's/^# llama-cpp-python==\([0-9.]*\).*/\1/p' tests/requirements-oracles.txt)
tools="llama-quantize llama-perplexity llama-completion llama-imatrix llama-export-lora
  llama-finetune llama-bench llama-tokenize"

sh tools/setup.sh oracles
make_venv "$oracles/venv"
if ! cmp -s tests/requirements-oracles.txt "$oracles/installed.txt"; then
  say "installing the packages of tests/requirements-oracles.txt"
  "$oracles/venv/bin/pip" install -q -r tests/requirements-oracles.txt >&2 ||
    die "pip could not install the packages; is there a network, and 8 GB of disk?"
  cp tests/requirements-oracles.txt "$oracles/installed.txt"
fi

source=$oracles/llama_cpp_python-$version/vendor/llama.cpp
if [ ! -f "$source/CMakeLists.txt" ]; then
  say "fetching the source of llama-cpp-python $version"
  "$oracles/venv/bin/pip" download -q --no-deps --no-binary :all: -d "$oracles" \
    "llama-cpp-python==$version" >&2 || die "pip could not fetch the source"
  tar -xzf "$oracles/llama_cpp_python-$version.tar.gz" -C "$oracles"
fi
if [ ! -x "$oracles/llama.cpp/bin/llama-export-lora" ]; then
  say "building llama.cpp, log in .cache/oracles/llama.cpp.log"
  # Without fused multiply-adds, so that its quantisers are what their source says.
  # shellcheck disable=SC2086 # a list
  { cmake -S "$source" -B "$oracles/llama.cpp" -G Ninja -DCMAKE_BUILD_TYPE=Release \
      -DCMAKE_C_FLAGS=-ffp-contract=off -DCMAKE_CXX_FLAGS=-ffp-contract=off \
      -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_TESTS=OFF &&
    ninja -C "$oracles/llama.cpp" -j "$(jobs)" $tools; } >"$oracles/llama.cpp.log" 2>&1 || {
    tail -20 "$oracles/llama.cpp.log" >&2
    die "llama.cpp did not build"
  }
fi
say "ready: .cache/oracles/venv, .cache/oracles/llama.cpp/bin"
