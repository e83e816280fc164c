// layer: data
/* fuzz_jsonl.c — any bytes as a data file (JSON lines, JSON, text, CSV, gzip of each). The first
 * byte chooses the extension, the template and the options.
 *
 * Whatever comes in, the result is an error, or examples whose spans and counts are consistent.
 */
#include "data/dataset.h"

#include "core/file.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const sources[] = {
    ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
     "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"),
    "{{ bos_token }}{% for m in messages %}{{ m.content | trim }}</s>{% endfor %}",
    "{% for m in messages %}{{ m.content.split('</think>')[-1] if loop.last else m }}{% endfor %}",
};

static Arena arena;
static Tokenizer *tokenizer;
static Template *templates[COUNT_OF(sources)];

static const char tokenizer_json[] =
    "{\"added_tokens\":[{\"id\":256,\"content\":\"<|im_start|>\",\"special\":true},"
    "{\"id\":257,\"content\":\"<|im_end|>\",\"special\":true},"
    "{\"id\":258,\"content\":\"</s>\",\"special\":true}],"
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},"
    "\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{";

/* A tokenizer of bytes alone, written where tokenizer_from_folder finds it. */
static void write_tokenizer(Buf *out)
{
    int next = 256;
    buf_text(out, tokenizer_json);
    for (int b = 0; b < 256; b++) { /* GPT-2's alphabet: unprintable bytes move up */
        bool plain = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        buf_printf(out, "%s\"\\u%04x\":%d", b > 0 ? "," : "", (unsigned)(plain ? b : next++), b);
    }
    buf_text(out, "}}}");
}

static void open_once(void)
{
    Err err = {0};
    Buf json = {0};
    must(arena_open(&arena, 0, &err));
    char folder[] = "/tmp/backprop-fuzz-XXXXXX";
    write_tokenizer(&json);
    must(mkdtemp(folder) != NULL);
    must(file_write_atomic(path_join(&arena, folder, "tokenizer.json"), buf_view(&json),
                           ERR_INTERNAL_ERROR, &err));
    tokenizer = tokenizer_from_folder(folder, &arena, &err);
    must(tokenizer != NULL);
    folder_remove(folder);
    buf_free(&json);
    for (size_t i = 0; i < COUNT_OF(sources); i++) {
        templates[i] = template_parse(str_of(sources[i]), "fuzz", &arena, &err);
        must(templates[i] != NULL);
    }
}

/* Compiled patterns are the one thing that no arena holds. */
__attribute__((destructor)) static void close_last(void)
{
    tokenizer_close(tokenizer);
    tokenizer = NULL;
}

static void check(const Dataset *dataset, int32_t max_seq_length)
{
    int64_t dropped = 0, end = 0, n_loss = 0;
    for (int i = 0; i < DROP_REASONS; i++)
        dropped += dataset->n_dropped[i];
    must(dropped + dataset->n_used == dataset->n_rows);
    for (int64_t i = 0; i < dataset->n_examples; i++) {
        const Example *e = &dataset->examples[i];
        must(e->start == end && e->len >= 2 && e->len <= max_seq_length && e->line >= 1);
        int32_t loss = 0;
        for (int32_t t = 0; t < e->len; t++) {
            must(dataset->tokens[e->start + t] >= 0);
            must(dataset->tokens[e->start + t] < tokenizer_size(tokenizer));
            loss += t > 0 && dataset->loss[e->start + t];
        }
        must(loss == e->n_loss && loss > 0);
        end += e->len;
        n_loss += loss;
    }
    must(end == dataset->n_tokens && n_loss == dataset->n_loss);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"a.jsonl", "a.json", "a.txt"};
    if (tokenizer == NULL)
        open_once();
    if (size == 0)
        return 0;
    Err err = {0};
    Dataset dataset = {0};
    DatasetOptions options = {.max_seq_length = 64, .max_samples = data[0] & 32 ? 2 : 0, .seed = 1};
    if (data[0] & 64) {
        options.truncation = TRUNCATE_SPLIT;
        options.dedup = DEDUP_MINHASH;
        options.dup_threshold = 0.5;
        options.difficulty = true;
        options.filter.min_turns = 1;
        options.memory_bytes = 1;
    }
    const char *name = data[0] & 128 ? "a.csv" : names[data[0] % 3];
    Str bytes = {(const char *)data + 1, size - 1};
    size_t mark = arena_mark(&arena);
    const Template *template = templates[(data[0] >> 2) % COUNT_OF(templates)];
    if (dataset_parse(&dataset, bytes, name, &(DataTexts){tokenizer, template},
                      &options, &arena, &err))
        check(&dataset, options.max_seq_length);
    else
        must(err_is_set(&err));
    dataset_close(&dataset);
    arena_rewind(&arena, mark);
    return 0;
}
