/* llama_ids.c — llama.cpp's token ids of many texts in one process: the proofs build it against its
 * headers and libllama, because its own program loads the vocabulary anew for every text.
 *
 *     llama_ids VOCAB.gguf TEXTS    TEXTS: a text a line, in hexadecimal; out: its ids as JSON
 */
#define _GNU_SOURCE
#include <llama.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void quiet(enum ggml_log_level level, const char *text, void *context)
{
    (void)context;
    if (level == GGML_LOG_LEVEL_ERROR)
        fputs(text, stderr);
}

static int digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static int print_ids(const struct llama_vocab *vocab, const char *hex, size_t digits)
{
    int32_t len = (int32_t)(digits / 2), room = len + 16;
    char *text = malloc((size_t)len + 1);
    llama_token *ids = malloc((size_t)room * sizeof(*ids));
    if (text == NULL || ids == NULL)
        return 1;
    for (int32_t i = 0; i < len; i++)
        text[i] = (char)(digit(hex[2 * i]) * 16 + digit(hex[2 * i + 1]));
    int32_t n = llama_tokenize(vocab, text, len, ids, room, false, true);
    putchar('[');
    for (int32_t i = 0; i < n; i++)
        printf("%s%d", i == 0 ? "" : ",", ids[i]);
    puts("]");
    free(text);
    free(ids);
    return n < 0;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    struct llama_model *model = llama_model_load_from_file(argv[1], params);
    FILE *texts = fopen(argv[2], "r");
    if (model == NULL || texts == NULL)
        return 1;
    char *line = NULL;
    size_t capacity = 0;
    ssize_t len = 0;
    int status = 0;
    while (status == 0 && (len = getline(&line, &capacity, texts)) > 0)
        status = print_ids(llama_model_get_vocab(model), line, (size_t)len - 1);
    free(line);
    fclose(texts);
    llama_model_free(model);
    return status;
}
