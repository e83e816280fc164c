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

# find_cuda: on a machine with an NVIDIA card, a compiler for its kernels: the one on PATH, the
# toolkit's in its usual folder, else by pip into the cache, with cuBLAS. Sets cuda_options.
cuda_options=
find_cuda() {
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1) ||
    return 0
  case $capability in
    9.0) cuda_options=-DBP_CUDA_ARCHITECTURES=90a ;;
    [0-9]*.[0-9]*) cuda_options=-DBP_CUDA_ARCHITECTURES=$(echo "$capability" | tr -d .) ;;
    *) return 0 ;;
  esac
  if command -v nvcc >/dev/null; then return 0; fi
  if [ -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ]; then
    export CUDACXX="${CUDA_HOME:-/usr/local/cuda}/bin/nvcc"
    return 0
  fi
  sh "$root/tools/setup.sh" cuda
  make_venv "$cache/cuda"
  say "an NVIDIA card and no CUDA compiler: installing one by pip into .cache/cuda (about 900 MB)"
  "$cache/cuda/bin/pip" install -q -r "$root/tools/requirements-cuda.txt" >&2 || {
    say "pip could not install it; building for the processor alone"
    return 0
  }
  CUDA_HOME=$(echo "$cache"/cuda/lib/python3*/site-packages/nvidia/cu13)
  export CUDA_HOME CUDACXX="$CUDA_HOME/bin/nvcc"
  cuda_options="$cuda_options -DBP_CUBLAS_FOLDER=$CUDA_HOME/lib"
}

# build PRESET: configures and builds one preset of CMakePresets.json, quietly when it works.
build() {
  log=$cache/build-$1.log
  mkdir -p "$cache"
  say "building ($1), log in ${log#"$root"/}"
  # shellcheck disable=SC2086 # a list
  (cd "$root" && cmake --preset "$1" $cuda_options && cmake --build --preset "$1" -j "$(jobs)") >"$log" 2>&1 || {
    tail -40 "$log" >&2
    die "the build failed"
  }
}
