/* schema.h — one row of a data file, whatever its format, as messages or plain text.
 *
 * Formats are recognised per row, in this order (names as the ecosystem has them):
 *   ShareGPT   {"conversations": [{"from": "human", "value": …}, …]}
 *   OpenAI     {"messages": [{"role": "user", "content": text or [{"type": "text", …}]}, …],
 *               "tools": […]?}
 *   Alpaca     {"instruction": …, "input": …?, "output": …, "system": …?}
 *   text       {"text": …} or a bare string; ChatML markup inside is read as messages
 */
#ifndef DATA_SCHEMA_H
#define DATA_SCHEMA_H

#include "core/json.h"
#include "data/dataset.h"

typedef struct Row {
    Json *messages;    /* array of {role, content, …}; owned by the row; NULL: plain text */
    const Json *tools; /* for the template, NULL when there are none; of the JSON value */
    Str text;          /* inside the JSON value it came from */
} Row;

/* Why a row cannot be used. */
typedef struct RowFault {
    DropReason reason;
    char text[160];
} RowFault;

/* False: *fault says why. The row is to be freed with row_free. */
bool schema_read(const Json *value, Row *row, RowFault *fault);
void row_free(Row *row);
/* Sets *fault; always returns false. */
bool row_fault(RowFault *fault, DropReason reason, const char *format, ...) PRINTF_LIKE(3, 4);

#endif
