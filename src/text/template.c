/* template.c — the public face: a template parsed once, rendered for each conversation.
 *
 * Owns what a template can see: messages, tools, documents, add_generation_prompt and the special
 * tokens, as transformers' apply_chat_template hands them over (tools and documents are none when
 * not given; a reasoning text is there under every name that templates read).
 */
#include "text/template.h"

#include "text/template_internal.h"

Template *template_parse(Str source, const char *subject, Arena *out, Err *err)
{
    assert(out != NULL && subject != NULL);
    TokenStream stream;
    if (!template_lex(source, subject, out, &stream, err))
        return NULL;
    Parser p = {.subject = arena_strdup(out, subject), .at = stream.tokens, .out = out, .err = err};
    static const char *const fixed[] = {
        [SYMBOL_LOOP] = "loop",           [SYMBOL_CALLER] = "caller",
        [SYMBOL_MESSAGES] = "messages",   [SYMBOL_TOOLS] = "tools",
        [SYMBOL_DOCUMENTS] = "documents", [SYMBOL_ADD_GENERATION_PROMPT] = "add_generation_prompt",
        [SYMBOL_BOS_TOKEN] = "bos_token", [SYMBOL_EOS_TOKEN] = "eos_token",
    };
    static_assert(COUNT_OF(fixed) == SYMBOL_FIXED_COUNT, "every fixed symbol has its name");
    for (int32_t i = 0; i < SYMBOL_FIXED_COUNT; i++)
        must(parser_symbol(&p, str_of(fixed[i])) == i);
    Node *body = parse_template_body(&p);
    if (p.failed)
        return NULL;
    Template *template = arena_new(out, Template);
    *template = (Template){.subject = p.subject,
                           .body = body,
                           .symbols = p.symbols,
                           .n_symbols = p.n_symbols,
                           .hidden = template_hide_names(body, out)};
    return template;
}

static void set_extra(Render *r, Scope *scope, const Json *extra)
{
    const char *key;
    Json *value;
    for (void *it = NULL; (it = json_next(extra, it, &key, &value)) != NULL;) {
        for (int32_t i = 0; i < r->template->n_symbols; i++) {
            if (str_eq_text(r->template->symbols[i], key))
                scope_set(r, scope, i, value_from_json(r, value));
        }
    }
}

/* transformers gives a message's reasoning under all the names that templates know it by. */
static Value with_reasoning(Render *r, Value message)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    if (message.kind != V_DICT)
        return message;
    const Value *found = NULL;
    for (size_t i = 0; i < COUNT_OF(names) && found == NULL; i++) {
        found = dict_find(r, message.as.dict, value_str(str_of(names[i])));
        if (found != NULL && found->kind == V_NONE)
            found = NULL;
    }
    if (found == NULL)
        return message;
    Dict *copy = dict_make(r, message.as.dict->len + 2);
    if (copy == NULL)
        return message;
    dict_put(r, copy, value_str(STR("thinking")), *found);
    for (int64_t i = 0; i < message.as.dict->len; i++)
        dict_put(r, copy, message.as.dict->entries[i].key, message.as.dict->entries[i].value);
    dict_put(r, copy, value_str(STR("reasoning_content")), *found);
    return (Value){.kind = V_DICT, .as.dict = copy};
}

static Scope *first_scope(Render *r, const Json *messages, const TemplateOptions *options)
{
    Scope *scope = scope_make(r, NULL, NULL);
    if (scope == NULL)
        return NULL;
    Value list = value_from_json(r, messages);
    for (int64_t i = 0; list.kind == V_LIST && i < list.as.list->len; i++)
        list.as.list->items[i] = with_reasoning(r, list.as.list->items[i]);
    scope_set(r, scope, SYMBOL_MESSAGES, list);
    scope_set(r, scope, SYMBOL_TOOLS, value_of(V_NONE));
    scope_set(r, scope, SYMBOL_DOCUMENTS, value_of(V_NONE));
    scope_set(r, scope, SYMBOL_ADD_GENERATION_PROMPT, value_bool(options->add_generation_prompt));
    if (options->bos_token != NULL)
        scope_set(r, scope, SYMBOL_BOS_TOKEN, value_str(str_of(options->bos_token)));
    if (options->eos_token != NULL)
        scope_set(r, scope, SYMBOL_EOS_TOKEN, value_str(str_of(options->eos_token)));
    set_extra(r, scope, options->extra);
    return scope;
}

bool template_render(const Template *template, const Json *messages, const TemplateOptions *options,
                     Arena *scratch, Buf *out, Err *err)
{
    assert(template != NULL && options != NULL && out != NULL);
    size_t mark = arena_mark(scratch);
    Render r = {
        .template = template, .arena = scratch, .out = out, .out_start = out->len, .err = err};
    buf_text(out, ""); /* an empty rendering is a text, too */
    Scope *given = first_scope(&r, messages, options);
    Scope *scope = given == NULL ? NULL : scope_make(&r, given, template->hidden);
    if (scope != NULL && !r.failed)
        exec(&r, template->body, scope);
    if (r.failed && out->data != NULL) {
        out->len = r.out_start;
        out->data[out->len] = '\0';
    }
    assert(r.depth == 0);
    arena_rewind(scratch, mark);
    return !r.failed;
}
