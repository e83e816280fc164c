/* template_test.c — the tests behind `is`: kinds of values, comparisons.
 *
 * Each row names the kinds of values it is true of, or the operator it stands for.
 */
#include "text/template_internal.h"

#define BIT(kind) (1u << (kind))

enum {
    NUMBERS = BIT(V_BOOL) | BIT(V_INT) | BIT(V_FLOAT),
    SEQUENCES =
        BIT(V_STRING) | BIT(V_LIST) | BIT(V_TUPLE) | BIT(V_RANGE) | BIT(V_DICT) | BIT(V_UNDEFINED),
    ITERABLES =
        SEQUENCES | BIT(V_ITERATOR) | BIT(V_KEYS) | BIT(V_VALUES) | BIT(V_ITEMS) | BIT(V_LOOP),
    CALLABLES = BIT(V_UNDEFINED) | BIT(V_MACRO) | BIT(V_METHOD) | BIT(V_FUNCTION) | BIT(V_LOOP),
    EVERYTHING = BIT(V_ABSENT) - 1,
};

static const struct {
    const char *name;
    uint32_t kinds;
} kind_tests[] = {
    {"defined", EVERYTHING & ~BIT(V_UNDEFINED)},
    {"undefined", BIT(V_UNDEFINED)},
    {"none", BIT(V_NONE)},
    {"boolean", BIT(V_BOOL)},
    {"integer", BIT(V_INT)},
    {"float", BIT(V_FLOAT)},
    {"number", NUMBERS},
    {"string", BIT(V_STRING)},
    {"mapping", BIT(V_DICT)},
    {"sequence", SEQUENCES},
    {"iterable", ITERABLES},
    {"callable", CALLABLES},
};

static const struct {
    const char *name;
    Operator op;
} operator_tests[] = {
    {"equalto", OP_EQ}, {"eq", OP_EQ}, {"==", OP_EQ},       {"ne", OP_NE},
    {"!=", OP_NE},      {"lt", OP_LT}, {"lessthan", OP_LT}, {"<", OP_LT},
    {"le", OP_LE},      {"<=", OP_LE}, {"gt", OP_GT},       {"greaterthan", OP_GT},
    {">", OP_GT},       {"ge", OP_GE}, {">=", OP_GE},       {"in", OP_IN},
};

/* true, false, odd, even, divisibleby */
static const char *const other_tests[] = {"true", "false", "odd", "even", "divisibleby", "sameas"};

bool test_exists(Str name)
{
    for (size_t i = 0; i < COUNT_OF(kind_tests); i++) {
        if (str_eq_text(name, kind_tests[i].name))
            return true;
    }
    for (size_t i = 0; i < COUNT_OF(operator_tests); i++) {
        if (str_eq_text(name, operator_tests[i].name))
            return true;
    }
    for (size_t i = 0; i < COUNT_OF(other_tests); i++) {
        if (str_eq_text(name, other_tests[i]))
            return true;
    }
    return false;
}

static bool takes(Render *r, const CallArgs *args, int n)
{
    if (args->n_pos != n || args->n_kw != 0)
        render_fail(r, args->line, "this test takes %d arguments", n);
    return !r->failed;
}

static bool operator_test(Render *r, Operator op, Value a, Value b, int line)
{
    switch (op) {
    case OP_EQ:
        return value_equal(r, a, b);
    case OP_NE:
        return !value_equal(r, a, b);
    case OP_LT:
        return value_compare(r, a, b, line) < 0;
    case OP_LE:
        return value_compare(r, a, b, line) <= 0;
    case OP_GT:
        return value_compare(r, a, b, line) > 0;
    case OP_GE:
        return value_compare(r, a, b, line) >= 0;
    default:
        must(op == OP_IN);
        return value_contains(r, b, a, line);
    }
}

/* value % divisor == remainder */
static bool divides(Render *r, Value value, Value divisor, int64_t remainder, int line)
{
    Value rest = value_binary(r, OP_MOD, value, divisor, line);
    return !r->failed && value_equal(r, rest, value_int(remainder));
}

/* Python's `is`: identity is only told apart here for the values that have one of their own. */
static bool same(Render *r, Value a, Value b, int line)
{
    bool singletons = a.kind == V_NONE || b.kind == V_NONE || a.kind == V_BOOL || b.kind == V_BOOL;
    if (!singletons)
        render_unsupported(r, line, "the test sameas of these values");
    return a.kind == b.kind && value_equal(r, a, b);
}

static bool other_test(Render *r, Str name, Value v, const CallArgs *args)
{
    if (str_eq_text(name, "true") || str_eq_text(name, "false"))
        return takes(r, args, 0) && v.kind == V_BOOL && v.as.b == str_eq_text(name, "true");
    if (str_eq_text(name, "odd") || str_eq_text(name, "even"))
        return takes(r, args, 0) &&
               divides(r, v, value_int(2), str_eq_text(name, "odd"), args->line);
    if (str_eq_text(name, "sameas"))
        return takes(r, args, 1) && same(r, v, args->pos[0], args->line);
    if (str_eq_text(name, "divisibleby"))
        return takes(r, args, 1) && divides(r, v, args->pos[0], 0, args->line);
    render_unsupported(r, args->line, "test '%.*s'", (int)min_i64((int64_t)name.len, 40),
                       name.len == 0 ? "" : name.data);
    return false;
}

bool test_apply(Render *r, Str name, Value subject, const CallArgs *args)
{
    assert(subject.kind != V_ABSENT);
    for (size_t i = 0; i < COUNT_OF(kind_tests); i++) {
        if (str_eq_text(name, kind_tests[i].name))
            return takes(r, args, 0) && (kind_tests[i].kinds & BIT(subject.kind)) != 0;
    }
    for (size_t i = 0; i < COUNT_OF(operator_tests); i++) {
        if (str_eq_text(name, operator_tests[i].name))
            return takes(r, args, 1) &&
                   operator_test(r, operator_tests[i].op, subject, args->pos[0], args->line);
    }
    return other_test(r, name, subject, args);
}
