/* pack.c — the order of an epoch and its packs: best-fit-decreasing inside windows of a shuffle.
 *
 * Everything depends on (dataset, options, epoch) alone, so a cursor is all that a resume needs. An
 * epoch is planned when its first microbatch is asked for; all memory is taken by packer_make.
 */
#include "data/pack.h"

#include <stdlib.h>
#include <string.h>

#include "core/rng.h"

enum { PACK_WINDOW = 1024, TOKEN_MULTIPLE = 128 };

typedef struct Pack {
    int64_t first; /* chain of examples through Packer.next, -1 = end */
    int64_t last;
    int32_t room;
} Pack;

struct Packer {
    const Dataset *dataset;
    PackOptions options;
    int32_t tokens, max_loss;
    int64_t epoch; /* planned, -1 = none */
    int64_t *order, *pack_order, *next;
    int64_t *by_difficulty; /* examples, easiest first; NULL without a curriculum */
    Pack *packs;
    int64_t n_packs;
    int32_t *example_tokens; /* of the longest example */
    uint8_t *example_loss;
};

static int32_t longest(const Dataset *dataset)
{
    int32_t len = 0;
    for (int64_t i = 0; i < dataset->n_examples; i++)
        len = (int32_t)max_i64(len, dataset->examples[i].len);
    return len;
}

static int compare_lengths(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x < y) - (x > y); /* longest first */
}

static int64_t all_tokens(const Dataset *dataset)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < dataset->n_examples; i++)
        sum += dataset->examples[i].len;
    return sum;
}

/* Upper bound of a microbatch's tokens, the same for every epoch. */
static int64_t largest_microbatch(const Dataset *dataset, const PackOptions *options, Arena *out)
{
    const int64_t n = dataset->n_examples;
    if (options->packing)
        return min_i64((int64_t)options->rows * options->max_seq_length, all_tokens(dataset));
    size_t mark = arena_mark(out);
    int32_t *lengths = arena_array(out, int32_t, n);
    for (int64_t i = 0; i < n; i++)
        lengths[i] = dataset->examples[i].len;
    qsort(lengths, (size_t)n, sizeof lengths[0], compare_lengths);
    int64_t sum = 0;
    for (int64_t i = 0; i < min_i64(n, options->rows); i++)
        sum += lengths[i];
    arena_rewind(out, mark);
    return sum;
}

typedef struct Rank {
    float difficulty;
    int64_t example;
} Rank;

static int compare_ranks(const void *a, const void *b)
{
    const Rank *x = a, *y = b;
    if (x->difficulty != y->difficulty)
        return x->difficulty < y->difficulty ? -1 : 1;
    return (x->example > y->example) - (x->example < y->example);
}

static void sort_by_difficulty(Packer *p, Arena *out)
{
    const int64_t n = p->dataset->n_examples;
    p->by_difficulty = arena_array(out, int64_t, n);
    const size_t mark = arena_mark(out);
    Rank *ranks = arena_array(out, Rank, n);
    for (int64_t i = 0; i < n; i++)
        ranks[i] = (Rank){p->dataset->examples[i].difficulty, i};
    qsort(ranks, (size_t)n, sizeof *ranks, compare_ranks);
    for (int64_t i = 0; i < n; i++)
        p->by_difficulty[i] = ranks[i].example;
    arena_rewind(out, mark);
}

Packer *packer_make(const Dataset *dataset, const PackOptions *options, Arena *out)
{
    must(dataset->n_examples > 0 && options->rows > 0);
    const int32_t most = longest(dataset);
    must(most <= options->max_seq_length);
    Packer *p = arena_new(out, Packer);
    p->dataset = dataset;
    p->options = *options;
    p->epoch = -1;
    p->tokens = (int32_t)round_up(largest_microbatch(dataset, options, out), TOKEN_MULTIPLE);
    p->max_loss = (int32_t)min_i64(p->tokens, dataset->n_loss);
    p->example_tokens = arena_array(out, int32_t, most);
    p->example_loss = arena_array(out, uint8_t, most);
    p->order = arena_array(out, int64_t, dataset->n_examples);
    p->pack_order = arena_array(out, int64_t, dataset->n_examples);
    p->next = arena_array(out, int64_t, dataset->n_examples);
    p->packs = arena_array(out, Pack, dataset->n_examples);
    if (options->curriculum)
        sort_by_difficulty(p, out);
    return p;
}

int32_t packer_tokens(const Packer *packer)
{
    return packer->tokens;
}
int32_t packer_max_loss(const Packer *packer)
{
    return packer->max_loss;
}

/* ---- planning an epoch ---------------------------------------------------- */

/* Insertion by length keeps equal lengths in shuffled order; a window is short. */
static void sort_window(const Dataset *dataset, int64_t *order, int64_t n)
{
    for (int64_t i = 1; i < n; i++) {
        int64_t example = order[i], at = i;
        int32_t len = dataset->examples[example].len;
        for (; at > 0 && dataset->examples[order[at - 1]].len < len; at--)
            order[at] = order[at - 1];
        order[at] = example;
    }
}

static void pack_add(Packer *p, int64_t pack, int64_t example)
{
    Pack *target = &p->packs[pack];
    p->next[example] = -1;
    if (target->first < 0)
        target->first = example;
    else
        p->next[target->last] = example;
    target->last = example;
    target->room -= p->dataset->examples[example].len;
    assert(target->room >= 0);
}

static int64_t pack_open(Packer *p)
{
    assert(p->n_packs < p->dataset->n_examples);
    p->packs[p->n_packs] = (Pack){.first = -1, .last = -1, .room = p->options.max_seq_length};
    return p->n_packs++;
}

/* The pack of [from, n_packs) that the example fits most tightly, -1 when it fits none. */
static int64_t best_fit(const Packer *p, int64_t from, int32_t len)
{
    assert(len > 0 && from <= p->n_packs);
    int64_t best = -1;
    for (int64_t i = from; i < p->n_packs; i++) {
        if (p->packs[i].room >= len && (best < 0 || p->packs[i].room < p->packs[best].room))
            best = i;
    }
    return best;
}

/* Packs order[from, to), a window at a time, behind the packs that are there. */
static void plan_part(Packer *p, int64_t from, int64_t to)
{
    assert(from <= to && to <= p->dataset->n_examples);
    for (int64_t at = from; at < to; at += PACK_WINDOW) {
        int64_t count = min_i64(PACK_WINDOW, to - at), first_pack = p->n_packs;
        if (p->options.packing)
            sort_window(p->dataset, p->order + at, count);
        for (int64_t i = at; i < at + count; i++) {
            int32_t len = p->dataset->examples[p->order[i]].len;
            int64_t pack = p->options.packing ? best_fit(p, first_pack, len) : -1;
            pack_add(p, pack >= 0 ? pack : pack_open(p), p->order[i]);
        }
    }
}

/* One part after the other, each shuffled in itself, both its examples and its packs. */
static void plan_curriculum(Packer *p, int64_t epoch)
{
    const int64_t n = p->dataset->n_examples;
    for (int64_t k = 0; k < CURRICULUM_PARTS; k++) {
        const int64_t size = n / CURRICULUM_PARTS, from = k * size, first_pack = p->n_packs;
        const int64_t to = k + 1 == CURRICULUM_PARTS ? n : from + size;
        const uint32_t sub = (uint32_t)(2 * (epoch * CURRICULUM_PARTS + k));
        rng_permutation(p->options.seed, RNG_SHUFFLE, sub, to - from, p->order + from);
        for (int64_t i = from; i < to; i++)
            p->order[i] = p->by_difficulty[from + p->order[i]];
        plan_part(p, from, to);
        const int64_t packs = p->n_packs - first_pack;
        rng_permutation(p->options.seed, RNG_SHUFFLE, sub + 1, packs, p->pack_order + first_pack);
        for (int64_t i = first_pack; i < p->n_packs; i++)
            p->pack_order[i] += first_pack;
    }
}

static void plan_epoch(Packer *p, int64_t epoch)
{
    const int64_t n = p->dataset->n_examples;
    p->n_packs = 0;
    p->epoch = epoch;
    if (p->by_difficulty != NULL) {
        plan_curriculum(p, epoch);
        return;
    }
    rng_permutation(p->options.seed, RNG_SHUFFLE, (uint32_t)(2 * epoch), n, p->order);
    plan_part(p, 0, n);
    rng_permutation(p->options.seed, RNG_SHUFFLE, (uint32_t)(2 * epoch + 1), p->n_packs,
                    p->pack_order);
}

static int64_t microbatches(const Packer *p)
{
    return ceil_div(p->n_packs, p->options.rows);
}

int64_t packer_microbatches(Packer *packer)
{
    if (packer->epoch < 0)
        plan_epoch(packer, 0);
    return microbatches(packer);
}

int64_t packer_left(Packer *packer, const DataCursor *cursor)
{
    if (packer->epoch != cursor->epoch)
        plan_epoch(packer, cursor->epoch);
    return microbatches(packer) - cursor->microbatch;
}

/* ---- filling a microbatch ---------------------------------------------------- */

void microbatch_make(Microbatch *mb, int32_t tokens, Arena *out)
{
    assert(tokens > 0);
    *mb = (Microbatch){0};
    int32_t **arrays[] = {&mb->tokens, &mb->positions, &mb->kv_begin, &mb->kv_end,
                          &mb->q_end,  &mb->loss_rows, &mb->targets};
    for (size_t i = 0; i < COUNT_OF(arrays); i++)
        *arrays[i] = arena_array(out, int32_t, tokens);
}

static void put_token(Microbatch *mb, int32_t at, int32_t token, int32_t begin, int32_t end)
{
    assert(begin <= at && at < end);
    mb->tokens[at] = token;
    mb->positions[at] = at - begin;
    mb->kv_begin[at] = begin;
    mb->kv_end[at] = at + 1;
    mb->q_end[at] = end;
}

static void put_example(Microbatch *mb, const Packer *packer, const Example *example)
{
    const int32_t begin = mb->n_used, end = begin + example->len;
    const int32_t *tokens = packer->example_tokens;
    const uint8_t *loss = packer->example_loss;
    dataset_read(packer->dataset, example, packer->example_tokens, packer->example_loss);
    for (int32_t t = 0; t < example->len; t++) {
        put_token(mb, begin + t, tokens[t], begin, end);
        if (t + 1 < example->len && loss[t + 1]) {
            mb->loss_rows[mb->n_loss] = begin + t;
            mb->targets[mb->n_loss++] = tokens[t + 1];
        }
    }
    mb->n_used = end;
    mb->n_examples++;
}

void packer_next(Packer *packer, DataCursor *cursor, Microbatch *mb)
{
    if (packer->epoch != cursor->epoch)
        plan_epoch(packer, cursor->epoch);
    must(cursor->microbatch >= 0 && cursor->microbatch < microbatches(packer));
    mb->n_loss = mb->n_used = mb->n_examples = 0;
    int64_t from = cursor->microbatch * packer->options.rows;
    int64_t to = min_i64(from + packer->options.rows, packer->n_packs);
    for (int64_t i = from; i < to; i++) {
        const Pack *pack = &packer->packs[packer->pack_order[i]];
        for (int64_t e = pack->first; e >= 0; e = packer->next[e])
            put_example(mb, packer, &packer->dataset->examples[e]);
    }
    must(mb->n_used <= packer->tokens);
    for (int32_t t = mb->n_used; t < packer->tokens; t++)
        put_token(mb, t, 0, t, t + 1);
    for (int32_t i = mb->n_loss; i < packer->tokens; i++)
        mb->loss_rows[i] = mb->targets[i] = 0;
    cursor->microbatch++;
    if (cursor->microbatch == microbatches(packer))
        *cursor = (DataCursor){.epoch = cursor->epoch + 1};
}

void packer_name_rows(const Packer *packer, const DataCursor *cursor, Buf *text)
{
    enum { NAMED_MAX = 16 };
    const Dataset *dataset = packer->dataset;
    const bool many_files = dataset->examples[dataset->n_examples - 1].file > 0;
    const int64_t from = cursor->microbatch * packer->options.rows;
    const int64_t to = min_i64(from + packer->options.rows, packer->n_packs);
    int64_t count = 0;
    must(packer->epoch == cursor->epoch && from < to);
    buf_text(text, "lines");
    for (int64_t i = from; i < to; i++) {
        for (int64_t e = packer->packs[packer->pack_order[i]].first; e >= 0; e = packer->next[e]) {
            const Example *example = &dataset->examples[e];
            if (++count > NAMED_MAX)
                continue;
            buf_printf(text, "%s %d", count > 1 ? "," : "", example->line);
            if (many_files)
                buf_printf(text, " of file %d", example->file + 1);
        }
    }
    if (count > NAMED_MAX)
        buf_printf(text, " and %lld more", (long long)(count - NAMED_MAX));
}
