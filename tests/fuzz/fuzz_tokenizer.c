// layer: text
/* fuzz_tokenizer.c — any bytes as a tokenizer and a text: refused or used, never a crash.
 *
 * The input is a tokenizer.json (or a GGUF file, by its magic), the bytes 00 FF, and the text. An
 * accepted tokenizer encodes the text both ways, twice: same ids again (the memo of whole words
 * must not show), ids in range, ends ascending within the text. A tokenizer.json is read by the
 * scanner of its long lists and as a tree: who takes both gives the same ids.
 */
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json.h"

enum { TEXT_MAX = 512 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void use(const Tokenizer *t, Str text, SpecialParsing special)
{
    TokenList ids = {0}, ends = {0}, again = {0};
    Buf decoded = {0};
    tokenizer_encode(t, text, special, &ids, &ends);
    tokenizer_encode(t, text, special, &again, NULL);
    require(ids.len == ends.len && ids.len == again.len);
    for (size_t i = 0; i < ids.len; i++) {
        require(ids.ids[i] == again.ids[i]);
        require(ids.ids[i] >= 0 && ids.ids[i] < tokenizer_size(t));
        require((size_t)ends.ids[i] <= text.len && (i == 0 || ends.ids[i] >= ends.ids[i - 1]));
        tokenizer_decode(t, ids.ids[i], SPECIAL_SHOWN, &decoded);
    }
    buf_free(&decoded);
    token_list_free(&ids);
    token_list_free(&ends);
    token_list_free(&again);
}

static Tokenizer *read_tree(Str source, Arena *arena, Err *err)
{
    Json *json = json_parse(source, "input", ERR_DEP_MODEL_LOAD_FAILED, err);
    Tokenizer *t = json == NULL ? NULL : tokenizer_from_json(json, json, json, arena, err);
    json_free(json);
    return t;
}

static void compare(const Tokenizer *a, const Tokenizer *b, Str text)
{
    TokenList left = {0}, right = {0};
    tokenizer_encode(a, text, SPECIAL_PARSED, &left, NULL);
    tokenizer_encode(b, text, SPECIAL_PARSED, &right, NULL);
    require(left.len == right.len);
    for (size_t i = 0; i < left.len; i++)
        require(left.ids[i] == right.ids[i]);
    token_list_free(&left);
    token_list_free(&right);
}

static Tokenizer *read_text(Str source, Str text, Arena *arena, Err *err)
{
    Err other = {0};
    Json *beside = json_parse(source, "input", ERR_DEP_MODEL_LOAD_FAILED, &other);
    Tokenizer *t = tokenizer_from_text(source, "input", beside, beside, arena, err);
    Tokenizer *tree = t == NULL ? NULL : read_tree(source, arena, &other);
    require(t == NULL || tree != NULL);
    if (t != NULL)
        compare(t, tree, text);
    tokenizer_close(tree);
    json_free(beside);
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t mark[] = {0x00, 0xFF};
    const uint8_t *cut = size > 0 ? memmem(data, size, mark, sizeof(mark)) : NULL;
    size_t source = cut == NULL ? size : (size_t)(cut - data);
    size_t from = cut == NULL ? size : source + sizeof(mark);
    Str text = {(const char *)data + from, size - from > TEXT_MAX ? TEXT_MAX : size - from};
    Arena arena;
    Err err = {0};
    Gguf gguf = {0};
    Tokenizer *t = NULL;
    require(arena_open(&arena, (size_t)1 << 32, &err));
    if (source >= 4 && memcmp(data, "GGUF", 4) == 0) {
        if (gguf_parse(&gguf, data, source, "input", &arena, &err))
            t = tokenizer_from_gguf(&gguf, &arena, &err);
    } else if (source > 0) {
        t = read_text((Str){(const char *)data, source}, text, &arena, &err);
    }
    require(t != NULL || err_is_set(&err) || source == 0);
    if (t != NULL && text.len > 0) {
        use(t, text, SPECIAL_PARSED);
        use(t, text, SPECIAL_AS_TEXT);
    }
    tokenizer_close(t);
    arena_close(&arena);
    return 0;
}
