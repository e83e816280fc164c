#!/bin/sh
# setup.sh — installs what a build needs, by apt, and says so. Does nothing when all is there.
# Usage: tools/setup.sh [fuzz] [oracles] [cuda]     adds what `make fuzz`, `make oracles` and a CUDA
# compiler by pip need
set -eu

packages="gcc libc6-dev cmake ninja-build pkg-config ca-certificates libdnnl-dev libjansson-dev
  libpcre2-dev libutf8proc-dev libssl-dev zlib1g-dev libcmocka-dev python3 python3-venv"
for group in "$@"; do
  case $group in
    fuzz) packages="$packages clang libclang-rt-dev libomp-dev" ;;
    oracles | cuda) packages="$packages g++" ;;
    *) echo "setup: unknown group '$group' (fuzz, oracles, cuda)" >&2; exit 64 ;;
  esac
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "setup: this is no Debian or Ubuntu, so nothing is installed here. What a build needs:" >&2
  echo "  a C17 compiler, CMake >= 3.21, ninja, pkg-config, Python >= 3.10 with venv, and the" >&2
  echo "  development files of oneDNN, jansson, PCRE2 (8 bit), utf8proc, OpenSSL, zlib and cmocka" >&2
  for tool in cc cmake ninja pkg-config python3; do
    command -v $tool >/dev/null || { echo "setup: '$tool' is missing" >&2; exit 1; }
  done
  exit 0
fi

missing=
for package in $packages; do
  state=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)
  case $state in ii*) ;; *) missing="$missing $package" ;; esac
done
if [ -z "$missing" ]; then
  echo "setup: everything needed is installed" >&2
  exit 0
fi

as_root=
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "setup: these packages are missing, and there is no sudo to install them:" >&2
    echo "  apt-get install --no-install-recommends$missing" >&2
    exit 1
  fi
  as_root=sudo
fi
echo "setup: installing by apt${as_root:+ (with sudo)}:$missing" >&2

apt() {
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 "$@" >&2
}
# shellcheck disable=SC2086 # a list
if ! apt update || ! apt install --no-install-recommends $missing; then
  echo "setup: apt-get failed. Is there a network, and is the package source 'universe' (Ubuntu) on?" >&2
  echo "setup: by hand: ${as_root:+sudo }apt-get update && ${as_root:+sudo }apt-get install$missing" >&2
  exit 1
fi
