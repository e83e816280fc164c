/* test_text_tokenizer_golden.c — the real SmolLM2 vocabulary against ids that Hugging Face's
 * tokenizers gave (tokenizer/smollm2.jsonl, made by tokenizer/make.py).
 *
 * The model file is named by BP_TEST_MODEL or is a .gguf in <repository>/.cache/models; without one
 * the tests are skipped. With arguments the program is a tool for tokenizer/compare.py instead:
 *     test_text_tokenizer_golden ids MODEL.gguf|FOLDER TEXTS.jsonl    one JSON array of ids a line
 *     test_text_tokenizer_golden back MODEL.gguf|FOLDER TEXTS.jsonl   and the decoded text
 *     test_text_tokenizer_golden folder MODEL.gguf|FOLDER OUT         writes tokenizer.json to OUT
 *     test_text_tokenizer_golden gguf MODEL.gguf|FOLDER OUT.gguf      writes the tokenizer.* keys
 *     test_text_tokenizer_golden speed MODEL.gguf|FOLDER TEXT         MB/s over a plain text file
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

typedef struct Fixture {
    Arena arena;
    Gguf gguf;
    Tokenizer *tokenizer;
} Fixture;

static bool fixture_open(Fixture *f, const char *path, Err *err)
{
    *f = (Fixture){0};
    if (!arena_open(&f->arena, 0, err))
        return false;
    if (path_is_folder(path))
        f->tokenizer = tokenizer_from_folder(path, &f->arena, err);
    else if (gguf_open(&f->gguf, path, &f->arena, err))
        f->tokenizer = tokenizer_from_gguf(&f->gguf, &f->arena, err);
    return f->tokenizer != NULL;
}

static void fixture_close(Fixture *f)
{
    tokenizer_close(f->tokenizer);
    gguf_close(&f->gguf);
    arena_close(&f->arena);
}

static const char *model_path(Arena *arena)
{
    const char *named = os_env("BP_TEST_MODEL");
    if (named != NULL)
        return named;
    const char *folder = TEST_DATA "/../.cache/models";
    const char **names = NULL;
    size_t count = 0;
    if (!folder_list(folder, arena, &names, &count))
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (str_ends(str_of(names[i]), ".gguf"))
            return path_join(arena, folder, names[i]);
    return NULL;
}

static Str read_text(Arena *arena, const char *path)
{
    Str text;
    Err err = {0};
    if (!file_read(path, (size_t)1 << 30, arena, &text, ERR_INTERNAL_ERROR, &err))
        fail_msg("%s", err.message);
    return text;
}

/* The next line of *rest, without its end. */
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

static int hex_digit(char c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

/* The text of a row: "text", or the bytes that "hex" spells. */
static void row_text(const Json *row, Buf *out)
{
    Str hex = json_str(json_get(row, "hex"));
    buf_clear(out);
    buf_str(out, json_str(json_get(row, "text")));
    for (size_t i = 0; i + 1 < hex.len; i += 2)
        buf_char(out, (char)(hex_digit(hex.data[i]) * 16 + hex_digit(hex.data[i + 1])));
}

static bool ids_equal(const TokenList *ids, const Json *want)
{
    if (ids->len != json_len(want))
        return false;
    for (size_t i = 0; i < ids->len; i++)
        if (ids->ids[i] != json_int(json_at(want, i), -2))
            return false;
    return true;
}

/* Every token ends where its own bytes end. Bytes that the vocabulary lacks give nothing, and what
 * stands around them may merge: such a text only has ascending ends. */
static void check_ends(const Tokenizer *t, Str text, const TokenList *ids, const TokenList *ends)
{
    Buf bytes = {0};
    for (size_t i = 0; i < ids->len; i++)
        tokenizer_decode(t, ids->ids[i], SPECIAL_SHOWN, &bytes);
    bool complete = bytes.len == text.len;
    if (complete)
        assert_memory_equal(bytes.len == 0 ? "" : bytes.data, text.data, text.len);
    size_t from = 0;
    for (size_t i = 0; i < ids->len; i++) {
        buf_clear(&bytes);
        tokenizer_decode(t, ids->ids[i], SPECIAL_SHOWN, &bytes);
        size_t end = (size_t)ends->ids[i];
        assert_true(end >= from + bytes.len && end <= text.len);
        if (complete)
            assert_int_equal(end, from + bytes.len);
        from = end;
    }
    buf_free(&bytes);
}

static void check_row(const Tokenizer *t, Str text, SpecialParsing special, const Json *want)
{
    TokenList ids = {0}, ends = {0};
    tokenizer_encode(t, text, special, &ids, &ends);
    assert_int_equal(ids.len, ends.len);
    if (!ids_equal(&ids, want)) {
        Buf got = {0}, wanted = {0};
        for (size_t i = 0; i < ids.len; i++)
            buf_printf(&got, "%d ", ids.ids[i]);
        json_write(want, (JsonStyle){0}, &wanted);
        fail_msg("'%.*s': ids %s, expected %s", (int)text.len, text.data, got.data, wanted.data);
    }
    check_ends(t, text, &ids, &ends);
    token_list_free(&ids);
    token_list_free(&ends);
}

static void ids_equal_those_of_hugging_face(void **state)
{
    Fixture f;
    Err err = {0};
    Arena arena;
    assert_true(arena_open(&arena, 0, &err));
    const char *path = model_path(&arena);
    if (path == NULL) {
        arena_close(&arena);
        print_message("skipped: no model in BP_TEST_MODEL or .cache/models\n");
        skip();
    }
    if (!fixture_open(&f, path, &err))
        fail_msg("%s", err.message);
    Str rest = read_text(&arena, TEST_DATA "/golden/tokenizer/smollm2.jsonl"), line;
    Buf text = {0};
    int rows = 0;
    while (next_line(&rest, &line)) {
        Json *row = json_parse(line, "smollm2.jsonl", ERR_INTERNAL_ERROR, &err);
        assert_non_null(row);
        row_text(row, &text);
        Str view = {text.len == 0 ? "" : text.data, text.len};
        const Json *ids = json_get(row, "ids"), *as_text = json_get(row, "as_text");
        check_row(f.tokenizer, view, SPECIAL_PARSED, ids);
        if (json_get(row, "hex") == NULL)
            check_row(f.tokenizer, view, SPECIAL_AS_TEXT, as_text == NULL ? ids : as_text);
        json_free(row);
        rows++;
    }
    assert_int_equal(rows, 1100);
    buf_free(&text);
    fixture_close(&f);
    arena_close(&arena);
}

static void roles_of_the_real_model(void **state)
{
    Fixture f;
    Err err = {0};
    Arena arena;
    assert_true(arena_open(&arena, 0, &err));
    const char *path = model_path(&arena);
    if (path == NULL) {
        arena_close(&arena);
        skip();
    }
    assert_true(fixture_open(&f, path, &err));
    assert_int_equal(tokenizer_size(f.tokenizer), 49152);
    assert_int_equal(tokenizer_bos(f.tokenizer), 1);
    assert_int_equal(tokenizer_eos(f.tokenizer), 2);
    assert_int_equal(tokenizer_pad(f.tokenizer), 2);
    assert_false(tokenizer_adds_bos(f.tokenizer));
    assert_true(tokenizer_is_end(f.tokenizer, 2) && tokenizer_is_end(f.tokenizer, 0));
    assert_false(tokenizer_is_end(f.tokenizer, 1));
    assert_true(tokenizer_chat_template(f.tokenizer).len > 100);
    fixture_close(&f);
    arena_close(&arena);
}

/* ---- the tool --------------------------------------------------------------------------- */

static void print_back(const Tokenizer *t, const TokenList *ids)
{
    Json *json = json_new_object(), *list = json_new_array();
    Buf text = {0}, line = {0};
    for (size_t i = 0; i < ids->len; i++)
        json_add(list, json_new_int(ids->ids[i]));
    tokenizer_decode_all(t, ids->ids, ids->len, SPECIAL_SHOWN, &text);
    json_put(json, "ids", list);
    Json *bytes = json_new_array(); /* not a string: the text may hold a NUL */
    uint32_t codepoint = 0;
    for (size_t pos = 0; utf8_next(buf_view(&text), &pos, &codepoint);)
        json_add(bytes, json_new_int(codepoint));
    json_put(json, "text", bytes);
    json_write(json, (JsonStyle){0}, &line);
    puts(line.data);
    json_free(json);
    buf_free(&text);
    buf_free(&line);
}

static int print_ids(const Tokenizer *t, Str rest, bool back)
{
    Str line;
    Buf text = {0};
    while (next_line(&rest, &line)) {
        Err err = {0};
        Json *row = json_parse(line, "texts", ERR_INTERNAL_ERROR, &err);
        if (row == NULL)
            return fprintf(stderr, "%s\n", err.message), 1;
        row_text(row, &text);
        TokenList ids = {0};
        SpecialParsing special =
            json_bool(json_get(row, "special"), true) ? SPECIAL_PARSED : SPECIAL_AS_TEXT;
        tokenizer_encode(t, (Str){text.len == 0 ? "" : text.data, text.len}, special, &ids, NULL);
        for (size_t i = 0; i < ids.len && !back; i++)
            printf("%s%d", i == 0 ? "[" : ",", ids.ids[i]);
        if (back)
            print_back(t, &ids);
        else
            printf("%s]\n", ids.len == 0 ? "[" : "");
        token_list_free(&ids);
        json_free(row);
    }
    buf_free(&text);
    return 0;
}

static int print_speed(const Tokenizer *t, Str text)
{
    double best = 1e9;
    size_t n = 0;
    for (int i = 0; i < 5; i++) {
        TokenList ids = {0};
        double start = os_now();
        tokenizer_encode(t, text, SPECIAL_PARSED, &ids, NULL);
        double seconds = os_now() - start;
        best = seconds < best ? seconds : best;
        n = ids.len;
        token_list_free(&ids);
    }
    printf("%zu bytes, %zu tokens, %.2f MB/s\n", text.len, n, (double)text.len / best / 1e6);
    return 0;
}

static int write_gguf(const Tokenizer *t, const char *path, Err *err)
{
    if (!tokenizer_can_write_gguf(t, tokenizer_size(t), err))
        return fprintf(stderr, "%s\n", err->message), 1;
    GgufWriter *writer = gguf_writer_open(path, err);
    if (writer == NULL)
        return fprintf(stderr, "%s\n", err->message), 1;
    gguf_put_str(writer, "general.architecture", STR("llama"));
    tokenizer_write_gguf(t, tokenizer_size(t), writer);
    gguf_writer_begin_data(writer);
    return gguf_writer_commit(writer, err) ? 0 : (fprintf(stderr, "%s\n", err->message), 1);
}

static int tool(char **argv)
{
    Fixture f;
    Err err = {0};
    double start = os_now();
    if (!fixture_open(&f, argv[2], &err))
        return fprintf(stderr, "%s\n", err.message), 1;
    fprintf(stderr, "loaded in %.3f s\n", os_now() - start);
    int rc = 1;
    if (strcmp(argv[1], "ids") == 0)
        rc = print_ids(f.tokenizer, read_text(&f.arena, argv[3]), false);
    else if (strcmp(argv[1], "back") == 0)
        rc = print_ids(f.tokenizer, read_text(&f.arena, argv[3]), true);
    else if (strcmp(argv[1], "speed") == 0)
        rc = print_speed(f.tokenizer, read_text(&f.arena, argv[3]));
    else if (strcmp(argv[1], "gguf") == 0)
        rc = write_gguf(f.tokenizer, argv[3], &err);
    else if (strcmp(argv[1], "folder") == 0)
        rc = tokenizer_write_folder(f.tokenizer, argv[3], &err)
                 ? 0
                 : (fprintf(stderr, "%s\n", err.message), 1);
    fixture_close(&f);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc == 4)
        return tool(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_equal_those_of_hugging_face),
        cmocka_unit_test(roles_of_the_real_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
