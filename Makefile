# Makefile — short names for those who have make; every target is a line or two over CMake and the
# scripts, which work without it.
.PHONY: all demo check fast prove tidy fuzz bench install oracles clean
PREFIX ?= /usr/local

all:
	cmake --preset release && cmake --build --preset release
demo:
	./demo
check:
	./check
fast: all
	ctest --preset release -L '^(unit|ops|tidy)$$' -j 4
tidy:
	tools/check_layers.sh
	tools/tidy.sh
fuzz:
	tools/fuzz.sh
oracles:
	tools/oracles.sh
prove:
	tools/prove.sh
bench:
	cmake --preset release && cmake --build --preset release --target bench_ops && build/bench_ops
	if command -v nvidia-smi >/dev/null; then cmake --build --preset release --target bench_train backprop_cuda && bench/gpu/run.py; fi
install: all
	cmake --install build --prefix $(PREFIX)
clean:
	rm -rf build build-asan build-fuzz
