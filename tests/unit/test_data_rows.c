/* test_data_rows.c — the rows of a file are the same whatever its syntax, its size and the gzip
 * around it; and the examples are the same whatever the number of threads and where they are kept.
 */
#include "test_support.h"

#include "core/thread.h"
#include "data/dataset.h"
#include "data/rows.h"

static const char *const names[] = {"a.jsonl", "a.json", "a.csv"};

/* n rows, every 100th of them long, some with line ends and quotes inside. */
static void write_rows(const char *name, int n, Buf *out)
{
    const bool csv = str_ends(str_of(name), ".csv"), list = str_ends(str_of(name), ".json");
    buf_text(out, csv ? "text,number\r\n" : list ? " [" : "");
    for (int i = 0; i < n; i++) {
        const char *quote = csv ? "\"\"" : "\\\"";
        buf_printf(out, csv ? "\"" : "%s{\"text\": \"", list && i > 0 ? ",\n" : "");
        buf_printf(out, "row %d says %shi%s,%s", i, quote, quote, csv ? "\n" : "\\n");
        for (int k = 0; i % 100 == 99 && k < 20000; k++)
            buf_text(out, "lorem ");
        buf_printf(out, csv ? "\",%d\n" : "\", \"number\": %d}%s", i, list ? "" : "\n");
    }
    buf_text(out, list ? "]\n" : "");
}

static void check_rows(const char *name, Str bytes, int n)
{
    Err err = {0};
    RowReader *reader = row_reader_over(bytes, name, &err);
    const RawRow *rows;
    int32_t count = 1, at = 0, line = 0;
    assert_non_null(reader);
    while (count > 0) {
        if (!row_reader_batch(reader, &rows, &count, &err))
            fail_msg("%s", err.message);
        for (int32_t i = 0; i < count; i++, at++) {
            RowFault fault = {0};
            Json *value = row_parse(reader, &rows[i], &fault);
            char begin[64];
            int len = snprintf(begin, sizeof begin, "row %d says \"hi\",\n", at);
            assert_non_null(value);
            Str text = json_str(json_get(value, "text"));
            assert_memory_equal(text.data, begin, (size_t)len);
            assert_int_equal(text.len, len + (at % 100 == 99 ? 6 * 20000 : 0));
            assert_true(rows[i].line > line);
            line = rows[i].line;
            json_free(value);
        }
    }
    assert_int_equal(at, n);
    row_reader_close(reader);
}

static void rows_do_not_depend_on_syntax_or_size(void **state)
{
    static const int sizes[] = {1, 99, 3000};
    for (size_t k = 0; k < COUNT_OF(names); k++) {
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            Buf bytes = {0};
            write_rows(names[k], sizes[i], &bytes);
            check_rows(names[k], buf_view(&bytes), sizes[i]);
            buf_free(&bytes);
        }
    }
}

static void gzip_is_read_through(void **state)
{
    const char *folder = *state;
    char path[256], command[600];
    Buf bytes = {0};
    write_rows("a.jsonl", 1500, &bytes);
    snprintf(path, sizeof path, "%s/a.jsonl", folder);
    write_text(path, bytes.data);
    snprintf(command, sizeof command, "gzip -c %s > %s/b.jsonl.gz && gzip -c %s >> %s/b.jsonl.gz",
             path, folder, path, folder);
    if (system(command) != 0)
        skip();
    FileMap map = {0};
    Err err = {0};
    snprintf(path, sizeof path, "%s/b.jsonl.gz", folder);
    assert_true(file_map(&map, path, ERR_INTERNAL_ERROR, &err));
    RowReader *reader = row_reader_open(path, &err);
    const RawRow *rows;
    int32_t count = 1, total = 0;
    assert_non_null(reader);
    for (; count > 0; total += count)
        assert_true(row_reader_batch(reader, &rows, &count, &err));
    assert_int_equal(total, 3000); /* two members, one after the other */
    row_reader_close(reader);
    for (size_t cut = 1; cut < map.size; cut += map.size / 97 + 1) { /* the first bytes of it */
        Err none = {0};
        reader =
            row_reader_over((Str){(const char *)map.data, map.size - cut}, "b.jsonl.gz", &none);
        bool ok = reader != NULL;
        for (count = 1; ok && count > 0;)
            ok = row_reader_batch(reader, &rows, &count, &none);
        const bool between = !ok || cut == map.size / 2;
        if (!between)
            fail_msg("%zu bytes less are not noticed", cut);
        row_reader_close(reader);
    }
    file_unmap(&map);
    buf_free(&bytes);
}

static void threads_and_spools_change_nothing(void **state)
{
    Arena arena = {0};
    Err err = {0};
    Buf bytes = {0};
    assert_true(arena_open(&arena, 0, &err));
    Tokenizer *tokenizer = tokenizer_from_folder(TEST_DATA "/golden/data/tokenizer", &arena, &err);
    assert_non_null(tokenizer);
    write_rows("a.jsonl", 700, &bytes);
    const DataTexts texts = {tokenizer, NULL};
    Dataset first = {0};
    for (int run = 0; run < 4; run++) {
        Dataset dataset = {0};
        const DatasetOptions options = {.max_seq_length = 512,
                                        .truncation = TRUNCATE_SPLIT,
                                        .memory_bytes = run == 3 ? 1 : 0,
                                        .dedup = DEDUP_EXACT,
                                        .difficulty = true};
        threads_set(run == 1 ? 1 : run == 2 ? 5 : 2);
        assert_true(
            dataset_parse(&dataset, buf_view(&bytes), "a.jsonl", &texts, &options, &arena, &err));
        assert_int_equal(dataset.spools[0].map != NULL, run == 3);
        if (run == 0) {
            first = dataset;
            continue;
        }
        assert_int_equal(dataset.n_tokens, first.n_tokens);
        assert_int_equal(dataset.n_examples, first.n_examples);
        assert_memory_equal(dataset.tokens, first.tokens, (size_t)first.n_tokens * 4);
        assert_memory_equal(dataset.loss, first.loss, (size_t)first.n_tokens);
        for (int64_t i = 0; i < first.n_examples; i++) {
            assert_int_equal(dataset.examples[i].start, first.examples[i].start);
            assert_true(dataset.examples[i].difficulty == first.examples[i].difficulty);
        }
        dataset_close(&dataset);
    }
    threads_set(0);
    dataset_close(&first);
    tokenizer_close(tokenizer);
    arena_close(&arena);
    buf_free(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_do_not_depend_on_syntax_or_size),
        cmocka_unit_test_setup_teardown(gzip_is_read_through, temp_setup, temp_teardown),
        cmocka_unit_test(threads_and_spools_change_nothing),
    };
    return cmocka_run_group_tests_name("data_rows", tests, NULL, NULL);
}
