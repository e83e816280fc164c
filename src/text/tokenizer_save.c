/* tokenizer_save.c — writes a folder that transformers loads as PreTrainedTokenizerFast.
 *
 * A tokenizer that came from a folder: its files are copied byte for byte. One that came from a
 * GGUF file: tokenizer.json and tokenizer_config.json are made from what the file says. Tokens that
 * are cut out of the text also stand in the model's vocabulary, because readers give an added token
 * the id of that text there and number the others consecutively. Unused rows are left out.
 */
#include "text/tokenizer_internal.h"

#include <string.h>

#include "core/file.h"
#include "core/json.h"

static const char *const copied_files[] = {
    "tokenizer.json",      "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja", "vocab.json",            "merges.txt",
};

static bool copy_file(const char *from, const char *to, Err *err)
{
    FileMap map = {0};
    if (!file_map(&map, from, ERR_RUNTIME_EXPORT_FAILED, err))
        return false;
    bool ok = file_write_atomic(to, (Str){(const char *)map.data, map.size},
                                ERR_RUNTIME_EXPORT_FAILED, err);
    file_unmap(&map);
    return ok;
}

static bool copy_folder(const Tokenizer *t, const char *folder, Arena *scratch, Err *err)
{
    assert(t->folder != NULL && t->gguf == NULL);
    for (size_t i = 0; i < COUNT_OF(copied_files); i++) {
        const char *from = path_join(scratch, t->folder, copied_files[i]);
        if (i > 0 && !path_exists(from)) /* the first is what the tokenizer was read from */
            continue;
        if (!copy_file(from, path_join(scratch, folder, copied_files[i]), err))
            return false;
    }
    return true;
}

static Json *added_json(const Tokenizer *t)
{
    Json *list = json_new_array();
    for (int32_t i = 0; i < t->n_added; i++) {
        const AddedToken *token = &t->added[i];
        if (token->content.len == 0)
            continue;
        Json *json = json_new_object();
        json_put(json, "id", json_new_int(token->id));
        json_put(json, "content", json_new_str(token->content));
        json_put(json, "single_word", json_new_bool(token->single_word));
        json_put(json, "lstrip", json_new_bool(token->lstrip));
        json_put(json, "rstrip", json_new_bool(token->rstrip));
        json_put(json, "normalized", json_new_bool(token->normalized));
        json_put(json, "special", json_new_bool(token->special));
        json_add(list, json);
    }
    return list;
}

static Json *byte_level_json(void)
{
    Json *json = json_new_object();
    json_put(json, "type", json_new_text("ByteLevel"));
    json_put(json, "add_prefix_space", json_new_bool(false));
    json_put(json, "trim_offsets", json_new_bool(false));
    json_put(json, "use_regex", json_new_bool(false));
    return json;
}

/* One item of a template: {kind: {"id": id, "type_id": type}}. */
static void add_item(Json *list, const char *kind, Str id, int type)
{
    Json *inner = json_new_object(), *item = json_new_object();
    json_put(inner, "id", json_new_str(id));
    json_put(inner, "type_id", json_new_int(type));
    json_put(item, kind, inner);
    json_add(list, item);
}

static Json *post_processor_json(const Tokenizer *t)
{
    if (!tokenizer_adds_bos(t))
        return byte_level_json();
    int32_t bos = t->special[ROLE_BOS];
    assert(bos >= 0 && bos < t->vocab.size);
    Str text = t->vocab.texts[bos];
    Json *single = json_new_array(), *pair = json_new_array();
    add_item(single, "SpecialToken", text, 0);
    add_item(single, "Sequence", STR("A"), 0);
    add_item(pair, "SpecialToken", text, 0);
    add_item(pair, "Sequence", STR("A"), 0);
    add_item(pair, "SpecialToken", text, 1);
    add_item(pair, "Sequence", STR("B"), 1);
    Json *ids = json_new_array(), *texts = json_new_array(), *token = json_new_object();
    json_add(ids, json_new_int(bos));
    json_add(texts, json_new_str(text));
    json_put(token, "id", json_new_str(text));
    json_put(token, "ids", ids);
    json_put(token, "tokens", texts);
    Json *tokens = json_new_object(), *json = json_new_object();
    const char *key = json_text(json_get(token, "id"));
    json_put(tokens, key, token);
    json_put(json, "type", json_new_text("TemplateProcessing"));
    json_put(json, "single", single);
    json_put(json, "pair", pair);
    json_put(json, "special_tokens", tokens);
    return json;
}

static Json *vocab_json(const Vocab *vocab)
{
    assert(vocab->by_text.slots != NULL);
    Json *json = json_new_object();
    Buf key = {0};
    for (int32_t i = 0; i < vocab->size; i++) {
        Str text = vocab->texts[i];
        if (vocab->kinds[i] == TOKEN_UNUSED || str_map_find(&vocab->by_text, text) != i)
            continue;
        buf_clear(&key);
        buf_str(&key, text);
        buf_text(&key, "");
        json_put(json, key.data, json_new_int(i));
    }
    buf_free(&key);
    return json;
}

static Json *model_json(const Tokenizer *t)
{
    assert(t->bpe.merges != NULL);
    Json *merges = json_new_array(), *json = json_new_object();
    for (int32_t i = 0; i < t->bpe.n_merges; i++) {
        Json *merge = json_new_array();
        json_add(merge, json_new_str(t->vocab.texts[t->bpe.merges[i].left]));
        json_add(merge, json_new_str(t->vocab.texts[t->bpe.merges[i].right]));
        json_add(merges, merge);
    }
    json_put(json, "type", json_new_text("BPE"));
    json_put(json, "dropout", json_new_null());
    Json *unknown = t->bpe.unknown == TOKEN_NONE
                        ? json_new_null()
                        : json_new_str(t->vocab.texts[t->bpe.unknown]);
    json_put(json, "unk_token", unknown);
    json_put(json, "continuing_subword_prefix", json_new_null());
    json_put(json, "end_of_word_suffix", json_new_null());
    json_put(json, "fuse_unk", json_new_bool(t->bpe.fuse_unknown));
    json_put(json, "byte_fallback", json_new_bool(t->bpe.byte_fallback));
    json_put(json, "ignore_merges", json_new_bool(t->bpe.ignore_merges));
    json_put(json, "vocab", vocab_json(&t->vocab));
    json_put(json, "merges", merges);
    return json;
}

static Json *tokenizer_json(const Tokenizer *t)
{
    Json *json = json_new_object();
    json_put(json, "version", json_new_text("1.0"));
    json_put(json, "truncation", json_new_null());
    json_put(json, "padding", json_new_null());
    json_put(json, "added_tokens", added_json(t));
    json_put(json, "normalizer", normalizer_to_json(&t->norm));
    json_put(json, "pre_tokenizer", pretokenizer_to_json(&t->pre, t->vocab.scheme == VOCAB_BYTES));
    json_put(json, "post_processor", post_processor_json(t));
    json_put(json, "decoder", decoder_to_json(&t->decoder));
    json_put(json, "model", model_json(t));
    return json;
}

static Json *config_json(const Tokenizer *t)
{
    Json *json = json_new_object();
    json_put(json, "tokenizer_class", json_new_text("PreTrainedTokenizerFast"));
    json_put(json, "clean_up_tokenization_spaces", json_new_bool(false));
    for (int role = 0; role < ROLE_COUNT; role++) {
        if (t->special[role] == TOKEN_NONE)
            continue;
        Buf key = {0};
        buf_printf(&key, "%s_token", role_infos[role].json);
        json_put(json, key.data, json_new_str(t->vocab.texts[t->special[role]]));
        buf_free(&key);
    }
    if (t->chat_template.len > 0)
        json_put(json, "chat_template", json_new_str(t->chat_template));
    return json;
}

/* Takes json over. */
static bool write_json(Json *json, const char *path, Err *err)
{
    Buf text = {0};
    json_write(json, (JsonStyle){.indent = 2}, &text);
    buf_char(&text, '\n');
    json_free(json);
    ErrCode code = ERR_RUNTIME_EXPORT_FAILED;
    bool ok = text.failed ? err_set(err, code, "'%s' would be too long", path)
                          : file_write_atomic(path, buf_view(&text), code, err);
    buf_free(&text);
    return ok;
}

/* Texts that JSON cannot hold: NUL bytes and malformed UTF-8. */
static bool check_texts(const Tokenizer *t, Err *err)
{
    for (int32_t i = 0; i < t->vocab.size; i++) {
        Str text = t->vocab.texts[i];
        bool nul = text.len > 0 && memchr(text.data, 0, text.len) != NULL;
        if (nul || unicode_valid_prefix(text) != text.len)
            return err_set(err, ERR_RUNTIME_EXPORT_FAILED,
                           "token %d of the tokenizer has a text that JSON cannot hold", (int)i);
    }
    return true;
}

bool tokenizer_write_folder(const Tokenizer *tokenizer, const char *folder, Err *err)
{
    assert(tokenizer != NULL && folder != NULL);
    Arena scratch;
    if (!arena_open(&scratch, 1 << 20, err))
        return false;
    bool ok = folder_make(folder, ERR_RUNTIME_EXPORT_FAILED, err);
    if (ok && tokenizer->folder != NULL) {
        ok = copy_folder(tokenizer, folder, &scratch, err);
    } else if (ok) {
        ok = check_texts(tokenizer, err) &&
             write_json(tokenizer_json(tokenizer), path_join(&scratch, folder, "tokenizer.json"),
                        err) &&
             write_json(config_json(tokenizer),
                        path_join(&scratch, folder, "tokenizer_config.json"), err);
    }
    arena_close(&scratch);
    return ok;
}
