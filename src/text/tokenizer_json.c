/* tokenizer_json.c — reads Hugging Face's tokenizer.json and the files beside it.
 *
 * tokenizer.json (huggingface/tokenizers, `Tokenizer::to_string`):
 *   {version, truncation, padding, added_tokens: [{id, content, special, normalized, lstrip,
 *    rstrip, single_word}], normalizer, pre_tokenizer, post_processor, decoder, model: {type:
 *    "BPE", vocab: {text: id}, merges: ["a b"] or [["a", "b"]], unk_token, fuse_unk,
 *    byte_fallback, dropout, ignore_merges, continuing_subword_prefix, end_of_word_suffix}}
 * Whatever changes ids and is not handled here is an error that names it. truncation and padding
 * are the caller's business and not read. The post-processor only tells whether BOS and EOS are
 * added.
 *
 * Beside it: tokenizer_config.json (roles by text, chat_template), config.json (vocab_size, role
 * ids as a last resort), chat_template.jinja. Rows that no token has are "[PAD<id>]", unused, up to
 * config.json's vocab_size, as llama.cpp's converter fills them.
 */
#include "text/tokenizer_json.h"

#include <string.h>

#include "core/file.h"
#include "text/token_table.h"
#include "text/tokenizer_internal.h"

enum {
    TEMPLATE_MAX_BYTES = 1 << 20,
    HOLES_MAX = 1 << 16, /* rows that no token has, beyond the number of tokens */
    AROUND_MAX = 16,     /* tokens before and behind a text */
};

typedef struct Source {
    const Json *tokenizer; /* tokenizer.json, perhaps without what is in the table */
    const TokenTable *table;
    const Json *config;    /* tokenizer_config.json, NULL = absent */
    const Json *model;     /* config.json, NULL = absent */
} Source;

static bool unsupported(Err *err, const char *what, Str name)
{
    return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "%s '%.*s' of the tokenizer is not supported",
                   what, (int)min_i64((int64_t)name.len, 100), name.data);
}

static bool malformed(Err *err, const char *what)
{
    return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "tokenizer.json has no usable '%s'", what);
}

static Str copy_str(Arena *out, Str text)
{
    return (Str){arena_strndup(out, text.data, text.len), text.len};
}

/* ---- vocabulary ------------------------------------------------------------------------- */

/* Largest id + 1 of model and added tokens, and the bytes of their texts. False: an id is bad. */
static bool measure(const TokenTable *table, const Json *added, int64_t *size, size_t *bytes,
                    Err *err)
{
    int64_t rows = (int64_t)table->n_tokens + (int64_t)json_len(added);
    int64_t limit = min_i64(VOCAB_MAX_SIZE, 2 * rows + HOLES_MAX);
    for (size_t i = 0; i < table->n_tokens; i++) {
        Str text = table->tokens[i].text;
        int64_t id = table->tokens[i].id;
        if (id < 0 || id >= limit)
            return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                           "token '%.*s' has an id that is not usable",
                           (int)min_i64((int64_t)text.len, 100), text.data);
        *size = max_i64(*size, id + 1);
        *bytes += text.len;
    }
    for (size_t i = 0; i < json_len(added); i++) {
        const Json *token = json_at(added, i);
        int64_t id = json_int(json_get(token, "id"), -1);
        Str content = json_str(json_get(token, "content"));
        if (id < 0 || id >= limit || content.len == 0 || content.len > ADDED_MAX_BYTES)
            return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "added token %zu '%.*s' is not usable",
                           i, (int)min_i64((int64_t)content.len, 100), content.data);
        *size = max_i64(*size, id + 1);
        *bytes += content.len;
    }
    return true;
}

static Str append_text(char *blob, size_t *used, Str text)
{
    assert(blob != NULL && used != NULL);
    Str copy = {blob + *used, text.len};
    memcpy(blob + *used, text.data, text.len);
    *used += text.len;
    return copy;
}

static void read_added(Tokenizer *t, const Json *added, char *blob, size_t *used, Arena *out)
{
    assert(t->added == NULL && json_len(added) <= VOCAB_MAX_SIZE);
    t->n_added = (int32_t)json_len(added);
    t->added = arena_array(out, AddedToken, t->n_added + 1);
    for (int32_t i = 0; i < t->n_added; i++) {
        const Json *json = json_at(added, (size_t)i);
        AddedToken *token = &t->added[i];
        token->content = append_text(blob, used, json_str(json_get(json, "content")));
        token->id = (int32_t)json_int(json_get(json, "id"), 0);
        token->special = json_bool(json_get(json, "special"), false);
        token->normalized = json_bool(json_get(json, "normalized"), !token->special);
        token->lstrip = json_bool(json_get(json, "lstrip"), false);
        token->rstrip = json_bool(json_get(json, "rstrip"), false);
        token->single_word = json_bool(json_get(json, "single_word"), false);
        token->control = token->special || token_looks_special(token->content);
        assert(token->id >= 0 && token->id < t->vocab.size);
        t->vocab.texts[token->id] = token->content;
        t->vocab.kinds[token->id] = token->control ? TOKEN_CONTROL : TOKEN_USER_DEFINED;
    }
}

static void fill_holes(Vocab *vocab, Arena *out)
{
    int32_t holes = 0;
    for (int32_t i = 0; i < vocab->size; i++)
        holes += vocab->kinds[i] == TOKEN_UNUSED;
    if (holes == 0)
        return;
    Buf names = {0};
    size_t *starts = heap_resize(NULL, ((size_t)holes + 1) * sizeof(*starts));
    int32_t n = 0;
    for (int32_t i = 0; i < vocab->size; i++) {
        if (vocab->kinds[i] != TOKEN_UNUSED)
            continue;
        starts[n++] = names.len;
        buf_printf(&names, "[PAD%d]", (int)i);
    }
    starts[n] = names.len;
    assert(n == holes);
    const char *blob = arena_strndup(out, names.data, names.len);
    n = 0;
    for (int32_t i = 0; i < vocab->size; i++) {
        if (vocab->kinds[i] != TOKEN_UNUSED)
            continue;
        vocab->texts[i] = (Str){blob + starts[n], starts[n + 1] - starts[n]};
        n++;
    }
    heap_free(starts);
    buf_free(&names);
}

static int64_t model_vocab_size(const Json *model)
{
    int64_t size = json_int(json_get(model, "vocab_size"), 0);
    return size > 0 ? size : json_int(json_get(json_get(model, "text_config"), "vocab_size"), 0);
}

static bool place_tokens(Vocab *vocab, const TokenTable *table, char *blob, size_t *used, Err *err)
{
    const bool pieces = vocab->scheme == VOCAB_PIECES;
    for (size_t i = 0; i < table->n_tokens; i++) {
        const int64_t id = table->tokens[i].id;
        assert(id >= 0 && id < vocab->size);
        Str text = append_text(blob, used, table->tokens[i].text);
        if (vocab->in_model[id] && !str_eq(vocab->texts[id], text))
            return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                           "tokenizer.json has two tokens of the id %d", (int)id);
        vocab->texts[id] = text;
        vocab->kinds[id] = pieces && byte_piece(text) >= 0 ? TOKEN_BYTE : TOKEN_NORMAL;
        vocab->in_model[id] = true;
    }
    return true;
}

/* A text that the vocabulary gives two ids, one of which an added token has taken. */
static bool has_hidden_repeats(const Vocab *vocab, const TokenTable *table)
{
    for (size_t i = 0; i < table->n_tokens; i++) {
        Str text = table->tokens[i].text;
        if (str_eq(vocab->texts[table->tokens[i].id], text))
            continue;
        const int32_t found = str_map_find(&vocab->by_text, text);
        if (found != TOKEN_NONE && vocab->in_model[found])
            return true;
    }
    return false;
}

static bool read_vocab(Tokenizer *t, const Source *source, VocabScheme scheme, Arena *out,
                       Err *err)
{
    const TokenTable *table = source->table;
    const Json *added = json_get(source->tokenizer, "added_tokens");
    int64_t size = 0;
    size_t bytes = 0, used = 0;
    if (!table->has_vocab)
        return malformed(err, "model.vocab");
    if (!json_is_array(added) && !json_is_null(added))
        return malformed(err, "added_tokens");
    if (!measure(table, added, &size, &bytes, err))
        return false;
    if (size == 0)
        return malformed(err, "model.vocab");
    int64_t padded = model_vocab_size(source->model);
    if (padded > VOCAB_MAX_SIZE)
        return err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "'vocab_size' of config.json is too large");
    vocab_init(&t->vocab, (int32_t)max_i64(size, padded), out);
    t->vocab.scheme = scheme;
    char *blob = arena_push(out, bytes + 1);
    if (!place_tokens(&t->vocab, table, blob, &used, err))
        return false;
    read_added(t, added, blob, &used, out);
    assert(used <= bytes);
    fill_holes(&t->vocab, out);
    vocab_finish(&t->vocab, out);
    return (t->vocab.n_repeated == 0 && !has_hidden_repeats(&t->vocab, table)) ||
           err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "tokenizer.json has two tokens of one text");
}

/* ---- model ------------------------------------------------------------------------------ */

static bool read_merges(Tokenizer *t, const TokenTable *table, Err *err)
{
    Str texts[2 * BPE_BLOCK] = {0};
    const int32_t n = (int32_t)table->n_merges;
    for (int32_t rank = 0, count = 0; rank < n; rank += count) {
        count = n - rank < BPE_BLOCK ? n - rank : BPE_BLOCK;
        for (int32_t i = 0; i < count; i++) {
            texts[2 * i] = table->merges[rank + i].left;
            texts[2 * i + 1] = table->merges[rank + i].right;
        }
        const int32_t added = bpe_add_merges(&t->bpe, rank, texts, count);
        if (added == count)
            continue;
        Str left = texts[2 * added], right = texts[2 * added + 1];
        return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                       "merge %d ('%.*s' and '%.*s') of tokenizer.json joins texts that are no "
                       "tokens",
                       (int)(rank + added), (int)min_i64((int64_t)left.len, 60), left.data,
                       (int)min_i64((int64_t)right.len, 60), right.data);
    }
    return true;
}

static bool read_model(Tokenizer *t, const Source *source, Arena *out, Err *err)
{
    const TokenTable *table = source->table;
    const Json *model = json_get(source->tokenizer, "model");
    static const char *const must_be_empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    if (!table->has_merges || table->n_merges > BPE_MAX_MERGES)
        return malformed(err, "model.merges");
    for (size_t i = 0; i < COUNT_OF(must_be_empty); i++)
        if (json_str(json_get(model, must_be_empty[i])).len > 0)
            return unsupported(err, "model setting", str_of(must_be_empty[i]));
    bool byte_fallback = json_bool(json_get(model, "byte_fallback"), false);
    if (byte_fallback && t->vocab.scheme == VOCAB_BYTES)
        return unsupported(err, "model setting", STR("byte_fallback"));
    double dropout = json_double(json_get(model, "dropout"), 0);
    if (dropout < 0 || dropout > 0)
        return unsupported(err, "model setting", STR("dropout"));
    bpe_init(&t->bpe, &t->vocab, (int32_t)table->n_merges, out);
    if (!read_merges(t, table, err))
        return false;
    t->bpe.byte_fallback = byte_fallback;
    t->bpe.ignore_merges = json_bool(json_get(model, "ignore_merges"), false);
    t->bpe.fuse_unknown = json_bool(json_get(model, "fuse_unk"), false);
    Str unknown = json_str(json_get(model, "unk_token"));
    if (unknown.len > 0)
        t->bpe.unknown = str_map_find(&t->vocab.by_text, unknown);
    bpe_finish(&t->bpe, out);
    return true;
}

/* ---- roles ------------------------------------------------------------------------------ */

static Str role_text(const Json *config, SpecialRole role)
{
    Buf key = {0};
    buf_printf(&key, "%s_token", role_infos[role].json);
    const Json *value = json_get(config, key.data);
    buf_free(&key);
    return json_is_string(value) ? json_str(value) : json_str(json_get(value, "content"));
}

static Str template_token(const Json *item)
{
    return json_str(json_get(json_get(item, "SpecialToken"), "id"));
}

static int32_t find_text(const Tokenizer *t, Str text)
{
    return text.len > 0 ? str_map_find(&t->vocab.by_text, text) : TOKEN_NONE;
}

/* "A, [separator,] B" between the outer tokens of the pair template: what llama.cpp's converter
 * takes for add_sep_token. */
static void read_pair_template(Tokenizer *t, const Json *pair, Str first, Str last)
{
    size_t from = 0, to = json_len(pair);
    if (first.len > 0 && to > 0 && str_eq(template_token(json_at(pair, 0)), first))
        from++;
    if (last.len > 0 && to > from && str_eq(template_token(json_at(pair, to - 1)), last))
        to--;
    if (to < from + 3)
        return;
    Str a = json_str(json_get(json_get(json_at(pair, from), "Sequence"), "id"));
    Str b = json_str(json_get(json_get(json_at(pair, to - 1), "Sequence"), "id"));
    if (!str_eq_text(a, "A") || !str_eq_text(b, "B"))
        return;
    bool adds = false;
    for (size_t i = from + 1; i < to - 1 && i <= from + 2; i++) {
        int32_t id = find_text(t, template_token(json_at(pair, i)));
        bool ends = id != TOKEN_NONE && (id == t->special[ROLE_SEP] || id == t->special[ROLE_EOS]);
        adds = adds || (ends && (last.len == 0 || i > from + 1));
    }
    t->adds_sep = adds ? CHOICE_YES : CHOICE_NO;
}

/* TemplateProcessing: a special token before (after) the text is BOS (EOS). */
static void read_template(Tokenizer *t, const Json *json)
{
    const Json *single = json_get(json, "single");
    size_t n = json_len(single);
    if (n < 2)
        return;
    Str first = template_token(json_at(single, 0)), last = template_token(json_at(single, n - 1));
    int32_t first_id = find_text(t, first), last_id = find_text(t, last);
    if (first_id != TOKEN_NONE) {
        if (t->special[ROLE_BOS] == TOKEN_NONE)
            t->special[ROLE_BOS] = first_id;
        bool bos = first_id == t->special[ROLE_BOS] || first_id == t->special[ROLE_CLS];
        t->adds_bos = bos ? CHOICE_YES : CHOICE_NO;
    }
    if (last_id != TOKEN_NONE) {
        if (t->special[ROLE_EOS] == TOKEN_NONE)
            t->special[ROLE_EOS] = last_id;
        t->adds_eos = last_id == t->special[ROLE_EOS] ? CHOICE_YES : CHOICE_NO;
    }
    read_pair_template(t, json_get(json, "pair"), first, last);
}

/* The ids that one special item of a template stands for. */
static void add_special_item(const Json *json, Str name, int32_t size, int32_t *ids, int32_t *n)
{
    const Json *tokens = json_get(json, "special_tokens");
    Buf key = {0};
    buf_str(&key, name);
    buf_text(&key, "");
    const Json *list = json_get(json_get(tokens, key.data), "ids");
    buf_free(&key);
    for (size_t i = 0; i < json_len(list) && *n < AROUND_MAX; i++) {
        int64_t id = json_int(json_at(list, i), -1);
        if (id >= 0 && id < size)
            ids[(*n)++] = (int32_t)id;
    }
}

/* The tokens before and behind the text in the template of a single text. */
static void read_around(Tokenizer *t, const Json *json, Arena *out)
{
    const Json *single = json_get(json, "single");
    t->prefix = arena_array(out, int32_t, AROUND_MAX);
    t->suffix = arena_array(out, int32_t, AROUND_MAX);
    t->n_prefix = t->n_suffix = 0;
    bool behind = false;
    for (size_t i = 0; i < json_len(single); i++) {
        const Json *item = json_at(single, i);
        Str name = template_token(item);
        behind = behind || json_get(item, "Sequence") != NULL;
        if (name.len > 0)
            add_special_item(json, name, t->vocab.size, behind ? t->suffix : t->prefix,
                             behind ? &t->n_suffix : &t->n_prefix);
    }
}

/* {"cls": [text, id], "sep": [text, id]}: BERT's and RoBERTa's way to say it. */
static bool read_cls_sep(Tokenizer *t, const Json *json, Arena *out)
{
    int64_t cls = json_int(json_at(json_get(json, "cls"), 1), -1);
    int64_t sep = json_int(json_at(json_get(json, "sep"), 1), -1);
    if (cls < 0 || cls >= t->vocab.size || sep < 0 || sep >= t->vocab.size)
        return false;
    t->prefix = arena_array(out, int32_t, AROUND_MAX);
    t->suffix = arena_array(out, int32_t, AROUND_MAX);
    t->prefix[0] = (int32_t)cls;
    t->suffix[0] = (int32_t)sep;
    t->n_prefix = t->n_suffix = 1;
    t->adds_bos = t->adds_eos = CHOICE_YES;
    return true;
}

static bool read_post_processor(Tokenizer *t, const Json *json, int depth, Arena *out, Err *err)
{
    if (json_is_null(json))
        return true;
    Str type = json_str(json_get(json, "type"));
    if (str_eq_text(type, "Sequence") && depth < 4) {
        const Json *list = json_get(json, "processors");
        for (size_t i = 0; i < json_len(list); i++)
            if (!read_post_processor(t, json_at(list, i), depth + 1, out, err))
                return false;
        return true;
    }
    if (str_eq_text(type, "ByteLevel")) {
        t->adds_bos = t->adds_bos == CHOICE_NOT_SAID ? CHOICE_NO : t->adds_bos;
        t->adds_eos = t->adds_eos == CHOICE_NOT_SAID ? CHOICE_NO : t->adds_eos;
        return true;
    }
    if (str_eq_text(type, "BertProcessing") || str_eq_text(type, "RobertaProcessing"))
        return read_cls_sep(t, json, out) || malformed(err, "post_processor");
    if (!str_eq_text(type, "TemplateProcessing"))
        return unsupported(err, "post-processor", type);
    read_template(t, json);
    read_around(t, json, out);
    return true;
}

static void read_config_choice(Choice *choice, const Json *config, const char *key)
{
    const Json *value = json_get(config, key);
    if (*choice == CHOICE_NOT_SAID && json_is_bool(value))
        *choice = json_bool(value, false) ? CHOICE_YES : CHOICE_NO;
}

static bool read_roles(Tokenizer *t, const Source *source, Arena *out, Err *err)
{
    assert(t->vocab.by_text.slots != NULL);
    t->adds_bos = t->adds_eos = t->adds_sep = CHOICE_NOT_SAID;
    for (int role = 0; role < ROLE_COUNT; role++)
        t->special[role] = find_text(t, role_text(source->config, (SpecialRole)role));
    if (!read_post_processor(t, json_get(source->tokenizer, "post_processor"), 0, out, err))
        return false;
    for (int role = 0; role < ROLE_COUNT; role++) {
        Buf key = {0};
        buf_printf(&key, "%s_token_id", role_infos[role].json);
        int64_t id = json_int(json_get(source->model, key.data), TOKEN_NONE);
        buf_free(&key);
        if (t->special[role] == TOKEN_NONE && id >= 0 && id < t->vocab.size)
            t->special[role] = (int32_t)id;
    }
    read_config_choice(&t->adds_bos, source->config, "add_bos_token");
    read_config_choice(&t->adds_eos, source->config, "add_eos_token");
    read_config_choice(&t->adds_sep, source->config, "add_sep_token");
    return true;
}

/* The template of tokenizer_config.json: a text, or the one named "default" of a list. */
static Str config_template(const Json *config)
{
    const Json *value = json_get(config, "chat_template");
    for (size_t i = 0; json_is_array(value) && i < json_len(value); i++) {
        const Json *named = json_at(value, i);
        if (str_eq_text(json_str(json_get(named, "name")), "default"))
            return json_str(json_get(named, "template"));
    }
    return json_str(value);
}

/* ---- all together ----------------------------------------------------------------------- */

static bool read_source(Tokenizer *t, const Source *source, Arena *out, Err *err)
{
    const Json *root = source->tokenizer, *model = json_get(root, "model");
    if (!json_is_object(model))
        return malformed(err, "model");
    const Json *type = json_get(model, "type");
    if (!json_is_null(type) && !str_eq_text(json_str(type), "BPE"))
        return unsupported(err, "model", json_str(type));
    bool byte_level = false;
    if (!pretokenizer_from_json(&t->pre, json_get(root, "pre_tokenizer"), &byte_level, out, err) ||
        !decoder_from_json(&t->decoder, json_get(root, "decoder"), out, err) ||
        !normalizer_from_json(&t->norm, json_get(root, "normalizer"), out, err) ||
        !read_vocab(t, source, byte_level ? VOCAB_BYTES : VOCAB_PIECES, out, err) ||
        !read_model(t, source, out, err) || !read_roles(t, source, out, err))
        return false;
    if (byte_level)
        t->row = pre_row_recognise(&t->pre, t->bpe.ignore_merges);
    t->chat_template = copy_str(out, config_template(source->config));
    tokenizer_finish(t, out);
    return true;
}

static Tokenizer *make(const Source *source, Arena *out, Err *err)
{
    Tokenizer *t = arena_new(out, Tokenizer);
    if (read_source(t, source, out, err))
        return t;
    tokenizer_close(t);
    return NULL;
}

Tokenizer *tokenizer_from_json(const Json *tokenizer, const Json *config, const Json *model,
                               Arena *out, Err *err)
{
    assert(tokenizer != NULL && out != NULL);
    TokenTable table = {0};
    Tokenizer *t = NULL;
    if (token_table_from_json(&table, json_get(tokenizer, "model"), err)) {
        Source source = {tokenizer, &table, config, model};
        t = make(&source, out, err);
    }
    token_table_free(&table);
    return t;
}

Tokenizer *tokenizer_from_text(Str tokenizer, const char *subject, const Json *config,
                               const Json *model, Arena *out, Err *err)
{
    TokenTable table = {0};
    Buf rest = {0};
    Tokenizer *t = NULL;
    Json *json = NULL;
    if (token_table_scan(&table, tokenizer, out, &rest, err))
        json = json_parse((Str){rest.data == NULL ? "" : rest.data, rest.len}, subject,
                          ERR_DEP_MODEL_LOAD_FAILED, err);
    if (json != NULL) {
        Source source = {json, &table, config, model};
        t = make(&source, out, err);
    }
    json_free(json);
    buf_free(&rest);
    token_table_free(&table);
    return t;
}

/* *json stays NULL when there is no such file. */
static bool load_beside(const char *folder, const char *name, Json **json, Arena *out, Err *err)
{
    const char *path = path_join(out, folder, name);
    if (!path_exists(path))
        return true;
    *json = json_load(path, ERR_DEP_MODEL_LOAD_FAILED, err);
    return *json != NULL;
}

/* The template's own file wins over what tokenizer_config.json says, as in transformers. */
static bool read_template_file(Tokenizer *t, const char *folder, Arena *out, Err *err)
{
    const char *path = path_join(out, folder, "chat_template.jinja");
    if (!path_exists(path))
        return true;
    return file_read(path, TEMPLATE_MAX_BYTES, out, &t->chat_template, ERR_DEP_MODEL_LOAD_FAILED,
                     err);
}

/* `path` is the tokenizer.json, `folder` where the files beside it are. */
static Tokenizer *load(const char *path, const char *folder, Arena *out, Err *err)
{
    FileMap map = {0};
    Json *config = NULL, *model = NULL;
    Tokenizer *t = NULL;
    if (file_map(&map, path, ERR_DEP_MODEL_LOAD_FAILED, err) &&
        load_beside(folder, "tokenizer_config.json", &config, out, err) &&
        load_beside(folder, "config.json", &model, out, err))
        t = tokenizer_from_text((Str){(const char *)map.data, map.size}, path, config, model, out,
                                err);
    if (t != NULL && !read_template_file(t, folder, out, err)) {
        tokenizer_close(t);
        t = NULL;
    }
    json_free(model);
    json_free(config);
    file_unmap(&map);
    return t;
}

Tokenizer *tokenizer_from_folder(const char *folder, Arena *out, Err *err)
{
    assert(folder != NULL);
    Tokenizer *t = load(path_join(out, folder, "tokenizer.json"), folder, out, err);
    if (t != NULL)
        t->folder = arena_strdup(out, folder);
    return t;
}

Tokenizer *tokenizer_from_file(const char *path, Arena *out, Err *err)
{
    assert(path != NULL);
    const char *slash = strrchr(path, '/');
    const char *folder =
        slash == NULL ? "." : arena_strndup(out, path, (size_t)(slash - path) + (slash == path));
    return load(path, folder, out, err);
}
