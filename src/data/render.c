/* render.c — which tokens carry loss, for any chat template.
 *
 * The assistant's span of turn i is what the template writes between "the conversation before turn
 * i, with a generation prompt" and "the conversation up to turn i": both are rendered, and both must
 * be beginnings of the whole text, byte for byte. Where a template rewrites earlier turns they are
 * not; then the turn's content is looked up in the whole text, after the turn before it, and the
 * span ends with the next end-of-turn token. A turn that is found in neither way makes the row a
 * fault: nothing is ever marked on a guess.
 *
 * A token belongs to a span when its last byte does. Inside a span, what follows the last
 * end-of-turn token (ChatML's newline) carries no loss: a model that has said it never writes more.
 * Plain text carries loss on every token and gets the end token.
 */
#include "data/render.h"

#include <string.h>

typedef struct Span {
    size_t from, to; /* bytes of the whole text */
} Span;

static const char *token_text(const Tokenizer *tokenizer, int32_t id, Arena *out)
{
    if (id == TOKEN_NONE)
        return "";
    Str text = tokenizer_text(tokenizer, id);
    return arena_strndup(out, text.data, text.len);
}

bool renderer_open(Renderer *renderer, const Tokenizer *tokenizer, const Template *chat_template,
                   bool train_on_prompts, Err *err)
{
    *renderer = (Renderer){.tokenizer = tokenizer,
                           .chat_template = chat_template,
                           .train_on_prompts = train_on_prompts};
    if (!arena_open(&renderer->scratch, 0, err))
        return false;
    renderer->bos = token_text(tokenizer, tokenizer_bos(tokenizer), &renderer->scratch);
    renderer->eos = token_text(tokenizer, tokenizer_eos(tokenizer), &renderer->scratch);
    return true;
}

void renderer_close(Renderer *renderer)
{
    buf_free(&renderer->text);
    buf_free(&renderer->prefix);
    buf_free(&renderer->loss);
    token_list_free(&renderer->ids);
    token_list_free(&renderer->ends);
    arena_close(&renderer->scratch);
}

/* ---- spans --------------------------------------------------------------------------------------- */

typedef enum Opening { NO_PROMPT, WITH_PROMPT } Opening;

static bool render(Renderer *r, const Json *messages, Opening opening, Buf *out, RowFault *fault)
{
    Err err = {0};
    TemplateOptions options = {.add_generation_prompt = opening == WITH_PROMPT,
                               .bos_token = r->bos,
                               .eos_token = r->eos};
    buf_clear(out);
    if (template_render(r->chat_template, messages, &options, &r->scratch, out, &err))
        return true;
    return row_fault(fault, DROP_TEMPLATE, "%.150s", err.message);
}

/* Length of the rendering of the first n messages when the whole text begins with it, else -1. */
static int64_t prefix_length(Renderer *r, const Json *messages, size_t n, Opening opening)
{
    RowFault ignored;
    Json *head = json_new_array();
    for (size_t i = 0; i < n; i++)
        json_add(head, json_clone(json_at(messages, i)));
    bool ok = render(r, head, opening, &r->prefix, &ignored);
    json_free(head);
    if (!ok || r->prefix.len > r->text.len)
        return -1;
    bool same = r->prefix.len == 0 || memcmp(r->prefix.data, r->text.data, r->prefix.len) == 0;
    return same ? (int64_t)r->prefix.len : -1;
}

/* End of the text of the first end-of-turn token at or after `from`; the text's end without one. */
static size_t turn_end(const Renderer *r, size_t from)
{
    for (size_t i = 0; i < r->ids.len; i++) {
        if ((size_t)r->ends.ids[i] > from && tokenizer_is_end(r->tokenizer, r->ids.ids[i]))
            return (size_t)r->ends.ids[i];
    }
    return r->text.len;
}

static bool find_span(Renderer *r, const Json *messages, size_t i, size_t after, Span *span)
{
    int64_t from = prefix_length(r, messages, i, WITH_PROMPT);
    int64_t to = i + 1 == json_len(messages) ? (int64_t)r->text.len
                                             : prefix_length(r, messages, i + 1, NO_PROMPT);
    if (from >= (int64_t)after && to > from) {
        *span = (Span){(size_t)from, (size_t)to};
        return true;
    }
    Str content = str_trim(json_str(json_get(json_at(messages, i), "content")));
    const char *found = content.len > 0 && after <= r->text.len
                            ? memmem(r->text.data + after, r->text.len - after, content.data,
                                     content.len)
                            : NULL;
    if (found == NULL)
        return false;
    size_t start = (size_t)(found - r->text.data);
    *span = (Span){start, turn_end(r, start + content.len)};
    return true;
}

/* Marks the span's tokens, up to its last end-of-turn token when it has one. */
static void mark_span(Renderer *r, Span span)
{
    size_t first = SIZE_MAX, last = 0, last_end = SIZE_MAX;
    for (size_t i = 0; i < r->ids.len; i++) {
        size_t end = (size_t)r->ends.ids[i];
        if (end <= span.from || end > span.to)
            continue;
        first = first == SIZE_MAX ? i : first;
        last = i;
        if (tokenizer_is_end(r->tokenizer, r->ids.ids[i]))
            last_end = i;
    }
    if (first == SIZE_MAX)
        return;
    last = last_end != SIZE_MAX ? last_end : last;
    memset(r->loss.data + first, 1, last + 1 - first);
}

static bool mark_assistant(Renderer *r, const Json *messages, RowFault *fault)
{
    size_t after = 0;
    for (size_t i = 0; i < json_len(messages); i++) {
        const char *role = json_text(json_get(json_at(messages, i), "role"));
        Span span;
        if (role == NULL || strcmp(role, "assistant") != 0)
            continue;
        if (!find_span(r, messages, i, after, &span))
            return row_fault(fault, DROP_TEMPLATE,
                             "the template rewrites turn %zu, so its loss cannot be placed", i + 1);
        mark_span(r, span);
        after = span.to;
    }
    return true;
}

/* ---- tokens -------------------------------------------------------------------------------------- */

static void set_loss(Renderer *r, int value)
{
    buf_clear(&r->loss);
    for (size_t i = 0; i < r->ids.len; i++)
        buf_char(&r->loss, (char)value);
}

static void tokenize(Renderer *r, Str text)
{
    r->ids.len = r->ends.len = 0;
    tokenizer_encode(r->tokenizer, text, SPECIAL_PARSED, &r->ids, &r->ends);
    must(r->ids.len == r->ends.len);
}

static void prepend_bos(Renderer *r)
{
    int32_t bos = tokenizer_bos(r->tokenizer);
    bool there = r->ids.len > 0 && r->ids.ids[0] == bos;
    if (!tokenizer_adds_bos(r->tokenizer) || bos == TOKEN_NONE || there)
        return;
    token_list_push(&r->ids, bos);
    buf_char(&r->loss, 0);
    size_t n = r->ids.len;
    memmove(r->ids.ids + 1, r->ids.ids, (n - 1) * sizeof r->ids.ids[0]);
    memmove(r->loss.data + 1, r->loss.data, n - 1);
    r->ids.ids[0] = bos;
    r->loss.data[0] = 0;
}

static void render_text(Renderer *r, Str text)
{
    int32_t eos = tokenizer_eos(r->tokenizer);
    tokenize(r, text);
    if (eos != TOKEN_NONE && r->ids.len > 0 && r->ids.ids[r->ids.len - 1] != eos)
        token_list_push(&r->ids, eos);
    set_loss(r, 1);
}

static bool render_messages(Renderer *r, const Json *messages, RowFault *fault)
{
    if (r->chat_template == NULL)
        return row_fault(fault, DROP_TEMPLATE, "the model has no chat template");
    if (!render(r, messages, NO_PROMPT, &r->text, fault))
        return false;
    if (r->text.len > INT32_MAX)
        return row_fault(fault, DROP_INVALID, "the conversation is too long");
    tokenize(r, buf_view(&r->text));
    set_loss(r, r->train_on_prompts ? 1 : 0);
    return r->train_on_prompts || mark_assistant(r, messages, fault);
}

bool render_row(Renderer *renderer, const Row *row, RowFault *fault)
{
    if (row->messages == NULL)
        render_text(renderer, row->text);
    else if (!render_messages(renderer, row->messages, fault))
        return false;
    prepend_bos(renderer);
    must(renderer->loss.len == renderer->ids.len);
    return true;
}
