/* bench_tokenizer.c — loading a tokenizer and encoding text, timed on one thread.
 *
 * Usage: bench_tokenizer MODEL TEXT…. MODEL is a GGUF file or a folder with tokenizer.json. Each
 * text is encoded in documents of about 4 KB that end at a line end; the best of five rounds
 * counts.
 * bench/tokenizer_peer.py does the same with Hugging Face's tokenizers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/os.h"
#include "text/tokenizer.h"

enum { DOCUMENT_BYTES = 4096, ROUNDS = 5 };

static void fail(const Err *err)
{
    fprintf(stderr, "bench_tokenizer: %s\n", err->message);
    exit(1);
}

static size_t document_end(Str text, size_t start)
{
    if (text.len - start <= DOCUMENT_BYTES)
        return text.len;
    const size_t from = start + DOCUMENT_BYTES;
    const char *end = memchr(text.data + from, '\n', text.len - from);
    return end == NULL ? text.len : (size_t)(end - text.data) + 1;
}

static void time_text(const Tokenizer *t, const char *path, Str text)
{
    double best = 1e9;
    size_t n = 0;
    TokenList ids = {0};
    for (int i = 0; i < ROUNDS; i++) {
        const double start = os_now();
        n = 0;
        for (size_t at = 0, end = 0; at < text.len; at = end) {
            end = document_end(text, at);
            ids.len = 0;
            tokenizer_encode(t, str_sub(text, at, end), SPECIAL_PARSED, &ids, NULL);
            n += ids.len;
        }
        const double seconds = os_now() - start;
        best = seconds < best ? seconds : best;
    }
    token_list_free(&ids);
    printf("%s: %zu tokens, %.2f MB/s\n", path, n, (double)text.len / best / 1e6);
}

int main(int argc, char **argv)
{
    Arena arena = {0};
    Err err = {0};
    Gguf gguf = {0};
    Tokenizer *t = NULL;
    if (argc < 2 || !arena_open(&arena, 0, &err)) {
        fputs("usage: bench_tokenizer MODEL TEXT...\n", stderr);
        return 64;
    }
    const double start = os_now();
    if (path_is_folder(argv[1]))
        t = tokenizer_from_folder(argv[1], &arena, &err);
    else if (gguf_open(&gguf, argv[1], &arena, &err))
        t = tokenizer_from_gguf(&gguf, &arena, &err);
    if (t == NULL)
        fail(&err);
    printf("loaded in %.3f s\n", os_now() - start);
    for (int i = 2; i < argc; i++) {
        Str text = {0};
        if (!file_read(argv[i], (size_t)1 << 30, &arena, &text, ERR_INTERNAL_ERROR, &err))
            fail(&err);
        time_text(t, argv[i], text);
    }
    tokenizer_close(t);
    gguf_close(&gguf);
    arena_close(&arena);
    return 0;
}
