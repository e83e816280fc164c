/* tokenizer_gguf_write.c — writes the tokenizer.* keys of GGUF files as llama.cpp's converter does.
 *
 * A tokenizer that came from a GGUF file gives back that file's keys. One from tokenizer.json is
 * written as byte-level BPE under the name of its pre-tokenizer, or, where it is SentencePiece's by
 * another name (characters, U+2581, bytes as a last resort), as scores: these exist when the merges
 * finish one token before they begin the next, which is how such files are made.
 */
#include <string.h>

#include "text/tokenizer_internal.h"
/* Whether a token is cut out of the text before the merges, so that none of them makes it. */
static bool is_cut_out(const Tokenizer *t, int32_t id)
{
    return t->vocab.kinds[id] == TOKEN_CONTROL || t->vocab.kinds[id] == TOKEN_USER_DEFINED;
}

/* Scores that order merges as their ranks do: row r of the ranking gets -r. False: there are none,
 * because the tokens do not come out one after the other. `scores` has a row for every token. */
static bool find_scores(const Tokenizer *t, float *scores)
{
    int32_t latest = -1, n = 0;
    bool ordered = true;
    int32_t *groups = heap_resize(NULL, ((size_t)t->vocab.size + 1) * sizeof(*groups));
    for (int32_t i = 0; i < t->vocab.size; i++) {
        groups[i] = -1;
        scores[i] = 0;
    }
    for (int32_t k = 0; k < t->bpe.n_merges && ordered; k++) {
        if (is_cut_out(t, t->bpe.merges[k].result))
            continue;
        int32_t *group = &groups[t->bpe.merges[k].result];
        if (*group < 0)
            *group = n++;
        ordered = *group >= latest;
        latest = *group;
    }
    for (int32_t i = 0; i < t->vocab.size && ordered; i++)
        scores[i] = groups[i] < 0 ? -(float)n : -(float)groups[i];
    heap_free(groups);
    return ordered && n < 1 << 24; /* what a float counts */
}

/* Whether the steps before the merges are SentencePiece's: [a space in front,] U+2581 for space. */
static bool is_sentencepiece(const Tokenizer *t, bool *space_prefix)
{
    const Normalizer *norm = &t->norm;
    int n = norm->n_steps;
    *space_prefix = n == 2;
    if (t->vocab.scheme != VOCAB_PIECES || n < 1 || n > 2 || !t->bpe.byte_fallback ||
        t->pre.mark.len > 0 || t->bpe.ignore_merges)
        return false;
    const NormStep *replace = &norm->steps[n - 1], *prepend = &norm->steps[0];
    for (int i = 0; i < t->pre.n_steps; i++) /* splits at spaces find none */
        if (!str_eq_text(t->pre.steps[i].pattern, " "))
            return false;
    bool marks = replace->kind == NORM_REPLACE && replace->regex == NULL &&
                 str_eq_text(replace->pattern, " ") &&
                 str_eq_text(replace->content, PRETOKENIZE_MARK);
    return marks && (n == 1 || (prepend->kind == NORM_PREPEND &&
                                str_eq_text(prepend->content, PRETOKENIZE_MARK)));
}

/* U+2581 of a token that is cut out of the text becomes the space that it stands for there. The
 * result lies at *blob, which moves on; it is never longer than the text. */
static Str written_text(const Tokenizer *t, int32_t id, char **blob)
{
    Str text = t->vocab.texts[id], mark = STR(PRETOKENIZE_MARK), written = {*blob, 0};
    if (t->vocab.scheme != VOCAB_PIECES || t->vocab.kinds[id] != TOKEN_USER_DEFINED)
        return text;
    for (size_t i = 0; i < text.len;) {
        bool marked = text.len - i >= mark.len && memcmp(text.data + i, mark.data, mark.len) == 0;
        *(*blob)++ = marked ? ' ' : text.data[i];
        i += marked ? mark.len : 1;
        written.len++;
    }
    assert(written.len <= text.len);
    return written;
}

static void write_tokens(const Tokenizer *t, size_t n, GgufWriter *writer)
{
    const Vocab *vocab = &t->vocab;
    size_t bytes = 0;
    Str *texts = heap_resize(NULL, (n + 1) * sizeof(*texts));
    int32_t *kinds = heap_resize(NULL, (n + 1) * sizeof(*kinds));
    for (size_t i = 0; i < n; i++)
        bytes += vocab->texts[i].len;
    char *blob = heap_resize(NULL, bytes + 1), *next = blob;
    for (size_t i = 0; i < n; i++) {
        texts[i] = written_text(t, (int32_t)i, &next);
        kinds[i] = vocab->kinds[i];
        assert(kinds[i] >= TOKEN_NORMAL && kinds[i] <= TOKEN_BYTE);
    }
    gguf_put_strs(writer, "tokenizer.ggml.tokens", texts, n);
    gguf_put_i32s(writer, "tokenizer.ggml.token_type", kinds, n);
    heap_free(blob);
    heap_free(texts);
    heap_free(kinds);
}

/* SentencePiece: scores for merges; tokens cut out of the text get the converter's -1000. */
static void write_scores(const Tokenizer *t, size_t n, GgufWriter *writer)
{
    float *scores = heap_resize(NULL, ((size_t)t->vocab.size + 1) * sizeof(*scores));
    bool found = find_scores(t, scores);
    must(found);
    for (size_t i = 0; i < n; i++) {
        if (is_cut_out(t, (int32_t)i))
            scores[i] = -1000;
        else if (t->vocab.kinds[i] == TOKEN_BYTE)
            scores[i] = 0;
    }
    gguf_put_f32s(writer, "tokenizer.ggml.scores", scores, n);
    heap_free(scores);
}

/* A piece of a merge; a space inside it is written as U+0120, since a space parts the two. */
static void put_piece(Str text, Buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == ' ')
            buf_codepoint(out, ' ' + 256);
        else
            buf_char(out, text.data[i]);
    }
}

static void write_merges(const Tokenizer *t, GgufWriter *writer)
{
    size_t n = (size_t)t->bpe.n_merges;
    if (n == 0)
        return;
    Buf blob = {0};
    size_t *starts = heap_resize(NULL, (n + 1) * sizeof(*starts));
    for (size_t i = 0; i < n; i++) {
        starts[i] = blob.len;
        put_piece(t->vocab.texts[t->bpe.merges[i].left], &blob);
        buf_char(&blob, ' ');
        put_piece(t->vocab.texts[t->bpe.merges[i].right], &blob);
    }
    starts[n] = blob.len;
    must(!blob.failed);
    Str *lines = heap_resize(NULL, n * sizeof(*lines));
    for (size_t i = 0; i < n; i++)
        lines[i] = (Str){blob.data + starts[i], starts[i + 1] - starts[i]};
    gguf_put_strs(writer, "tokenizer.ggml.merges", lines, n);
    heap_free(lines);
    heap_free(starts);
    buf_free(&blob);
}

static void write_choice(GgufWriter *writer, const char *key, Choice choice)
{
    if (choice != CHOICE_NOT_SAID)
        gguf_put_bool(writer, key, choice == CHOICE_YES);
}

/* Whether `n` rows hold all tokens but added ones: of pictures, say, in text models. */
static bool rows_suffice(const Tokenizer *t, int64_t n)
{
    bool fits = n <= t->vocab.size;
    for (int64_t i = n; fits && i < t->vocab.size; i++)
        fits = !t->vocab.in_model[i];
    return fits;
}

bool tokenizer_can_write_gguf(const Tokenizer *tokenizer, int64_t n_rows, Err *err)
{
    if (tokenizer->gguf != NULL)
        return true;
    ErrCode code = ERR_RUNTIME_GGUF_EXPORT_FAILED;
    if (!rows_suffice(tokenizer, n_rows))
        return err_set(err, code, "the tokenizer has %d tokens and the model %lld rows of them",
                       (int)tokenizer->vocab.size, (long long)n_rows);
    if (tokenizer->row != NULL)
        return true;
    if (tokenizer->vocab.scheme == VOCAB_BYTES)
        return err_set(err, code, "the tokenizer's pre-tokenizer has no name in GGUF files");
    bool space_prefix = false;
    size_t bytes = ((size_t)tokenizer->vocab.size + 1) * sizeof(float);
    float *scores = heap_resize(NULL, bytes);
    bool can = is_sentencepiece(tokenizer, &space_prefix) && find_scores(tokenizer, scores);
    heap_free(scores);
    return can || err_set(err, code, "GGUF files have no words for the tokenizer's merges");
}

void tokenizer_write_gguf(const Tokenizer *t, int64_t n_rows, GgufWriter *writer)
{
    assert(t != NULL && writer != NULL);
    if (t->gguf != NULL) {
        for (uint64_t i = 0; i < t->gguf->n_values; i++)
            if (str_starts(t->gguf->values[i].key, "tokenizer."))
                gguf_put_copy(writer, &t->gguf->values[i]);
        return;
    }
    bool pieces = t->vocab.scheme == VOCAB_PIECES, space_prefix = false;
    must(rows_suffice(t, n_rows));
    must(pieces ? is_sentencepiece(t, &space_prefix) : t->row != NULL); /* was asked before */
    gguf_put_str(writer, "tokenizer.ggml.model",
                 pieces ? STR(GGUF_MODEL_SCORES) : STR(GGUF_MODEL_BYTES));
    gguf_put_str(writer, "tokenizer.ggml.pre", pieces ? STR("default") : str_of(t->row->name));
    write_tokens(t, (size_t)n_rows, writer);
    if (pieces)
        write_scores(t, (size_t)n_rows, writer);
    else
        write_merges(t, writer);
    if (pieces)
        gguf_put_bool(writer, "tokenizer.ggml.add_space_prefix", space_prefix);
    for (int role = 0; role < ROLE_COUNT; role++) {
        Buf key = {0};
        buf_printf(&key, "tokenizer.ggml.%s_token_id", role_infos[role].gguf);
        if (t->special[role] != TOKEN_NONE && t->special[role] < n_rows)
            gguf_put_u32(writer, key.data, (uint32_t)t->special[role]);
        buf_free(&key);
    }
    write_choice(writer, "tokenizer.ggml.add_bos_token", t->adds_bos);
    write_choice(writer, "tokenizer.ggml.add_eos_token", t->adds_eos);
    write_choice(writer, "tokenizer.ggml.add_sep_token", t->adds_sep);
    if (t->chat_template.len > 0)
        gguf_put_str(writer, "tokenizer.chat_template", t->chat_template);
}
