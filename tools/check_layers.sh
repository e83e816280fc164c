#!/bin/sh
# check_layers.sh — includes point down only, as tools/layers says; a file includes its own header
# first; each packaged library is seen by one file. Prints offenders, exits 1 when there are any.
# Usage: tools/check_layers.sh [root of the tree]
set -eu
LC_ALL=C
export LC_ALL
here=$(cd "$(dirname "$0")" && pwd)
root=${1:-$(dirname "$here")}
cd "$root"

find src \( -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' -o -name '*.def' \) |
  sort >/dev/null # fails early, with find's message, when there is no src
files=$(find src \( -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' \) | sort)
[ -n "$files" ] || { echo "check_layers: no sources under '$root/src'" >&2; exit 1; }

# shellcheck disable=SC2086 # names in this tree have no spaces
awk '
function offend(text) { printf "%s:%d: %s\n", FILENAME, FNR, text; bad++ }

FILENAME == TABLE {                       # layers: "name: below below"
    if ($0 ~ /^#/ || NF == 0) next
    name = $1; sub(/:$/, "", name); known[name] = 1
    for (i = 2; i <= NF; i++) below[name, $i] = 1
    next
}
FNR == 1 {
    split(FILENAME, part, "/"); layer = part[2]
    folder = FILENAME; sub(/^src\//, "", folder); sub(/\/[^\/]*$/, "", folder)
    own = FILENAME; sub(/^src\//, "", own); is_source = own ~ /\.cu?$/; sub(/\.[a-z]+$/, ".h", own)
    has_own = (getline ignored < ("src/" own)) >= 0; close("src/" own)
    first = 1; n_files++
    if (!(layer in known)) offend("folder \047" layer "\047 is not in tools/layers")
}
!/^[ \t]*#[ \t]*include/ { next }
{
    name = $0; sub(/^[ \t]*#[ \t]*include[ \t]*/, "", name)
    quoted = name ~ /^"/
    sub(/^["<]/, "", name); sub(/[">].*$/, "", name)
    if (is_source && has_own && first && name != own)
        offend("includes \047" name "\047 before its own header \047" own "\047")
    first = 0
}
!quoted {
    if (match(name, /^(jansson|pcre2|utf8proc|oneapi|dnnl|openssl|curl|microhttpd|lapacke|protobuf-c|zlib)/)) {
        library = substr(name, RSTART, RLENGTH)
        if (library == "oneapi") library = "dnnl"
        if (library in seen_by && seen_by[library] != FILENAME)
            offend("library \047" library "\047 is already seen by \047" seen_by[library] "\047")
        seen_by[library] = FILENAME
    }
    next
}
name ~ /(^|\/)\.\.?\// { offend("relative include \047" name "\047"); next }
name == "backprop.h" {
    if (!((layer, name) in below)) offend("only a layer above api may include backprop.h")
    next
}
{
    target = name
    if (index(target, "/") == 0) target = folder "/" target   # beside this file
    if ((getline ignored < ("src/" target)) < 0) offend("no such file: \047" name "\047")
    close("src/" target)
    split(target, to, "/")
    if (to[1] != layer && !((layer, to[1]) in below))
        offend("layer \047" layer "\047 may not include \047" name "\047")
}
END {
    if (bad) { printf "check_layers: %d offenders\n", bad; exit 1 }
    printf "check_layers: %d files, every include points down\n", n_files
}' TABLE="$here/layers" "$here/layers" $files
