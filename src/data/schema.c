/* schema.c — recognising and converting rows; formats at the head of schema.h.
 *
 * Conversion never invents content: a missing or null text is a fault of the row, an unknown role
 * too. Unknown extra fields of a message are kept for the template (tool calls, reasoning). The old
 * function_call of OpenAI becomes the tool call that it is.
 */
#include "data/schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define CHATML_OPEN "<|im_start|>"
#define CHATML_CLOSE "<|im_end|>"

enum { MESSAGES_MAX = 4096 };

static const struct {
    DropReason reason;
    const char *name;
} faults[FAULT_KINDS] = {
#define F(id, group, name) {DROP_##group, name},
#include "data/faults.def"
};
static const char *const drop_texts[DROP_REASONS] = {
#define G(id, text) text,
#include "data/faults.def"
};

DropReason fault_reason(FaultKind kind)
{
    assert(kind < FAULT_KINDS);
    return faults[kind].reason;
}

const char *fault_name(FaultKind kind)
{
    assert(kind < FAULT_KINDS);
    return faults[kind].name;
}

const char *drop_text(DropReason reason)
{
    assert(reason < DROP_REASONS);
    return drop_texts[reason];
}

const char *format_name(RowFormat format)
{
    static const char *const names[FORMAT_COUNT] = {
        "unknown",           "sharegpt",   "openai", "alpaca",
        "prompt_completion", "preference", "chatml", "raw_text",
    };
    assert(format < FORMAT_COUNT);
    return names[format];
}

bool row_fault(RowFault *fault, FaultKind kind, const char *format, ...)
{
    assert(fault != NULL && kind < FAULT_KINDS);
    va_list list;
    va_start(list, format);
    vsnprintf(fault->text, sizeof fault->text, format, list);
    va_end(list);
    fault->kind = kind;
    return false;
}

void row_free(Row *row)
{
    assert(row != NULL);
    json_free(row->messages);
    json_free(row->tools);
    *row = (Row){0};
}

/* ---- turns ---------------------------------------------------- */

static const struct {
    const char *from, *role;
} role_aliases[] = {
    {"human", "user"},          {"user", "user"},
    {"prompter", "user"},       {"gpt", "assistant"},
    {"assistant", "assistant"}, {"model", "assistant"},
    {"bot", "assistant"},       {"chatgpt", "assistant"},
    {"ai", "assistant"},        {"bing", "assistant"},
    {"bard", "assistant"},      {"function_call", "assistant"},
    {"system", "system"},       {"developer", "developer"},
    {"tool", "tool"},           {"function", "tool"},
    {"observation", "tool"},    {"tool_response", "tool"},
    {"ipython", "tool"},        {"function_response", "tool"},
};

static const char *role_of(const char *from)
{
    for (size_t i = 0; from != NULL && i < COUNT_OF(role_aliases); i++) {
        if (strcasecmp(role_aliases[i].from, from) == 0)
            return role_aliases[i].role;
    }
    return NULL;
}

static const Json *get(const Json *object, const char *key)
{
    const Json *value = json_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static void add_message(Json *messages, const char *role, Str content)
{
    assert(role != NULL);
    Json *message = json_new_object();
    json_put(message, "role", json_new_text(role));
    json_put(message, "content", json_new_str(content));
    json_add(messages, message);
}

static bool count_ok(const Json *list, const char *field, RowFault *fault)
{
    if (list == NULL)
        return row_fault(fault, FAULT_MISSING_FIELD, "'%s' is missing or null", field);
    if (!json_is_array(list))
        return row_fault(fault, FAULT_INVALID_TYPE, "'%s' is not a list", field);
    if (json_len(list) == 0) {
        bool sharegpt = strcmp(field, "conversations") == 0;
        return row_fault(fault, sharegpt ? FAULT_EMPTY_CONVERSATIONS : FAULT_EMPTY_MESSAGES,
                         "'%s' is empty", field);
    }
    return json_len(list) <= MESSAGES_MAX ||
           row_fault(fault, FAULT_TOO_MANY_TURNS, "'%s' has more than %d turns", field,
                     MESSAGES_MAX);
}

/* {"from": …, "value": …} */
static bool read_sharegpt_turn(const Json *turn, size_t i, Json *messages, RowFault *fault)
{
    const Json *from = get(turn, "from"), *value = get(turn, "value");
    if (from == NULL || value == NULL)
        return row_fault(fault, FAULT_MISSING_FIELD, "turn %zu has no '%s'", i + 1,
                         from == NULL ? "from" : "value");
    if (!json_is_string(from) || !json_is_string(value))
        return row_fault(fault, FAULT_INVALID_TYPE, "turn %zu has no text in 'from' or 'value'",
                         i + 1);
    const char *role = role_of(json_text(from));
    if (role == NULL)
        return row_fault(fault, FAULT_INVALID_ROLE, "turn %zu is from '%.40s', not a known role",
                         i + 1, json_text(from));
    add_message(messages, role, json_str(value));
    return true;
}

/* The text of a content list, its parts joined. */
static bool join_parts(const Json *parts, Buf *text, size_t turn, RowFault *fault)
{
    for (size_t i = 0; i < json_len(parts); i++) {
        const Json *part = json_at(parts, i);
        const char *type = json_text(json_get(part, "type"));
        const Json *value = json_is_string(part) ? part : json_get(part, "text");
        bool is_text = type == NULL || strcmp(type, "text") == 0 || strstr(type, "put_text");
        if (!json_is_string(value) || !is_text)
            return row_fault(fault, FAULT_INVALID_TYPE, "message %zu has a part that is not text",
                             turn);
        buf_str(text, json_str(value));
    }
    return true;
}

/* {"name": …, "arguments": …} of old OpenAI files as the one tool call of the message. */
static void add_tool_call(Json *message)
{
    Json *call = json_new_object(), *calls = json_new_array();
    json_put(call, "type", json_new_text("function"));
    json_put(call, "function", json_clone(json_get(message, "function_call")));
    json_add(calls, call);
    json_put(message, "tool_calls", calls);
    json_del(message, "function_call");
}

/* {"role": …, "content": …} */
static bool read_openai_turn(const Json *message, size_t i, Json *messages, RowFault *fault)
{
    const Json *role = get(message, "role"), *content = get(message, "content");
    const bool called = json_is_object(get(message, "function_call"));
    const bool calls = called || json_len(get(message, "tool_calls")) > 0;
    if (role == NULL)
        return row_fault(fault, FAULT_MISSING_FIELD, "message %zu has no 'role'", i + 1);
    if (role_of(json_text(role)) == NULL)
        return row_fault(fault, FAULT_INVALID_ROLE, "message %zu has no known 'role'", i + 1);
    if (content == NULL && !calls)
        return row_fault(fault, FAULT_MISSING_FIELD, "message %zu has no 'content'", i + 1);
    if (content != NULL && !json_is_string(content) && !json_is_array(content))
        return row_fault(fault, FAULT_INVALID_TYPE, "message %zu has no text in 'content'", i + 1);
    Json *copy = json_clone(message);
    json_put(copy, "role", json_new_text(role_of(json_text(role))));
    if (called)
        add_tool_call(copy);
    bool ok = true;
    if (json_is_array(content)) {
        Buf text = {0};
        ok = join_parts(content, &text, i + 1, fault);
        json_put(copy, "content", json_new_str(buf_view(&text)));
        buf_free(&text);
    }
    json_add(messages, copy);
    return ok;
}

/* Both spellings of a turn are read under both names of the list. */
static bool read_turns(const Json *list, const char *field, Json *messages, RowFault *fault)
{
    if (!count_ok(list, field, fault))
        return false;
    const bool sharegpt = strcmp(field, "conversations") == 0;
    for (size_t i = 0; i < json_len(list); i++) {
        const Json *turn = json_at(list, i);
        if (!json_is_object(turn))
            return row_fault(fault, FAULT_INVALID_TYPE, "%s %zu is not an object",
                             sharegpt ? "turn" : "message", i + 1);
        const bool as_sharegpt = sharegpt ? get(turn, "role") == NULL : get(turn, "from") != NULL;
        if (!(as_sharegpt ? read_sharegpt_turn : read_openai_turn)(turn, i, messages, fault))
            return false;
    }
    return true;
}

/* Tools of the row: a list, or a list that was written as text. */
static bool read_tools(const Json *value, Row *row, RowFault *fault)
{
    const Json *tools = get(value, "tools");
    if (json_is_string(tools) && str_trim(json_str(tools)).len > 0) {
        row->tools = json_parse(json_str(tools), "tools", ERR_INPUT_DATASET_PARSE_FAILED, NULL);
    } else if (json_len(tools) > 0) {
        row->tools = json_clone(tools);
    } else {
        return true;
    }
    if (!json_is_array(row->tools))
        return row_fault(fault, FAULT_INVALID_TYPE, "'tools' is not a list");
    if (json_len(row->tools) > 0)
        return true;
    json_free(row->tools);
    row->tools = NULL;
    return true;
}

/* ---- formats ---------------------------------------------------- */

static bool text_field(const Json *row, const char *field, bool needed, Str *text, RowFault *fault)
{
    const Json *value = get(row, field);
    *text = json_str(value);
    if (value == NULL && needed)
        return row_fault(fault, FAULT_MISSING_FIELD, "'%s' is missing or null", field);
    return value == NULL || json_is_string(value) ||
           row_fault(fault, FAULT_INVALID_TYPE, "'%s' is not text", field);
}

static bool read_alpaca(const Json *value, Row *row, RowFault *fault)
{
    Str instruction, output, input, system;
    if (!text_field(value, "instruction", true, &instruction, fault) ||
        !text_field(value, "output", true, &output, fault) ||
        !text_field(value, "input", false, &input, fault) ||
        !text_field(value, "system", false, &system, fault))
        return false;
    if (system.len > 0)
        add_message(row->messages, "system", system);
    Buf user = {0};
    buf_str(&user, instruction);
    if (input.len > 0) {
        buf_text(&user, "\n\n");
        buf_str(&user, input);
    }
    add_message(row->messages, "user", buf_view(&user));
    add_message(row->messages, "assistant", output);
    buf_free(&user);
    return true;
}

/* A side of a pair: a text that `role` says, or messages. */
static bool read_side(const Json *value, const char *field, const char *role, Json *messages,
                      RowFault *fault)
{
    const Json *side = get(value, field);
    if (side == NULL)
        return row_fault(fault, FAULT_MISSING_FIELD, "'%s' is missing or null", field);
    if (json_is_array(side))
        return read_turns(side, field, messages, fault);
    if (!json_is_string(side))
        return row_fault(fault, FAULT_INVALID_TYPE, "'%s' is neither text nor a list", field);
    add_message(messages, role, json_str(side));
    return true;
}

static bool read_pair(const Json *value, Row *row, RowFault *fault)
{
    if (!read_side(value, "prompt", "user", row->messages, fault))
        return false;
    row->first_answer = json_len(row->messages);
    return read_side(value, "completion", "assistant", row->messages, fault);
}

/* The chosen side; it holds the whole conversation when it does not begin with the answer. */
static bool read_preference(const Json *value, Row *row, RowFault *fault)
{
    const Json *chosen = get(value, "chosen");
    const Json *first = json_at(chosen, 0);
    const char *role = json_text(json_get(first, json_get(first, "role") ? "role" : "from"));
    const char *known = role_of(role);
    const bool whole = json_is_array(chosen) && known != NULL && strcmp(known, "assistant") != 0;
    if (!whole && get(value, "prompt") != NULL &&
        !read_side(value, "prompt", "user", row->messages, fault))
        return false;
    row->first_answer = json_len(row->messages);
    return read_side(value, "chosen", "assistant", row->messages, fault);
}

static const char *find_text(Str s, size_t from, const char *what)
{
    return from <= s.len ? memmem(s.data + from, s.len - from, what, strlen(what)) : NULL;
}

/* <|im_start|>ROLE\nCONTENT<|im_end|>, turns separated by white space. */
static bool read_chatml(Str text, Json *messages, RowFault *fault)
{
    size_t at = 0;
    for (const char *open; (open = find_text(text, at, CHATML_OPEN)) != NULL;) {
        size_t role_at = (size_t)(open - text.data) + strlen(CHATML_OPEN);
        const char *newline = find_text(text, role_at, "\n");
        const char *close = find_text(text, role_at, CHATML_CLOSE);
        if (newline == NULL || close == NULL || newline > close)
            return row_fault(fault, FAULT_UNBALANCED_TAGS, "the ChatML markup is not balanced");
        char role[24] = "";
        Str name = str_trim(str_sub(text, role_at, (size_t)(newline - text.data)));
        if (name.len < sizeof role)
            memcpy(role, name.data, name.len);
        if (role_of(role) == NULL)
            return row_fault(fault, FAULT_INVALID_ROLE, "the ChatML role is not known");
        if (str_trim(str_sub(text, at, (size_t)(open - text.data))).len > 0)
            return row_fault(fault, FAULT_UNBALANCED_TAGS,
                             "there is text between the ChatML turns");
        size_t from = (size_t)(newline - text.data) + 1;
        add_message(messages, role_of(role), str_sub(text, from, (size_t)(close - text.data)));
        at = (size_t)(close - text.data) + strlen(CHATML_CLOSE);
    }
    if (str_trim(str_sub(text, at, text.len)).len > 0)
        return row_fault(fault, FAULT_UNBALANCED_TAGS, "there is text behind the last ChatML turn");
    return json_len(messages) > 0 ||
           row_fault(fault, FAULT_UNBALANCED_TAGS, "there is no ChatML turn");
}

/* The row itself, or its field `text`. */
static bool read_text(RowFormat format, const Json *value, Row *row, RowFault *fault)
{
    if (json_is_string(value))
        row->text = json_str(value);
    else if (!text_field(value, "text", true, &row->text, fault))
        return false;
    if (str_trim(row->text).len == 0)
        return row_fault(fault, FAULT_EMPTY_CONTENT, "the text is empty");
    return format == FORMAT_RAW_TEXT || read_chatml(row->text, row->messages, fault);
}

RowFormat schema_detect(const Json *value)
{
    Str text = json_is_string(value) ? json_str(value) : json_str(json_get(value, "text"));
    const bool open = find_text(text, 0, CHATML_OPEN) != NULL;
    if (json_is_string(value))
        return open && find_text(text, 0, CHATML_CLOSE) ? FORMAT_CHATML : FORMAT_RAW_TEXT;
    if (get(value, "conversations") != NULL)
        return FORMAT_SHAREGPT;
    if (get(value, "messages") != NULL)
        return FORMAT_OPENAI;
    const bool instruction = json_get(value, "instruction") && json_get(value, "output");
    if (instruction && (get(value, "instruction") != NULL || get(value, "output") != NULL))
        return FORMAT_ALPACA;
    if (get(value, "prompt") != NULL && json_get(value, "completion") != NULL)
        return FORMAT_PROMPT_COMPLETION;
    if (get(value, "chosen") != NULL)
        return FORMAT_PREFERENCE;
    if (json_is_string(json_get(value, "text")))
        return open ? FORMAT_CHATML : FORMAT_RAW_TEXT;
    if (json_get(value, "conversations") != NULL) /* null, and nothing else */
        return FORMAT_SHAREGPT;
    return json_get(value, "messages") != NULL ? FORMAT_OPENAI : FORMAT_UNKNOWN;
}

bool schema_read_as(RowFormat format, const Json *value, Row *row, RowFault *fault)
{
    assert(format < FORMAT_COUNT);
    *row = (Row){.format = format};
    if (!json_is_object(value) && !json_is_string(value))
        return row_fault(fault, FAULT_UNKNOWN_FORMAT, "the row is neither an object nor a text");
    if (format != FORMAT_RAW_TEXT)
        row->messages = json_new_array();
    switch (format) {
    case FORMAT_SHAREGPT:
        return read_turns(get(value, "conversations"), "conversations", row->messages, fault) &&
               read_tools(value, row, fault);
    case FORMAT_OPENAI:
        return read_turns(get(value, "messages"), "messages", row->messages, fault) &&
               read_tools(value, row, fault);
    case FORMAT_ALPACA:
        return read_alpaca(value, row, fault);
    case FORMAT_PROMPT_COMPLETION:
        return read_pair(value, row, fault) && read_tools(value, row, fault);
    case FORMAT_PREFERENCE:
        return read_preference(value, row, fault) && read_tools(value, row, fault);
    case FORMAT_CHATML:
    case FORMAT_RAW_TEXT:
        return read_text(format, value, row, fault);
    case FORMAT_UNKNOWN:
    case FORMAT_COUNT:
        break;
    }
    return row_fault(fault, FAULT_UNKNOWN_FORMAT,
                     "no known format (conversations, messages, instruction and output, prompt "
                     "and completion, or text)");
}

bool schema_read(const Json *value, Row *row, RowFault *fault)
{
    return schema_read_as(schema_detect(value), value, row, fault);
}

/* ---- questions ---------------------------------------------------- */

size_t row_blank_turn(const Row *row)
{
    for (size_t i = 0; i < json_len(row->messages); i++) {
        const Json *message = json_at(row->messages, i);
        if (str_trim(json_str(json_get(message, "content"))).len == 0 &&
            json_len(json_get(message, "tool_calls")) == 0)
            return i + 1;
    }
    return 0;
}

bool row_has_role(const Row *row, const char *role)
{
    assert(role != NULL);
    for (size_t i = 0; i < json_len(row->messages); i++) {
        const char *own = json_text(json_get(json_at(row->messages, i), "role"));
        if (own != NULL && strcmp(own, role) == 0)
            return true;
    }
    return false;
}

int64_t row_turns(const Row *row)
{
    int64_t n = row->messages == NULL;
    for (size_t i = 0; i < json_len(row->messages); i++) {
        const char *role = json_text(json_get(json_at(row->messages, i), "role"));
        n += role != NULL && strcmp(role, "system") != 0 && strcmp(role, "developer") != 0;
    }
    return n;
}

void row_words(const Row *row, Buf *out)
{
    if (row->messages == NULL)
        buf_str(out, row->text);
    for (size_t i = 0; i < json_len(row->messages); i++) {
        const Json *message = json_at(row->messages, i);
        buf_str(out, json_str(json_get(message, "role")));
        buf_char(out, '\n');
        buf_str(out, json_str(json_get(message, "content")));
        buf_char(out, '\n');
        if (json_get(message, "tool_calls") != NULL)
            json_write(json_get(message, "tool_calls"), (JsonStyle){.sorted = true}, out);
    }
    assert(!out->failed || out->max > 0);
}
