/* template_parse.c — tokens to the tree: statements, targets, the parser's small tools.
 *
 * Recursive descent in the shape of Jinja's own grammar, so that every template that Jinja accepts
 * and that uses only what this evaluator has gives the same tree. Tags that Jinja knows and this
 * evaluator does not (block, extends, include, import, from, autoescape) are errors that say so.
 * Expressions are in template_expr.c.
 */
#include "text/template_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

Node *parser_fail(Parser *p, int line, const char *format, ...)
{
    char what[300];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    if (!p->failed)
        err_set(p->err, ERR_DEP_CHAT_TEMPLATE_INVALID,
                "chat template '%s', line %d: %s", p->subject, line,
                what);
    p->failed = true;
    return NULL;
}

Node *parser_node(Parser *p, NodeKind kind, int line)
{
    Node *node = arena_new(p->out, Node);
    node->kind = (uint8_t)kind;
    node->line = line;
    return node;
}

int32_t parser_symbol(Parser *p, Str name)
{
    for (int32_t i = 0; i < p->n_symbols; i++) {
        if (str_eq(p->symbols[i], name))
            return i;
    }
    if (p->n_symbols == p->symbol_capacity) {
        int32_t capacity = p->symbol_capacity == 0 ? 64 : p->symbol_capacity * 2;
        Str *grown = arena_array(p->out, Str, capacity);
        if (p->n_symbols > 0)
            memcpy(grown, p->symbols, (size_t)p->n_symbols * sizeof(Str));
        p->symbols = grown;
        p->symbol_capacity = capacity;
    }
    if (p->n_symbols == TEMPLATE_MAX_SYMBOLS) {
        parser_fail(p, p->at->line, "more than %d names", TEMPLATE_MAX_SYMBOLS);
        return 0;
    }
    assert(p->n_symbols < p->symbol_capacity);
    p->symbols[p->n_symbols] = name;
    return p->n_symbols++;
}

bool parser_is_name(const Parser *p, const char *name)
{
    return p->at->type == T_NAME && str_eq_text(p->at->text, name);
}

bool parser_skip_name(Parser *p, const char *name)
{
    if (!parser_is_name(p, name))
        return false;
    parser_advance(p);
    return true;
}

bool parser_skip(Parser *p, TokenType type)
{
    if (p->at->type != type)
        return false;
    parser_advance(p);
    return true;
}

bool parser_expect(Parser *p, TokenType type, const char *what)
{
    if (parser_skip(p, type))
        return true;
    if (p->at->type == T_EOF)
        parser_fail(p, p->at->line, "the template ends where %s is expected", what);
    else
        parser_fail(p, p->at->line, "expected %s, got '%.*s'", what,
                    (int)min_i64((int64_t)p->at->text.len, 40),
                    p->at->text.len == 0 ? "" : p->at->text.data);
    return false;
}

bool parser_enter(Parser *p)
{
    if (++p->nesting > TEMPLATE_MAX_NESTING)
        parser_fail(p, p->at->line, "nested deeper than %d", TEMPLATE_MAX_NESTING);
    return !p->failed;
}

/* A name that can be assigned to. */
static Node *parse_target_name(Parser *p)
{
    Token *token = p->at;
    if (!parser_expect(p, T_NAME, "a name"))
        return NULL;
    static const char *const reserved[] = {"true", "false", "none", "True", "False", "None"};
    for (size_t i = 0; i < COUNT_OF(reserved); i++) {
        if (str_eq_text(token->text, reserved[i]))
            return parser_fail(p, token->line, "can't assign to '%s'", reserved[i]);
    }
    Node *node = parser_node(p, N_NAME, token->line);
    node->symbol = parser_symbol(p, token->text);
    node->text = token->text;
    return node;
}

typedef enum TargetMode { TARGET_PLAIN, TARGET_NAMESPACE } TargetMode;

static Node *parse_one_target(Parser *p, TargetMode mode)
{
    if (parser_skip(p, T_LPAREN))
        return parser_fail(p, p->at->line, "targets in parentheses are not supported");
    Node *node = parse_target_name(p);
    if (node == NULL || mode != TARGET_NAMESPACE || !parser_skip(p, T_DOT))
        return node;
    Token *attribute = p->at;
    if (!parser_expect(p, T_NAME, "a name"))
        return NULL;
    node->kind = N_NAMESPACE_REF;
    node->text = attribute->text;
    return node;
}

/* `a` or `a, b`. */
static Node *parse_target(Parser *p, TargetMode mode)
{
    Node *first = parse_one_target(p, mode);
    if (first == NULL || p->at->type != T_COMMA)
        return first;
    Node *tuple = parser_node(p, N_TUPLE, first->line);
    Node **tail = &tuple->first;
    *tail = first;
    tail = &first->next;
    while (parser_skip(p, T_COMMA)) {
        if (p->at->type != T_NAME || parser_is_name(p, "in"))
            break;
        Node *item = parse_one_target(p, mode);
        if (item == NULL)
            return NULL;
        *tail = item;
        tail = &item->next;
    }
    return tuple;
}

static bool parse_body(Parser *p, Node **body, const char *const *ends)
{
    if (!parser_enter(p))
        return false;
    *body = parse_statements(p, ends);
    parser_leave(p);
    return !p->failed;
}

static Node *parse_branches(Parser *p, int line)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    Node *result = parser_node(p, N_IF, line), *node = result;
    for (;;) {
        node->left = parse_tuple(p, TUPLE_NO_CONDITION);
        if (p->failed || !parse_body(p, &node->body, ends))
            return NULL;
        if (!parser_is_name(p, "elif"))
            break;
        Node *next = parser_node(p, N_IF, p->at->line);
        parser_advance(p);
        node->orelse = next;
        node = next;
    }
    if (parser_skip_name(p, "else") && !parse_body(p, &node->orelse, last))
        return NULL;
    parser_skip_name(p, "endif");
    return result;
}

static Node *parse_if(Parser *p, int line)
{
    p->conditions++;
    Node *node = parse_branches(p, line);
    p->conditions--;
    return node;
}

static Node *parse_for(Parser *p, int line)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    static const char *const last[] = {"endfor", NULL};
    Node *node = parser_node(p, N_FOR, line);
    node->left = parse_target(p, TARGET_PLAIN);
    if (p->failed)
        return NULL;
    if (!parser_skip_name(p, "in"))
        return parser_fail(p, p->at->line, "expected 'in'");
    node->right = parse_tuple(p, TUPLE_NO_CONDITION);
    if (!p->failed && parser_skip_name(p, "if"))
        node->third = parse_expression(p);
    if (!p->failed && parser_is_name(p, "recursive"))
        return parser_fail(p, p->at->line, "recursive loops are not supported");
    p->loops++;
    bool ok = !p->failed && parse_body(p, &node->body, ends);
    p->loops--;
    if (!ok)
        return NULL;
    if (parser_skip_name(p, "else") && !parse_body(p, &node->orelse, last))
        return NULL;
    parser_skip_name(p, "endfor");
    return node;
}

/* A body in a frame of its own: break does not reach a loop outside it. */
static bool parse_frame_body(Parser *p, Node **body, const char *end)
{
    const char *const ends[] = {end, NULL};
    int loops = p->loops;
    p->loops = 0;
    bool ok = parse_body(p, body, ends);
    p->loops = loops;
    parser_advance(p);
    return ok;
}

static Node *parse_set(Parser *p, int line)
{
    Node *target = parse_target(p, TARGET_NAMESPACE);
    if (target == NULL)
        return NULL;
    if (parser_skip(p, T_ASSIGN)) {
        Node *node = parser_node(p, N_SET, line);
        node->left = target;
        node->right = parse_tuple(p, TUPLE_FULL);
        return node;
    }
    Node *node = parser_node(p, N_SET_BLOCK, line);
    node->left = target;
    node->right = parse_filters(p, NULL);
    if (p->failed || !parse_frame_body(p, &node->body, "endset"))
        return NULL;
    return node;
}

static bool parse_parameters(Parser *p, Node *node)
{
    Node **tail = &node->first;
    bool has_default = false;
    if (!parser_expect(p, T_LPAREN, "'('"))
        return false;
    while (!p->failed && p->at->type != T_RPAREN) {
        if (node->first != NULL && !parser_expect(p, T_COMMA, "','"))
            return false;
        Node *parameter = parse_target_name(p);
        if (parameter == NULL)
            return false;
        parameter->kind = N_PARAM;
        if (parser_skip(p, T_ASSIGN)) {
            has_default = true;
            parameter->left = parse_expression(p);
        } else if (has_default) {
            parser_fail(p, p->at->line, "parameter without default after one with a default");
        }
        *tail = parameter;
        tail = &parameter->next;
    }
    return parser_expect(p, T_RPAREN, "')'");
}

static Node *parse_macro(Parser *p, int line)
{
    Node *name = parse_target_name(p);
    if (name == NULL)
        return NULL;
    Node *node = parser_node(p, N_MACRO, line);
    node->symbol = name->symbol;
    node->text = name->text;
    if (!parse_parameters(p, node) || !parse_frame_body(p, &node->body, "endmacro"))
        return NULL;
    return node;
}

static Node *parse_call_block(Parser *p, int line)
{
    Node *node = parser_node(p, N_CALL_BLOCK, line);
    node->text = STR("caller");
    if (p->at->type == T_LPAREN && !parse_parameters(p, node))
        return NULL;
    node->left = parse_expression(p);
    if (p->failed)
        return NULL;
    if (node->left->kind != N_CALL)
        return parser_fail(p, line, "expected a call");
    return parse_frame_body(p, &node->body, "endcall") ? node : NULL;
}

static Node *parse_filter_block(Parser *p, int line)
{
    Node *node = parser_node(p, N_FILTER_BLOCK, line);
    node->left = parse_filter(p, NULL);
    if (!p->failed)
        node->left = parse_filters(p, node->left);
    if (p->failed || !parse_frame_body(p, &node->body, "endfilter"))
        return NULL;
    return node;
}

static Node *parse_with(Parser *p, int line)
{
    Node *node = parser_node(p, N_WITH, line);
    Node **tail = &node->first;
    while (!p->failed && p->at->type != T_BLOCK_END) {
        if (node->first != NULL && !parser_expect(p, T_COMMA, "','"))
            return NULL;
        Node *set = parser_node(p, N_SET, p->at->line);
        set->left = parse_target_name(p);
        if (set->left == NULL || !parser_expect(p, T_ASSIGN, "'='"))
            return NULL;
        set->right = parse_expression(p);
        *tail = set;
        tail = &set->next;
    }
    static const char *const ends[] = {"endwith", NULL};
    if (p->failed || !parse_body(p, &node->body, ends))
        return NULL;
    parser_advance(p);
    return node;
}

static Node *parse_generation(Parser *p, int line)
{
    Node *node = parser_node(p, N_GENERATION, line);
    return parse_frame_body(p, &node->body, "endgeneration") ? node : NULL;
}

static Node *parse_loop_control(Parser *p, int line, NodeKind kind)
{
    if (p->loops == 0)
        return parser_fail(p, line, "break or continue outside of a loop");
    return parser_node(p, kind, line);
}

static Node *parse_break(Parser *p, int line)
{
    return parse_loop_control(p, line, N_BREAK);
}

static Node *parse_continue(Parser *p, int line)
{
    return parse_loop_control(p, line, N_CONTINUE);
}

static Node *parse_print(Parser *p, int line)
{
    Node *node = parser_node(p, N_OUTPUT, line);
    node->left = parse_expression(p);
    if (!p->failed && p->at->type == T_COMMA)
        return parser_fail(p, line, "print with several values is not supported");
    return node;
}

/* The tag's name is the current token; ends behind its closing mark. */
static Node *parse_statement(Parser *p)
{
    static const struct {
        const char *name;
        Node *(*parse)(Parser *p, int line);
    } tags[] = {
        {"if", parse_if},           {"for", parse_for},
        {"set", parse_set},         {"macro", parse_macro},
        {"call", parse_call_block}, {"filter", parse_filter_block},
        {"with", parse_with},       {"generation", parse_generation},
        {"break", parse_break},     {"continue", parse_continue},
        {"print", parse_print},
    };
    Token *tag = p->at;
    if (tag->type != T_NAME)
        return parser_fail(p, tag->line, "expected the name of a tag");
    for (size_t i = 0; i < COUNT_OF(tags); i++) {
        if (!parser_skip_name(p, tags[i].name))
            continue;
        Node *node = tags[i].parse(p, tag->line);
        if (p->failed || !parser_expect(p, T_BLOCK_END, "'%}'"))
            return NULL;
        return node;
    }
    return parser_fail(p, tag->line, "tag '%.*s' is not supported here",
                       (int)min_i64((int64_t)tag->text.len, 40), tag->text.data);
}

static bool at_end_tag(const Parser *p, const char *const *ends)
{
    for (; ends != NULL && *ends != NULL; ends++) {
        if (parser_is_name(p, *ends))
            return true;
    }
    return false;
}

/* Text, outputs and statements until one of the end tags (whose name is then current). */
static Node *parse_sequence(Parser *p, const char *const *ends)
{
    Node *first = NULL, **tail = &first;
    while (!p->failed && p->at->type != T_EOF) {
        Node *node = NULL;
        Token *token = p->at;
        parser_advance(p);
        if (token->type == T_DATA) {
            node = parser_node(p, N_DATA, token->line);
            node->text = token->text;
        } else if (token->type == T_VARIABLE_BEGIN) {
            node = parser_node(p, N_OUTPUT, token->line);
            node->left = parse_tuple(p, TUPLE_FULL);
            if (!p->failed)
                parser_expect(p, T_VARIABLE_END, "'}}'");
        } else {
            must(token->type == T_BLOCK_BEGIN);
            if (at_end_tag(p, ends))
                return first;
            node = parse_statement(p);
        }
        if (p->failed)
            return NULL;
        *tail = node;
        tail = &node->next;
    }
    if (!p->failed && ends != NULL)
        return parser_fail(p, p->at->line, "the template ends before '%s'", ends[0]);
    return first;
}

Node *parse_statements(Parser *p, const char *const *ends)
{
    parser_skip(p, T_COLON);
    if (!parser_expect(p, T_BLOCK_END, "'%}'"))
        return NULL;
    return parse_sequence(p, ends);
}

Node *parse_template_body(Parser *p)
{
    assert(p->nesting == 0 && p->loops == 0);
    return parse_sequence(p, NULL);
}
