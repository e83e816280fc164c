/* test_text_tokenizer.c — tokenizers without a model file: variants of a tiny tokenizer.json
 * against
 * Hugging Face's ids, offsets, errors by name, writing and reading back, words without end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/file.h"
#include "core/json.h"
#include "core/os.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json.h"
#include "text/unicode.h"

#define FOLDER TEST_DATA "/golden/tokenizer/tiny"

static Arena arena;

static int open_arena(void **state)
{
    Err err = {0};
    return arena_open(&arena, 0, &err) ? 0 : -1;
}

static int close_arena(void **state)
{
    arena_close(&arena);
    return 0;
}

static Json *load(const char *path)
{
    Err err = {0};
    Json *json = json_load(path, ERR_INTERNAL_ERROR, &err);
    if (json == NULL)
        fail_msg("%s", err.message);
    return json;
}

/* Replaces members; those of "model" one by one. */
static void apply_patch(Json *tokenizer, const Json *patch)
{
    const char *key = NULL;
    Json *value = NULL;
    for (void *it = NULL; (it = json_next(patch, it, &key, &value)) != NULL;) {
        if (strcmp(key, "model") == 0)
            apply_patch(json_get(tokenizer, key), value);
        else
            json_put(tokenizer, key, json_clone(value));
    }
}

static void expect_ids(const Tokenizer *t, Str text, const Json *want, const char *what)
{
    TokenList ids = {0}, ends = {0};
    tokenizer_encode(t, text, SPECIAL_PARSED, &ids, &ends);
    Buf got = {0}, wanted = {0};
    buf_char(&got, '[');
    for (size_t i = 0; i < ids.len; i++)
        buf_printf(&got, i == 0 ? "%d" : ", %d", ids.ids[i]);
    buf_char(&got, ']');
    json_write(want, (JsonStyle){0}, &wanted);
    if (strcmp(got.data, wanted.data) != 0)
        fail_msg("%s '%.*s': got %s, want %s", what, (int)text.len, text.data, got.data,
                 wanted.data);
    assert_int_equal(ids.len, ends.len);
    for (size_t i = 0; i < ends.len; i++) {
        assert_true(ends.ids[i] >= (i == 0 ? 0 : ends.ids[i - 1]));
        assert_true((size_t)ends.ids[i] <= text.len);
    }
    buf_free(&got);
    buf_free(&wanted);
    token_list_free(&ids);
    token_list_free(&ends);
}

static bool next_line(Str *rest, Str *line)
{
    if (rest->len == 0)
        return false;
    const char *end = memchr(rest->data, '\n', rest->len);
    size_t len = end == NULL ? rest->len : (size_t)(end - rest->data);
    *line = str_sub(*rest, 0, len);
    *rest = str_sub(*rest, len + 1, rest->len);
    return true;
}

static void variants_give_the_ids_of_hugging_face(void **state)
{
    Err err = {0};
    Str rest, line;
    assert_true(file_read(TEST_DATA "/golden/tokenizer/variants.jsonl", 1 << 20, &arena, &rest,
                          ERR_INTERNAL_ERROR, &err));
    assert_true(next_line(&rest, &line));
    Json *texts = json_parse(line, "texts", ERR_INTERNAL_ERROR, &err);
    assert_non_null(texts);
    int variants = 0;
    for (; next_line(&rest, &line); variants++) {
        Json *row = json_parse(line, "variant", ERR_INTERNAL_ERROR, &err);
        Json *json = load(FOLDER "/tokenizer.json");
        apply_patch(json, json_get(row, "patch"));
        Tokenizer *t = tokenizer_from_json(json, NULL, NULL, &arena, &err);
        if (t == NULL)
            fail_msg("variant %d: %s", variants, err.message);
        Buf name = {0};
        buf_printf(&name, "variant %d", variants);
        const Json *use = json_get(row, "use"), *ids = json_get(row, "ids");
        assert_true(json_len(use) > 20 && json_len(use) == json_len(ids));
        for (size_t i = 0; i < json_len(use); i++) {
            size_t text = (size_t)json_int(json_at(use, i), 0);
            expect_ids(t, json_str(json_at(texts, text)), json_at(ids, i), name.data);
        }
        buf_free(&name);
        tokenizer_close(t);
        json_free(json);
        json_free(row);
    }
    assert_int_equal(variants, 29);
    json_free(texts);
}

static Tokenizer *tiny(void)
{
    Err err = {0};
    Tokenizer *t = tokenizer_from_folder(FOLDER, &arena, &err);
    if (t == NULL)
        fail_msg("%s", err.message);
    return t;
}

static void roles_come_from_the_files_beside(void **state)
{
    Tokenizer *t = tiny();
    int32_t bos = tokenizer_find(t, STR("<s>"));
    assert_int_equal(tokenizer_bos(t), bos);
    assert_int_equal(tokenizer_eos(t), tokenizer_find(t, STR("<|end|>")));
    assert_int_equal(tokenizer_pad(t), TOKEN_NONE);
    assert_true(tokenizer_adds_bos(t));
    assert_int_equal(tokenizer_kind(t, bos), TOKEN_CONTROL);
    assert_int_equal(tokenizer_kind(t, tokenizer_find(t, STR("<left>"))), TOKEN_USER_DEFINED);
    assert_int_equal(tokenizer_find(t, STR("no such token")), TOKEN_NONE);
    assert_true(tokenizer_is_end(t, tokenizer_eos(t)));
    assert_false(tokenizer_is_end(t, bos));
    assert_true(str_eq_text(tokenizer_chat_template(t), "{{ messages }}"));
    tokenizer_close(t);
}

static void config_pads_the_vocabulary(void **state)
{
    Err err = {0};
    Json *json = load(FOLDER "/tokenizer.json");
    Json *config = json_new_object();
    json_put(config, "vocab_size", json_new_int(500));
    json_put(config, "eos_token_id", json_new_int(7));
    Tokenizer *t = tokenizer_from_json(json, NULL, config, &arena, &err);
    assert_non_null(t);
    assert_int_equal(tokenizer_size(t), 500);
    assert_int_equal(tokenizer_kind(t, 499), TOKEN_UNUSED);
    assert_true(str_eq_text(tokenizer_text(t, 499), "[PAD499]"));
    assert_int_equal(tokenizer_eos(t), 7);
    TokenList ids = {0};
    tokenizer_encode(t, STR("[PAD499]"), SPECIAL_PARSED, &ids, NULL);
    assert_true(ids.len > 1); /* an unused row is never produced */
    token_list_free(&ids);
    tokenizer_close(t);
    json_free(config);
    json_free(json);
}

static void control_tokens_can_be_plain_text(void **state)
{
    Tokenizer *t = tiny();
    TokenList ids = {0};
    Buf text = {0};
    tokenizer_encode(t, STR("<s><plain>"), SPECIAL_AS_TEXT, &ids, NULL);
    assert_true(ids.len > 2 && ids.ids[0] != tokenizer_bos(t));
    assert_int_equal(ids.ids[ids.len - 1], tokenizer_find(t, STR("<plain>")));
    ids.len = 0;
    tokenizer_encode(t, STR("<s>hi"), SPECIAL_PARSED, &ids, NULL);
    assert_int_equal(ids.ids[0], tokenizer_bos(t));
    for (size_t i = 0; i < ids.len; i++)
        tokenizer_decode(t, ids.ids[i], SPECIAL_HIDDEN, &text);
    assert_string_equal(text.data, "hi");
    tokenizer_decode(t, ids.ids[0], SPECIAL_SHOWN, &text);
    tokenizer_decode(t, -1, SPECIAL_SHOWN, &text);
    tokenizer_decode(t, 1 << 30, SPECIAL_SHOWN, &text);
    assert_string_equal(text.data, "hi<s>");
    buf_free(&text);
    token_list_free(&ids);
    tokenizer_close(t);
}

/* Every byte string comes back from decoding, whole or torn. */
static void every_byte_survives(void **state)
{
    Tokenizer *t = tiny();
    char bytes[512];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)(i * 167 + i / 256 * 31);
    for (size_t len = 0; len <= sizeof(bytes); len += 7) {
        TokenList ids = {0}, ends = {0};
        Buf text = {0};
        buf_text(&text, "");
        tokenizer_encode(t, (Str){bytes, len}, SPECIAL_PARSED, &ids, &ends);
        for (size_t i = 0; i < ids.len; i++) {
            tokenizer_decode(t, ids.ids[i], SPECIAL_SHOWN, &text);
            assert_int_equal(ends.ids[i], text.len);
        }
        assert_int_equal(text.len, len);
        assert_memory_equal(text.data, bytes, len);
        buf_free(&text);
        token_list_free(&ids);
        token_list_free(&ends);
    }
    tokenizer_close(t);
}

/* "e" + U+0301 becomes one character of two bytes; both its tokens end where the source's three
 * bytes do, and what follows is where it was. */
static void ends_are_those_of_the_source_under_a_normalizer(void **state)
{
    Err err = {0};
    Json *json = load(FOLDER "/tokenizer.json");
    Json *nfc = json_new_object();
    json_put(nfc, "type", json_new_text("NFC"));
    json_put(json, "normalizer", nfc);
    Tokenizer *t = tokenizer_from_json(json, NULL, NULL, &arena, &err);
    assert_non_null(t);
    TokenList ids = {0}, ends = {0};
    tokenizer_encode(t, STR("#e\xCC\x81#<plain>e\xCC\x81%"), SPECIAL_PARSED, &ids, &ends);
    Buf text = {0}; /* # é(2) # <plain>(7) é(2) % */
    static const int source[] = {0, 1, 4, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 15, 16};
    for (size_t i = 0; i < ids.len; i++) {
        tokenizer_decode(t, ids.ids[i], SPECIAL_SHOWN, &text);
        assert_in_range(text.len, 1, COUNT_OF(source) - 1);
        assert_int_equal(ends.ids[i], source[text.len]);
    }
    assert_string_equal(text.data, "#\xC3\xA9#<plain>\xC3\xA9%");
    buf_free(&text);
    token_list_free(&ids);
    token_list_free(&ends);
    tokenizer_close(t);
    json_free(json);
}

/* A megabyte without a space, in a time that only n log n reaches. */
static void a_long_word_is_not_quadratic(void **state)
{
    Tokenizer *t = tiny();
    size_t len = 1 << 20;
    char *text = arena_push(&arena, len);
    for (size_t i = 0; i < len; i++)
        text[i] = "theinonreat"[i * 7 % 11];
    TokenList ids = {0}, ends = {0};
    double start = os_now();
    tokenizer_encode(t, (Str){text, len}, SPECIAL_PARSED, &ids, &ends);
    assert_true(os_now() - start < 30);
    assert_true(ids.len > 1000 && ids.len < len);
    assert_int_equal(ends.ids[ends.len - 1], len);
    token_list_free(&ids);
    token_list_free(&ends);
    tokenizer_close(t);
}

typedef struct BadCase {
    const char *patch, *message;
} BadCase;

static const BadCase bad_cases[] = {
    {"{\"model\":{\"type\":\"Unigram\"}}", "model 'Unigram'"},
    {"{\"model\":{\"byte_fallback\":true}}", "'byte_fallback'"},
    {"{\"model\":{\"dropout\":0.5}}", "'dropout'"},
    {"{\"model\":{\"end_of_word_suffix\":\"</w>\"}}", "'end_of_word_suffix'"},
    {"{\"model\":{\"merges\":[[\"a\",\"nothing\"]]}}", "merge 0 ('a' and 'nothing')"},
    {"{\"model\":{\"merges\":[\"ab\"]}}", "merge 0"},
    {"{\"model\":{\"merges\":null}}", "'model.merges'"},
    {"{\"model\":{\"vocab\":[]}}", "'model.vocab'"},
    {"{\"model\":{\"vocab\":{\"a\":-1}}}", "token 'a'"},
    {"{\"model\":{\"vocab\":{\"a\":2147483648}}}", "token 'a'"},
    {"{\"added_tokens\":[{\"id\":1,\"content\":\"\"}]}", "added token 0"},
    {"{\"added_tokens\":7}", "'added_tokens'"},
    {"{\"normalizer\":{\"type\":\"StripAccents\"}}", "normalizer 'StripAccents'"},
    {"{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}}", "pre-tokenizer 'UnicodeScripts'"},
    {"{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\"},"
     "{\"type\":\"Metaspace\"}]}}", "'Metaspace' of the tokenizer after another"},
    {"{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"prepend_scheme\":\"often\"}}", "prepend_scheme"},
    {"{\"normalizer\":{\"type\":\"Replace\",\"content\":\"a\"}}", "has no pattern"},
    {"{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(\"}}}", "does not compile"},
    {"{\"decoder\":{\"type\":\"WordPiece\"}}", "decoder 'WordPiece'"},
    {"{\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"start\":1}}", "decoder 'Strip'"},
    {"{\"post_processor\":{\"type\":\"BertProcessing\"}}", "'post_processor'"},
    {"{\"post_processor\":{\"type\":\"Other\"}}", "post-processor 'Other'"},
    {"{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":"
     "{\"Regex\":\"(\"}}}", "does not compile"},
    {"{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":"
     "{\"Regex\":\"[a&&b]\"}}}", "'&&'"},
    {"{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":"
     "{\"Regex\":\"[a[b]]\"}}}", "'[[...]]'"},
    {"{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":"
     "{\"Regex\":\"[\\\\S]\"}}}", "'\\S'"},
    {"{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Sideways\",\"pattern\":"
     "{\"Regex\":\"a\"}}}", "'Sideways'"},
};

static void unsupported_constructs_are_named(void **state)
{
    for (size_t i = 0; i < COUNT_OF(bad_cases); i++) {
        Err err = {0};
        Json *json = load(FOLDER "/tokenizer.json");
        Json *patch = json_parse(str_of(bad_cases[i].patch), "patch", ERR_INTERNAL_ERROR, &err);
        assert_non_null(patch);
        apply_patch(json, patch);
        assert_null(tokenizer_from_json(json, NULL, NULL, &arena, &err));
        assert_int_equal(err.code, ERR_DEP_MODEL_LOAD_FAILED);
        if (strstr(err.message, bad_cases[i].message) == NULL)
            fail_msg("'%s' does not hold '%s'", err.message, bad_cases[i].message);
        json_free(patch);
        json_free(json);
    }
}

/* A plain tokenizer: what GGUF can say too. */
static Tokenizer *plain_tokenizer(Json **json)
{
    Err err = {0};
    *json = load(FOLDER "/tokenizer.json");
    Json *patch = json_parse(
        STR("{\"added_tokens\":[{\"id\":406,\"content\":\"<s>\",\"special\":true},"
            "{\"id\":407,\"content\":\"<|end|>\",\"special\":false,\"normalized\":false}]}"),
        "patch", ERR_INTERNAL_ERROR, &err);
    assert_non_null(patch);
    apply_patch(*json, patch);
    json_free(patch);
    Json *config = json_parse(STR("{\"eos_token\":\"<|end|>\",\"chat_template\":\"{{ x }}\"}"),
                              "config", ERR_INTERNAL_ERROR, &err);
    Tokenizer *t = tokenizer_from_json(*json, config, NULL, &arena, &err);
    json_free(config);
    if (t == NULL)
        fail_msg("%s", err.message);
    return t;
}

static void expect_same(const Tokenizer *a, const Tokenizer *b)
{
    static const char *const texts[] = {"", "Hello, world 123!",
                                        "<s>in the<|end|>\n\n", "  na\xC3\xAFve",
                                        "\xE4\xBD\xA0\xE5\xA5\xBD \xFF", "[PAD3] it's"};
    assert_int_equal(tokenizer_bos(a), tokenizer_bos(b));
    assert_int_equal(tokenizer_eos(a), tokenizer_eos(b));
    assert_int_equal(tokenizer_adds_bos(a), tokenizer_adds_bos(b));
    assert_true(str_eq(tokenizer_chat_template(a), tokenizer_chat_template(b)));
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        for (int special = SPECIAL_AS_TEXT; special <= SPECIAL_PARSED; special++) {
            TokenList x = {0}, y = {0};
            tokenizer_encode(a, str_of(texts[i]), (SpecialParsing)special, &x, NULL);
            tokenizer_encode(b, str_of(texts[i]), (SpecialParsing)special, &y, NULL);
            assert_int_equal(x.len, y.len);
            if (x.len > 0)
                assert_memory_equal(x.ids, y.ids, x.len * sizeof(*x.ids));
            token_list_free(&x);
            token_list_free(&y);
        }
    }
}

static Gguf write_rows(const Tokenizer *t, int64_t n_rows, const char *path)
{
    Err err = {0};
    Gguf gguf;
    assert_true(tokenizer_can_write_gguf(t, n_rows, &err));
    GgufWriter *writer = gguf_writer_open(path, &err);
    assert_non_null(writer);
    tokenizer_write_gguf(t, n_rows, writer);
    gguf_writer_begin_data(writer);
    if (!gguf_writer_commit(writer, &err) || !gguf_open(&gguf, path, &arena, &err))
        fail_msg("%s", err.message);
    return gguf;
}

static Gguf write_and_open(const Tokenizer *t, const char *path)
{
    return write_rows(t, tokenizer_size(t), path);
}

/* Gemma 3's text models have a token for pictures, and no row for it. */
static void added_tokens_beyond_the_rows_are_left_out_of_gguf(void **state)
{
    Err err = {0};
    Json *json = NULL;
    Tokenizer *all = plain_tokenizer(&json);
    const int32_t size = tokenizer_size(all);
    Gguf gguf = write_rows(all, size - 1, "tokenizer-rows.gguf");
    Tokenizer *fewer = tokenizer_from_gguf(&gguf, &arena, &err);
    assert_non_null(fewer);
    assert_int_equal(tokenizer_size(fewer), size - 1);
    assert_int_equal(tokenizer_eos(all), size - 1);
    assert_int_equal(tokenizer_eos(fewer), TOKEN_NONE);
    assert_int_equal(tokenizer_find(fewer, STR("<s>")), size - 2);
    assert_false(tokenizer_can_write_gguf(all, size + 1, &err));
    err = (Err){0};
    assert_false(tokenizer_can_write_gguf(all, 255, &err));
    assert_int_equal(err.code, ERR_RUNTIME_GGUF_EXPORT_FAILED);
    tokenizer_close(fewer);
    tokenizer_close(all);
    gguf_close(&gguf);
    json_free(json);
    assert_int_equal(remove("tokenizer-rows.gguf"), 0);
}

static void json_to_gguf_to_folder_keeps_the_ids(void **state)
{
    Err err = {0};
    Json *json = NULL;
    Tokenizer *first = plain_tokenizer(&json);
    folder_remove("tokenizer-test");
    assert_true(folder_make("tokenizer-test", ERR_INTERNAL_ERROR, &err));
    Gguf gguf = write_and_open(first, "tokenizer-test/a.gguf");
    assert_true(str_eq_text(gguf_str(&gguf, "tokenizer.ggml.pre"), "gpt-2"));
    Tokenizer *second = tokenizer_from_gguf(&gguf, &arena, &err);
    if (second == NULL)
        fail_msg("%s", err.message);
    expect_same(first, second);
    Gguf copy = write_and_open(second, "tokenizer-test/b.gguf");
    assert_int_equal(copy.n_values, gguf.n_values);
    for (uint64_t i = 0; i < copy.n_values; i++)
        assert_true(str_eq(copy.values[i].key, gguf.values[i].key));
    if (!tokenizer_write_folder(second, "tokenizer-test/folder", &err))
        fail_msg("%s", err.message);
    Tokenizer *third = tokenizer_from_folder("tokenizer-test/folder", &arena, &err);
    if (third == NULL)
        fail_msg("%s", err.message);
    expect_same(first, third);
    assert_true(tokenizer_write_folder(third, "tokenizer-test/copy", &err));
    Str a, b;
    assert_true(file_read("tokenizer-test/folder/tokenizer.json", 1 << 20, &arena, &a,
                          ERR_INTERNAL_ERROR, &err));
    assert_true(file_read("tokenizer-test/copy/tokenizer.json", 1 << 20, &arena, &b,
                          ERR_INTERNAL_ERROR, &err));
    assert_true(str_eq(a, b));
    tokenizer_close(third);
    tokenizer_close(second);
    tokenizer_close(first);
    gguf_close(&copy);
    gguf_close(&gguf);
    json_free(json);
    folder_remove("tokenizer-test");
}

/* transformers takes the file, too. */
static void the_template_file_wins(void **state)
{
    Err err = {0};
    Json *json = NULL;
    Tokenizer *first = plain_tokenizer(&json);
    folder_remove("tokenizer-both");
    assert_true(folder_make("tokenizer-both", ERR_INTERNAL_ERROR, &err));
    Gguf gguf = write_and_open(first, "tokenizer-both/a.gguf");
    Tokenizer *second = tokenizer_from_gguf(&gguf, &arena, &err);
    assert_non_null(second);
    assert_true(tokenizer_write_folder(second, "tokenizer-both", &err));
    FILE *file = fopen("tokenizer-both/chat_template.jinja", "w");
    assert_true(fputs("{{ y }}", file) >= 0 && fclose(file) == 0);
    Tokenizer *third = tokenizer_from_folder("tokenizer-both", &arena, &err);
    assert_non_null(third);
    assert_true(str_eq_text(tokenizer_chat_template(second), "{{ x }}"));
    assert_true(str_eq_text(tokenizer_chat_template(third), "{{ y }}"));
    tokenizer_close(third);
    tokenizer_close(second);
    tokenizer_close(first);
    gguf_close(&gguf);
    json_free(json);
    folder_remove("tokenizer-both");
}

/* Steps that no name stands for cannot be written, and are refused before anything is. */
static void unnamed_pre_tokenizers_are_refused_for_gguf(void **state)
{
    Err err = {0};
    Json *json = load(FOLDER "/tokenizer.json");
    Json *patch = json_parse(STR("{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"use_regex\":false,"
                                 "\"add_prefix_space\":false}}"),
                             "patch", ERR_INTERNAL_ERROR, &err);
    apply_patch(json, patch);
    Tokenizer *t = tokenizer_from_json(json, NULL, NULL, &arena, &err);
    assert_non_null(t);
    assert_false(tokenizer_can_write_gguf(t, tokenizer_size(t), &err));
    assert_int_equal(err.code, ERR_RUNTIME_GGUF_EXPORT_FAILED);
    tokenizer_close(t);
    json_free(patch);
    json_free(json);
}

/* What tokenizers 0.23 does, whatever Unicode the system's libraries are made of. */
static void unicode_is_that_of_the_oracle(void **state)
{
    MappedText mapped = {0};
    Buf copy = {0};
    Str plain = STR("Zürich 鳥 🦩");
    assert_ptr_equal(unicode_older(plain, &copy).data, plain.data);
    Str older = unicode_older(STR("a\U0001E030\u1C89\U0003137F!"), &copy);
    assert_int_equal(older.len, 13);
    assert_memory_equal(older.data, "a\U00016FE0\uA7F5\U00020000!", 13);
    /* U+32FF is of Unicode 12.1 and stays; U+33FE decomposes; marks do not pass U+1ABF (13.0). */
    assert_false(unicode_normalize(NORMAL_NFKC, STR("\u32FF"), &mapped));
    assert_true(unicode_normalize(NORMAL_NFKC, STR("\u33FE"), &mapped));
    assert_false(unicode_normalize(NORMAL_NFC, STR("x\u0315\u1ABF\u0323"), &mapped));
    assert_true(unicode_normalize(NORMAL_NFC, STR("x\u0315\u0323"), &mapped));
    assert_int_equal(mapped.len, 5);
    assert_memory_equal(mapped.data, "x\u0323\u0315", 5);
    mapped_text_free(&mapped);
    buf_free(&copy);
}

static void missing_folders_are_errors(void **state)
{
    Err err = {0};
    assert_null(tokenizer_from_folder(TEST_DATA "/no-such-folder", &arena, &err));
    assert_int_equal(err.code, ERR_DEP_MODEL_LOAD_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(variants_give_the_ids_of_hugging_face),
        cmocka_unit_test(roles_come_from_the_files_beside),
        cmocka_unit_test(config_pads_the_vocabulary),
        cmocka_unit_test(control_tokens_can_be_plain_text),
        cmocka_unit_test(every_byte_survives),
        cmocka_unit_test(ends_are_those_of_the_source_under_a_normalizer),
        cmocka_unit_test(a_long_word_is_not_quadratic),
        cmocka_unit_test(unsupported_constructs_are_named),
        cmocka_unit_test(added_tokens_beyond_the_rows_are_left_out_of_gguf),
        cmocka_unit_test(the_template_file_wins),
        cmocka_unit_test(json_to_gguf_to_folder_keeps_the_ids),
        cmocka_unit_test(unnamed_pre_tokenizers_are_refused_for_gguf),
        cmocka_unit_test(unicode_is_that_of_the_oracle),
        cmocka_unit_test(missing_folders_are_errors),
    };
    return cmocka_run_group_tests(tests, open_arena, close_arena);
}
