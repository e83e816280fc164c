/* bench_data.c — a data file to packed tokens, timed: reading, rendering, marking, tokenising,
 * packing; and the memory that it takes.
 *
 * Usage: bench_data FILE MODEL [THREADS]. MODEL is a GGUF file or a folder with tokenizer.json.
 * Prints one line of numbers; bench/data_peer.py does the same work with datasets and tokenizers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/os.h"
#include "core/thread.h"
#include "data/pack.h"

enum { SEQUENCE = 2048 };

static void fail(const Err *err)
{
    fprintf(stderr, "bench_data: %s\n", err->message);
    exit(1);
}

static uint64_t resident_bytes(const char *key)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[128];
    unsigned long long kb = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0)
            kb = strtoull(line + strlen(key), NULL, 10);
    }
    if (file != NULL)
        fclose(file);
    return kb * 1024;
}

static void open_texts(const char *model, Gguf *gguf, DataTexts *texts, Arena *arena)
{
    Err err = {0};
    Tokenizer *tokenizer = NULL;
    if (path_is_folder(model))
        tokenizer = tokenizer_from_folder(model, arena, &err);
    else if (gguf_open(gguf, model, arena, &err))
        tokenizer = tokenizer_from_gguf(gguf, arena, &err);
    if (tokenizer == NULL)
        fail(&err);
    texts->tokenizer = tokenizer;
    texts->chat_template = template_parse(tokenizer_chat_template(tokenizer), model, arena, &err);
    if (texts->chat_template == NULL)
        fail(&err);
}

int main(int argc, char **argv)
{
    Arena arena = {0};
    Err err = {0};
    Gguf gguf = {0};
    DataTexts texts = {0};
    Dataset dataset = {0};
    if (argc < 3 || !arena_open(&arena, 0, &err)) {
        fputs("usage: bench_data FILE MODEL [THREADS]\n", stderr);
        return 64;
    }
    open_texts(argv[2], &gguf, &texts, &arena);
    threads_set(argc > 3 ? (int)strtol(argv[3], NULL, 10) : 0);
    const DatasetOptions options = {.max_seq_length = SEQUENCE};
    const DataFile file = {argv[1], 1};
    const double start = os_now();
    if (!dataset_load(&dataset, &file, 1, &texts, &options, &arena, &err))
        fail(&err);
    const double loaded = os_now();
    const uint64_t anonymous = resident_bytes("RssAnon:");
    const PackOptions pack = {.rows = 1, .max_seq_length = SEQUENCE, .packing = true, .seed = 42};
    Packer *packer = packer_make(&dataset, &pack, &arena);
    const int64_t n = packer_microbatches(packer);
    Microbatch mb;
    DataCursor cursor = {0};
    microbatch_make(&mb, packer_tokens(packer), &arena);
    int64_t used = 0;
    for (int64_t i = 0; i < n; i++) {
        packer_next(packer, &cursor, &mb);
        used += mb.n_used;
    }
    const double packed = os_now();
    printf("{\"rows\": %lld, \"used\": %lld, \"tokens\": %lld, \"loss_tokens\": %lld, "
           "\"packs\": %lld, \"fill\": %.4f, \"load_s\": %.3f, \"pack_s\": %.3f, "
           "\"seconds\": %.3f, \"mb_per_s\": %.1f, \"threads\": %d, \"peak_mb\": %.0f, "
           "\"anonymous_mb\": %.0f}\n",
           (long long)dataset.n_rows, (long long)dataset.n_used, (long long)dataset.n_tokens,
           (long long)dataset.n_loss, (long long)n, (double)used / ((double)n * SEQUENCE),
           loaded - start, packed - loaded, packed - start,
           (double)file_bytes(argv[1]) / 1e6 / (packed - start), threads_count(),
           (double)os_process_peak() / 1e6, (double)anonymous / 1e6);
    dataset_close(&dataset);
    return 0;
}
