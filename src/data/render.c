/* render.c — which tokens carry loss, for any chat template.
 *
 * The assistant's span of turn i is what the template writes between "the conversation before
 * turn i, with a generation prompt" and "the conversation up to turn i": both are rendered, and
 * both must be beginnings of the whole text, byte for byte. What follows the turn's end token in
 * it (ChatML's newline, a closing end of text) carries no loss: a model that has ended its turn
 * writes no more.
 *
 * A turn that goes on in another way than the generation prompt does (a tool call where the prompt
 * opens a thought) begins behind the header that both have.
 *
 * Where a template rewrites earlier turns, or has no generation prompt, one of them is not. Then
 * the place of a message's content is proved, not guessed: the conversation is rendered once more
 * with a mark in its stead. The text before and behind the mark must be the beginning and the end
 * of the whole text, and what is left between them must come from the content. A turn whose
 * beginning is known ends with the last end token before the next message's content; any other is
 * its content and what closes it, up to the first end token. A turn that is placed in neither way
 * makes the row a fault.
 *
 * A token belongs to a span when its last byte does: one that straddles the beginning carries
 * loss, one that straddles the end does not. Plain text carries loss on every token and gets the
 * end token.
 */
#include "data/render.h"

#include <stdio.h>
#include <string.h>

static const char *token_text(const Tokenizer *tokenizer, int32_t id, Arena *out)
{
    if (id == TOKEN_NONE)
        return NULL;
    Str text = tokenizer_text(tokenizer, id);
    return arena_strndup(out, text.data, text.len);
}

/* ---- renderings ---------------------------------------------------- */

typedef enum Opening { NO_PROMPT, WITH_PROMPT } Opening;

static bool render(Renderer *r, const Json *messages, Opening opening, Buf *out, RowFault *fault)
{
    Err err = {0};
    TemplateOptions options = {.add_generation_prompt = opening == WITH_PROMPT,
                               .bos_token = r->bos,
                               .eos_token = r->eos,
                               .extra = r->extra};
    buf_clear(out);
    if (template_render(r->chat_template, messages, &options, &r->scratch, out, &err))
        return true;
    const bool unsupported = err.code == ERR_DEP_CHAT_TEMPLATE_INVALID;
    return row_fault(fault, unsupported ? FAULT_UNSUPPORTED : FAULT_TEMPLATE, "%.150s",
                     err.message);
}

/* Whether the template writes something for the assistant to go on from. Asked once, of the
 * template alone, so that no row's marks depend on the rows before it. */
static bool prompt_differs(Renderer *r)
{
    RowFault ignored;
    Json *message = json_new_object(), *messages = json_new_array();
    json_put(message, "role", json_new_text("user"));
    json_put(message, "content", json_new_text("Hello"));
    json_add(messages, message);
    bool differs = render(r, messages, NO_PROMPT, &r->text, &ignored) &&
                   render(r, messages, WITH_PROMPT, &r->prefix, &ignored) &&
                   !str_eq(buf_view(&r->text), buf_view(&r->prefix));
    json_free(messages);
    return differs;
}

/* ---- opening ---------------------------------------------------- */

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
    const char *pad = token_text(tokenizer, tokenizer_pad(tokenizer), &renderer->scratch);
    renderer->extra = json_new_object();
    if (pad != NULL)
        json_put(renderer->extra, "pad_token", json_new_text(pad));
    renderer->has_prompt = chat_template != NULL && prompt_differs(renderer);
    return true;
}

void renderer_close(Renderer *renderer)
{
    json_free(renderer->extra);
    buf_free(&renderer->text);
    buf_free(&renderer->prefix);
    buf_free(&renderer->loss);
    token_list_free(&renderer->ids);
    token_list_free(&renderer->ends);
    arena_close(&renderer->scratch);
}

static Str whole_text(const Renderer *r)
{
    return (Str){r->text.data, r->text.len};
}

/* Length of the rendering of the first n messages when the whole text begins with it, else -1. */
static int64_t prefix_length(Renderer *r, const Json *messages, size_t n, Opening opening)
{
    assert(n <= json_len(messages));
    RowFault ignored;
    Json *head = json_new_array();
    for (size_t i = 0; i < n; i++)
        json_add(head, json_clone(json_at(messages, i)));
    bool ok = render(r, head, opening, &r->prefix, &ignored);
    json_free(head);
    if (!ok)
        return -1;
    bool same = str_eq(str_sub(whole_text(r), 0, r->prefix.len), buf_view(&r->prefix));
    return same ? (int64_t)r->prefix.len : -1;
}

/* ---- spans ---------------------------------------------------- */

typedef struct Span {
    size_t from, to; /* bytes of the whole text */
} Span;

static bool is_blank(const Renderer *r, size_t token)
{
    size_t from = token == 0 ? 0 : (size_t)r->ends.ids[token - 1], to = (size_t)r->ends.ids[token];
    return str_trim(str_sub(whole_text(r), from, to)).len == 0;
}

/* First token that ends behind byte `at`. `ends` ascend. */
static size_t token_behind(const Renderer *r, size_t at)
{
    size_t low = 0, high = r->ends.len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((size_t)r->ends.ids[middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* A span that ends with its turn: without what follows the end token that closes it, and with that
 * token when it comes right behind the span. */
static Span to_end_token(const Renderer *r, Span span)
{
    size_t first = token_behind(r, span.from), last = token_behind(r, span.to), end = SIZE_MAX;
    for (size_t i = last; i-- > first;) {
        if (tokenizer_is_end(r->tokenizer, r->ids.ids[i]))
            end = i; /* of several in a row the first */
        else if (!is_blank(r, i))
            break;
    }
    if (end == SIZE_MAX) { /* some templates write it with the next turn's header */
        end = last;
        while (end < r->ids.len && is_blank(r, end))
            end++;
        if (end == r->ids.len || !tokenizer_is_end(r->tokenizer, r->ids.ids[end]))
            return span;
    }
    span.to = (size_t)r->ends.ids[end];
    return span;
}

/* A text that does not occur in the conversation. */
static void make_mark(const Renderer *r, char mark[40])
{
    for (unsigned n = 0;; n++) {
        snprintf(mark, 40, "LossMark%uSpan", n);
        if (memmem(r->text.data, r->text.len, mark, strlen(mark)) == NULL)
            return;
    }
}

/* What a rendering with the mark has before and behind it; false unless it is there once. */
static bool cut_at_mark(Str marked, const char *mark, Str *before, Str *behind)
{
    const char *found = memmem(marked.data, marked.len, mark, strlen(mark));
    if (found == NULL)
        return false;
    *before = str_sub(marked, 0, (size_t)(found - marked.data));
    *behind = str_sub(marked, before->len + strlen(mark), marked.len);
    return behind->len == 0 || memmem(behind->data, behind->len, mark, strlen(mark)) == NULL;
}

/* Renders the first n messages with the mark in place of the content of message i. */
static bool render_mark(Renderer *r, const Json *messages, size_t i, size_t n, const char *mark)
{
    RowFault ignored;
    Json *head = json_new_array();
    for (size_t k = 0; k < n; k++)
        json_add(head, json_clone(json_at(messages, k)));
    json_put(json_at(head, i), "content", json_new_text(mark));
    bool ok = render(r, head, NO_PROMPT, &r->prefix, &ignored);
    json_free(head);
    return ok;
}

/* Where the whole text has the content of message i, proved by a mark in its stead. */
static bool find_content(Renderer *r, const Json *messages, size_t i, Span *span)
{
    char mark[40];
    Str before, behind, whole = whole_text(r);
    const Json *value = json_get(json_at(messages, i), "content");
    make_mark(r, mark);
    if (!json_is_string(value) || !render_mark(r, messages, i, json_len(messages), mark) ||
        !cut_at_mark(buf_view(&r->prefix), mark, &before, &behind) ||
        before.len + behind.len > whole.len)
        return false;
    size_t to = whole.len - behind.len;
    if (!str_eq(str_sub(whole, 0, before.len), before) ||
        !str_eq(str_sub(whole, to, whole.len), behind))
        return false;
    *span = (Span){before.len, to};
    Str content = json_str(value), middle = str_trim(str_sub(whole, before.len, to));
    return middle.len == 0 || memmem(content.data, content.len, middle.data, middle.len) != NULL;
}

/* What closes the turn whose content ends at `from`: what the template writes behind the content
 * while the turn is the last one, as far as the whole text has it, too. */
typedef struct Closing {
    size_t to;
    bool whole; /* the whole text has all of it */
} Closing;

static Closing find_closing(Renderer *r, const Json *messages, size_t i, size_t from)
{
    char mark[40];
    Str before, behind, rest = str_sub(whole_text(r), from, r->text.len);
    size_t len = 0;
    make_mark(r, mark);
    if (!render_mark(r, messages, i, i + 1, mark) ||
        !cut_at_mark(buf_view(&r->prefix), mark, &before, &behind))
        return (Closing){.to = from};
    while (len < rest.len && len < behind.len && rest.data[len] == behind.data[len])
        len++;
    return (Closing){.to = from + len, .whole = len == behind.len};
}

/* The content and what closes it, up to the first end token (some templates close every turn but
 * the last: then only blanks may come before it). Without one, all of the closing; when even that
 * is rewritten, the content alone. */
static bool span_by_mark(Renderer *r, const Json *messages, size_t i, Span *span)
{
    const bool calls = json_len(json_get(json_at(messages, i), "tool_calls")) > 0;
    if (calls || !find_content(r, messages, i, span))
        return false; /* calls stand beside the content: nothing says where they begin */
    Closing closing = find_closing(r, messages, i, span->to);
    size_t last = token_behind(r, closing.to);
    for (size_t t = token_behind(r, span->to); t < r->ids.len; t++) {
        if (tokenizer_is_end(r->tokenizer, r->ids.ids[t])) {
            span->to = (size_t)r->ends.ids[t];
            return true;
        }
        if (t >= last && !is_blank(r, t))
            break;
    }
    if (closing.whole)
        span->to = closing.to;
    return true;
}

/* End of the turn that begins at `from` where rewriting hides it: the last end token before the
 * content of the next message. */
static bool end_before_next(Renderer *r, const Json *messages, size_t i, size_t from, size_t *to)
{
    Span next;
    if (!find_content(r, messages, i + 1, &next) || next.from <= from)
        return false;
    for (size_t t = token_behind(r, next.from); t-- > 0 && (size_t)r->ends.ids[t] > from;) {
        if (tokenizer_is_end(r->tokenizer, r->ids.ids[t])) {
            *to = (size_t)r->ends.ids[t];
            return true;
        }
    }
    return false;
}

/* End of the turn that begins at `from` under a template that ends every conversation with a
 * generation prompt: the conversation up to the turn is the whole text up to the turn's end token,
 * and then the prompt that stands before `from`. */
static bool end_before_prompt(Renderer *r, const Json *messages, size_t i, size_t from, size_t *to)
{
    if (prefix_length(r, messages, i + 1, NO_PROMPT) >= 0)
        return false;
    Str whole = whole_text(r), head = buf_view(&r->prefix);
    for (size_t t = token_behind(r, from); t < r->ids.len; t++) {
        const size_t end = (size_t)r->ends.ids[t], prompt = head.len - end;
        if (end >= head.len || whole.data[end - 1] != head.data[end - 1])
            return false;
        if (tokenizer_is_end(r->tokenizer, r->ids.ids[t]) && prompt <= from &&
            str_trim(str_sub(head, end, head.len)).len > 0 &&
            str_eq(str_sub(head, 0, end), str_sub(whole, 0, end)) &&
            str_eq(str_sub(head, end, head.len), str_sub(whole, from - prompt, from))) {
            *to = end;
            return true;
        }
    }
    return false;
}

/* The last end of a line or of a control token in (from, to], else `from`. */
static size_t boundary_before(const Renderer *r, size_t from, size_t to)
{
    assert(from <= to && to <= r->text.len);
    size_t best = from;
    for (size_t at = from; at < to; at++) {
        if (r->text.data[at] == '\n')
            best = at + 1;
    }
    for (size_t t = token_behind(r, from); t < r->ids.len && (size_t)r->ends.ids[t] <= to; t++) {
        if (tokenizer_kind(r->tokenizer, r->ids.ids[t]) == TOKEN_CONTROL)
            best = (size_t)max_i64((int64_t)best, r->ends.ids[t]);
    }
    return best;
}

/* Where the turn begins when it goes on in another way than the generation prompt does (which may
 * open a thought that the turn has not): behind the header that both have. -1: there is none. */
static int64_t shared_header(Renderer *r, const Json *messages, size_t i)
{
    const int64_t history = prefix_length(r, messages, i, NO_PROMPT);
    Str whole = whole_text(r);
    if (history < 0 || prefix_length(r, messages, i, WITH_PROMPT) >= 0)
        return -1;
    size_t same = 0;
    while (same < whole.len && same < r->prefix.len && whole.data[same] == r->prefix.data[same])
        same++;
    if (same <= (size_t)history)
        return -1;
    const size_t from = boundary_before(r, (size_t)history, same);
    return from > (size_t)history ? (int64_t)from : -1;
}

/* Where a turn of tool calls begins under a template that has neither a generation prompt nor a
 * header for the assistant: behind the history. -1: it writes a header. */
static int64_t bare_start(Renderer *r, const Json *messages, size_t i)
{
    char mark[40];
    RowFault ignored;
    Str before = {0}, behind;
    const int64_t history = prefix_length(r, messages, i, NO_PROMPT);
    Json *head = json_new_array();
    make_mark(r, mark);
    for (size_t k = 0; k < i; k++)
        json_add(head, json_clone(json_at(messages, k)));
    Json *plain = json_new_object(); /* the turn as words alone */
    json_put(plain, "role", json_new_text("assistant"));
    json_put(plain, "content", json_new_text(mark));
    json_add(head, plain);
    bool bare = history >= 0 && render(r, head, NO_PROMPT, &r->prefix, &ignored) &&
                cut_at_mark(buf_view(&r->prefix), mark, &before, &behind) &&
                before.len >= (size_t)history;
    bare = bare && str_trim(str_sub(before, (size_t)history, before.len)).len == 0;
    json_free(head);
    return bare ? history : -1;
}

/* The span between a generation prompt and the end of the turn. */
static bool span_by_prompt(Renderer *r, const Json *messages, size_t i, Span *span)
{
    int64_t from = prefix_length(r, messages, i, WITH_PROMPT);
    const bool calls = json_len(json_get(json_at(messages, i), "tool_calls")) > 0;
    const bool is_last = i + 1 == json_len(messages);
    if (from < 0) {
        from = shared_header(r, messages, i);
    } else if (!r->has_prompt && prefix_length(r, messages, i, NO_PROMPT) == from) {
        if (calls && !is_last && end_before_prompt(r, messages, i, (size_t)from, &span->to)) {
            span->from = (size_t)from;
            return true;
        }
        from = calls ? bare_start(r, messages, i) : -1; /* who knows where the header ends */
    }
    if (from < 0)
        return false;
    int64_t to = is_last ? (int64_t)r->text.len : prefix_length(r, messages, i + 1, NO_PROMPT);
    *span = (Span){(size_t)from, to > 0 ? (size_t)to : 0};
    if (to <= from && (is_last || !end_before_next(r, messages, i, span->from, &span->to)))
        return false;
    *span = to_end_token(r, *span);
    return true;
}

/* An assistant's turn that its file does not exclude ("weight": 0, as OpenAI's files have it). */
static bool is_trained(const Json *message)
{
    const char *role = json_text(json_get(message, "role"));
    return role != NULL && strcmp(role, "assistant") == 0 &&
           json_double(json_get(message, "weight"), 1) != 0;
}

static bool mark_assistant(Renderer *r, const Row *row, RowFault *fault)
{
    const Json *messages = row->messages;
    size_t after = 0;
    for (size_t i = row->first_answer; i < json_len(messages); i++) {
        Span span;
        if (!is_trained(json_at(messages, i)))
            continue;
        if (r->max_tokens > 0 && token_behind(r, after) >= (size_t)r->max_tokens)
            break; /* each turn costs renderings: none for what will be cut off */
        bool found = (span_by_prompt(r, messages, i, &span) && span.from >= after) ||
                     (span_by_mark(r, messages, i, &span) && span.from >= after);
        if (!found)
            return row_fault(fault, FAULT_TEMPLATE,
                             "the template rewrites turn %zu, so its loss cannot be placed", i + 1);
        size_t first = token_behind(r, span.from), last = token_behind(r, span.to);
        memset(r->loss.data + first, 1, last - first);
        after = span.to;
    }
    return true;
}

/* ---- tokens ---------------------------------------------------- */

static void set_loss(Renderer *r, int value)
{
    buf_clear(&r->loss);
    for (size_t i = 0; i < r->ids.len; i++)
        buf_char(&r->loss, (char)value);
}

static void tokenize(Renderer *r, Str text)
{
    assert(r->tokenizer != NULL);
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

/* Text without a template; its bytes from `from` on carry loss, and so does the end token. */
static void render_text(Renderer *r, Str text, size_t from)
{
    int32_t eos = tokenizer_eos(r->tokenizer);
    tokenize(r, text);
    const size_t n = r->ids.len, first = token_behind(r, from);
    if (eos != TOKEN_NONE && n > 0 && r->ids.ids[n - 1] != eos)
        token_list_push(&r->ids, eos);
    set_loss(r, 1);
    if (!r->train_on_prompts && from > 0)
        memset(r->loss.data, 0, first);
}

/* A model without a template reads a pair as it is: prompt, then completion. */
static bool render_pair(Renderer *r, const Row *row, RowFault *fault)
{
    const Json *messages = row->messages;
    if (row->format != FORMAT_PROMPT_COMPLETION || json_len(messages) != 2 ||
        row->first_answer != 1)
        return row_fault(fault, FAULT_UNSUPPORTED, "the model has no chat template");
    Str prompt = json_str(json_get(json_at(messages, 0), "content"));
    buf_clear(&r->text);
    buf_str(&r->text, prompt);
    buf_str(&r->text, json_str(json_get(json_at(messages, 1), "content")));
    render_text(r, buf_view(&r->text), prompt.len);
    return true;
}

/* What a row brings for the template beside its messages. */
static void set_tools(Renderer *r, const Json *tools)
{
    if (tools != NULL)
        json_put(r->extra, "tools", json_clone(tools));
    else
        json_del(r->extra, "tools");
}

static bool render_messages(Renderer *r, const Row *row, RowFault *fault)
{
    if (r->chat_template == NULL)
        return render_pair(r, row, fault);
    set_tools(r, row->tools);
    if (!render(r, row->messages, NO_PROMPT, &r->text, fault))
        return false;
    if (r->text.len > INT32_MAX)
        return row_fault(fault, FAULT_TOO_LONG, "the conversation is too long");
    tokenize(r, buf_view(&r->text));
    set_loss(r, r->train_on_prompts ? 1 : 0);
    return r->train_on_prompts || mark_assistant(r, row, fault);
}

bool render_row(Renderer *renderer, const Row *row, RowFault *fault)
{
    if (row->messages == NULL)
        render_text(renderer, row->text, 0);
    else if (!render_messages(renderer, row, fault))
        return false;
    prepend_bos(renderer);
    must(renderer->loss.len == renderer->ids.len);
    return true;
}
