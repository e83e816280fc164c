/* template_frames.c — which names a frame hides before it sets them.
 *
 * Jinja decides at compile time where a name lives. A frame (the template, the body of a for,
 * macro, set block, filter block, with or generation) that sets a name without having mentioned it
 * before owns that name from its beginning: until it is set the name is undefined there and in the
 * frames inside, even when the caller passed a variable of that name. Under an `if` a set does not
 * count, and an enclosing frame that mentions the name keeps it. This pass finds those names once;
 * the evaluator then makes them undefined when it enters the frame.
 */
#include "text/template_internal.h"

#include <string.h>

enum { FRAMES = TEMPLATE_MAX_NESTING + 2, SET_BYTES = TEMPLATE_MAX_SYMBOLS / 8 };

typedef struct Frames {
    Arena *out;
    int depth;
    uint8_t mentioned[FRAMES][SET_BYTES];
    int32_t hidden[TEMPLATE_MAX_SYMBOLS]; /* of the frame in work */
    int32_t n_hidden;
} Frames;

static bool has(const uint8_t *set, int32_t symbol)
{
    return set[symbol / 8] >> (symbol % 8) & 1;
}

static void mention(Frames *f, int32_t symbol)
{
    assert(symbol >= 0 && symbol < TEMPLATE_MAX_SYMBOLS);
    f->mentioned[f->depth][symbol / 8] |= (uint8_t)(1u << (symbol % 8));
}

/* Every name in an expression. Chains of operators lean left, chains of `if` to the right; only the
 * other side recurses, and the parser bounds how deep that goes. */
static void scan_expression(Frames *f, const Node *node)
{
    while (node != NULL) {
        bool condition = node->kind == N_CONDITION;
        if (node->kind == N_NAME || node->kind == N_NAMESPACE_REF)
            mention(f, node->symbol);
        scan_expression(f, condition ? node->left : node->right);
        scan_expression(f, node->third);
        for (const Node *item = node->first; item != NULL; item = item->next)
            scan_expression(f, item);
        node = condition ? node->right : node->left;
    }
}

typedef enum Certainty { ALWAYS, MAYBE } Certainty;

static void scan_store(Frames *f, int32_t symbol, Certainty certainty)
{
    bool hides = certainty == ALWAYS;
    for (int d = 0; d <= f->depth && hides; d++)
        hides = !has(f->mentioned[d], symbol);
    if (hides)
        f->hidden[f->n_hidden++] = symbol;
    mention(f, symbol);
}

static void scan_target(Frames *f, const Node *target, Certainty certainty)
{
    if (target->kind == N_NAME)
        scan_store(f, target->symbol, certainty);
    else if (target->kind == N_NAMESPACE_REF)
        mention(f, target->symbol);
    for (const Node *item = target->first; item != NULL; item = item->next)
        scan_target(f, item, certainty);
}

static void scan_statements(Frames *f, const Node *node, Certainty certainty);

static void scan_if(Frames *f, const Node *node)
{
    for (; node != NULL && node->kind == N_IF; node = node->orelse) {
        scan_expression(f, node->left);
        scan_statements(f, node->body, MAYBE);
        if (node->orelse != NULL && node->orelse->next != NULL)
            break;
    }
    scan_statements(f, node == NULL || node->kind != N_IF ? node : node->orelse, MAYBE);
}

/* What the frame itself says, without the frames inside it. */
static void scan_statements(Frames *f, const Node *node, Certainty certainty)
{
    for (; node != NULL; node = node->next) {
        switch ((NodeKind)node->kind) {
        case N_OUTPUT:
        case N_FILTER_BLOCK:
        case N_CALL_BLOCK:
            scan_expression(f, node->left);
            break;
        case N_IF:
            scan_if(f, node);
            break;
        case N_FOR:
            scan_expression(f, node->right);
            break;
        case N_SET:
            scan_expression(f, node->right);
            scan_target(f, node->left, certainty);
            break;
        case N_SET_BLOCK:
            scan_target(f, node->left, certainty);
            break;
        case N_MACRO:
            scan_store(f, node->symbol, certainty);
            break;
        case N_WITH:
            for (const Node *set = node->first; set != NULL; set = set->next)
                scan_expression(f, set->right);
            break;
        default:
            break;
        }
    }
}

static const int32_t *take_hidden(Frames *f)
{
    if (f->n_hidden == 0)
        return NULL;
    int32_t *list = arena_array(f->out, int32_t, f->n_hidden + 1);
    memcpy(list, f->hidden, (size_t)f->n_hidden * sizeof(int32_t));
    list[f->n_hidden] = -1;
    f->n_hidden = 0;
    return list;
}

static void visit_frames(Frames *f, Node *node);

/* A frame inside the current one; `owner` declares its parameters. */
static const int32_t *visit_frame(Frames *f, const Node *owner, Node *body)
{
    must(f->depth + 1 < FRAMES);
    f->depth++;
    memset(f->mentioned[f->depth], 0, SET_BYTES);
    if (owner != NULL && owner->kind == N_FOR) {
        mention(f, SYMBOL_LOOP);
        scan_expression(f, owner->left);
    }
    for (const Node *p = owner != NULL && owner->kind != N_FOR ? owner->first : NULL; p != NULL;
         p = p->next) {
        mention(f, p->kind == N_SET ? p->left->symbol : p->symbol);
        scan_expression(f, p->kind == N_PARAM ? p->left : NULL);
    }
    scan_statements(f, body, ALWAYS);
    const int32_t *hidden = take_hidden(f);
    visit_frames(f, body);
    f->depth--;
    return hidden;
}

/* The frames that the statements of one frame open, also under its ifs. */
static void visit_frames(Frames *f, Node *node)
{
    for (; node != NULL; node = node->next) {
        switch ((NodeKind)node->kind) {
        case N_IF:
            for (Node *branch = node; branch != NULL; branch = branch->orelse) {
                bool chained = branch->kind == N_IF && (branch == node || branch->next == NULL);
                visit_frames(f, chained ? branch->body : branch);
                if (!chained)
                    break;
            }
            break;
        case N_FOR:
            node->hidden_else = visit_frame(f, NULL, node->orelse);
            node->hidden = visit_frame(f, node, node->body);
            break;
        case N_MACRO:
        case N_CALL_BLOCK:
        case N_SET_BLOCK:
        case N_FILTER_BLOCK:
        case N_WITH:
        case N_GENERATION:
            node->hidden = visit_frame(f, node, node->body);
            break;
        default:
            break;
        }
    }
}

const int32_t *template_hide_names(Node *body, Arena *out)
{
    Frames *f = heap_resize(NULL, sizeof(Frames));
    f->out = out;
    f->depth = 0;
    f->n_hidden = 0;
    memset(f->mentioned[0], 0, SET_BYTES);
    scan_statements(f, body, ALWAYS);
    const int32_t *hidden = take_hidden(f);
    visit_frames(f, body);
    heap_free(f);
    return hidden;
}
