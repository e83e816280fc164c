/* schema.h — one row of a data file, whatever its format, as messages or plain text.
 *
 * Formats are recognised per row, in this order (names as the ecosystem has them); a field that is
 * null counts as absent:
 *   sharegpt           {"conversations": [{"from": "human", "value": …}, …], "tools": […]?}
 *   openai             {"messages": [{"role": "user", "content": text or [{"type": "text", …}]},
 *                       …], "tools": […]?}
 *   alpaca             {"instruction": …, "input": …?, "output": …, "system": …?}
 *   prompt_completion  {"prompt": text or messages, "completion": text or messages}
 *   preference         {"prompt": …?, "chosen": text or messages, "rejected": …}: chosen is used
 *   chatml             {"text": …} or a bare string with ChatML markup
 *   raw_text           {"text": …} or a bare string without it
 */
#ifndef DATA_SCHEMA_H
#define DATA_SCHEMA_H

#include "core/json.h"

typedef enum DropReason {
#define G(id, text) DROP_##id,
#include "data/faults.def"
    DROP_REASONS
} DropReason;

typedef enum FaultKind {
#define F(id, group, name) FAULT_##id,
#include "data/faults.def"
    FAULT_KINDS
} FaultKind;

typedef enum RowFormat {
    FORMAT_UNKNOWN,
    FORMAT_SHAREGPT,
    FORMAT_OPENAI,
    FORMAT_ALPACA,
    FORMAT_PROMPT_COMPLETION,
    FORMAT_PREFERENCE,
    FORMAT_CHATML,
    FORMAT_RAW_TEXT,
    FORMAT_COUNT
} RowFormat;
const char *format_name(RowFormat format); /* "sharegpt", … */

typedef struct Row {
    RowFormat format;
    Json *messages;      /* array of {role, content, …}; NULL: plain text */
    Json *tools;         /* for the template, NULL when there are none */
    Str text;            /* plain text, inside the JSON value it came from */
    size_t first_answer; /* turns before this message carry no loss */
} Row;

/* Why a row cannot be used. */
typedef struct RowFault {
    FaultKind kind;
    char text[160];
} RowFault;
DropReason fault_reason(FaultKind kind);
const char *fault_name(FaultKind kind);   /* "missing_field" */
const char *drop_text(DropReason reason); /* "not readable" */
/* Sets *fault; always returns false. */
bool row_fault(RowFault *fault, FaultKind kind, const char *format, ...) PRINTF_LIKE(3, 4);

/* What the row's fields look like; FORMAT_UNKNOWN when like nothing known. */
RowFormat schema_detect(const Json *value);
/* Reads the row as `format` (what schema_detect says, or what a user insists on). False: *fault
 * says why. The row is to be freed with row_free either way. */
bool schema_read_as(RowFormat format, const Json *value, Row *row, RowFault *fault);
bool schema_read(const Json *value, Row *row, RowFault *fault); /* both */
void row_free(Row *row);

/* First message (from 1) without text and without tool calls, 0 if there is none. */
size_t row_blank_turn(const Row *row);
bool row_has_role(const Row *row, const char *role);
/* Turns of a conversation, system and developer messages left out; 1 for a plain text. */
int64_t row_turns(const Row *row);
/* Appends the row's words in one form whatever its format: "role\ncontent\n" a message. */
void row_words(const Row *row, Buf *out);

#endif
