/* importance.c — collecting sums of squares while a text is read. See importance.h.
 *
 * The inputs are seen by watching the tape. Matrices that share an input are parts of one call and
 * get the same sums. A column's sum runs in the order of the tokens, whatever the threads.
 */
#include "model/importance.h"

#include <string.h>

#include "model/decode_session.h"
#include "text/tokenizer.h"

typedef struct Collector {
    const Model *model;
    Importance *to;
} Collector;

/* The place of a weight among all linears, -1 for others (the head). */
static int64_t place_of(const Model *model, const Weight *w)
{
    const uintptr_t first = (uintptr_t)model->layers, at = (uintptr_t)w;
    if (at < first || at >= first + (uintptr_t)model->config.n_layers * sizeof(Layer))
        return -1;
    const int64_t layer = (int64_t)((at - first) / sizeof(Layer));
    const int64_t role = w - model->layers[layer].linear;
    return role >= 0 && role < ROLE_LINEAR_COUNT ? layer * ROLE_LINEAR_COUNT + role : -1;
}

static void add_squares(const Tensor *x, float *sums)
{
    enum { PIECE = 64 };
    const float *values = x->data;
    assert(x->dtype == DTYPE_F32 && x->rows > 0);
#pragma omp parallel for schedule(static)
    for (int64_t from = 0; from < x->cols; from += PIECE)
        for (int64_t t = 0; t < x->rows; t++) {
            const float *row = values + t * x->stride;
            for (int64_t j = from; j < from + PIECE && j < x->cols; j++)
                sums[j] += row[j] * row[j];
        }
}

static void watch(void *context, const OpCall *call, Pass pass)
{
    const Collector *c = context;
    if (call->op != OP_linear || pass != PASS_FWD)
        return;
    float *first = NULL;
    for (int i = 0; i < call->linear.n_parts; i++) {
        const int64_t place = place_of(c->model, call->linear.part[i].w);
        if (place < 0)
            continue;
        float *sums = c->to->sums[place];
        if (first == NULL)
            add_squares(&call->linear.x, first = sums);
        else
            memcpy(sums, first, (size_t)call->linear.x.cols * sizeof *sums);
    }
}

static bool read_chunks(DecodeSession *s, const int32_t *ids, int32_t bos, Importance *to, Err *err)
{
    int32_t *chunk = arena_array(&s->host, int32_t, to->chunk_tokens);
    const DecodePass pass = {to->chunk_tokens, DECODE_NOTHING};
    for (int64_t i = 0; i < to->chunks; i++) {
        memcpy(chunk, ids + i * to->chunk_tokens, (size_t)to->chunk_tokens * sizeof *chunk);
        if (bos != TOKEN_NONE)
            chunk[0] = bos;
        if (!decode_run(s, pass, chunk, 0, NULL, err))
            return false;
    }
    return true;
}

bool importance_collect(Model *model, Backend *backend, const int32_t *ids, int64_t n, int32_t bos,
                        const float *adapter_values, Arena *out, Importance *importance, Err *err)
{
    must(backend->traits.memory == MEMORY_HOST && backend->traits.activation == DTYPE_F32);
    const int64_t longest = min_i64(IMPORTANCE_CHUNK, model->config.max_positions);
    Importance *to = importance;
    if (n < 2)
        return err_set(err, ERR_INPUT_VALIDATION_FAILED, "a text of %lld tokens says nothing",
                       (long long)n);
    static_assert(IMPORTANCE_CHUNK + 0 <= DECODE_CHUNK + 0, "a chunk is one pass");
    *to = (Importance){.chunk_tokens = min_i64(n, longest)};
    to->chunks = n / to->chunk_tokens;
    to->tokens = to->chunks * to->chunk_tokens;
    to->sums = arena_array(out, float *, model->config.n_layers * ROLE_LINEAR_COUNT);
    for (int64_t i = 0; i < model->config.n_layers * ROLE_LINEAR_COUNT; i++) {
        const Weight *w = &model->layers[i / ROLE_LINEAR_COUNT].linear[i % ROLE_LINEAR_COUNT];
        to->sums[i] = arena_array(out, float, max_i64(w->cols, 1));
    }
    const DecodePass pass = {to->chunk_tokens, DECODE_NOTHING};
    Adapter *adapter = model->adapter;
    DecodeSession session;
    Collector collector = {model, to};
    bool ok =
        decode_open(&session, model, backend, to->chunk_tokens, &pass, 1, adapter_values, err);
    if (ok) {
        tape_watch(session.tape, watch, &collector);
        ok = read_chunks(&session, ids, bos, to, err);
    }
    decode_close(&session);
    model->adapter = adapter;
    return ok;
}
