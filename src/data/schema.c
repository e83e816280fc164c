/* schema.c — recognising and converting rows; formats at the head of schema.h.
 *
 * Conversion never invents content: a missing or null text is a fault of the row, an unknown role
 * too. Unknown extra fields of an OpenAI message are kept for the template (tool calls).
 */
#include "data/schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define CHATML_OPEN "<|im_start|>"
#define CHATML_CLOSE "<|im_end|>"

enum { MESSAGES_MAX = 4096 };

bool row_fault(RowFault *fault, DropReason reason, const char *format, ...)
{
    assert(fault != NULL && reason < DROP_REASONS);
    va_list list;
    va_start(list, format);
    vsnprintf(fault->text, sizeof fault->text, format, list);
    va_end(list);
    fault->reason = reason;
    return false;
}

void row_free(Row *row)
{
    assert(row != NULL);
    json_free(row->messages);
    *row = (Row){0};
}

static const struct {
    const char *from, *role;
} role_aliases[] = {
    {"human", "user"},          {"user", "user"},        {"gpt", "assistant"},
    {"assistant", "assistant"}, {"model", "assistant"},  {"bot", "assistant"},
    {"chatgpt", "assistant"},   {"system", "system"},    {"tool", "tool"},
    {"function", "tool"},       {"observation", "tool"}, {"developer", "developer"},
};

static const char *role_of(const char *from)
{
    for (size_t i = 0; from != NULL && i < COUNT_OF(role_aliases); i++) {
        if (strcasecmp(role_aliases[i].from, from) == 0)
            return role_aliases[i].role;
    }
    return NULL;
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
    if (!json_is_array(list))
        return row_fault(fault, DROP_INVALID, "'%s' is not a list", field);
    if (json_len(list) == 0)
        return row_fault(fault, DROP_INVALID, "'%s' is empty", field);
    if (json_len(list) > MESSAGES_MAX)
        return row_fault(fault, DROP_INVALID, "'%s' has more than %d turns", field, MESSAGES_MAX);
    return true;
}

static bool read_sharegpt(const Json *list, Json *messages, RowFault *fault)
{
    if (!count_ok(list, "conversations", fault))
        return false;
    for (size_t i = 0; i < json_len(list); i++) {
        const Json *turn = json_at(list, i);
        const char *from = json_text(json_get(turn, "from"));
        const Json *value = json_get(turn, "value");
        if (from == NULL || !json_is_string(value))
            return row_fault(fault, DROP_INVALID, "turn %zu has no text in 'from' or 'value'",
                             i + 1);
        if (role_of(from) == NULL)
            return row_fault(fault, DROP_INVALID, "turn %zu is from '%.40s', not a known role",
                             i + 1, from);
        add_message(messages, role_of(from), json_str(value));
    }
    return true;
}

/* The text of a content list, its parts joined. */
static bool join_parts(const Json *parts, Buf *text, size_t turn, RowFault *fault)
{
    for (size_t i = 0; i < json_len(parts); i++) {
        const Json *part = json_at(parts, i);
        const char *type = json_text(json_get(part, "type"));
        const Json *value = json_is_string(part) ? part : json_get(part, "text");
        if (!json_is_string(value) || (type != NULL && strcmp(type, "text") != 0))
            return row_fault(fault, DROP_INVALID, "message %zu has a part that is not text", turn);
        buf_str(text, json_str(value));
    }
    return true;
}

static bool read_openai_message(const Json *message, size_t i, Json *messages, RowFault *fault)
{
    const char *role = json_text(json_get(message, "role"));
    const Json *content = json_get(message, "content");
    bool calls = json_len(json_get(message, "tool_calls")) > 0 ||
                 json_is_object(json_get(message, "function_call"));
    if (role == NULL || role_of(role) == NULL)
        return row_fault(fault, DROP_INVALID, "message %zu has no known 'role'", i + 1);
    if (!json_is_string(content) && !json_is_array(content) && !(json_is_null(content) && calls))
        return row_fault(fault, DROP_INVALID, "message %zu has no text in 'content'", i + 1);
    Json *copy = json_clone(message);
    json_put(copy, "role", json_new_text(role_of(role)));
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

static bool read_openai(const Json *list, Json *messages, RowFault *fault)
{
    if (!count_ok(list, "messages", fault))
        return false;
    for (size_t i = 0; i < json_len(list); i++) {
        if (!read_openai_message(json_at(list, i), i, messages, fault))
            return false;
    }
    return true;
}

static bool read_alpaca(const Json *row, Json *messages, RowFault *fault)
{
    const Json *instruction = json_get(row, "instruction"), *output = json_get(row, "output");
    const Json *input = json_get(row, "input"), *system = json_get(row, "system");
    if (!json_is_string(instruction) || !json_is_string(output))
        return row_fault(fault, DROP_INVALID, "'%s' is not text",
                         json_is_string(instruction) ? "output" : "instruction");
    if (json_str(system).len > 0)
        add_message(messages, "system", json_str(system));
    Buf user = {0};
    buf_str(&user, json_str(instruction));
    if (json_str(input).len > 0) {
        buf_text(&user, "\n\n");
        buf_str(&user, json_str(input));
    }
    add_message(messages, "user", buf_view(&user));
    add_message(messages, "assistant", json_str(output));
    buf_free(&user);
    return true;
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
            return row_fault(fault, DROP_INVALID, "the ChatML markup is not balanced");
        char role[24] = "";
        Str name = str_trim(str_sub(text, role_at, (size_t)(newline - text.data)));
        if (name.len < sizeof role)
            memcpy(role, name.data, name.len);
        if (role_of(role) == NULL)
            return row_fault(fault, DROP_INVALID, "the ChatML role is not known");
        if (str_trim(str_sub(text, at, (size_t)(open - text.data))).len > 0)
            return row_fault(fault, DROP_INVALID, "there is text between the ChatML turns");
        size_t from = (size_t)(newline - text.data) + 1;
        add_message(messages, role_of(role), str_sub(text, from, (size_t)(close - text.data)));
        at = (size_t)(close - text.data) + strlen(CHATML_CLOSE);
    }
    if (str_trim(str_sub(text, at, text.len)).len > 0)
        return row_fault(fault, DROP_INVALID, "there is text behind the last ChatML turn");
    return json_len(messages) > 0 || row_fault(fault, DROP_INVALID, "there is no ChatML turn");
}

static bool read_text(const Json *value, Row *row, RowFault *fault)
{
    row->text = json_str(value);
    if (str_trim(row->text).len == 0)
        return row_fault(fault, DROP_INVALID, "the text is empty");
    if (find_text(row->text, 0, CHATML_OPEN) == NULL)
        return true;
    row->messages = json_new_array();
    return read_chatml(row->text, row->messages, fault);
}

bool schema_read(const Json *value, Row *row, RowFault *fault)
{
    *row = (Row){0};
    if (json_is_string(value))
        return read_text(value, row, fault);
    if (!json_is_object(value))
        return row_fault(fault, DROP_FORMAT, "the row is neither an object nor a text");
    if (json_get(value, "conversations") != NULL) {
        row->messages = json_new_array();
        return read_sharegpt(json_get(value, "conversations"), row->messages, fault);
    }
    if (json_get(value, "messages") != NULL) {
        row->messages = json_new_array();
        row->tools = json_len(json_get(value, "tools")) > 0 ? json_get(value, "tools") : NULL;
        return read_openai(json_get(value, "messages"), row->messages, fault);
    }
    if (json_get(value, "instruction") != NULL && json_get(value, "output") != NULL) {
        row->messages = json_new_array();
        return read_alpaca(value, row->messages, fault);
    }
    if (json_is_string(json_get(value, "text")))
        return read_text(json_get(value, "text"), row, fault);
    return row_fault(fault, DROP_FORMAT,
                     "no known format (conversations, messages, instruction "
                     "and output, or text)");
}
