/* bpe.c — the merge loop, in two forms that give the same tokens.
 *
 * Short words: an array of symbols is scanned for the lowest rank and closed up after each merge;
 * quadratic, but in the first-level cache. Long words: a doubly linked list of symbols and a heap
 * of candidate pairs ordered by (rank, position); a candidate whose pair has changed since it was
 * pushed is dropped when it comes up. O(n log n), so that a megabyte without a space is no attack.
 *
 * Most words of a text are one token. Whether merging a token's own bytes leads back to it is found
 * out at its first use and kept in `whole`; relaxed atomics suffice, because every thread finds the
 * same answer.
 *
 * Vocabularies of pieces come without a pattern that splits words: their "word" is the whole text.
 * It is cut where two characters meet that no token holds side by side, which changes nothing and
 * makes nearly every word short (bpe_stretch).
 */
#include "text/bpe.h"

#include <stdlib.h>
#include <string.h>

enum { SHORT_WORD = 48 /* symbols */, NEIGHBOUR_BITS = 21, FINISH_AHEAD = 16 };

typedef enum WholeWord { WHOLE_NOT_KNOWN, WHOLE_YES, WHOLE_NO } WholeWord;

typedef struct BpeNode {
    int32_t id;
    uint32_t end;
    int32_t previous, next; /* index, -1 = none */
} BpeNode;

typedef struct BpeCandidate {
    int32_t rank;
    int32_t position; /* node of the left symbol */
    int32_t left, right, result;
} BpeCandidate;

void bpe_init(Bpe *bpe, const Vocab *vocab, int32_t n_merges, Arena *out)
{
    assert(n_merges >= 0 && n_merges <= BPE_MAX_MERGES);
    *bpe = (Bpe){.vocab = vocab, .n_merges = n_merges, .unknown = TOKEN_NONE};
    bpe->merges = arena_array(out, Merge, n_merges);
}

/* The row of what a merge makes. Most files list merges in the order of their tokens, so it is
 * mostly the one of the merge before or the next. */
static int32_t find_result(const Bpe *bpe, int32_t rank, Str text)
{
    const Vocab *vocab = bpe->vocab;
    const int32_t before = rank > 0 ? bpe->merges[rank - 1].result : TOKEN_NONE;
    for (int32_t id = before; before != TOKEN_NONE && id <= before + 1; id++)
        if (vocab->n_repeated == 0 && id < vocab->size && vocab->in_model[id] &&
            str_eq(vocab->texts[id], text))
            return id;
    return str_map_find(&vocab->by_text, text);
}

static bool set_merge(Bpe *bpe, int32_t rank, const Str texts[2], const int32_t rows[2])
{
    assert(rank >= 0 && rank < bpe->n_merges);
    Str left = texts[0], right = texts[1];
    char joined[BPE_MAX_JOINED];
    if (rows[0] == TOKEN_NONE || rows[1] == TOKEN_NONE || left.len + right.len > sizeof(joined))
        return false;
    memcpy(joined, left.data, left.len);
    memcpy(joined + left.len, right.data, right.len);
    int32_t result = find_result(bpe, rank, (Str){joined, left.len + right.len});
    bpe->merges[rank] = (Merge){rows[0], rows[1], result, rank};
    return result != TOKEN_NONE;
}

int32_t bpe_add_merges(Bpe *bpe, int32_t rank, const Str *texts, int32_t n_pairs)
{
    int32_t rows[2 * BPE_BLOCK];
    assert(n_pairs >= 0 && n_pairs <= BPE_BLOCK);
    str_map_find_all(&bpe->vocab->by_text, texts, (size_t)n_pairs * 2, rows);
    for (int32_t i = 0; i < n_pairs; i++)
        if (!set_merge(bpe, rank + i, texts + 2 * i, rows + 2 * i))
            return i;
    return n_pairs;
}

static uint32_t hash_pair(int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    key *= 0x9E3779B97F4A7C15u;
    return (uint32_t)(key >> 32);
}

typedef struct Scored {
    float score;
    int32_t id;
} Scored;

static int by_score(const void *a, const void *b)
{
    const Scored *x = a, *y = b;
    if (x->score > y->score || x->score < y->score)
        return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Writes the ways to split token `id` in two; returns how many there are. NULL: only counts. */
static int32_t split_token(const Vocab *vocab, int32_t id, int32_t rank, Merge *merges)
{
    Str text = vocab->bytes[id];
    int32_t n = 0;
    if (text.len > BPE_MAX_JOINED)
        return 0;
    for (size_t at = 1; at < text.len; at++) {
        if (((uint8_t)text.data[at] & 0xC0) == 0x80)
            continue;
        if (merges != NULL) {
            int32_t left = str_map_find(&vocab->by_bytes, str_sub(text, 0, at));
            int32_t right = left == TOKEN_NONE
                                ? TOKEN_NONE
                                : str_map_find(&vocab->by_bytes, str_sub(text, at, text.len));
            if (right == TOKEN_NONE)
                continue;
            merges[n] = (Merge){left, right, id, rank};
        }
        n++;
    }
    assert(n >= 0 && (size_t)n <= text.len);
    return n;
}

void bpe_from_scores(Bpe *bpe, const Vocab *vocab, const float *scores, Arena *out)
{
    Scored *order = heap_resize(NULL, ((size_t)vocab->size + 1) * sizeof(*order));
    size_t n_tokens = 0, bound = 0;
    for (int32_t i = 0; i < vocab->size; i++) {
        if (!vocab->in_model[i] || str_map_find(&vocab->by_bytes, vocab->bytes[i]) != i)
            continue;
        order[n_tokens++] = (Scored){scores[i], i};
        bound += (size_t)split_token(vocab, i, 0, NULL);
    }
    qsort(order, n_tokens, sizeof(*order), by_score);
    *bpe = (Bpe){.vocab = vocab, .unknown = TOKEN_NONE};
    bpe->merges = arena_push(out, (bound + 1) * sizeof(*bpe->merges));
    int32_t rank = 0;
    for (size_t i = 0; i < n_tokens; i++) {
        rank += i > 0 && order[i].score < order[i - 1].score;
        Merge *next = bpe->merges + bpe->n_merges;
        bpe->n_merges += split_token(vocab, order[i].id, rank, next);
        assert((size_t)bpe->n_merges <= bound);
    }
    heap_free(order);
}

static uint32_t hash_neighbours(uint32_t left, uint32_t right)
{
    uint64_t key = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(key >> (64 - NEIGHBOUR_BITS));
}

/* The rule holds where merges join characters: not for bytes of a character, and not for a run of
 * unknown characters that becomes one token. */
static void find_neighbours(Bpe *bpe, Arena *out)
{
    const Vocab *vocab = bpe->vocab;
    bool bytes = true;
    for (int b = 0; b < 256; b++)
        bytes = bytes && vocab->byte_ids[b] != TOKEN_NONE;
    if (vocab->scheme != VOCAB_PIECES || bpe->ignore_merges || !bpe->byte_fallback || !bytes)
        return;
    for (int32_t i = 0; i < bpe->n_merges; i++) {
        const Merge *m = &bpe->merges[i];
        if (byte_piece(vocab->texts[m->left]) >= 0 || byte_piece(vocab->texts[m->right]) >= 0)
            return;
    }
    bpe->neighbours = arena_zeroed(out, (1u << NEIGHBOUR_BITS) / 64, sizeof(*bpe->neighbours));
    for (int32_t i = 0; i < vocab->size; i++) {
        if (!vocab->in_model[i])
            continue;
        uint32_t left = 0, right = 0;
        size_t pos = 0;
        for (bool first = true; utf8_next(vocab->bytes[i], &pos, &right); first = false) {
            uint32_t bit = hash_neighbours(left, right);
            if (!first)
                bpe->neighbours[bit / 64] |= (uint64_t)1 << bit % 64;
            left = right;
        }
    }
}

size_t bpe_stretch(const Bpe *bpe, Str word)
{
    assert(word.len > 0);
    uint32_t left = 0, right = 0;
    size_t pos = 0, end = 0;
    if (bpe->neighbours == NULL || !utf8_next(word, &pos, &left))
        return word.len;
    for (end = pos; utf8_next(word, &pos, &right); end = pos) {
        uint32_t bit = hash_neighbours(left, right);
        if ((bpe->neighbours[bit / 64] >> bit % 64 & 1) == 0)
            return end;
        left = right;
    }
    return word.len;
}

void bpe_finish(Bpe *bpe, Arena *out)
{
    assert(bpe->slots == NULL && bpe->merges != NULL);
    uint32_t count = 16;
    while (count < (uint32_t)bpe->n_merges * 2)
        count *= 2;
    bpe->mask = count - 1;
    bpe->slots = arena_push(out, count * sizeof(*bpe->slots));
    memset(bpe->slots, 0xFF, count * sizeof(*bpe->slots));
    for (int32_t k = 0; k < bpe->n_merges; k++) { /* a repeated pair: the last counts */
        Merge m = bpe->merges[k];
        if (k + FINISH_AHEAD < bpe->n_merges) {
            const Merge *soon = &bpe->merges[k + FINISH_AHEAD];
            __builtin_prefetch(&bpe->slots[hash_pair(soon->left, soon->right) & bpe->mask], 1);
        }
        uint32_t i = hash_pair(m.left, m.right) & bpe->mask;
        while (bpe->slots[i].left != TOKEN_NONE &&
               (bpe->slots[i].left != m.left || bpe->slots[i].right != m.right))
            i = (i + 1) & bpe->mask;
        bpe->slots[i] = (MergeSlot){m.left, m.right, m.rank, m.result};
    }
    bpe->whole = arena_zeroed(out, (size_t)bpe->vocab->size + 1, sizeof(*bpe->whole));
    find_neighbours(bpe, out);
}

static const MergeSlot *find_merge(const Bpe *bpe, int32_t left, int32_t right)
{
    uint32_t i = hash_pair(left, right) & bpe->mask;
    for (;; i = (i + 1) & bpe->mask) {
        const MergeSlot *slot = &bpe->slots[i];
        if (slot->left == left && slot->right == right)
            return slot;
        if (slot->left == TOKEN_NONE)
            return NULL;
    }
}

void bpe_scratch_free(BpeScratch *scratch)
{
    heap_free(scratch->tokens);
    heap_free(scratch->nodes);
    heap_free(scratch->heap);
    *scratch = (BpeScratch){0};
}

/* The unknown token, or nothing where there is none. */
static void push_unknown(const Bpe *bpe, BpeScratch *s, uint32_t end)
{
    if (bpe->unknown == TOKEN_NONE)
        return;
    if (bpe->fuse_unknown && s->n > 0 && s->tokens[s->n - 1].id == bpe->unknown)
        s->tokens[s->n - 1].end = end;
    else
        s->tokens[s->n++] = (BpeToken){bpe->unknown, end};
}

/* One symbol a byte that the vocabulary knows; fills tokens[]. */
static void split_bytes(const Bpe *bpe, Str word, BpeScratch *s)
{
    for (size_t i = 0; i < word.len; i++) {
        int32_t id = bpe->vocab->byte_ids[(uint8_t)word.data[i]];
        if (id == TOKEN_NONE)
            push_unknown(bpe, s, (uint32_t)i + 1);
        else
            s->tokens[s->n++] = (BpeToken){id, (uint32_t)i + 1};
    }
}

/* True when every byte of the character has a token; they are then pushed. */
static bool push_bytes(const Bpe *bpe, Str word, size_t start, size_t end, BpeScratch *s)
{
    assert(start < end && end <= word.len);
    for (size_t i = start; i < end; i++)
        if (bpe->vocab->byte_ids[(uint8_t)word.data[i]] == TOKEN_NONE)
            return false;
    for (size_t i = start; i < end; i++) {
        int32_t id = bpe->vocab->byte_ids[(uint8_t)word.data[i]];
        s->tokens[s->n++] = (BpeToken){id, (uint32_t)i + 1};
    }
    return true;
}

/* One symbol a character, or its bytes, or the unknown token. */
static void split_chars(const Bpe *bpe, Str word, BpeScratch *s)
{
    const Vocab *vocab = bpe->vocab;
    uint32_t codepoint = 0;
    for (size_t pos = 0, start = 0; utf8_next(word, &pos, &codepoint); start = pos) {
        int32_t id = codepoint < VOCAB_CHARS
                         ? vocab->char_ids[codepoint]
                         : str_map_find(&vocab->by_bytes, str_sub(word, start, pos));
        if (id != TOKEN_NONE)
            s->tokens[s->n++] = (BpeToken){id, (uint32_t)pos};
        else if (!bpe->byte_fallback || !push_bytes(bpe, word, start, pos, s))
            push_unknown(bpe, s, (uint32_t)pos);
        assert(s->n <= pos);
    }
}

static void split_symbols(const Bpe *bpe, Str word, BpeScratch *s)
{
    if (s->capacity < word.len) {
        s->capacity = word.len * 2 + 64;
        s->tokens = heap_resize(s->tokens, s->capacity * sizeof(*s->tokens));
    }
    s->n = 0;
    assert(s->tokens != NULL);
    if (bpe->vocab->scheme == VOCAB_PIECES)
        split_chars(bpe, word, s);
    else
        split_bytes(bpe, word, s);
}

static void merge_short(const Bpe *bpe, BpeScratch *s)
{
    assert(s->n <= SHORT_WORD);
    const MergeSlot *pairs[SHORT_WORD];
    BpeToken *t = s->tokens;
    size_t n = s->n;
    for (size_t i = 0; i + 1 < n; i++)
        pairs[i] = find_merge(bpe, t[i].id, t[i + 1].id);
    while (n > 1) {
        size_t best = n;
        int32_t rank = INT32_MAX;
        for (size_t i = 0; i + 1 < n; i++) {
            if (pairs[i] != NULL && pairs[i]->rank < rank) {
                rank = pairs[i]->rank;
                best = i;
            }
        }
        if (best == n)
            break;
        assert(t[best].id == pairs[best]->left && t[best + 1].id == pairs[best]->right);
        t[best] = (BpeToken){pairs[best]->result, t[best + 1].end};
        memmove(t + best + 1, t + best + 2, (n - best - 2) * sizeof(*t));
        n--;
        if (best + 1 < n)
            memmove(pairs + best + 1, pairs + best + 2, (n - best - 1) * sizeof(*pairs));
        if (best > 0)
            pairs[best - 1] = find_merge(bpe, t[best - 1].id, t[best].id);
        if (best + 1 < n)
            pairs[best] = find_merge(bpe, t[best].id, t[best + 1].id);
    }
    s->n = n;
}

static bool candidate_before(const BpeCandidate *a, const BpeCandidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->position < b->position;
}

static void heap_push(BpeScratch *s, BpeCandidate candidate)
{
    if (s->heap_len == s->heap_capacity) {
        s->heap_capacity = s->heap_capacity * 2 + 256;
        s->heap = heap_resize(s->heap, s->heap_capacity * sizeof(*s->heap));
    }
    assert(s->heap_len < s->heap_capacity && candidate.position >= 0);
    size_t i = s->heap_len++;
    while (i > 0 && candidate_before(&candidate, &s->heap[(i - 1) / 2])) {
        s->heap[i] = s->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    s->heap[i] = candidate;
}

static BpeCandidate heap_pop(BpeScratch *s)
{
    assert(s->heap_len > 0);
    BpeCandidate top = s->heap[0], last = s->heap[--s->heap_len];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= s->heap_len)
            break;
        if (child + 1 < s->heap_len && candidate_before(&s->heap[child + 1], &s->heap[child]))
            child++;
        if (!candidate_before(&s->heap[child], &last))
            break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    if (s->heap_len > 0)
        s->heap[i] = last;
    return top;
}

/* Pushes the pair that starts at node i, if there is one and it merges. */
static void push_pair(const Bpe *bpe, BpeScratch *s, int32_t i)
{
    assert(i < (int32_t)s->n);
    if (i < 0 || s->nodes[i].next < 0)
        return;
    int32_t left = s->nodes[i].id, right = s->nodes[s->nodes[i].next].id;
    const MergeSlot *merge = find_merge(bpe, left, right);
    if (merge != NULL)
        heap_push(s, (BpeCandidate){merge->rank, i, left, right, merge->result});
}

static void merge_long(const Bpe *bpe, BpeScratch *s)
{
    must(s->n < INT32_MAX);
    int32_t n = (int32_t)s->n;
    if (s->nodes_capacity < s->n) {
        s->nodes_capacity = s->n * 2;
        s->nodes = heap_resize(s->nodes, s->nodes_capacity * sizeof(*s->nodes));
    }
    for (int32_t i = 0; i < n; i++)
        s->nodes[i] = (BpeNode){s->tokens[i].id, s->tokens[i].end, i - 1, i + 1 < n ? i + 1 : -1};
    s->heap_len = 0;
    for (int32_t i = 0; i + 1 < n; i++)
        push_pair(bpe, s, i);
    while (s->heap_len > 0) {
        BpeCandidate c = heap_pop(s);
        BpeNode *left = &s->nodes[c.position];
        bool current = left->id == c.left && left->next >= 0 && s->nodes[left->next].id == c.right;
        if (!current)
            continue;
        BpeNode *right = &s->nodes[left->next];
        assert(right->end > left->end && right->previous == c.position);
        left->id = c.result;
        left->end = right->end;
        left->next = right->next;
        right->id = TOKEN_NONE; /* no candidate matches it any more */
        if (left->next >= 0)
            s->nodes[left->next].previous = c.position;
        push_pair(bpe, s, left->previous);
        push_pair(bpe, s, c.position);
    }
    s->n = 0;
    for (int32_t i = 0; i >= 0; i = s->nodes[i].next)
        s->tokens[s->n++] = (BpeToken){s->nodes[i].id, s->nodes[i].end};
}

static void merge_word(const Bpe *bpe, Str word, BpeScratch *s)
{
    split_symbols(bpe, word, s);
    if (s->n > SHORT_WORD)
        merge_long(bpe, s);
    else if (s->n > 1)
        merge_short(bpe, s);
}

void bpe_encode(const Bpe *bpe, Str word, BpeScratch *s)
{
    assert(word.len > 0 && word.len <= UINT32_MAX);
    const Vocab *vocab = bpe->vocab;
    int32_t id = word.len <= vocab->longest ? str_map_find(&vocab->by_bytes, word) : TOKEN_NONE;
    if (id == TOKEN_NONE) {
        merge_word(bpe, word, s);
        return;
    }
    WholeWord whole = atomic_load_explicit(&bpe->whole[id], memory_order_relaxed);
    assert(whole <= WHOLE_NO);
    if (bpe->ignore_merges)
        whole = WHOLE_YES;
    if (whole != WHOLE_YES) {
        merge_word(bpe, word, s);
        if (whole == WHOLE_NOT_KNOWN) {
            whole = s->n == 1 && s->tokens[0].id == id ? WHOLE_YES : WHOLE_NO;
            atomic_store_explicit(&bpe->whole[id], (uint8_t)whole, memory_order_relaxed);
        }
        return;
    }
    if (s->capacity == 0) {
        s->capacity = 64;
        s->tokens = heap_resize(s->tokens, s->capacity * sizeof(*s->tokens));
    }
    s->tokens[0] = (BpeToken){id, (uint32_t)word.len};
    s->n = 1;
}
