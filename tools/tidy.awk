# tidy.awk — the rules of STYLE.md that a line-wise reader can check, and the table of sizes.
#
# Reads every source file once; comments and texts are cut out before the code rules look. Prints
# "file:line: what", then the table, and exits 1 when there was an offender or a thin folder.

function offend(line, text) { printf "%s:%d: %s\n", FILENAME, line, text; bad++ }

# The line without comments; texts stay in `with_text` and are emptied in the result.
function strip(line,    out, c, at) {
    out = ""; with_text = ""
    while (line != "") {
        if (in_comment) {
            at = index(line, "*/")
            if (at == 0) return out
            line = substr(line, at + 2); in_comment = 0
            continue
        }
        if (!match(line, /\/\*|\/\/|"|'/)) { with_text = with_text line; return out line }
        c = substr(line, RSTART, 2)
        out = out substr(line, 1, RSTART - 1)
        with_text = with_text substr(line, 1, RSTART - 1)
        line = substr(line, RSTART)
        if (c == "//") {
            if (line ~ /^\/\/.*[;{}][ \t]*$/) offend(FNR, "commented-out code")
            return out
        }
        if (c == "/*") { in_comment = 1; line = substr(line, 3); continue }
        if (!match(line, /^"([^"\\]|\\.)*"|^'([^'\\]|\\.)*'/)) RLENGTH = length(line)
        with_text = with_text substr(line, 1, RLENGTH)
        out = out substr(line, 1, 1) substr(line, 1, 1)
        line = substr(line, RLENGTH + 1)
    }
    return out
}

# True when one of the names is called (or used) as a whole word.
function uses(code, names) { return code ~ ("(^|[^A-Za-z0-9_])(" names ")([^A-Za-z0-9_]|$)") }
function calls(code, names) { return code ~ ("(^|[^A-Za-z0-9_])(" names ")[ \t]*[(]") }

function end_function(line,    limit, n) {
    limit = is_kernel ? 120 : 70
    n = line - function_start + 1
    if (n > limit) offend(function_start, "function of " n " lines (at most " limit ")")
    if (n > longest[folder]) longest[folder] = n
    function_start = 0
}

# Follows braces; a brace opened at the top behind "(...)" and not behind "=" opens a function.
function follow(code,    i, c) {
    if (code ~ /^}/ && depth > base) depth = base + 1   # back in step after #if branches
    for (i = 1; i <= length(code); i++) {
        c = substr(code, i, 1)
        if (c == "{") {
            if (depth == base && head ~ /extern *""/ && head !~ /\(/) { base++ }
            else if (depth == base && head ~ /\(/ && head !~ /=/) {
                function_start = head_line; is_kernel = head ~ /__(global|device)__/
            }
            depth++; head = ""
        } else if (c == "}") {
            if (depth > 0) depth--
            if (depth < base) base = depth
            if (depth == base && function_start) end_function(FNR)
            head = ""
        } else if (depth == base) {
            if (c == ";") head = ""
            else { if (head ~ /^[ \t]*$/) head_line = FNR; head = head c }
        }
    }
    if (depth == base) head = head " "
}

function check_calls(code) {
    if (path !~ /^src\/core\/(arena|os_[a-z_]*)\.c$/ && calls(code, "malloc|calloc|realloc|free"))
        offend(FNR, "heap call outside core/arena.c and core/os_*.c")
    if (path != "src/cli/main.c" && calls(code, "_?exit|quick_exit"))
        offend(FNR, "exit outside cli/main.c")
    if (folder != "cli" && (calls(code, "printf|puts|putchar") || uses(code, "stdout")))
        offend(FNR, "standard output outside cli/")
    if (path !~ /^src\/(core\/os_[a-z_]*|api\/env)\.c$/ && calls(code, "getenv|secure_getenv"))
        offend(FNR, "getenv outside core/os_*.c and api/env.c")
    if (calls(code, "strcpy|strcat|sprintf|vsprintf|strtok|atoi|atol|atof|gets"))
        offend(FNR, "a function without bounds or errors")
    if (folder != "compute/cuda" && code ~ /(^|[^A-Za-z0-9_])cuda[A-Z]/)
        offend(FNR, "CUDA call outside compute/cuda/")
}

# Texts count as well as code: a family's name in a message belongs to its row. The names of
# pre-tokenizers are data of the GGUF format and look like families.
function check_names(text) {
    text = tolower(text); gsub(/llama\.cpp/, "", text)
    if (path !~ /^src\/(model\/family\/|text\/pretokenize)/ && uses(text, FAMILIES))
        offend(FNR, "family name outside model/family/")
    if (path !~ /^src\/(model\/(linear|adapter)|export\/|runs\/slao|api\/|cli\/)/ &&
        text ~ /(^|[^a-z])(q|rs|x)?(lora|dora|pissa|loftq)([^a-z]|$)/)
        offend(FNR, "name of an adapter method outside model/linear, model/adapter, export, api, cli")
    if (path ~ /^src\/(core|format|text|data|compute)\// && text ~ /(^|[^a-z])adapters?([^a-z]|$)/)
        offend(FNR, "adapters are unknown to this layer")
}

FNR == 1 {
    path = FILENAME; in_src = path ~ /^src\//; is_c = path ~ /\.(c|cu)$/; is_def = path ~ /\.def$/
    folder = path; sub(/\/[^\/]*$/, "", folder); sub(/^src\//, "", folder)
    in_comment = 0; depth = 0; base = 0; head = ""; function_start = 0; in_macro = 0
    limit = path ~ /^include\// ? 450 : 1200
    in_head = 1; n_files[folder]++
}
FNR == limit + 1 { offend(FNR, "file of more than " limit " lines") }
{
    shown = $0; gsub(/[\200-\277]/, "", shown)          # UTF-8: count characters
    if (!is_def && length(shown) > 100) offend(FNR, "line of " length(shown) " columns")
    if (uses($0, "TODO|FIXME|XXX") && $0 !~ /(TODO|FIXME|XXX)[ (:]*#[0-9]+/)
        offend(FNR, "TODO without an issue number")
    code = strip($0); text = with_text
    if (in_head && (code !~ /^[ \t]*$/ || $0 ~ /^[ \t]*$/)) {
        in_head = 0
        if (FNR <= 3 && !is_def) offend(FNR, "head comment of fewer than 3 lines")
    }
    if (in_src && code !~ /^[ \t]*$/) {
        lines[folder]++
        n = gsub(/(^|[^A-Za-z0-9_])(assert|must|static_assert|_Static_assert)[ \t]*\(/, "&", code)
        asserts[folder] += n
        check_calls(code)
        if (is_c) check_names(text)
    }
    macro = in_macro || code ~ /^[ \t]*#/; in_macro = macro && $0 ~ /\\$/
    if (!macro && !is_def) follow(code)
}
END {
    FILENAME = "tidy"; FNR = 0
    printf "%-16s %6s %7s %8s %9s %8s\n", "folder", "files", "lines", "asserts", "per 1000", "longest"
    for (f in lines) {
        density = 1000 * asserts[f] / lines[f]; total += lines[f]; all += asserts[f]
        printf "%-16s %6d %7d %8d %9.1f %8d\n", f, n_files[f], lines[f], asserts[f], density,
            longest[f] | "sort"
        if (lines[f] >= 200 && density < 15) thin = thin " " f
    }
    close("sort")
    printf "%-16s %6s %7d %8d %9.1f\n", "all", "", total, all, total ? 1000 * all / total : 0
    if (thin != "") { printf "tidy: fewer than 15 assertions in 1000 lines:%s\n", thin; bad++ }
    if (bad) printf "tidy: %d offenders\n", bad
    exit bad > 0
}
