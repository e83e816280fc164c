#!/bin/sh
# catches.sh — the checkers must find each kind of offence: builds small trees with one offence
# each and expects the message; and a clean tree, which must pass.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
failed=0

head='/* file.c — a file
 * of a test tree,
 * three lines. */'

fresh() {
  rm -rf "$work/src"
  mkdir -p "$work/src/core" "$work/src/format" "$work/src/model/family"
  printf '%s\n#ifndef A\n#define A\n#endif\n' "$head" >"$work/src/core/a.h"
  printf '%s\n#include "core/a.h"\n\nint f(void)\n{\n    return 1;\n}\n' "$head" >"$work/src/core/a.c"
}

# expect <tool> <message, empty = must pass> <file> <its text after the head comment>
expect() {
  fresh
  mkdir -p "$(dirname "$work/src/$3")"
  printf '%s\n' "$head" >"$work/src/$3"
  printf '%b\n' "$4" >>"$work/src/$3"
  if out=$("$root/tools/$1" "$work" 2>&1); then found=; else found=yes; fi
  if [ -z "$2" ]; then
    [ -z "$found" ] || { printf 'refused a clean file:\n%s\n%s\n' "$4" "$out"; failed=1; }
  elif [ -z "$found" ] || ! printf '%s\n' "$out" | grep -q "$2"; then
    printf 'not found: %s in:\n%s\n%s\n' "$2" "$4" "$out"
    failed=1
  fi
}

lines() { awk -v n="$1" 'BEGIN { while (n--) printf "    x++;\\n" }'; }
long=$(awk 'BEGIN { while (n++ < 101) printf "x" }')

expect tidy.sh '' format/b.c 'int g(int x)\n{\n'"$(lines 66)"'    return x;\n}'
expect tidy.sh 'function of 71 lines' format/b.c 'int g(int x)\n{\n'"$(lines 67)"'    return x;\n}'
expect tidy.sh 'function of 71 lines' format/b.c '#if A\nint h(void) {\n#else\nint h(int x) {\n#endif\nreturn 1;\n}\nint g(int x)\n{\n'"$(lines 67)"'    return x;\n}'
expect tidy.sh '' format/b.cu 'extern "C" {\n__global__ void k(int x)\n{\n'"$(lines 117)"'}\n}'
expect tidy.sh 'function of 121 lines' format/b.cu 'extern "C" {\n__global__ void k(int x)\n{\n'"$(lines 118)"'}\n}'
expect tidy.sh '' format/b.c "static const int table[] = {\n$(lines 90)};"
expect tidy.sh 'file of more than 1200' format/b.c "$(awk 'BEGIN { while (n++ < 1200) printf "int a;\\n" }')"
expect tidy.sh 'line of 101' format/b.c "int $(echo "$long" | cut -c1-96);"
expect tidy.sh '' format/b.c "int $(echo "$long" | cut -c1-94)ä;"
expect tidy.sh 'heap call' format/b.c 'void *p = malloc(3);'
expect tidy.sh '' format/b.c 'void *p = heap_malloc(3); /* malloc(3) */ char *s = "malloc(3)";'
expect tidy.sh 'exit outside' format/b.c 'void g(void) { exit(1); }'
expect tidy.sh 'standard output' format/b.c 'void g(void) { printf("x"); }'
expect tidy.sh 'standard output' format/b.c 'void g(void) { fputs("x", stdout); }'
expect tidy.sh '' format/b.c 'void g(void) { fprintf(stderr, "x"); snprintf(a, 1, "x"); }'
expect tidy.sh 'getenv outside' format/b.c 'char *g(void) { return getenv("X"); }'
expect tidy.sh 'without bounds' format/b.c 'void g(char *a) { strcpy(a, "x"); }'
expect tidy.sh 'CUDA call' format/b.c 'void g(void) { cudaFree(p); }'
expect tidy.sh 'TODO without' format/b.c '/* TODO later */'
expect tidy.sh '' format/b.c '/* TODO(#12) later */'
expect tidy.sh 'commented-out' format/b.c '// x = 1;'
expect tidy.sh 'family name' format/b.c 'const char *n = "qwen2.x";'
expect tidy.sh '' model/family/llama.c 'const char *n = "llama";'
expect tidy.sh '' format/b.c '/* as llama.cpp does */ const char *n = "ollama, llama.cpp";'
expect tidy.sh 'adapter method' format/b.c 'int lora_rank;'
expect tidy.sh 'unknown to this layer' format/b.c 'int adapter_rank;'
expect tidy.sh '' model/adapter.c 'int lora_rank, adapter_rank;'
expect tidy.sh 'not unique' format/a.c 'int b;'
expect tidy.sh 'deeper than 2' model/family/deep/b.c 'int b;'
expect tidy.sh '1000 lines: format' format/b.c "$(awk 'BEGIN { while (n++ < 300) printf "int a;\\n" }')"

expect check_layers.sh '' format/b.c '#include "core/a.h"'
expect check_layers.sh 'may not include' core/b.c '#include "format/c.h"'
expect check_layers.sh 'before its own header' core/a.c '#include <stdio.h>\n#include "core/a.h"'
expect check_layers.sh 'no such file' format/b.c '#include "core/none.h"'
expect check_layers.sh 'relative include' format/b.c '#include "../core/a.h"'
expect check_layers.sh 'may include backprop.h' format/b.c '#include "backprop.h"'
expect check_layers.sh 'is not in tools/layers' other/b.c '#include "core/a.h"'
exit $failed
