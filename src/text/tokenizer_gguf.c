/* tokenizer_gguf.c — the tokenizer.* keys of GGUF files, read and written.
 *
 * Keys (ggml docs/gguf.md and llama.cpp's converter):
 *   tokenizer.ggml.model       "gpt2" = byte-level BPE; the only one read so far
 *   tokenizer.ggml.pre         name of the pre-tokenizer (rows in pretokenize.c), absent: "default"
 *   tokenizer.ggml.tokens      one text a row, in the byte alphabet
 *   tokenizer.ggml.token_type  one TokenKind a row, absent: all normal
 *   tokenizer.ggml.merges      "left right" by rank
 *   tokenizer.ggml.{bos,eos,unknown,seperator,padding,cls,mask}_token_id  (spelled so)
 *   tokenizer.ggml.add_{bos,eos,sep}_token
 *   tokenizer.chat_template
 * Control, unknown and user-defined tokens are cut out of the text; the file carries no flags for
 * them, so they neither strip white space nor are normalised.
 */
#include "text/tokenizer_internal.h"

#include <string.h>

static bool bad(Err *err, const char *what)
{
    return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "the file's tokenizer %s", what);
}

static bool read_tokens(Tokenizer *t, const Gguf *gguf, Arena *out, Err *err)
{
    const GgufValue *tokens = gguf_find(gguf, "tokenizer.ggml.tokens");
    const GgufValue *types = gguf_find(gguf, "tokenizer.ggml.token_type");
    if (tokens == NULL || tokens->type != GGUF_ARRAY || tokens->element != GGUF_STRING ||
        tokens->count == 0 || tokens->count > VOCAB_MAX_SIZE)
        return bad(err, "has no usable list 'tokenizer.ggml.tokens'");
    bool typed = types != NULL && types->type == GGUF_ARRAY && types->count == tokens->count &&
                 types->element != GGUF_STRING && types->element != GGUF_ARRAY;
    if (types != NULL && !typed)
        return bad(err, "has a list 'tokenizer.ggml.token_type' that does not fit its tokens");
    vocab_init(&t->vocab, (int32_t)tokens->count, out);
    for (int32_t i = 0; i < t->vocab.size; i++) {
        double kind = typed ? gguf_array_number(types, (uint64_t)i) : TOKEN_NORMAL;
        if (!(kind >= TOKEN_NORMAL && kind <= TOKEN_BYTE))
            return bad(err, "has a token type that is not known");
        t->vocab.texts[i] = tokens->as.strs[i];
        t->vocab.kinds[i] = (uint8_t)kind;
        t->vocab.in_model[i] = t->vocab.kinds[i] == TOKEN_NORMAL;
    }
    vocab_finish(&t->vocab, out);
    return true;
}

static bool read_merges(Tokenizer *t, const Gguf *gguf, Arena *out, Err *err)
{
    const GgufValue *merges = gguf_find(gguf, "tokenizer.ggml.merges");
    if (merges == NULL || merges->type != GGUF_ARRAY || merges->element != GGUF_STRING ||
        merges->count > BPE_MAX_MERGES)
        return bad(err, "has no usable list 'tokenizer.ggml.merges'");
    assert(t->vocab.size > 0);
    bpe_init(&t->bpe, &t->vocab, (int32_t)merges->count, out);
    for (int32_t rank = 0; rank < t->bpe.n_merges; rank++) {
        Str line = merges->as.strs[rank];
        const char *space = line.len > 1 ? memchr(line.data + 1, ' ', line.len - 1) : NULL;
        size_t at = space == NULL ? line.len : (size_t)(space - line.data);
        if (space == NULL ||
            !bpe_set_merge(&t->bpe, rank, str_sub(line, 0, at), str_sub(line, at + 1, line.len)))
            return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                           "merge %d '%.*s' of the file's tokenizer joins texts that are no tokens",
                           (int)rank, (int)min_i64((int64_t)line.len, 100), line.data);
    }
    bpe_finish(&t->bpe, out);
    return true;
}

static void read_added(Tokenizer *t, Arena *out)
{
    const Vocab *vocab = &t->vocab;
    for (int32_t i = 0; i < vocab->size; i++)
        t->n_added += vocab->kinds[i] >= TOKEN_UNKNOWN && vocab->kinds[i] <= TOKEN_USER_DEFINED;
    t->added = arena_array(out, AddedToken, t->n_added + 1);
    int32_t n = 0;
    for (int32_t i = 0; i < vocab->size; i++) {
        uint8_t kind = vocab->kinds[i];
        if (kind < TOKEN_UNKNOWN || kind > TOKEN_USER_DEFINED)
            continue;
        bool control = kind != TOKEN_USER_DEFINED, fits = vocab->texts[i].len <= ADDED_MAX_BYTES;
        t->added[n++] = (AddedToken){.content = fits ? vocab->texts[i] : (Str){"", 0},
                                     .id = i,
                                     .control = control,
                                     .special = control};
    }
    assert(n == t->n_added);
}

static Choice read_choice(const Gguf *gguf, const char *key)
{
    if (gguf_find(gguf, key) == NULL)
        return CHOICE_NOT_SAID;
    return gguf_bool(gguf, key, false) ? CHOICE_YES : CHOICE_NO;
}

static bool read_roles(Tokenizer *t, const Gguf *gguf, Arena *out, Err *err)
{
    for (int role = 0; role < ROLE_COUNT; role++) {
        const char *key = arena_printf(out, "tokenizer.ggml.%s_token_id", role_infos[role].gguf);
        int64_t id = gguf_int(gguf, key, TOKEN_NONE);
        bool absent = id == TOKEN_NONE || id == UINT32_MAX;
        if (!absent && (id < 0 || id >= t->vocab.size))
            return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "'%s' of the file is no token", key);
        t->special[role] = absent ? TOKEN_NONE : (int32_t)id;
    }
    t->adds_bos = read_choice(gguf, "tokenizer.ggml.add_bos_token");
    t->adds_eos = read_choice(gguf, "tokenizer.ggml.add_eos_token");
    t->adds_sep = read_choice(gguf, "tokenizer.ggml.add_sep_token");
    if (t->adds_bos == CHOICE_NOT_SAID && t->row->adds_bos)
        t->adds_bos = CHOICE_YES;
    t->chat_template = gguf_str(gguf, "tokenizer.chat_template");
    return true;
}

static bool read_gguf(Tokenizer *t, const Gguf *gguf, Arena *out, Err *err)
{
    Str model = gguf_str(gguf, "tokenizer.ggml.model");
    if (model.len == 0)
        return bad(err, "is missing (no 'tokenizer.ggml.model')");
    if (!str_eq_text(model, "gpt2"))
        return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                       "tokenizer model '%.*s' is not supported, only 'gpt2' (byte-level BPE)",
                       (int)min_i64((int64_t)model.len, 100), model.data);
    Str pre = gguf_str(gguf, "tokenizer.ggml.pre");
    t->row = pre_row_find(pre.len == 0 ? STR("default") : pre);
    if (t->row == NULL)
        return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "pre-tokenizer '%.*s' is not supported",
                       (int)min_i64((int64_t)pre.len, 100), pre.data);
    if (!read_tokens(t, gguf, out, err) || !read_merges(t, gguf, out, err) ||
        !read_roles(t, gguf, out, err) || !pretokenizer_from_row(&t->pre, t->row, err))
        return false;
    t->bpe.ignore_merges = t->row->ignore_merges;
    if (t->row->nfc)
        t->norms[t->n_norms++] = NORMAL_NFC;
    read_added(t, out);
    tokenizer_finish(t, out);
    return true;
}

Tokenizer *tokenizer_from_gguf(const Gguf *gguf, Arena *out, Err *err)
{
    assert(gguf != NULL && out != NULL);
    Tokenizer *t = arena_new(out, Tokenizer);
    t->gguf = gguf;
    if (read_gguf(t, gguf, out, err))
        return t;
    tokenizer_close(t);
    return NULL;
}

/* ---- writing ---------------------------------------------------------------------------- */

static void write_tokens(const Tokenizer *t, GgufWriter *writer)
{
    const Vocab *vocab = &t->vocab;
    size_t n = (size_t)vocab->size;
    Str *texts = heap_resize(NULL, (n + 1) * sizeof(*texts));
    int32_t *kinds = heap_resize(NULL, (n + 1) * sizeof(*kinds));
    for (size_t i = 0; i < n; i++) {
        texts[i] = vocab->texts[i];
        kinds[i] = vocab->kinds[i];
        assert(kinds[i] >= TOKEN_NORMAL && kinds[i] <= TOKEN_BYTE);
    }
    gguf_put_strs(writer, "tokenizer.ggml.tokens", texts, n);
    gguf_put_i32s(writer, "tokenizer.ggml.token_type", kinds, n);
    heap_free(texts);
    heap_free(kinds);
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

bool tokenizer_can_write_gguf(const Tokenizer *tokenizer, Err *err)
{
    if (tokenizer->gguf != NULL || tokenizer->row != NULL)
        return true;
    return err_set(err, ERR_RUNTIME_GGUF_EXPORT_FAILED,
                   "the tokenizer's pre-tokenizer has no name in GGUF files");
}

void tokenizer_write_gguf(const Tokenizer *t, GgufWriter *writer)
{
    assert(t != NULL && writer != NULL);
    if (t->gguf != NULL) {
        for (uint64_t i = 0; i < t->gguf->n_values; i++)
            if (str_starts(t->gguf->values[i].key, "tokenizer."))
                gguf_put_copy(writer, &t->gguf->values[i]);
        return;
    }
    must(t->row != NULL); /* tokenizer_can_write_gguf was asked */
    gguf_put_str(writer, "tokenizer.ggml.model", STR("gpt2"));
    gguf_put_str(writer, "tokenizer.ggml.pre", str_of(t->row->name));
    write_tokens(t, writer);
    write_merges(t, writer);
    for (int role = 0; role < ROLE_COUNT; role++) {
        Buf key = {0};
        buf_printf(&key, "tokenizer.ggml.%s_token_id", role_infos[role].gguf);
        if (t->special[role] != TOKEN_NONE)
            gguf_put_u32(writer, key.data, (uint32_t)t->special[role]);
        buf_free(&key);
    }
    write_choice(writer, "tokenizer.ggml.add_bos_token", t->adds_bos);
    write_choice(writer, "tokenizer.ggml.add_eos_token", t->adds_eos);
    write_choice(writer, "tokenizer.ggml.add_sep_token", t->adds_sep);
    if (t->chat_template.len > 0)
        gguf_put_str(writer, "tokenizer.chat_template", t->chat_template);
}
