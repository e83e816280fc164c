/* template_expr.c — tokens to the tree: expressions, by precedence.
 *
 * From loosest to tightest, as in Jinja: `a if b else c`, or, and, not, comparisons and `in`, + -,
 * ~, * / // %, **, unary + -, then attributes, subscripts, calls, filters and tests.
 */
#include "text/template_internal.h"

static Node *parse_condition_less(Parser *p);
static Node *parse_postfix(Parser *p, Node *node);

static Node *binary(Parser *p, NodeKind kind, Operator op, Node *left, Node *right)
{
    if (p->failed)
        return NULL;
    Node *node = parser_node(p, kind, left->line);
    node->op = (uint8_t)op;
    node->left = left;
    node->right = right;
    return node;
}

/* ---- literals and names ---------------------------------------------------------------------- */

static Node *constant(Parser *p, Value value)
{
    Node *node = parser_node(p, N_CONST, p->at->line);
    node->value = value;
    parser_advance(p);
    return node;
}

static Node *parse_string(Parser *p)
{
    int line = p->at->line;
    Str text = p->at->text;
    parser_advance(p);
    if (p->at->type == T_STRING) { /* adjacent literals are one */
        Buf buf = {0};
        buf_str(&buf, text);
        for (; p->at->type == T_STRING; parser_advance(p))
            buf_str(&buf, p->at->text);
        text = buf.len == 0 ? STR("") : (Str){arena_strndup(p->out, buf.data, buf.len), buf.len};
        buf_free(&buf);
    }
    Node *node = parser_node(p, N_CONST, line);
    node->value = value_str(text);
    return node;
}

static Node *parse_name(Parser *p)
{
    static const struct {
        const char *name;
        ValueKind kind;
        bool b;
    } words[] = {
        {"true", V_BOOL, true},   {"True", V_BOOL, true},  {"false", V_BOOL, false},
        {"False", V_BOOL, false}, {"none", V_NONE, false}, {"None", V_NONE, false},
    };
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        if (parser_is_name(p, words[i].name))
            return constant(p, words[i].kind == V_BOOL ? value_bool(words[i].b) : value_of(V_NONE));
    }
    Node *node = parser_node(p, N_NAME, p->at->line);
    node->text = p->at->text;
    node->symbol = parser_symbol(p, p->at->text);
    parser_advance(p);
    return node;
}

/* Items up to `end`; dictionaries give key, value, key, value. */
static Node *parse_items(Parser *p, NodeKind kind, TokenType end, const char *end_text)
{
    Node *node = parser_node(p, kind, p->at->line);
    Node **tail = &node->first;
    parser_advance(p);
    while (!p->failed && p->at->type != end) {
        if (node->first != NULL && !parser_expect(p, T_COMMA, "','"))
            return NULL;
        if (p->at->type == end)
            break;
        Node *item = parse_expression(p);
        if (item == NULL)
            return NULL;
        *tail = item;
        tail = &item->next;
        if (kind != N_DICT)
            continue;
        if (!parser_expect(p, T_COLON, "':'") || (item = parse_expression(p)) == NULL)
            return NULL;
        *tail = item;
        tail = &item->next;
    }
    return parser_expect(p, end, end_text) ? node : NULL;
}

Node *parse_primary(Parser *p)
{
    switch (p->at->type) {
    case T_NAME:
        return parse_name(p);
    case T_STRING:
        return parse_string(p);
    case T_INTEGER:
    case T_FLOAT:
        return constant(p, p->at->number);
    case T_LPAREN: {
        parser_advance(p);
        Node *node = parse_tuple(p, TUPLE_PARENTHESES);
        return !p->failed && parser_expect(p, T_RPAREN, "')'") ? node : NULL;
    }
    case T_LBRACKET:
        return parse_items(p, N_LIST, T_RBRACKET, "']'");
    case T_LBRACE:
        return parse_items(p, N_DICT, T_RBRACE, "'}'");
    case T_EOF:
        return parser_fail(p, p->at->line, "the template ends inside an expression");
    default:
        return parser_fail(p, p->at->line, "unexpected '%.*s' in an expression",
                           (int)min_i64((int64_t)p->at->text.len, 40),
                           p->at->text.len == 0 ? "" : p->at->text.data);
    }
}

static bool at_tuple_end(const Parser *p)
{
    TokenType type = p->at->type;
    return type == T_VARIABLE_END || type == T_BLOCK_END || type == T_RPAREN;
}

Node *parse_tuple(Parser *p, TupleMode mode)
{
    Node *tuple = parser_node(p, N_TUPLE, p->at->line);
    Node **tail = &tuple->first;
    bool is_tuple = false;
    for (;;) {
        if (at_tuple_end(p))
            break;
        Node *item = mode == TUPLE_NO_CONDITION ? parse_condition_less(p) : parse_expression(p);
        if (item == NULL)
            return NULL;
        *tail = item;
        tail = &item->next;
        if (!parser_skip(p, T_COMMA))
            break;
        is_tuple = true;
    }
    if (is_tuple || (tuple->first == NULL && mode == TUPLE_PARENTHESES))
        return tuple;
    if (tuple->first == NULL)
        return parser_fail(p, p->at->line, "expected an expression");
    return tuple->first;
}

/* ---- what follows a value -------------------------------------------------------------------- */

static Node *parse_argument(Parser *p, bool *keyword)
{
    *keyword = p->at->type == T_NAME && p->at[1].type == T_ASSIGN;
    if (p->at->type == T_MUL || p->at->type == T_POW)
        return parser_fail(p, p->at->line, "* and ** arguments are not supported");
    if (!*keyword)
        return parse_expression(p);
    Node *node = parser_node(p, N_KEYWORD, p->at->line);
    node->text = p->at->text;
    parser_advance(p);
    parser_advance(p);
    node->left = parse_expression(p);
    return p->failed ? NULL : node;
}

/* `(a, b, name=c)`: the list of arguments, positional ones first. */
static bool parse_arguments(Parser *p, Node **first)
{
    Node **tail = first;
    bool after_keyword = false, comma = false;
    parser_advance(p);
    for (int n = 0; !p->failed && p->at->type != T_RPAREN; n++) {
        if (comma && !parser_expect(p, T_COMMA, "','"))
            return false;
        if (p->at->type == T_RPAREN)
            break;
        bool keyword;
        Node *argument = parse_argument(p, &keyword);
        if (p->failed)
            return false;
        if ((after_keyword && !keyword) || n >= TEMPLATE_MAX_ARGS) {
            parser_fail(p, argument->line, "invalid arguments of a call");
            return false;
        }
        after_keyword = keyword;
        *tail = argument;
        tail = &argument->next;
        comma = true;
    }
    return parser_expect(p, T_RPAREN, "')'");
}

static Node *parse_call(Parser *p, Node *callee)
{
    Node *node = parser_node(p, N_CALL, p->at->line);
    node->left = callee;
    return parse_arguments(p, &node->first) ? node : NULL;
}

/* Inside [ ]: an index, or a slice of up to three parts. */
static Node *parse_subscript(Parser *p)
{
    Node *start = NULL;
    int line = p->at->line;
    if (p->at->type != T_COLON) {
        start = parse_expression(p);
        if (p->failed || p->at->type != T_COLON)
            return start;
    }
    parser_advance(p);
    Node *slice = parser_node(p, N_SLICE, line);
    slice->left = start;
    if (p->at->type != T_COLON && p->at->type != T_RBRACKET && p->at->type != T_COMMA)
        slice->right = parse_expression(p);
    if (!p->failed && parser_skip(p, T_COLON) && p->at->type != T_RBRACKET &&
        p->at->type != T_COMMA)
        slice->third = parse_expression(p);
    return p->failed ? NULL : slice;
}

static Node *parse_item(Parser *p, Node *subject)
{
    int line = p->at->line;
    parser_advance(p);
    Node *index = parse_subscript(p);
    if (p->failed)
        return NULL;
    if (p->at->type == T_COMMA)
        return parser_fail(p, line, "a subscript with several parts is not supported");
    if (!parser_expect(p, T_RBRACKET, "']'"))
        return NULL;
    Node *node = parser_node(p, N_ITEM, line);
    node->left = subject;
    node->right = index;
    return node;
}

static Node *parse_dot(Parser *p, Node *subject)
{
    int line = p->at->line;
    parser_advance(p);
    if (p->at->type == T_INTEGER) {
        Node *node = parser_node(p, N_ITEM, line);
        node->left = subject;
        node->right = constant(p, p->at->number);
        return node;
    }
    Node *node = parser_node(p, N_ATTRIBUTE, line);
    node->left = subject;
    node->text = p->at->text;
    return parser_expect(p, T_NAME, "a name or number") ? node : NULL;
}

static Node *parse_postfix(Parser *p, Node *node)
{
    while (!p->failed) {
        if (p->at->type == T_DOT)
            node = parse_dot(p, node);
        else if (p->at->type == T_LBRACKET)
            node = parse_item(p, node);
        else if (p->at->type == T_LPAREN)
            node = parse_call(p, node);
        else
            return node;
    }
    return NULL;
}

/* name(arguments) of a filter or test */
static Node *parse_named(Parser *p, NodeKind kind, Node *subject)
{
    Node *node = parser_node(p, kind, p->at->line);
    node->left = subject;
    node->text = p->at->text;
    if (!parser_expect(p, T_NAME, "a name"))
        return NULL;
    if (p->at->type == T_DOT)
        return parser_fail(p, p->at->line, "no filter or test has a dot in its name");
    if (p->at->type == T_LPAREN && !parse_arguments(p, &node->first))
        return NULL;
    return node;
}

Node *parse_filter(Parser *p, Node *subject)
{
    Node *node = parse_named(p, N_FILTER, subject);
    if (node != NULL && p->conditions == 0 && !filter_exists(node->text))
        return parser_fail(p, node->line, "filter '%.*s' is not supported",
                           (int)min_i64((int64_t)node->text.len, 40), node->text.data);
    return node;
}

Node *parse_filters(Parser *p, Node *subject)
{
    while (!p->failed && parser_skip(p, T_PIPE))
        subject = parse_filter(p, subject);
    return p->failed ? NULL : subject;
}

static bool starts_test_argument(const Parser *p)
{
    switch (p->at->type) {
    case T_NAME:
        return !parser_is_name(p, "else") && !parser_is_name(p, "or") && !parser_is_name(p, "and");
    case T_STRING:
    case T_INTEGER:
    case T_FLOAT:
    case T_LBRACKET:
    case T_LBRACE:
        return true;
    default:
        return false;
    }
}

/* `is` is the current token. */
static Node *parse_test(Parser *p, Node *subject)
{
    int line = p->at->line;
    parser_advance(p);
    bool negated = parser_skip_name(p, "not");
    Node *node = parse_named(p, N_TEST, subject);
    if (node == NULL)
        return NULL;
    if (p->conditions == 0 && !test_exists(node->text))
        return parser_fail(p, line, "test '%.*s' is not supported",
                           (int)min_i64((int64_t)node->text.len, 40), node->text.data);
    if (node->first == NULL && p->at[-1].type != T_RPAREN && starts_test_argument(p)) {
        if (parser_is_name(p, "is"))
            return parser_fail(p, line, "tests cannot be chained with 'is'");
        node->first = parse_primary(p);
        if (!p->failed)
            node->first = parse_postfix(p, node->first);
    }
    return negated ? binary(p, N_NOT, OP_EQ, node, NULL) : p->failed ? NULL : node;
}

static Node *parse_filters_and_tests(Parser *p, Node *node)
{
    while (!p->failed) {
        if (parser_skip(p, T_PIPE))
            node = parse_filter(p, node);
        else if (parser_is_name(p, "is"))
            node = parse_test(p, node);
        else if (p->at->type == T_LPAREN)
            node = parse_call(p, node);
        else
            return node;
    }
    return NULL;
}

typedef enum UnaryMode { UNARY_WITH_FILTERS, UNARY_PLAIN } UnaryMode;

static Node *parse_unary(Parser *p, UnaryMode mode)
{
    Node *node;
    int line = p->at->line;
    if (!parser_enter(p))
        return NULL;
    if (p->at->type == T_SUB || p->at->type == T_ADD) {
        node = parser_node(p, p->at->type == T_SUB ? N_NEG : N_POS, line);
        parser_advance(p);
        node->left = parse_unary(p, UNARY_PLAIN);
    } else {
        node = parse_primary(p);
    }
    parser_leave(p);
    if (!p->failed)
        node = parse_postfix(p, node);
    if (!p->failed && mode == UNARY_WITH_FILTERS)
        node = parse_filters_and_tests(p, node);
    return p->failed ? NULL : node;
}

/* ---- operators ------------------------------------------------------------------------------- */

static Node *parse_power(Parser *p)
{
    Node *left = parse_unary(p, UNARY_WITH_FILTERS);
    while (!p->failed && parser_skip(p, T_POW))
        left = binary(p, N_BINARY, OP_POW, left, parse_unary(p, UNARY_WITH_FILTERS));
    return p->failed ? NULL : left;
}

static Node *parse_product(Parser *p)
{
    Node *left = parse_power(p);
    while (!p->failed) {
        Operator op;
        switch (p->at->type) {
        case T_MUL:
            op = OP_MUL;
            break;
        case T_DIV:
            op = OP_DIV;
            break;
        case T_FLOORDIV:
            op = OP_FLOORDIV;
            break;
        case T_MOD:
            op = OP_MOD;
            break;
        default:
            return left;
        }
        parser_advance(p);
        left = binary(p, N_BINARY, op, left, parse_power(p));
    }
    return NULL;
}

static Node *parse_concat(Parser *p)
{
    Node *first = parse_product(p);
    if (p->failed || p->at->type != T_TILDE)
        return first;
    Node *node = parser_node(p, N_CONCAT, first->line);
    node->first = first;
    Node **tail = &first->next;
    while (!p->failed && parser_skip(p, T_TILDE)) {
        *tail = parse_product(p);
        if (*tail != NULL)
            tail = &(*tail)->next;
    }
    return p->failed ? NULL : node;
}

static Node *parse_sum(Parser *p)
{
    Node *left = parse_concat(p);
    while (!p->failed && (p->at->type == T_ADD || p->at->type == T_SUB)) {
        Operator op = p->at->type == T_ADD ? OP_ADD : OP_SUB;
        parser_advance(p);
        left = binary(p, N_BINARY, op, left, parse_concat(p));
    }
    return p->failed ? NULL : left;
}

/* Skips a comparison operator; false when there is none. */
static bool skip_comparison(Parser *p, Operator *op)
{
    static const struct {
        TokenType type;
        Operator op;
    } table[] = {{T_EQ, OP_EQ}, {T_NE, OP_NE}, {T_LT, OP_LT},
                 {T_LE, OP_LE}, {T_GT, OP_GT}, {T_GE, OP_GE}};
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        if (parser_skip(p, table[i].type)) {
            *op = table[i].op;
            return true;
        }
    }
    if (parser_skip_name(p, "in")) {
        *op = OP_IN;
        return true;
    }
    if (parser_is_name(p, "not") && p->at[1].type == T_NAME && str_eq_text(p->at[1].text, "in")) {
        parser_advance(p);
        parser_advance(p);
        *op = OP_NOT_IN;
        return true;
    }
    return false;
}

static Node *parse_comparison(Parser *p)
{
    Node *left = parse_sum(p), *node = NULL;
    Node **tail = NULL;
    Operator op;
    while (!p->failed && skip_comparison(p, &op)) {
        if (node == NULL) {
            node = parser_node(p, N_COMPARE, left->line);
            node->left = left;
            tail = &node->first;
        }
        Node *operand = parser_node(p, N_OPERAND, p->at->line);
        operand->op = (uint8_t)op;
        operand->left = parse_sum(p);
        *tail = operand;
        tail = &operand->next;
    }
    return p->failed ? NULL : node != NULL ? node : left;
}

static Node *parse_not(Parser *p)
{
    if (!parser_is_name(p, "not"))
        return parse_comparison(p);
    Node *node = parser_node(p, N_NOT, p->at->line);
    parser_advance(p);
    if (!parser_enter(p))
        return NULL;
    node->left = parse_not(p);
    parser_leave(p);
    return p->failed ? NULL : node;
}

static Node *parse_and(Parser *p)
{
    Node *left = parse_not(p);
    while (!p->failed && parser_skip_name(p, "and"))
        left = binary(p, N_AND, OP_EQ, left, parse_not(p));
    return p->failed ? NULL : left;
}

/* Everything but `a if b else c`. */
static Node *parse_condition_less(Parser *p)
{
    Node *left = parse_and(p);
    while (!p->failed && parser_skip_name(p, "or"))
        left = binary(p, N_OR, OP_EQ, left, parse_and(p));
    return p->failed ? NULL : left;
}

Node *parse_expression(Parser *p)
{
    if (!parser_enter(p))
        return NULL;
    Node *value = parse_condition_less(p);
    while (!p->failed && parser_skip_name(p, "if")) {
        Node *node = parser_node(p, N_CONDITION, p->at->line);
        node->left = parse_condition_less(p);
        node->right = value;
        if (!p->failed && parser_skip_name(p, "else"))
            node->third = parse_expression(p);
        value = node;
    }
    parser_leave(p);
    return p->failed ? NULL : value;
}
