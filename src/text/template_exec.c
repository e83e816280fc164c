/* template_exec.c — statements: output, if, for, set, macros, blocks whose text is captured.
 *
 * exec walks a list of statements and says how it ended: normally, or by break or continue of the
 * innermost loop.
 */
#include "text/template_internal.h"

static void write_value(Render *r, Value v, int line)
{
    if (r->failed)
        return;
    value_write(r, v, r->out, line);
    if (r->out->failed || r->out->len - r->out_start > TEMPLATE_MAX_OUTPUT)
        render_fail(r, line, "rendered text is longer than %d MiB", TEMPLATE_MAX_OUTPUT >> 20);
}

/* ---- assignment ------------------------------------------------------------------------------ */

static void assign_namespace(Render *r, const Node *target, Value value, Scope *scope)
{
    Value space;
    if (!scope_get(scope, target->symbol, &space) || space.kind != V_NAMESPACE) {
        render_fail(r, target->line, "cannot assign an attribute to what is no namespace");
        return;
    }
    if (str_starts(target->text, "_")) {
        render_fail(r, target->line, "namespace attributes must not start with an underscore");
        return;
    }
    dict_put(r, space.as.dict, value_str(target->text), value);
}

static void assign(Render *r, const Node *target, Value value, Scope *scope)
{
    if (r->failed)
        return;
    if (target->kind == N_NAME) {
        scope_set(r, scope, target->symbol, value);
        return;
    }
    if (target->kind == N_NAMESPACE_REF) {
        assign_namespace(r, target, value, scope);
        return;
    }
    must(target->kind == N_TUPLE);
    const List *list = value_iterate(r, value, target->line);
    int64_t i = 0;
    for (const Node *item = target->first; list != NULL && item != NULL; item = item->next, i++) {
        if (i >= list->len)
            break;
        assign(r, item, list->items[i], scope);
    }
    int64_t n = 0;
    for (const Node *item = target->first; item != NULL; item = item->next)
        n++;
    if (list != NULL && list->len != n)
        render_fail(r, target->line, "%lld values cannot be unpacked into %lld names",
                    (long long)list->len, (long long)n);
}

/* ---- captured text --------------------------------------------------------------------------- */

/* The text of a body in a scope of its own. */
static Value captured_body(Render *r, const Node *node, Scope *scope)
{
    size_t start = r->out->len;
    Scope *inner = scope_make(r, scope, node->hidden);
    if (inner != NULL)
        exec(r, node->body, inner);
    return value_str(render_capture(r, start));
}

/* Applies a chain of filters whose innermost subject is `text`. */
static Value filter_text(Render *r, const Node *filter, Value text, Scope *scope)
{
    CallArgs args;
    if (filter == NULL || r->failed)
        return text;
    Value subject = filter_text(r, filter->left, text, scope);
    if (r->failed || !eval_args(r, filter->first, scope, &args, filter->line))
        return text;
    return filter_apply(r, filter->text, subject, &args);
}

static void exec_set_block(Render *r, const Node *node, Scope *scope)
{
    Value text = captured_body(r, node, scope);
    assign(r, node->left, filter_text(r, node->right, text, scope), scope);
}

static void exec_filter_block(Render *r, const Node *node, Scope *scope)
{
    Value text = captured_body(r, node, scope);
    write_value(r, filter_text(r, node->left, text, scope), node->line);
}

/* ---- macros ---------------------------------------------------------------------------------- */

static Value macro_value(Render *r, const Node *node, Scope *scope)
{
    Macro *macro = render_alloc(r, sizeof(Macro));
    if (macro == NULL)
        return value_of(V_NONE);
    *macro = (Macro){.node = node, .scope = scope};
    for (Scope *s = scope; s != NULL && !s->captured; s = s->parent)
        s->captured = true;
    return (Value){.kind = V_MACRO, .as.macro = macro};
}

/* The value that a call gives to one parameter; V_ABSENT when it gives none. */
static Value given(Render *r, const Node *parameter, int index, const CallArgs *args, int *used_kw)
{
    Value value = index < args->n_pos ? args->pos[index] : value_of(V_ABSENT);
    for (int i = 0; i < args->n_kw; i++) {
        if (!str_eq(args->kw_names[i], parameter->text))
            continue;
        if (value.kind != V_ABSENT)
            render_fail(r, args->line, "argument given twice");
        ++*used_kw;
        value = args->kw[i];
    }
    return value;
}

static bool bind_parameters(Render *r, const Macro *macro, const CallArgs *args, Scope *scope)
{
    int index = 0, used_kw = 0;
    for (const Node *p = macro->node->first; p != NULL && !r->failed; p = p->next, index++)
        scope_set(r, scope, p->symbol, given(r, p, index, args, &used_kw));
    if (!r->failed && (args->n_pos > index || args->n_kw > used_kw))
        render_fail(r, args->line, "macro '%.*s' is called with arguments that it does not take",
                    (int)min_i64((int64_t)macro->node->text.len, 60), macro->node->text.data);
    /* Defaults see the parameters before them. */
    for (const Node *p = macro->node->first; p != NULL && !r->failed; p = p->next) {
        Value value;
        must(scope_get(scope, p->symbol, &value));
        if (value.kind != V_ABSENT)
            continue;
        scope_set(r, scope, p->symbol, value_undefined(p->text));
        if (p->left != NULL)
            scope_set(r, scope, p->symbol, eval(r, p->left, scope));
    }
    return !r->failed;
}

Value macro_call(Render *r, const Macro *macro, const CallArgs *args, const Value *caller)
{
    size_t start = r->out->len;
    Scope *scope = scope_make(r, macro->scope, macro->node->hidden);
    if (scope == NULL || !bind_parameters(r, macro, args, scope))
        return value_of(V_NONE);
    if (caller != NULL)
        scope_set(r, scope, SYMBOL_CALLER, *caller);
    if (r->depth >= TEMPLATE_MAX_DEPTH)
        return render_fail(r, args->line, "macros call themselves too deeply");
    r->depth++;
    exec(r, macro->node->body, scope);
    r->depth--;
    return value_str(render_capture(r, start));
}

static void exec_call_block(Render *r, const Node *node, Scope *scope)
{
    CallArgs args;
    Value caller = macro_value(r, node, scope);
    Value callee = eval(r, node->left->left, scope);
    if (r->failed || !eval_args(r, node->left->first, scope, &args, node->line))
        return;
    if (callee.kind != V_MACRO) {
        render_unsupported(r, node->line, "a call block of what is no macro");
        return;
    }
    write_value(r, macro_call(r, callee.as.macro, &args, &caller), node->line);
}

/* ---- loops ----------------------------------------------------------------------------------- */

/* The elements for which the loop's `if` holds. */
static List *filtered(Render *r, const Node *node, const List *list, Scope *scope)
{
    List *kept = list_make(r, list->len);
    if (kept == NULL)
        return NULL;
    kept->len = 0;
    for (int64_t i = 0; i < list->len && !r->failed; i++) {
        Scope *inner = scope_make(r, scope, NULL);
        if (inner == NULL)
            return NULL;
        assign(r, node->left, list->items[i], inner);
        if (!r->failed && value_truth(eval(r, node->third, inner)))
            kept->items[kept->len++] = list->items[i];
    }
    return kept;
}

static void exec_for(Render *r, const Node *node, Scope *scope)
{
    Value iterable = eval(r, node->right, scope);
    List *list = r->failed ? NULL : value_iterate(r, iterable, node->line);
    if (list != NULL && node->third != NULL)
        list = filtered(r, node, list, scope);
    Loop *loop = render_alloc(r, sizeof(Loop));
    if (list == NULL || loop == NULL || r->failed)
        return;
    *loop = (Loop){.items = list};
    Scope *inner = NULL;
    bool completed = false; /* a body ran to its end: Jinja's condition against `else` */
    for (int64_t i = 0; i < list->len && !r->failed; i++) {
        if (inner == NULL || inner->captured)
            inner = scope_make(r, scope, NULL);
        if (inner == NULL)
            break;
        inner->len = 0;
        scope_hide(r, inner, node->hidden);
        loop->index = i;
        scope_set(r, inner, SYMBOL_LOOP, (Value){.kind = V_LOOP, .as.loop = loop});
        assign(r, node->left, list->items[i], inner);
        Flow flow = r->failed ? FLOW_BREAK : exec(r, node->body, inner);
        completed = completed || flow == FLOW_NORMAL;
        if (flow == FLOW_BREAK)
            break;
    }
    if (!completed && node->orelse != NULL && !r->failed) {
        Scope *otherwise = scope_make(r, scope, node->hidden_else);
        if (otherwise != NULL)
            exec(r, node->orelse, otherwise);
    }
}

/* ---- the walk -------------------------------------------------------------------------------- */

static Flow exec_if(Render *r, const Node *node, Scope *scope)
{
    for (;;) {
        Value test = eval(r, node->left, scope);
        if (r->failed)
            return FLOW_NORMAL;
        if (value_truth(test))
            return exec(r, node->body, scope);
        const Node *next = node->orelse;
        if (next == NULL)
            return FLOW_NORMAL;
        if (next->kind != N_IF || next->next != NULL)
            return exec(r, next, scope);
        node = next;
    }
}

static void exec_with(Render *r, const Node *node, Scope *scope)
{
    Scope *inner = scope_make(r, scope, node->hidden);
    for (const Node *set = node->first; inner != NULL && set != NULL && !r->failed; set = set->next)
        scope_set(r, inner, set->left->symbol, eval(r, set->right, scope));
    if (inner != NULL && !r->failed)
        exec(r, node->body, inner);
}

static Flow exec_one(Render *r, const Node *node, Scope *scope)
{
    switch ((NodeKind)node->kind) {
    case N_DATA:
        write_value(r, value_str(node->text), node->line);
        break;
    case N_OUTPUT:
        write_value(r, eval(r, node->left, scope), node->line);
        break;
    case N_IF:
        return exec_if(r, node, scope);
    case N_FOR:
        exec_for(r, node, scope);
        break;
    case N_SET:
        assign(r, node->left, eval(r, node->right, scope), scope);
        break;
    case N_SET_BLOCK:
        exec_set_block(r, node, scope);
        break;
    case N_MACRO:
        scope_set(r, scope, node->symbol, macro_value(r, node, scope));
        break;
    case N_CALL_BLOCK:
        exec_call_block(r, node, scope);
        break;
    case N_FILTER_BLOCK:
        exec_filter_block(r, node, scope);
        break;
    case N_WITH:
        exec_with(r, node, scope);
        break;
    case N_GENERATION:
        write_value(r, captured_body(r, node, scope), node->line);
        break;
    case N_BREAK:
        return FLOW_BREAK;
    case N_CONTINUE:
        return FLOW_CONTINUE;
    default:
        must(!"a statement of this kind");
    }
    return FLOW_NORMAL;
}

Flow exec(Render *r, const Node *statements, Scope *scope)
{
    assert(scope != NULL);
    Flow flow = FLOW_NORMAL;
    if (r->depth >= TEMPLATE_MAX_DEPTH) {
        render_fail(r, 0, "evaluation is nested deeper than %d", TEMPLATE_MAX_DEPTH);
        return flow;
    }
    r->depth++;
    for (const Node *node = statements; node != NULL && flow == FLOW_NORMAL; node = node->next) {
        if (!render_step(r, 0))
            break;
        flow = exec_one(r, node, scope);
    }
    r->depth--;
    return flow;
}
