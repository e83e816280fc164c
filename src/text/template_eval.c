/* template_eval.c — the value of an expression, and the scopes that names are looked up in.
 *
 * Scopes are as in Jinja: a for loop, a macro, a set block and a with block each have their own, an
 * `if` has none; a name is written in the innermost scope and read from the innermost that has it.
 * Failure is sticky (Render.failed): after it every value is meaningless and everything returns.
 */
#include "text/template_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- the state of a rendering ---------------------------------------------------------------- */

enum { CHUNK_BYTES = 64 << 10 };

char *render_chars(Render *r, size_t bytes)
{
    size_t rounded = (bytes + 15) & ~(size_t)15;
    if (rounded == 0)
        rounded = 16;
    if (r->memory + rounded > TEMPLATE_MAX_MEMORY) {
        render_fail(r, 0, "rendering needs more than %d MiB", TEMPLATE_MAX_MEMORY >> 20);
        return NULL;
    }
    r->memory += rounded;
    if (rounded > CHUNK_BYTES / 4)
        return arena_push(r->arena, rounded);
    if (rounded > r->chunk_left) {
        r->chunk = arena_push(r->arena, CHUNK_BYTES);
        r->chunk_left = CHUNK_BYTES;
    }
    char *out = (char *)r->chunk;
    r->chunk += rounded;
    r->chunk_left -= rounded;
    return out;
}

void *render_alloc(Render *r, size_t bytes)
{
    char *out = render_chars(r, bytes);
    if (out != NULL)
        memset(out, 0, bytes);
    return out;
}

Str render_take(Render *r, Buf *buf)
{
    Str text = STR("");
    char *copy = buf->len == 0 || r->failed ? NULL : render_chars(r, buf->len);
    if (copy != NULL) {
        memcpy(copy, buf->data, buf->len);
        text = (Str){copy, buf->len};
    }
    if (buf->failed)
        render_fail(r, 0, "a text is too large");
    buf_free(buf);
    return text;
}

Str render_capture(Render *r, size_t start)
{
    assert(start <= r->out->len);
    size_t len = r->out->len - start;
    char *copy = len == 0 || r->failed ? NULL : render_chars(r, len);
    if (copy != NULL)
        memcpy(copy, r->out->data + start, len);
    if (len > 0) {
        r->out->len = start;
        r->out->data[start] = '\0';
    }
    return copy == NULL ? STR("") : (Str){copy, len};
}

static Value fail_with(Render *r, ErrCode code, int line, const char *format, va_list args)
{
    char what[400];
    vsnprintf(what, sizeof(what), format, args);
    if (!r->failed && line > 0)
        err_set(r->err, code, "chat template '%s', line %d: %s", r->template->subject, line, what);
    else if (!r->failed)
        err_set(r->err, code, "chat template '%s': %s", r->template->subject, what);
    r->failed = true;
    return value_of(V_NONE);
}

Value render_fail(Render *r, int line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    Value none = fail_with(r, ERR_INPUT_DATASET_VALIDATION_FAILED, line, format, args);
    va_end(args);
    return none;
}

Value render_unsupported(Render *r, int line, const char *format, ...)
{
    char what[300];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    if (!r->failed)
        err_set(r->err, ERR_DEP_CHAT_TEMPLATE_INVALID,
                "chat template '%s', line %d: %s is not supported",
                r->template->subject, line, what);
    r->failed = true;
    return value_of(V_NONE);
}

bool render_step(Render *r, size_t work)
{
    r->steps += 1 + (int64_t)(work / 16);
    if (r->steps > TEMPLATE_MAX_STEPS)
        render_fail(r, 0, "rendering takes more than %d steps", TEMPLATE_MAX_STEPS);
    return !r->failed;
}

/* ---- scopes ---------------------------------------------------------------------------------- */

void scope_hide(Render *r, Scope *scope, const int32_t *hidden)
{
    for (; hidden != NULL && *hidden >= 0; hidden++)
        scope_set(r, scope, *hidden, value_undefined(r->template->symbols[*hidden]));
}

Scope *scope_make(Render *r, Scope *parent, const int32_t *hidden)
{
    Scope *scope = render_alloc(r, sizeof(Scope));
    if (scope == NULL)
        return NULL;
    scope->parent = parent;
    scope_hide(r, scope, hidden);
    return scope;
}

void scope_set(Render *r, Scope *scope, int32_t symbol, Value value)
{
    for (int32_t i = 0; i < scope->len; i++) {
        if (scope->bindings[i].symbol == symbol) {
            scope->bindings[i].value = value;
            return;
        }
    }
    if (scope->len == scope->capacity) {
        int32_t capacity = scope->capacity == 0 ? 8 : scope->capacity * 2;
        Binding *grown = render_alloc(r, (size_t)capacity * sizeof(Binding));
        if (grown == NULL)
            return;
        if (scope->len > 0)
            memcpy(grown, scope->bindings, (size_t)scope->len * sizeof(Binding));
        scope->bindings = grown;
        scope->capacity = capacity;
    }
    assert(scope->len < scope->capacity);
    scope->bindings[scope->len++] = (Binding){symbol, value};
}

bool scope_get(const Scope *scope, int32_t symbol, Value *value)
{
    for (; scope != NULL; scope = scope->parent) {
        for (int32_t i = 0; i < scope->len; i++) {
            if (scope->bindings[i].symbol == symbol) {
                *value = scope->bindings[i].value;
                return true;
            }
        }
    }
    return false;
}

/* ---- expressions ----------------------------------------------------------------------------- */

static Value eval_name(const Node *node, const Scope *scope)
{
    Value value;
    if (scope_get(scope, node->symbol, &value))
        return value;
    int function = function_find(node->text);
    if (function >= 0)
        return (Value){.kind = V_FUNCTION, .as.function = function};
    return value_undefined(node->text);
}

static Value eval_list(Render *r, const Node *node, Scope *scope, ValueKind kind)
{
    int64_t n = 0;
    for (const Node *item = node->first; item != NULL; item = item->next)
        n++;
    List *list = list_make(r, n);
    int64_t i = 0;
    for (const Node *item = node->first; list != NULL && item != NULL && !r->failed;
         item = item->next)
        list->items[i++] = eval(r, item, scope);
    return list == NULL ? value_of(V_NONE) : value_list(kind, list);
}

static Value eval_dict(Render *r, const Node *node, Scope *scope)
{
    Dict *dict = dict_make(r, 4);
    for (const Node *item = node->first; dict != NULL && item != NULL && !r->failed;
         item = item->next->next) {
        Value key = eval(r, item, scope);
        Value value = eval(r, item->next, scope);
        if (key.kind != V_STRING && !value_is_number(key) && key.kind != V_NONE)
            return render_unsupported(r, item->line, "a %s as a key", value_type_name(key));
        dict_put(r, dict, key, value);
    }
    return dict == NULL ? value_of(V_NONE) : (Value){.kind = V_DICT, .as.dict = dict};
}

static Value eval_concat(Render *r, const Node *node, Scope *scope)
{
    Buf buf = {.max = TEMPLATE_MAX_MEMORY};
    for (const Node *item = node->first; item != NULL && !r->failed; item = item->next) {
        Value v = eval(r, item, scope);
        if (!r->failed)
            value_write(r, v, &buf, item->line);
    }
    return value_str(render_take(r, &buf));
}

static bool compare_once(Render *r, Operator op, Value a, Value b, int line)
{
    switch (op) {
    case OP_EQ:
        return value_equal(r, a, b);
    case OP_NE:
        return !value_equal(r, a, b);
    case OP_IN:
        return value_contains(r, b, a, line);
    case OP_NOT_IN:
        return !value_contains(r, b, a, line);
    case OP_LT:
        return value_compare(r, a, b, line) < 0;
    case OP_LE:
        return value_compare(r, a, b, line) <= 0;
    case OP_GT:
        return value_compare(r, a, b, line) > 0;
    default:
        must(op == OP_GE);
        return value_compare(r, a, b, line) >= 0;
    }
}

/* a < b < c: every neighbour pair, until one does not hold. */
static Value eval_compare(Render *r, const Node *node, Scope *scope)
{
    Value left = eval(r, node->left, scope);
    for (const Node *operand = node->first; operand != NULL && !r->failed;
         operand = operand->next) {
        Value right = eval(r, operand->left, scope);
        if (r->failed || !compare_once(r, (Operator)operand->op, left, right, operand->line))
            return value_bool(false);
        left = right;
    }
    return value_bool(true);
}

static Value eval_condition(Render *r, const Node *node, Scope *scope)
{
    Value test = eval(r, node->left, scope);
    if (r->failed || value_truth(test))
        return eval(r, node->right, scope);
    return node->third != NULL ? eval(r, node->third, scope) : value_undefined(STR("else"));
}

static Value eval_item(Render *r, const Node *node, Scope *scope)
{
    Value subject = eval(r, node->left, scope);
    const Node *index = node->right;
    if (index->kind != N_SLICE) {
        Value key = eval(r, index, scope);
        return r->failed ? key : value_item(r, subject, key, node->line);
    }
    const Node *parts[3] = {index->left, index->right, index->third};
    Value bounds[3];
    for (int i = 0; i < 3; i++)
        bounds[i] = parts[i] != NULL ? eval(r, parts[i], scope) : value_of(V_ABSENT);
    return r->failed ? value_of(V_NONE) : value_slice(r, subject, bounds, node->line);
}

bool eval_args(Render *r, const Node *first, Scope *scope, CallArgs *args, int line)
{
    int n = 0;
    for (const Node *node = first; node != NULL; node = node->next)
        n++;
    assert(n <= TEMPLATE_MAX_ARGS);
    *args = (CallArgs){.line = line};
    if (n == 0)
        return true;
    args->pos = render_alloc(r, 2 * (size_t)n * sizeof(Value));
    args->kw_names = render_alloc(r, (size_t)n * sizeof(Str));
    if (args->pos == NULL || args->kw_names == NULL)
        return false;
    args->kw = args->pos + n;
    for (const Node *node = first; node != NULL && !r->failed; node = node->next) {
        if (node->kind == N_KEYWORD) {
            args->kw_names[args->n_kw] = node->text;
            args->kw[args->n_kw++] = eval(r, node->left, scope);
        } else {
            args->pos[args->n_pos++] = eval(r, node, scope);
        }
    }
    return !r->failed;
}

static Value eval_call(Render *r, const Node *node, Scope *scope)
{
    CallArgs args;
    Value callee = eval(r, node->left, scope);
    if (r->failed || !eval_args(r, node->first, scope, &args, node->line))
        return value_of(V_NONE);
    return value_call(r, callee, &args);
}

static Value eval_filter(Render *r, const Node *node, Scope *scope)
{
    CallArgs args;
    must(node->left != NULL);
    Value subject = eval(r, node->left, scope);
    if (r->failed || !eval_args(r, node->first, scope, &args, node->line))
        return value_of(V_NONE);
    return filter_apply(r, node->text, subject, &args);
}

static Value eval_test(Render *r, const Node *node, Scope *scope)
{
    CallArgs args;
    Value subject = eval(r, node->left, scope);
    if (r->failed || !eval_args(r, node->first, scope, &args, node->line))
        return value_of(V_NONE);
    return value_bool(test_apply(r, node->text, subject, &args));
}

static Value negate(Render *r, Value v, int line)
{
    if (v.kind == V_FLOAT)
        return value_float(-v.as.f);
    if (!value_is_whole(v))
        return render_fail(r, line, "bad operand type for unary -: '%s'", value_type_name(v));
    return value_binary(r, OP_SUB, value_int(0), v, line);
}

static Value positive(Render *r, Value v, int line)
{
    if (!value_is_number(v))
        return render_fail(r, line, "bad operand type for unary +: '%s'", value_type_name(v));
    return v.kind == V_BOOL ? value_int(v.as.b) : v;
}

static Value eval_binary(Render *r, const Node *node, Scope *scope)
{
    Value left = eval(r, node->left, scope);
    Value right = eval(r, node->right, scope);
    return r->failed ? left : value_binary(r, (Operator)node->op, left, right, node->line);
}

static Value eval_logic(Render *r, const Node *node, Scope *scope)
{
    Value left = eval(r, node->left, scope);
    if (r->failed || value_truth(left) == (node->kind == N_OR))
        return left;
    return eval(r, node->right, scope);
}

static Value eval_unary(Render *r, const Node *node, Scope *scope)
{
    Value v = eval(r, node->left, scope);
    if (r->failed)
        return v;
    if (node->kind == N_NOT)
        return value_bool(!value_truth(v));
    return node->kind == N_NEG ? negate(r, v, node->line) : positive(r, v, node->line);
}

static Value eval_attribute(Render *r, const Node *node, Scope *scope)
{
    Value v = eval(r, node->left, scope);
    return r->failed ? v : value_attribute(r, v, node->text, node->line);
}

static Value eval_node(Render *r, const Node *node, Scope *scope)
{
    switch ((NodeKind)node->kind) {
    case N_CONST:
        return node->value;
    case N_NAME:
        return eval_name(node, scope);
    case N_TUPLE:
        return eval_list(r, node, scope, V_TUPLE);
    case N_LIST:
        return eval_list(r, node, scope, V_LIST);
    case N_DICT:
        return eval_dict(r, node, scope);
    case N_NOT:
    case N_NEG:
    case N_POS:
        return eval_unary(r, node, scope);
    case N_AND:
    case N_OR:
        return eval_logic(r, node, scope);
    case N_BINARY:
        return eval_binary(r, node, scope);
    case N_CONCAT:
        return eval_concat(r, node, scope);
    case N_COMPARE:
        return eval_compare(r, node, scope);
    case N_CONDITION:
        return eval_condition(r, node, scope);
    case N_ATTRIBUTE:
        return eval_attribute(r, node, scope);
    case N_ITEM:
        return eval_item(r, node, scope);
    case N_CALL:
        return eval_call(r, node, scope);
    case N_FILTER:
        return eval_filter(r, node, scope);
    case N_TEST:
        return eval_test(r, node, scope);
    default:
        return render_unsupported(r, node->line, "this expression");
    }
}

Value eval(Render *r, const Node *node, Scope *scope)
{
    assert(node != NULL && scope != NULL);
    if (!render_step(r, 0))
        return value_of(V_NONE);
    if (r->depth >= TEMPLATE_MAX_DEPTH)
        return render_fail(r, node->line, "evaluation is nested deeper than %d",
                           TEMPLATE_MAX_DEPTH);
    r->depth++;
    Value value = eval_node(r, node, scope);
    r->depth--;
    return value;
}
