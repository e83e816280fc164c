// layer: data
/* fuzz_rows.c — any bytes as a data file of each syntax, and each of its rows as each format.
 *
 * The first byte chooses the syntax: .jsonl, .json, .csv, .txt, .md (gzip by its own mark). Lines
 * of rows ascend, a row is a value or a fault with a reason, and what a format takes has what the
 * renderer relies on: messages that are objects with a role, or a text.
 */
#include <stdlib.h>
#include <string.h>

#include "data/rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_messages(const Row *row)
{
    require(json_is_array(row->messages) && json_len(row->messages) > 0);
    require(row->first_answer <= json_len(row->messages));
    for (size_t i = 0; i < json_len(row->messages); i++)
        require(json_text(json_get(json_at(row->messages, i), "role")) != NULL);
    require(row->tools == NULL || json_is_array(row->tools));
}

static void check_format(RowFormat format, const Json *value)
{
    Row row = {0};
    RowFault fault = {0};
    if (schema_read_as(format, value, &row, &fault)) {
        Buf words = {0};
        require(row.messages != NULL || row.text.data != NULL);
        if (row.messages != NULL)
            check_messages(&row);
        row_words(&row, &words);
        require(row_blank_turn(&row) <= json_len(row.messages) && row_turns(&row) >= 0);
        buf_free(&words);
    } else {
        require(fault.kind < FAULT_KINDS && fault.text[0] != '\0');
    }
    row_free(&row);
}

static void check_row(const RowReader *reader, const RawRow *raw)
{
    RowFault fault = {0};
    Json *value = row_parse(reader, raw, &fault);
    require(value != NULL || fault.text[0] != '\0');
    const RowFormat known = value == NULL ? FORMAT_UNKNOWN : schema_detect(value);
    require(known < FORMAT_COUNT);
    for (int format = FORMAT_UNKNOWN + 1; value != NULL && format < FORMAT_COUNT; format++)
        check_format((RowFormat)format, value);
    json_free(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"a.jsonl", "a.json", "a.csv", "a.txt", "a.md"};
    if (size == 0)
        return 0;
    Err err = {0};
    const char *name = names[data[0] % COUNT_OF(names)];
    RowReader *reader = row_reader_over((Str){(const char *)data + 1, size - 1}, name, &err);
    require(reader != NULL || err_is_set(&err));
    int32_t line = 0;
    for (int32_t count = 1; reader != NULL && count > 0;) {
        const RawRow *rows = NULL;
        if (!row_reader_batch(reader, &rows, &count, &err)) {
            require(err_is_set(&err));
            break;
        }
        for (int32_t i = 0; i < count; i++) {
            require(rows[i].line >= line && rows[i].line >= 1);
            line = rows[i].line;
            check_row(reader, &rows[i]);
        }
    }
    row_reader_close(reader);
    return 0;
}
