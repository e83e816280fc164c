/* added.c — see added.h. Owns the trie over added tokens and the rules of its flags.
 *
 * A text position costs one table look-up unless an added token starts with its byte; the walk from
 * there is bounded by the longest added token.
 */
#include "text/added.h"

#include <string.h>

#include "text/unicode.h"

/* The child of `node` with that byte, 0 = none. */
static int32_t find_child(const AddedMatcher *matcher, int32_t node, uint8_t byte)
{
    assert(node >= 0 && node < matcher->n_nodes);
    int32_t child = matcher->nodes[node].child;
    while (child != 0 && matcher->nodes[child].byte != byte)
        child = matcher->nodes[child].sibling;
    return child;
}

static int32_t add_child(AddedMatcher *matcher, int32_t node, uint8_t byte)
{
    assert(find_child(matcher, node, byte) == 0);
    int32_t child = matcher->n_nodes++;
    matcher->nodes[child] =
        (TrieNode){.sibling = matcher->nodes[node].child, .token = -1, .byte = byte};
    matcher->nodes[node].child = child;
    return child;
}

void added_build(AddedMatcher *matcher, const AddedToken *tokens, const Str *keys,
                 const int32_t *use, int32_t count, Arena *out)
{
    *matcher = (AddedMatcher){.tokens = tokens, .n_nodes = 1};
    size_t bound = 1;
    for (int32_t i = 0; i < count; i++)
        bound += keys[i].len;
    must(bound <= INT32_MAX);
    matcher->nodes = arena_array(out, TrieNode, bound);
    matcher->nodes[0].token = -1;
    for (int32_t i = 0; i < count; i++) {
        int32_t node = 0;
        for (size_t k = 0; k < keys[i].len; k++) {
            uint8_t byte = (uint8_t)keys[i].data[k];
            int32_t child = find_child(matcher, node, byte);
            node = child != 0 ? child : add_child(matcher, node, byte);
            if (k == 0)
                matcher->first[byte] = node;
        }
        if (node != 0)
            matcher->nodes[node].token = use[i];
    }
    assert((size_t)matcher->n_nodes <= bound);
}

/* The longest token that starts at `start`; NULL = none. */
static const AddedToken *longest_at(const AddedMatcher *matcher, Str text, size_t start,
                                    SpecialParsing special, size_t *end)
{
    assert(start < text.len);
    const AddedToken *found = NULL;
    int32_t node = matcher->first[(uint8_t)text.data[start]];
    size_t pos = start + 1;
    while (node != 0) {
        int32_t token = matcher->nodes[node].token;
        if (token >= 0 && (special == SPECIAL_PARSED || !matcher->tokens[token].control)) {
            found = &matcher->tokens[token];
            *end = pos;
        }
        if (pos == text.len)
            break;
        node = find_child(matcher, node, (uint8_t)text.data[pos++]);
    }
    return found;
}

/* Start of the character that ends at `pos`. */
static size_t character_before(Str text, size_t pos)
{
    assert(pos > 0);
    do
        pos--;
    while (pos > 0 && ((uint8_t)text.data[pos] & 0xC0) == 0x80);
    return pos;
}

static bool touches_word(Str text, size_t start, size_t end)
{
    assert(start < end && end <= text.len);
    uint32_t codepoint = 0;
    size_t pos = end;
    if (utf8_next(text, &pos, &codepoint) && unicode_is_word(codepoint))
        return true;
    if (start == 0)
        return false;
    pos = character_before(text, start);
    return utf8_next(text, &pos, &codepoint) && unicode_is_word(codepoint);
}

static size_t skip_space_left(Str text, size_t pos, size_t floor)
{
    assert(floor <= pos && pos <= text.len);
    uint32_t codepoint = 0;
    while (pos > floor) {
        size_t before = character_before(text, pos), next = before;
        if (!utf8_next(text, &next, &codepoint) || !unicode_is_space(codepoint))
            break;
        pos = before;
    }
    return pos > floor ? pos : floor;
}

static size_t skip_space_right(Str text, size_t pos)
{
    uint32_t codepoint = 0;
    size_t next = pos;
    while (utf8_next(text, &next, &codepoint) && unicode_is_space(codepoint))
        pos = next;
    return pos;
}

bool added_find(const AddedMatcher *matcher, Str text, size_t from, SpecialParsing special,
                AddedMatch *match)
{
    assert(from <= text.len);
    if (matcher->n_nodes <= 1)
        return false;
    for (size_t start = from; start < text.len; start++) {
        size_t end = start;
        const AddedToken *token = longest_at(matcher, text, start, special, &end);
        if (token == NULL)
            continue;
        if (token->single_word && touches_word(text, start, end)) {
            start = end - 1;
            continue;
        }
        match->token = token;
        match->start = token->lstrip ? skip_space_left(text, start, from) : start;
        match->end = token->rstrip ? skip_space_right(text, end) : end;
        assert(match->start >= from && match->end > match->start);
        return true;
    }
    return false;
}
