/* template_internal.h — what the files of the template evaluator share: tokens, the tree, values,
 * and the state of one rendering. Nothing outside src/text/template*.c includes it.
 *
 * The language is Jinja as the chat templates of public models use it (Jinja 3.1 "Template Designer
 * Documentation"), evaluated with the settings of transformers' apply_chat_template: trim_blocks,
 * lstrip_blocks, loop controls, an immutable sandbox, no auto-escaping. Values behave as Python's:
 * the texts that a template can print must come out byte for byte the same.
 *
 *   source --template_lex--> tokens --template_parse--> Node tree --template_exec--> text
 */
#ifndef TEXT_TEMPLATE_INTERNAL_H
#define TEXT_TEMPLATE_INTERNAL_H

#include "text/template.h"

enum {
    TEMPLATE_MAX_SOURCE = 1 << 20,   /* bytes of a template */
    TEMPLATE_MAX_NESTING = 120,      /* of parentheses and of blocks, while parsing */
    TEMPLATE_MAX_DEPTH = 700,        /* of evaluation (macros calling themselves, long sums) */
    TEMPLATE_MAX_STEPS = 20 << 20,   /* nodes evaluated plus bytes touched / 16 */
    TEMPLATE_MAX_OUTPUT = 64 << 20,  /* bytes of rendered text */
    TEMPLATE_MAX_MEMORY = 256 << 20, /* bytes of intermediate values */
    TEMPLATE_MAX_RANGE = 100000,     /* as Jinja's sandbox */
    TEMPLATE_MAX_ARGS = 64,          /* of one call */
    TEMPLATE_MAX_SYMBOLS = 2048,     /* names of variables in a template */
};

/* ---- values ---------------------------------------------------------------------------------- */

typedef enum ValueKind {
    V_UNDEFINED, /* as.str = the name that was looked up */
    V_NONE,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_STRING,
    V_LIST,
    V_TUPLE,
    V_RANGE,    /* list with its own type name */
    V_ITERATOR, /* generator: list that is consumed once */
    V_KEYS,
    V_VALUES,
    V_ITEMS, /* views of a dict; list */
    V_DICT,
    V_NAMESPACE, /* dict that can be written */
    V_LOOP,
    V_MACRO,
    V_METHOD,   /* method of a value */
    V_FUNCTION, /* global function */
    V_ABSENT,   /* an argument that was not given; never visible to templates */
} ValueKind;

typedef struct Value Value;
typedef struct List List;
typedef struct Dict Dict;
typedef struct Loop Loop;
typedef struct Macro Macro;
typedef struct Method Method;
typedef struct Node Node;
typedef struct Scope Scope;
typedef struct Render Render;

struct Value {
    uint8_t kind;
    bool safe; /* V_STRING: marked by the filter `safe` (Python's Markup) */
    union {
        bool b;
        int64_t i;
        double f;
        Str str;
        List *list;
        Dict *dict;
        Loop *loop;
        const Macro *macro;
        const Method *method;
        int function;
    } as;
};

struct List {
    Value *items;
    int64_t len;
    int64_t taken; /* V_ITERATOR: elements already consumed */
};

typedef struct DictEntry {
    Value key, value;
} DictEntry;

struct Dict {
    DictEntry *entries;
    int64_t len, capacity;
};

struct Loop {
    List *items;
    int64_t index; /* from 0 */
};

struct Macro {
    const Node *node;
    Scope *scope; /* where it was defined */
};

struct Method {
    Value self;
    int id; /* row of the method table */
};

typedef struct CallArgs {
    Value *pos;
    int n_pos;
    Str *kw_names;
    Value *kw;
    int n_kw;
    int line;
} CallArgs;

static inline Value value_of(ValueKind kind)
{
    return (Value){.kind = (uint8_t)kind};
}
static inline Value value_bool(bool b)
{
    return (Value){.kind = V_BOOL, .as.b = b};
}
static inline Value value_int(int64_t i)
{
    return (Value){.kind = V_INT, .as.i = i};
}
static inline Value value_float(double f)
{
    return (Value){.kind = V_FLOAT, .as.f = f};
}
static inline Value value_str(Str s)
{
    return (Value){.kind = V_STRING, .as.str = s};
}
static inline Value value_undefined(Str name)
{
    return (Value){.kind = V_UNDEFINED, .as.str = name};
}
static inline Value value_list(ValueKind kind, List *list)
{
    return (Value){.kind = (uint8_t)kind, .as.list = list};
}
static inline bool value_holds_list(Value v)
{
    return v.kind >= V_LIST && v.kind <= V_ITEMS;
}
static inline bool value_is_number(Value v)
{
    return v.kind >= V_BOOL && v.kind <= V_FLOAT;
}
static inline bool value_is_whole(Value v)
{
    return v.kind == V_BOOL || v.kind == V_INT;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

typedef enum TokenType {
    T_EOF,
    T_DATA,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_VARIABLE_BEGIN,
    T_VARIABLE_END,
    T_NAME,
    T_STRING,
    T_INTEGER,
    T_FLOAT,
    T_ADD,
    T_SUB,
    T_MUL,
    T_DIV,
    T_FLOORDIV,
    T_MOD,
    T_POW,
    T_TILDE,
    T_LBRACKET,
    T_RBRACKET,
    T_LPAREN,
    T_RPAREN,
    T_LBRACE,
    T_RBRACE,
    T_EQ,
    T_NE,
    T_GT,
    T_GE,
    T_LT,
    T_LE,
    T_ASSIGN,
    T_DOT,
    T_COLON,
    T_PIPE,
    T_COMMA,
    T_SEMICOLON,
} TokenType;

typedef struct Token {
    TokenType type;
    int line;
    Str text; /* data, name, decoded string, or the operator as written */
    Value number;
} Token;

typedef struct TokenStream {
    Token *tokens; /* the last one is T_EOF */
    int64_t len;
} TokenStream;

/* Tokens live in `out`. Errors are CONFIG_INVALID with subject and line. */
bool template_lex(Str source, const char *subject, Arena *out, TokenStream *stream, Err *err);

/* ---- the tree -------------------------------------------------------------------------------- */

typedef enum NodeKind {
    /* expressions: the fields used are named behind each */
    N_CONST, /* value */
    N_NAME,  /* symbol */
    N_TUPLE, /* first */
    N_LIST,  /* first */
    N_DICT,  /* first: key, value, key, value… */
    N_NOT,
    N_NEG,
    N_POS, /* left */
    N_AND,
    N_OR,            /* left, right */
    N_BINARY,        /* left, right, op */
    N_CONCAT,        /* first */
    N_COMPARE,       /* left, first: N_OPERAND */
    N_OPERAND,       /* left, op */
    N_CONDITION,     /* left = test, right = then, third = else or NULL */
    N_ATTRIBUTE,     /* left, text */
    N_ITEM,          /* left, right */
    N_SLICE,         /* left, right, third; each may be NULL */
    N_CALL,          /* left, first = arguments */
    N_KEYWORD,       /* text, left */
    N_FILTER,        /* left or NULL (filter block), text, first = arguments */
    N_TEST,          /* left, text, first = arguments */
    N_NAMESPACE_REF, /* symbol, text: target of a set */
    /* statements, linked by next */
    N_DATA,         /* text */
    N_OUTPUT,       /* left */
    N_IF,           /* left, body, orelse (elif: orelse is one N_IF) */
    N_FOR,          /* left = target, right = iterable, third = filter, body, orelse */
    N_SET,          /* left = target, right */
    N_SET_BLOCK,    /* left = target, right = filters or NULL, body */
    N_MACRO,        /* symbol, text, first = N_PARAM, body */
    N_PARAM,        /* symbol, text, left = default or NULL */
    N_CALL_BLOCK,   /* left = N_CALL, first = N_PARAM, body */
    N_FILTER_BLOCK, /* left = filters, body */
    N_WITH,         /* first = N_SET, body */
    N_GENERATION,   /* body */
    N_BREAK,
    N_CONTINUE,
} NodeKind;

typedef enum Operator {
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOORDIV,
    OP_MOD,
    OP_POW,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN,
} Operator;

struct Node {
    uint8_t kind;
    uint8_t op;
    int32_t line;
    int32_t symbol; /* index of an interned variable name */
    Str text;
    Value value;
    Node *left, *right, *third;
    Node *first, *body, *orelse; /* lists linked by next */
    Node *next;
    const int32_t *hidden, *hidden_else; /* template_frames.c; ends with -1 or is NULL */
};

enum { /* symbols that the evaluator itself asks for */
       SYMBOL_LOOP,
       SYMBOL_CALLER,
       SYMBOL_MESSAGES,
       SYMBOL_TOOLS,
       SYMBOL_DOCUMENTS,
       SYMBOL_ADD_GENERATION_PROMPT,
       SYMBOL_BOS_TOKEN,
       SYMBOL_EOS_TOKEN,
       SYMBOL_FIXED_COUNT
};

struct Template {
    const char *subject;
    Node *body;
    Str *symbols; /* names of variables */
    int32_t n_symbols;
    const int32_t *hidden;
};

typedef struct Parser {
    const char *subject;
    Token *at; /* the current token; never moves past T_EOF */
    Arena *out;
    Err *err;
    bool failed;
    int nesting;
    int loops;      /* enclosing for loops of the same frame: break and continue are allowed */
    int conditions; /* enclosing ifs: an unknown filter there is an error only when it is reached */
    Str *symbols;
    int32_t n_symbols, symbol_capacity;
} Parser;

/* Sets the error "chat template '…', line N: …"; always NULL, so that callers may return it. */
Node *parser_fail(Parser *p, int line, const char *format, ...) PRINTF_LIKE(3, 4);
Node *parser_node(Parser *p, NodeKind kind, int line);
int32_t parser_symbol(Parser *p, Str name);
bool parser_is_name(const Parser *p, const char *name);
bool parser_skip_name(Parser *p, const char *name);
bool parser_skip(Parser *p, TokenType type);
bool parser_expect(Parser *p, TokenType type, const char *what);
bool parser_enter(Parser *p); /* one level deeper; parser_leave undoes it */
static inline void parser_leave(Parser *p)
{
    p->nesting--;
}
static inline void parser_advance(Parser *p)
{
    if (p->at->type != T_EOF)
        p->at++;
}

typedef enum TupleMode {
    TUPLE_FULL,         /* conditional expressions allowed */
    TUPLE_NO_CONDITION, /* in `if` and `for … in` */
    TUPLE_PARENTHESES,  /* may be empty */
} TupleMode;
Node *parse_tuple(Parser *p, TupleMode mode);
Node *parse_expression(Parser *p);
Node *parse_primary(Parser *p);
Node *parse_filters(Parser *p, Node *subject); /* `|name(args)…` as long as there are any */
Node *parse_filter(Parser *p, Node *subject);  /* `name(args)`, the bar already skipped */
Node *parse_statements(Parser *p, const char *const *ends); /* up to one of the end tags */
Node *parse_template_body(Parser *p);

/* Finds, for the template and every frame in it, the names it hides until it sets them. */
const int32_t *template_hide_names(Node *body, Arena *out);

/* ---- one rendering --------------------------------------------------------------------------- */

typedef struct Binding {
    int32_t symbol;
    Value value;
} Binding;

struct Scope {
    Scope *parent;
    Binding *bindings;
    int32_t len, capacity;
    bool captured; /* a macro refers to it: it must not be reused */
};

typedef enum Flow { FLOW_NORMAL, FLOW_BREAK, FLOW_CONTINUE } Flow;

struct Render {
    const Template *template;
    Arena *arena;
    Buf *out;
    size_t out_start; /* length of out when rendering began */
    Err *err;
    bool failed;
    int depth;
    int64_t steps;
    size_t memory;
    uint8_t *chunk; /* small allocations come from here */
    size_t chunk_left;
};

/* Small memory of one rendering, zeroed. NULL past TEMPLATE_MAX_MEMORY: the rendering failed. */
void *render_alloc(Render *r, size_t bytes);
char *render_chars(Render *r, size_t bytes); /* not zeroed */
/* Fails the rendering: INPUT_DATASET_VALIDATION_FAILED, "chat template '…', line N: …". */
Value render_fail(Render *r, int line, const char *format, ...) PRINTF_LIKE(3, 4);
/* The same for what Jinja has and this evaluator has not (CONFIG_INVALID). */
Value render_unsupported(Render *r, int line, const char *format, ...) PRINTF_LIKE(3, 4);
/* Counts work; false (and failed) past the limit. */
bool render_step(Render *r, size_t work);

Value eval(Render *r, const Node *node, Scope *scope);
Flow exec(Render *r, const Node *statements, Scope *scope);
void scope_set(Render *r, Scope *scope, int32_t symbol, Value value);
/* `hidden` names are undefined in the new scope, whatever the scopes around it say. */
Scope *scope_make(Render *r, Scope *parent, const int32_t *hidden);
void scope_hide(Render *r, Scope *scope, const int32_t *hidden);
bool scope_get(const Scope *scope, int32_t symbol, Value *value);
Value macro_call(Render *r, const Macro *macro, const CallArgs *args, const Value *caller);
/* Text written to r->out since `start`, taken out of it again. */
Str render_capture(Render *r, size_t start);
bool eval_args(Render *r, const Node *first, Scope *scope, CallArgs *args, int line);

/* ---- operations on values (template_value.c, template_json.c) -------------------------------- */

bool value_truth(Value v);
bool value_equal(Render *r, Value a, Value b);
/* -1, 0, 1; fails when Python would raise TypeError. */
int value_compare(Render *r, Value a, Value b, int line);
bool value_contains(Render *r, Value container, Value item, int line);
const char *value_type_name(Value v); /* as in Python's messages */
Str value_to_str(Render *r, Value v, int line);
void value_write(Render *r, Value v, Buf *out, int line); /* str(v) */
void value_repr(Render *r, Value v, Buf *out, int line);
void value_write_float(double f, Buf *out);
/* The elements that iteration gives; NULL and failed when Python would raise. */
List *value_iterate(Render *r, Value v, int line);
bool value_length(Value v, int64_t *len); /* false: no len() */
List *list_make(Render *r, int64_t len);
Dict *dict_make(Render *r, int64_t capacity);
Value *dict_find(Render *r, const Dict *dict, Value key);
void dict_put(Render *r, Dict *dict, Value key, Value value);
Value value_binary(Render *r, Operator op, Value a, Value b, int line);
Value value_attribute(Render *r, Value v, Str name, int line);
Value value_item(Render *r, Value v, Value key, int line);
Value value_slice(Render *r, Value v, const Value bounds[3], int line);
Value value_call(Render *r, Value callee, const CallArgs *args);
Value value_from_json(Render *r, const Json *json);

typedef struct JsonFormat {
    Str item_separator, key_separator, indent;
    bool indented, ascii, sorted;
} JsonFormat;
void value_write_json(Render *r, Value v, const JsonFormat *format, int level, Buf *out, int line);

/* ---- calls: template_call.c, template_filter.c, template_method.c, template_test.c ------- */

/* Puts positional and keyword arguments into out[] by the names of the parameters (the list ends
 * with NULL); those not given stay V_ABSENT. The first n_required must be given. */
bool args_bind(Render *r, const char *what, const CallArgs *args, const char *const *names,
               int n_required, Value *out);
bool arg_int(Render *r, Value v, int64_t fallback, int64_t *out, int line);
bool arg_bool(Value v, bool fallback);
Str arg_str(Render *r, Value v, const char *fallback, int line); /* str(); fallback when absent */

int function_find(Str name); /* global function, -1 when there is none */
Value function_call(Render *r, int function, const CallArgs *args);
int method_find(ValueKind kind, Str name);        /* -1 when the type has no such method */
bool method_is_blocked(ValueKind kind, Str name); /* Python has it; the sandbox or we do not */
Value method_call(Render *r, const Method *method, const CallArgs *args);
Value filter_apply(Render *r, Str name, Value subject, const CallArgs *args);
bool test_apply(Render *r, Str name, Value subject, const CallArgs *args);
bool filter_exists(Str name);
bool test_exists(Str name);
Value format_percent(Render *r, Str format, Value argument, int line);
Value format_braces(Render *r, Str format, const CallArgs *args);
/* More filters, in their own files: each table ends with a NULL name. */
typedef Value FilterFunction(Render *r, Value subject, const CallArgs *args);
typedef struct FilterRow {
    const char *name;
    FilterFunction *apply;
} FilterRow;
extern const FilterRow filter_sequence_rows[];

/* ---- text as Python sees it: template_text.c ---------------------------------------------- */

bool text_is_space(uint32_t codepoint);
int64_t text_length(Str s);               /* code points */
size_t text_offset(Str s, int64_t index); /* byte offset of code point `index` (clamped) */
size_t text_char_len(Str s, size_t pos);  /* bytes of the code point at pos */
Str text_strip(Str s, const Str *chars, int sides); /* sides: 1 left, 2 right, 3 both */
int64_t text_find(Str s, Str needle, size_t from);  /* byte offset or -1 */
int64_t text_find_last(Str s, Str needle);
enum { TEXT_UPPER, TEXT_LOWER, TEXT_TITLE, TEXT_CAPITALIZE, TEXT_SWAP };
/* False when a character needs a mapping that is not implemented. */
bool text_case(Str s, int mode, Buf *out);
Str text_escape_html(Render *r, Str s);
/* Buf with the limits of a rendering; take moves it into render memory and frees it. */
Str render_take(Render *r, Buf *buf);

#endif
