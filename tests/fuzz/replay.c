/* replay.c — runs one fuzz target over the files of a folder, without a fuzzer.
 *
 * Linked with a fuzz_<name>.c in normal builds, so that the committed corpus (seeds, and every
 * input that once broke something) is a test on every machine. Each file is copied to memory of
 * exactly its size, so that AddressSanitizer sees a read behind its end.
 */
#include <stdio.h>
#include <string.h>

#include "core/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_INPUT = 64 << 20 };

static bool replay(const char *path, Arena *arena, Err *err)
{
    Str text;
    if (!file_read(path, MAX_INPUT, arena, &text, ERR_RUNTIME_IO_FAILED, err))
        return false;
    uint8_t *exact = heap_resize(NULL, text.len + (text.len == 0));
    if (text.len > 0)
        memcpy(exact, text.data, text.len);
    LLVMFuzzerTestOneInput(exact, text.len);
    heap_free(exact);
    return true;
}

int main(int argc, char **argv)
{
    Err err = {0};
    Arena arena;
    if (argc != 2 || !arena_open(&arena, 0, &err)) {
        fprintf(stderr, "usage: replay FOLDER\n");
        return 2;
    }
    const char **names = NULL;
    size_t count = 0;
    if (!folder_list(argv[1], &arena, &names, &count) || count == 0) {
        fprintf(stderr, "no inputs in '%s'\n", argv[1]);
        return 1;
    }
    for (size_t i = 0; i < count; i++) {
        const size_t mark = arena_mark(&arena);
        if (!replay(path_join(&arena, argv[1], names[i]), &arena, &err)) {
            fprintf(stderr, "%s\n", err.message);
            return 1;
        }
        arena_rewind(&arena, mark);
    }
    fprintf(stderr, "%zu inputs of '%s' replayed\n", count, argv[1]);
    arena_close(&arena);
    return 0;
}
