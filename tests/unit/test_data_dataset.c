/* test_data_dataset.c — data files to tokens with loss marks: against transformers' assistant mask,
 * for every format, and everything that drops a row.
 *
 * References: golden/data (its README says how they were made).
 */
#include "test_support.h"

#include "core/json.h"
#include "data/dataset.h"

typedef struct Fixture {
    Arena arena, scratch;
    Tokenizer *tokenizer;
    Template *chatml;
    Json *formats; /* formats.expected.json */
} Fixture;

static Fixture fx;

static int set_up(void **state)
{
    Err err = {0};
    assert_true(arena_open(&fx.arena, 0, NULL));
    fx.tokenizer = tokenizer_from_folder(TEST_DATA "/golden/data/tokenizer", &fx.arena, &err);
    if (fx.tokenizer == NULL)
        fail_msg("%s", err.message);
    fx.formats =
        json_load(TEST_DATA "/golden/data/formats.expected.json", ERR_INTERNAL_ERROR, &err);
    assert_non_null(fx.formats);
    Str source = json_str(json_get(fx.formats, "template"));
    fx.chatml = template_parse(source, "chatml", &fx.arena, &err);
    assert_non_null(fx.chatml);
    return 0;
}

/* Every dataset of the tests, closed at the end. */
static Dataset opened[1024];
static size_t n_opened;

static bool keep(const Dataset *dataset, bool ok)
{
    assert_true(n_opened < COUNT_OF(opened));
    opened[n_opened++] = *dataset;
    return ok;
}

static int tear_down(void **state)
{
    for (size_t i = 0; i < n_opened; i++)
        dataset_close(&opened[i]);
    json_free(fx.formats);
    tokenizer_close(fx.tokenizer);
    arena_close(&fx.arena);
    return 0;
}

static bool parse_with(Dataset *dataset, Str bytes, const char *name, const Template *chat_template,
                       const DatasetOptions *options, Err *err)
{
    const DataTexts texts = {fx.tokenizer, chat_template};
    return keep(dataset, dataset_parse(dataset, bytes, name, &texts, options, &fx.arena, err));
}

static bool parse(Dataset *dataset, const char *bytes, const char *name, Err *err)
{
    DatasetOptions options = {.max_seq_length = 2048};
    *dataset = (Dataset){0};
    return parse_with(dataset, str_of(bytes), name, fx.chatml, &options, err);
}

/* Example i of the dataset is {ids, loss}. */
static bool same_example(const Dataset *dataset, int64_t i, const Json *expected)
{
    const Example *example = &dataset->examples[i];
    const Json *ids = json_get(expected, "ids"), *loss = json_get(expected, "loss");
    bool same = (size_t)example->len == json_len(ids);
    for (int32_t t = 0; t < example->len && same; t++) {
        same = json_int(json_at(ids, (size_t)t), -1) == dataset->tokens[example->start + t] &&
               json_int(json_at(loss, (size_t)t), -1) == dataset->loss[example->start + t];
    }
    return same;
}

static bool any_loss(const Json *expected)
{
    const Json *loss = json_get(expected, "loss");
    int64_t n = 0;
    for (size_t t = 1; t < json_len(loss); t++)
        n += json_int(json_at(loss, t), 0);
    return n > 0;
}

static void print_marks(const Dataset *dataset)
{
    Buf out = {0};
    for (int64_t t = 0; t < dataset->n_tokens; t++) {
        buf_text(&out, dataset->loss[t] ? "[" : "");
        tokenizer_decode(fx.tokenizer, dataset->tokens[t], SPECIAL_SHOWN, &out);
        buf_text(&out, dataset->loss[t] ? "]" : "");
    }
    print_error("%s\n", out.data == NULL ? "" : out.data);
    buf_free(&out);
}

/* One conversation under one template, as a file of one row. */
static bool check_span(const Json *row)
{
    Err err = {0};
    Dataset dataset = {0};
    DatasetOptions options = {.max_seq_length = 2048};
    Template *template = template_parse(json_str(json_get(row, "template")), "t", &fx.arena, &err);
    assert_non_null(template);
    Json *line = json_new_object();
    json_put(line, "messages", json_clone(json_get(row, "messages")));
    Buf text = {0};
    json_write(line, (JsonStyle){0}, &text);
    bool ok = parse_with(&dataset, buf_view(&text), "x.jsonl", template, &options, &err);
    bool good = any_loss(row) ? ok && dataset.n_examples == 1 && same_example(&dataset, 0, row)
                              : !ok && dataset.n_dropped[DROP_NO_LOSS] == 1;
    if (!good) {
        print_error("%s: %s\n%s\n", json_text(json_get(row, "name")), text.data, err.message);
        print_marks(&dataset);
    }
    buf_free(&text);
    json_free(line);
    return good;
}

static void loss_is_on_the_assistants_turns(void **state)
{
    Str text;
    Err err = {0};
    int n = 0, bad = 0;
    assert_true(file_read(TEST_DATA "/golden/data/spans.jsonl", 1 << 20, &fx.arena, &text,
                          ERR_INTERNAL_ERROR, &err));
    for (size_t at = 0; at < text.len; n++) {
        size_t end = at;
        while (text.data[end] != '\n')
            end++;
        Json *row = json_parse(str_sub(text, at, end), "row", ERR_INTERNAL_ERROR, &err);
        assert_non_null(row);
        bad += !check_span(row);
        json_free(row);
        at = end + 1;
    }
    assert_int_equal(bad, 0);
    assert_int_equal(n, 82);
}

static void every_format_is_read(void **state)
{
    Err err = {0};
    Dataset dataset;
    DatasetOptions options = {.max_seq_length = 2048};
    assert_true(dataset_load(&dataset, &(DataFile){TEST_DATA "/golden/data/formats.jsonl", 1}, 1,
                             &(DataTexts){fx.tokenizer, fx.chatml}, &options, &fx.arena, &err));
    keep(&dataset, true);
    const Json *rows = json_get(fx.formats, "rows");
    assert_int_equal(dataset.n_examples, json_len(rows));
    for (int64_t i = 0; i < dataset.n_examples; i++) {
        if (!same_example(&dataset, i, json_at(rows, (size_t)i)))
            fail_msg("row %lld differs", (long long)(i + 1));
        assert_int_equal(dataset.examples[i].line, i + 1);
    }
    int64_t n_loss = 0;
    for (int64_t t = 0; t < dataset.n_tokens; t++)
        n_loss += dataset.loss[t];
    /* Rows of plain text carry loss on their first token, which nothing predicts. */
    assert_int_equal(dataset.n_loss, n_loss - 2);
    assert_int_equal(strlen(dataset.sha256), 64);
}

/* The same rows as an array, with CRLF, with a byte-order mark and blank lines between. */
static void the_shape_of_the_file_does_not_matter(void **state)
{
    static const char *const files[][2] = {
        {"a.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\","
                    "\"content\":\"a\"}]}\n{\"text\":\"t\"}\n"},
        {"a.jsonl", "\xef\xbb\xbf{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},"
                    "{\"role\":\"assistant\",\"content\":\"a\"}]}\r\n\r\n  \n{\"text\":\"t\"}"},
        {"a.data", "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\","
                   "\"content\":\"a\"}], \"extra\": null}\n\n\"t\"\n"},
        {"a.json", "\xef\xbb\xbf [{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},\n"
                   "{\"role\":\"assistant\",\"content\":\"a\"}]}, {\"text\":\"t\"}]"},
    };
    Dataset first = {0};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        Err err = {0};
        Dataset dataset;
        assert_true(parse(&dataset, files[i][1], files[i][0], &err));
        if (i == 0)
            first = dataset;
        assert_int_equal(dataset.n_tokens, first.n_tokens);
        assert_memory_equal(dataset.tokens, first.tokens, (size_t)first.n_tokens * sizeof(int32_t));
        assert_memory_equal(dataset.loss, first.loss, (size_t)first.n_tokens);
    }
}

static void text_files_split_at_blank_lines(void **state)
{
    Err err = {0};
    Dataset dataset;
    assert_true(parse(&dataset, "one\ntwo\r\n\r\n\n three\n \nfour", "a.TXT.txt", &err));
    assert_int_equal(dataset.n_examples, 3);
    static const int32_t lines[] = {1, 5, 7};
    for (int i = 0; i < 3; i++)
        assert_int_equal(dataset.examples[i].line, lines[i]);
    assert_int_equal(dataset.n_loss, dataset.n_tokens - 3);
    for (int i = 0; i < 3; i++) {
        const Example *e = &dataset.examples[i];
        assert_int_equal(dataset.tokens[e->start + e->len - 1], tokenizer_eos(fx.tokenizer));
    }
}

typedef struct BadRow {
    const char *line;
    DropReason reason;
    const char *note;
} BadRow;

#define TURN(role, content) "{\"role\":\"" role "\",\"content\":" content "}"

static const BadRow bad_rows[] = {
    {"{not json", DROP_PARSE, "not JSON"},
    {"\"\xff\xfe\"", DROP_PARSE, "not UTF-8"},
    {"{\"text\": \"a\\u0000b\"}", DROP_PARSE, "not JSON"},
    {"42", DROP_FORMAT, "neither an object nor a text"},
    {"[1, 2]", DROP_FORMAT, "neither an object nor a text"},
    {"null", DROP_FORMAT, "neither an object nor a text"},
    {"{}", DROP_FORMAT, "no known format"},
    {"{\"prompt\": \"a\"}", DROP_FORMAT, "no known format"},
    {"{\"text\": 5}", DROP_FORMAT, "no known format"},
    {"{\"text\": \"  \"}", DROP_INVALID, "text is empty"},
    {"\"\"", DROP_INVALID, "text is empty"},
    {"{\"conversations\": []}", DROP_INVALID, "is empty"},
    {"{\"conversations\": \"x\"}", DROP_INVALID, "not a list"},
    {"{\"conversations\": null}", DROP_INVALID, "missing or null"},
    {"{\"conversations\": [{\"from\": \"human\"}]}", DROP_INVALID, "turn 1"},
    {"{\"conversations\": [{\"from\": \"human\", \"value\": null}]}", DROP_INVALID, "turn 1"},
    {"{\"conversations\": [{\"from\": \"alien\", \"value\": \"x\"}]}", DROP_INVALID, "alien"},
    {"{\"messages\": []}", DROP_INVALID, "is empty"},
    {"{\"messages\": [5]}", DROP_INVALID, "message 1"},
    {"{\"messages\": [" TURN("user", "null") "]}", DROP_INVALID, "message 1"},
    {"{\"messages\": [" TURN("user", "\"a\"") "," TURN("wizard", "\"a\"") "]}", DROP_INVALID,
     "message 2"},
    {"{\"messages\": [" TURN("user", "[{\"type\":\"image\"}]") "]}", DROP_INVALID, "not text"},
    {"{\"instruction\": \"a\", \"output\": null}", DROP_INVALID, "'output'"},
    {"{\"instruction\": 1, \"output\": \"b\"}", DROP_INVALID, "'instruction'"},
    {"{\"text\": \"<|im_start|>user\\nhey\"}", DROP_INVALID, "not balanced"},
    {"{\"text\": \"<|im_start|>elf\\nhey<|im_end|>\"}", DROP_INVALID, "role"},
    {"{\"text\": \"lost <|im_start|>user\\nhey<|im_end|>\"}", DROP_INVALID, "between"},
    {"{\"text\": \"<|im_start|>user\\nhey<|im_end|> lost\"}", DROP_INVALID, "behind"},
    {"{\"messages\": [" TURN("user", "\"a\"") "]}", DROP_NO_LOSS, "assistant turn"},
};

static void every_reason_is_counted_and_noted(void **state)
{
    Buf file = {0};
    int64_t counts[DROP_REASONS] = {0};
    for (size_t i = 0; i < COUNT_OF(bad_rows); i++) {
        buf_text(&file, bad_rows[i].line);
        buf_char(&file, '\n');
        counts[bad_rows[i].reason]++;
    }
    buf_text(&file, "{\"text\": \"good\"}\n");
    Err err = {0};
    Dataset dataset;
    assert_true(parse(&dataset, file.data, "a.jsonl", &err));
    assert_int_equal(dataset.n_examples, 1);
    assert_int_equal(dataset.n_rows, COUNT_OF(bad_rows) + 1);
    assert_int_equal(dataset.n_notes, COUNT_OF(bad_rows));
    for (int i = 0; i < DROP_REASONS; i++)
        assert_int_equal(dataset.n_dropped[i], counts[i]);
    for (size_t i = 0; i < COUNT_OF(bad_rows); i++) {
        const RowNote *note = &dataset.notes[i];
        if (fault_reason(note->kind) != bad_rows[i].reason ||
            strstr(note->text, bad_rows[i].note) == NULL || note->line != (int32_t)(i + 1))
            fail_msg("row %zu: '%s' (line %d, reason %d)", i + 1, note->text, note->line,
                     fault_reason(note->kind));
    }
    buf_free(&file);
}

typedef struct BadFile {
    const char *name, *bytes;
    ErrCode code;
    const char *message;
} BadFile;

static void a_file_without_a_usable_row_is_an_error(void **state)
{
    static const BadFile files[] = {
        {"a.jsonl", "", ERR_INPUT_DATASET_INVALID, "no rows"},
        {"a.jsonl", "\n \r\n", ERR_INPUT_DATASET_INVALID, "no rows"},
        {"a.txt", "\n\n", ERR_INPUT_DATASET_INVALID, "no rows"},
        {"a.json", "[]", ERR_INPUT_DATASET_INVALID, "no rows"},
        {"a.json", "[1,", ERR_INPUT_DATASET_PARSE_FAILED, "a.json"},
        {"a.jsonl", "x\n\ny\n", ERR_INPUT_DATASET_PARSE_FAILED, "line 3"},
        {"a.jsonl", "{\"a\": 1}\n", ERR_INPUT_DATASET_FORMAT_UNSUPPORTED,
         "line 1: no known format"},
        {"a.jsonl", "{\"messages\": [" TURN("user", "\"a\"") "]}\n",
         ERR_INPUT_DATASET_VALIDATION_FAILED, "no token would carry loss"},
        {"a.jsonl", "x\n{\"a\": 1}\n", ERR_INPUT_DATASET_VALIDATION_FAILED, "line 2"},
    };
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        Err err = {0};
        Dataset dataset;
        assert_false(parse(&dataset, files[i].bytes, files[i].name, &err));
        assert_int_equal(err.code, files[i].code);
        if (strstr(err.message, files[i].message) == NULL)
            fail_msg("'%s' is not in '%s'", files[i].message, err.message);
    }
    Err err = {0};
    Dataset dataset;
    DatasetOptions options = {.max_seq_length = 16};
    assert_false(dataset_load(&dataset, &(DataFile){"/nowhere/a.jsonl", 1}, 1,
                              &(DataTexts){fx.tokenizer, fx.chatml}, &options, &fx.arena, &err));
    keep(&dataset, false);
    assert_int_equal(err.code, ERR_INPUT_DATASET_NOT_FOUND);
}

static void rows_refused_by_the_template_are_dropped(void **state)
{
    Err err = {0};
    Dataset dataset;
    DatasetOptions options = {.max_seq_length = 64};
    Template *strict = template_parse(
        STR("{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
            "{% endif %}{{ m.content }}</s>{% endfor %}"),
        "strict", &fx.arena, &err);
    Str rows = STR("{\"messages\": [" TURN("system", "\"s\"") "," TURN(
        "assistant", "\"a\"") "]}\n"
                              "{\"messages\": [" TURN("user", "\"u\"") "," TURN("assistant",
                                                                                "\"a\"") "]}\n");
    assert_true(parse_with(&dataset, rows, "a.jsonl", strict, &options, &err));
    assert_int_equal(dataset.n_dropped[DROP_TEMPLATE], 1);
    assert_non_null(strstr(dataset.notes[0].text, "no system"));
    assert_false(parse_with(&dataset, rows, "a.jsonl", NULL, &options, &err));
    assert_int_equal(err.code, ERR_DEP_CHAT_TEMPLATE_INVALID);
    assert_non_null(strstr(err.message, "no chat template"));
}

/* Every row refuses: the data's fault. Every row needs what is not supported: the template's. */
static void a_template_that_no_row_fits_is_told_from_bad_data(void **state)
{
    static const struct {
        const char *source;
        ErrCode code;
    } cases[] = {
        {"{{ raise_exception('never') }}", ERR_INPUT_DATASET_VALIDATION_FAILED},
        {"{{ messages[0].content.nothing.at_all }}", ERR_INPUT_DATASET_VALIDATION_FAILED},
        {"{{ messages.append(1) }}", ERR_DEP_CHAT_TEMPLATE_INVALID},
    };
    Str rows = STR("{\"messages\": [" TURN("user", "\"u\"") "," TURN("assistant", "\"a\"") "]}\n");
    DatasetOptions options = {.max_seq_length = 64};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        Err err = {0};
        Dataset dataset;
        Template *template = template_parse(str_of(cases[i].source), "t", &fx.arena, &err);
        assert_non_null(template);
        assert_false(parse_with(&dataset, rows, "a.jsonl", template, &options, &err));
        assert_int_equal(err.code, cases[i].code);
    }
}

/* What a template does to the content may not be guessed: such a row is refused. */
static void a_turn_that_cannot_be_placed_is_refused(void **state)
{
    Err err = {0};
    Dataset dataset;
    DatasetOptions options = {.max_seq_length = 64};
    static const char *const sources[] = {
        "{% for m in messages %}{{ m.content | upper }}</s>{% endfor %}",
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}",
        "{% for m in messages %}{{ m.content }}</s>{{ m.content }}{% endfor %}",
        "{{ messages | length }}{% for m in messages %}{{ m.content | length }}{% endfor %}",
    };
    for (size_t i = 0; i < COUNT_OF(sources); i++) {
        Str row =
            STR("{\"messages\": [" TURN("user", "\"ab ba\"") "," TURN("assistant", "\"ba\"") "]}");
        Template *template = template_parse(str_of(sources[i]), "t", &fx.arena, &err);
        err = (Err){0};
        assert_false(parse_with(&dataset, row, "a.jsonl", template, &options, &err));
        if (strstr(err.message, "cannot be placed") == NULL)
            fail_msg("%s", err.message);
    }
}

static void long_rows_are_cut_and_counted(void **state)
{
    Err err = {0};
    Dataset dataset;
    DatasetOptions options = {.max_seq_length = 8};
    Str rows = STR("{\"text\": \"a b c d e f g h i j k l m n o p\"}\n{\"text\": \"a\"}\n"
                   "{\"messages\": [" TURN("user", "\"long enough to fill it\"") "," TURN(
                       "assistant", "\"a\"") "]}\n");
    assert_true(parse_with(&dataset, rows, "a.jsonl", fx.chatml, &options, &err));
    assert_int_equal(dataset.n_examples, 2);
    assert_int_equal(dataset.n_truncated, 1);
    assert_int_equal(dataset.examples[0].len, 8);
    assert_int_equal(dataset.examples[0].n_loss, 7);
    assert_int_equal(dataset.n_dropped[DROP_NO_LOSS], 1);
    assert_true(dataset.notes[0].truncated && dataset.notes[0].line == 1);
    assert_non_null(strstr(dataset.notes[1].text, "after it is cut"));
    Buf summary = {0};
    dataset_summary(&dataset, &summary);
    assert_non_null(strstr(summary.data, "3 rows, 2 used, 1 dropped (1 without loss), 1 cut"));
    buf_free(&summary);
}

static void prompts_carry_loss_when_asked(void **state)
{
    Err err = {0};
    Dataset dataset;
    DatasetOptions options = {.max_seq_length = 64, .train_on_prompts = true};
    Str row = STR("{\"messages\": [" TURN("user", "\"u\"") "," TURN("assistant", "\"a\"") "]}");
    assert_true(parse_with(&dataset, row, "a.jsonl", fx.chatml, &options, &err));
    assert_int_equal(dataset.n_loss, dataset.n_tokens - 1);
}

static void samples_are_a_seeded_choice(void **state)
{
    Err err = {0};
    Buf file = {0};
    for (int i = 0; i < 200; i++)
        buf_printf(&file, "{\"text\": \"row %d\"}\n", i);
    int32_t chosen[3][20];
    for (int run = 0; run < 3; run++) {
        Dataset dataset;
        DatasetOptions options = {
            .max_seq_length = 64, .max_samples = 20, .seed = run == 2 ? 8 : 7};
        assert_true(parse_with(&dataset, buf_view(&file), "a.jsonl", fx.chatml, &options, &err));
        assert_int_equal(dataset.n_examples, 20);
        for (int i = 0; i < 20; i++)
            chosen[run][i] = dataset.examples[i].line;
        for (int i = 1; i < 20; i++)
            assert_true(chosen[run][i] > chosen[run][i - 1]);
    }
    assert_memory_equal(chosen[0], chosen[1], sizeof chosen[0]);
    assert_memory_not_equal(chosen[0], chosen[2], sizeof chosen[0]);
    buf_free(&file);
}

/* Tools of a row reach the template; the next row does not see them. */
static void tools_reach_the_template(void **state)
{
    Err err = {0};
    Dataset dataset;
    DatasetOptions options = {.max_seq_length = 64};
    Template *template =
        template_parse(STR("{% if tools %}T{{ tools | length }}{% endif %}{% for m in messages "
                           "%}<s>{{ m.content }}</s>"
                           "{% endfor %}{% if add_generation_prompt %}<s>{% endif %}"),
                       "tools", &fx.arena, &err);
    Str rows = STR("{\"messages\": [" TURN("assistant", "\"a\"") "], \"tools\": [{\"x\": 1}]}\n"
                                                                 "{\"messages\": [" TURN(
                                                                     "assistant", "\"a\"") "]}\n");
    assert_true(parse_with(&dataset, rows, "a.jsonl", template, &options, &err));
    assert_true(dataset.examples[0].len > dataset.examples[1].len);
    assert_int_equal(dataset.examples[0].n_loss, dataset.examples[1].n_loss);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loss_is_on_the_assistants_turns),
        cmocka_unit_test(every_format_is_read),
        cmocka_unit_test(the_shape_of_the_file_does_not_matter),
        cmocka_unit_test(text_files_split_at_blank_lines),
        cmocka_unit_test(every_reason_is_counted_and_noted),
        cmocka_unit_test(a_file_without_a_usable_row_is_an_error),
        cmocka_unit_test(rows_refused_by_the_template_are_dropped),
        cmocka_unit_test(a_template_that_no_row_fits_is_told_from_bad_data),
        cmocka_unit_test(a_turn_that_cannot_be_placed_is_refused),
        cmocka_unit_test(long_rows_are_cut_and_counted),
        cmocka_unit_test(prompts_carry_loss_when_asked),
        cmocka_unit_test(samples_are_a_seeded_choice),
        cmocka_unit_test(tools_reach_the_template),
    };
    return cmocka_run_group_tests_name("data_dataset", tests, set_up, tear_down);
}
