// layer: core
/* fuzz_json.c — any bytes as JSON: json_parse accepts or refuses with an error, and never crashes.
 *
 * What it accepts is written, read again and written again; the two texts must be the same, so
 * nothing that we write is lost or refused by ourselves.
 */
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Err err = {0};
    Str text = {(const char *)data, size};
    Json *json = json_parse(text, "fuzz", ERR_INPUT_VALIDATION_FAILED, &err);
    if (json == NULL) {
        if (!err_is_set(&err) || err.message[0] == '\0')
            abort();
        return 0;
    }
    Buf first = {0}, second = {0};
    json_write(json, (JsonStyle){.indent = size > 0 ? data[0] % 4 : 0}, &first);
    Json *again = json_parse(buf_view(&first), "own", ERR_INPUT_VALIDATION_FAILED, &err);
    if (again == NULL)
        abort();
    json_write(again, (JsonStyle){.indent = size > 0 ? data[0] % 4 : 0}, &second);
    if (!str_eq(buf_view(&first), buf_view(&second)))
        abort();
    json_free(again);
    json_free(json);
    buf_free(&first);
    buf_free(&second);
    return 0;
}
