/* tokenizer_gguf.c — the tokenizer.* keys of GGUF files, read and written.
 *
 * Keys (ggml docs/gguf.md and llama.cpp's converter):
 *   tokenizer.ggml.model       "gpt2" = byte-level BPE, "llama" = SentencePiece with scores,
 *                              "gemma4" = SentencePiece with merges
 *   tokenizer.ggml.pre         name of the pre-tokenizer (rows in pretokenize.c), absent: "default"
 *   tokenizer.ggml.tokens      one text a row, in the byte alphabet
 *   tokenizer.ggml.token_type  one TokenKind a row, absent: all normal
 *   tokenizer.ggml.merges      "left right" by rank
 *   tokenizer.ggml.scores      "llama": one a row, the highest merges first
 *   tokenizer.ggml.add_space_prefix  "llama": a space before each stretch of text, absent: yes
 *   tokenizer.ggml.{bos,eos,unknown,seperator,padding,cls,mask}_token_id  (spelled so)
 *   tokenizer.ggml.add_{bos,eos,sep}_token
 *   tokenizer.chat_template
 * Control, unknown and user-defined tokens are cut out of the text, and so is the end token,
 * whatever its type says. The file carries no flags for them: they are not normalised, and swallow
 * white space only where the model's name says so (pretokenize_names.c).
 */
#include "text/tokenizer_internal.h"

#include <math.h>
#include <string.h>

static bool bad(Err *err, const char *what)
{
    return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "the file's tokenizer %s", what);
}

typedef struct ModelRow {
    const char *name;
    VocabScheme scheme;
    bool scored; /* by scores, not by merges */
} ModelRow;

static const ModelRow model_rows[] = {
    {GGUF_MODEL_BYTES, VOCAB_BYTES, false},
    {GGUF_MODEL_SCORES, VOCAB_PIECES, true},
    {GGUF_MODEL_PIECES, VOCAB_PIECES, false},
};

static bool read_tokens(Tokenizer *t, const Gguf *gguf, const ModelRow *model, Arena *out, Err *err)
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
    t->vocab.scheme = model->scheme;
    bool pieces = model->scheme == VOCAB_PIECES;
    for (int32_t i = 0; i < t->vocab.size; i++) {
        double kind = typed ? gguf_array_number(types, (uint64_t)i) : TOKEN_NORMAL;
        if (!(kind >= TOKEN_NORMAL && kind <= TOKEN_BYTE))
            return bad(err, "has a token type that is not known");
        t->vocab.texts[i] = tokens->as.strs[i];
        t->vocab.kinds[i] = (uint8_t)kind;
        t->vocab.in_model[i] = kind <= TOKEN_NORMAL || (pieces && kind >= TOKEN_BYTE) ||
                               (pieces && !model->scored && kind >= TOKEN_USER_DEFINED);
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
    Str pair[2];
    for (int32_t rank = 0; rank < t->bpe.n_merges; rank++) {
        Str line = merges->as.strs[rank];
        const char *space = line.len > 1 ? memchr(line.data + 1, ' ', line.len - 1) : NULL;
        size_t at = space == NULL ? line.len : (size_t)(space - line.data);
        pair[0] = str_sub(line, 0, at);
        pair[1] = space == NULL ? line : str_sub(line, at + 1, line.len);
        if (space == NULL || bpe_add_merges(&t->bpe, rank, pair, 1) != 1)
            return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                           "merge %d '%.*s' of the file's tokenizer joins texts that are no tokens",
                           (int)rank, (int)min_i64((int64_t)line.len, 100), line.data);
    }
    return true;
}

static bool read_scores(Tokenizer *t, const Gguf *gguf, Arena *out, Err *err)
{
    const GgufValue *scores = gguf_find(gguf, "tokenizer.ggml.scores");
    if (scores == NULL || scores->type != GGUF_ARRAY || scores->element == GGUF_STRING ||
        scores->element == GGUF_ARRAY || scores->count != (uint64_t)t->vocab.size)
        return bad(err, "has no usable list 'tokenizer.ggml.scores'");
    t->scores = arena_array(out, float, t->vocab.size);
    for (int32_t i = 0; i < t->vocab.size; i++) {
        t->scores[i] = (float)gguf_array_number(scores, (uint64_t)i);
        if (!isfinite(t->scores[i]))
            return bad(err, "has a score that is no number");
    }
    bpe_from_scores(&t->bpe, &t->vocab, t->scores, out);
    return true;
}

/* Spaces become U+2581 before the merges and come back in the text. */
static bool set_pieces(Tokenizer *t, bool space_prefix, Err *err)
{
    Str mark = STR(PRETOKENIZE_MARK);
    NormStep prepend = {.kind = NORM_PREPEND, .content = mark};
    NormStep replace = {.kind = NORM_REPLACE, .pattern = STR(" "), .content = mark};
    t->bpe.byte_fallback = true;
    t->bpe.fuse_unknown = true;
    t->bpe.unknown = t->special[ROLE_UNKNOWN];
    t->decoder = (Decoder){.mark = mark, .mark_content = STR(" "), .byte_pieces = true};
    if (space_prefix) {
        t->decoder.strip = STR(" ");
        t->decoder.strip_left = 1;
        if (!normalizer_add(&t->norm, prepend, err))
            return false;
    }
    return normalizer_add(&t->norm, replace, err);
}

static void read_added(Tokenizer *t, Str model_name, Arena *out)
{
    const Vocab *vocab = &t->vocab;
    int32_t eos = t->special[ROLE_EOS];
    if (eos != TOKEN_NONE && vocab->kinds[eos] == TOKEN_NORMAL)
        vocab->kinds[eos] = TOKEN_CONTROL;
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
                                     .rstrip = pre_strips_right(model_name, vocab->texts[i], kind),
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
    if (t->adds_bos == CHOICE_NOT_SAID && (t->row == NULL ? t->scores != NULL : t->row->adds_bos))
        t->adds_bos = CHOICE_YES;
    t->prefix = &t->special[ROLE_BOS];
    t->suffix = &t->special[ROLE_EOS];
    t->n_prefix = tokenizer_adds_bos(t);
    t->n_suffix = t->adds_eos == CHOICE_YES && t->special[ROLE_EOS] != TOKEN_NONE;
    t->chat_template = gguf_str(gguf, "tokenizer.chat_template");
    return true;
}

/* Byte-level BPE: the words come from the name of its pre-tokenizer. */
static bool read_byte_level(Tokenizer *t, const Gguf *gguf, Arena *out, Err *err)
{
    Str pre = gguf_str(gguf, "tokenizer.ggml.pre");
    t->row = pre_row_find(pre.len == 0 ? STR("default") : pre, out);
    if (t->row == NULL)
        return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "pre-tokenizer '%.*s' is not supported",
                       (int)min_i64((int64_t)pre.len, 100), pre.data);
    t->bpe.ignore_merges = t->row->ignore_merges;
    t->decoder.bytes = true;
    if (!pretokenizer_from_row(&t->pre, t->row, err))
        return false;
    return !t->row->nfc || normalizer_add(&t->norm, (NormStep){.form = NORMAL_NFC}, err);
}

static bool read_gguf(Tokenizer *t, const Gguf *gguf, Arena *out, Err *err)
{
    Str name = gguf_str(gguf, "tokenizer.ggml.model");
    if (name.len == 0)
        return bad(err, "is missing (no 'tokenizer.ggml.model')");
    const ModelRow *model = NULL;
    for (size_t i = 0; i < COUNT_OF(model_rows); i++)
        if (str_eq_text(name, model_rows[i].name))
            model = &model_rows[i];
    if (model == NULL)
        return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                       "tokenizer model '%.*s' is not supported, only '" GGUF_MODEL_BYTES
                       "' (byte-level BPE) and '" GGUF_MODEL_SCORES "' (SentencePiece)",
                       (int)min_i64((int64_t)name.len, 100), name.data);
    bool pieces = model->scheme == VOCAB_PIECES;
    if (!read_tokens(t, gguf, model, out, err) ||
        !(model->scored ? read_scores(t, gguf, out, err) : read_merges(t, gguf, out, err)) ||
        !(pieces || read_byte_level(t, gguf, out, err)) || !read_roles(t, gguf, out, err))
        return false;
    bool space_prefix = gguf_bool(gguf, "tokenizer.ggml.add_space_prefix", model->scored);
    if (pieces && !set_pieces(t, space_prefix, err))
        return false;
    bpe_finish(&t->bpe, out);
    read_added(t, gguf_str(gguf, "general.name"), out);
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
