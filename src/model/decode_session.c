/* decode_session.c — laying out, planning and running the passes of one sequence.
 *
 * lay_out and run_pass are executed twice: on the plan backend, where they only count, and on the
 * real one. That is how the three slabs get their sizes.
 */
#include "model/decode_session.h"

#include <string.h>

static void *push_ints(DecodeSession *s)
{
    return arena_push(&s->run, (size_t)s->chunk * sizeof(int32_t));
}

/* Everything that stays for the session. */
static void lay_out(DecodeSession *s, Backend *backend)
{
    const Model *model = s->model;
    const ModelConfig *config = &model->config;
    model_place(s->model, backend, &s->weights, NULL, s->n_positions);
    if (model->adapter != NULL)
        adapter_place(model->adapter, backend, ADAPTER_FROZEN, &s->run);
    for (int64_t layer = 0; layer < config->n_layers; layer++) {
        Tensor rows = tensor_make(NULL, backend->traits.activation, s->n_positions,
                                  config->n_kv_heads * config->head_dim);
        s->cache.k[layer] = s->cache.v[layer] = rows;
        s->cache.k[layer].data = arena_push(&s->run, tensor_bytes(&rows));
        s->cache.v[layer].data = arena_push(&s->run, tensor_bytes(&rows));
    }
    int32_t **ints[] = {&s->tokens, &s->positions, &s->kv_begin, &s->kv_end, &s->rows, &s->targets};
    for (size_t i = 0; i < COUNT_OF(ints); i++)
        *ints[i] = push_ints(s);
    s->state = arena_push(&s->run, sizeof(StepState));
    s->nll = tensor_make(push_ints(s), DTYPE_F32, s->chunk, 1);
    s->logits = tensor_make(NULL, DTYPE_F32, 1, config->vocab);
    s->logits.data = arena_push(&s->run, tensor_bytes(&s->logits));
    s->backend = backend;
    s->tape = tape_make(backend, &s->host, &s->step);
}

/* values[t] = first + t * step. */
static void upload_ramp(DecodeSession *s, int32_t *to, int64_t first, int32_t step, int64_t n)
{
    for (int64_t t = 0; t < n; t++)
        s->host_ints[t] = (int32_t)first + (int32_t)t * step;
    s->backend->upload(s->backend, to, s->host_ints, (size_t)n * sizeof(int32_t));
}

static void run_logits(DecodeSession *s, const Value *hidden, int64_t n)
{
    OpCall call = {.op = OP_linear};
    Tensor last = hidden->x;
    last.data = (uint8_t *)last.data + (size_t)(n - 1) * dtype_row_bytes(last.dtype, last.stride);
    last.rows = 1;
    call.linear = (LinearArgs){.x = last, .n_parts = 1};
    call.linear.part[0] = (LinearPart){.w = &s->model->head, .y = s->logits};
    tape_run(s->tape, &call, PASS_FWD);
    s->backend->download(s->backend, s->host_floats, s->logits.data, tensor_bytes(&s->logits));
}

static void run_nll(DecodeSession *s, Value *hidden, const int32_t *targets, int64_t n)
{
    Backend *backend = s->backend;
    StepState state = {.inv_loss_tokens = 1, .step = 1, .n_loss = (int32_t)n};
    backend->upload(backend, s->state, &state, sizeof state);
    backend->upload(backend, s->targets, targets, (size_t)n * sizeof(int32_t));
    upload_ramp(s, s->rows, 0, 1, n);
    LossRows loss = {.rows = s->rows, .targets = s->targets, .max_rows = n, .step = s->state,
                     .nll = s->nll};
    loss.nll.rows = n;
    tape_cross_entropy(s->tape, hidden, &s->model->head, (Tensor){0}, loss);
    backend->download(backend, s->host_floats, s->nll.data, (size_t)n * sizeof(float));
}

static void run_pass(DecodeSession *s, DecodePass pass, const int32_t *ids, int64_t start,
                     const int32_t *targets)
{
    int64_t n = pass.n_tokens;
    must(n >= 1 && n <= s->chunk && start >= 0 && start + n <= s->n_positions);
    s->backend->upload(s->backend, s->tokens, ids, (size_t)n * sizeof(int32_t));
    upload_ramp(s, s->positions, start, 1, n);
    upload_ramp(s, s->kv_begin, 0, 0, n);
    upload_ramp(s, s->kv_end, start + 1, 1, n);
    tape_begin(s->tape, TAPE_INFER, SEGMENT_KEEP);
    DecoderInput input = {.tokens = s->tokens, .positions = s->positions, .n_tokens = n,
                          .spans = {.kv_begin = s->kv_begin, .kv_end = s->kv_end}};
    Value *hidden = decoder_forward(s->model, s->tape, &input, &s->cache);
    if (pass.output == DECODE_LOGITS)
        run_logits(s, hidden, n);
    else if (pass.output == DECODE_NLL)
        run_nll(s, hidden, targets, n);
}

static bool slabs_open(DecodeSession *s, Backend *backend, const size_t bytes[3], Err *err)
{
    Arena *slabs[3] = {&s->weights, &s->run, &s->step};
    for (int i = 0; i < 3; i++)
        if (!backend->slab_open(backend, slabs[i], bytes[i], err))
            return false;
    return true;
}

static void slabs_close(DecodeSession *s, Backend *backend)
{
    Arena *slabs[3] = {&s->weights, &s->run, &s->step};
    for (int i = 0; i < 3; i++)
        if (slabs[i]->base != NULL)
            backend->slab_close(backend, slabs[i]);
}

/* Runs the session on the plan; bytes: the peaks of its three slabs. */
static void plan(DecodeSession *s, const Backend *real, const DecodePass *passes, size_t n_passes,
                 size_t bytes[3])
{
    static const size_t unlimited[3] = {PLAN_SLAB_BYTES, PLAN_SLAB_BYTES, PLAN_SLAB_BYTES};
    Backend backend;
    size_t mark = arena_mark(&s->host);
    backend_open_plan(&backend, real);
    bool opened = slabs_open(s, &backend, unlimited, NULL);
    must(opened);
    lay_out(s, &backend);
    linear_refresh_all(s->model, s->tape);
    for (size_t i = 0; i < n_passes; i++) /* ids are not read */
        run_pass(s, passes[i], s->host_ints, s->n_positions - passes[i].n_tokens, s->host_ints);
    bytes[0] = s->weights.peak;
    bytes[1] = s->run.peak;
    bytes[2] = s->step.peak;
    slabs_close(s, &backend);
    backend.close(&backend);
    arena_rewind(&s->host, mark);
}

bool decode_open(DecodeSession *session, Model *model, Backend *backend, int64_t n_positions,
                 const DecodePass *passes, size_t n_passes, const float *adapter_values, Err *err)
{
    must(n_positions > 0 && n_passes > 0);
    must(adapter_values == NULL || model->adapter != NULL);
    *session = (DecodeSession){.model = model, .n_positions = n_positions};
    DecodeSession *s = session;
    if (!model_fits_backend(model, backend, err) || !arena_open(&s->host, 0, err))
        return false;
    for (size_t i = 0; i < n_passes; i++)
        s->chunk = max_i64(s->chunk, passes[i].n_tokens);
    s->cache.k = arena_array(&s->host, Tensor, model->config.n_layers);
    s->cache.v = arena_array(&s->host, Tensor, model->config.n_layers);
    s->host_ints = arena_array(&s->host, int32_t, s->chunk);
    s->host_floats = arena_array(&s->host, float, max_i64(s->chunk, model->config.vocab));
    if (adapter_values == NULL)
        model->adapter = NULL;
    size_t bytes[3];
    plan(s, backend, passes, n_passes, bytes);
    s->backend = backend;
    if (!slabs_open(s, backend, bytes, err))
        return false;
    lay_out(s, backend);
    if (adapter_values != NULL)
        backend->upload(backend, model->adapter->values, adapter_values,
                        (size_t)model->adapter->n_params * sizeof(float));
    linear_refresh_all(model, s->tape);
    assert(s->weights.peak == bytes[0] && s->run.peak == bytes[1]);
    return true;
}

void decode_close(DecodeSession *session)
{
    if (session->backend != NULL)
        slabs_close(session, session->backend);
    if (session->model != NULL) {
        session->model->backend = NULL;
        if (session->model->adapter != NULL)
            session->model->adapter->values = NULL;
    }
    arena_close(&session->host);
    *session = (DecodeSession){0};
}

bool decode_run(DecodeSession *session, DecodePass pass, const int32_t *ids, int64_t start,
                const int32_t *targets, Err *err)
{
    for (int64_t i = 0; i < pass.n_tokens; i++)
        if (ids[i] < 0 || ids[i] >= session->model->config.vocab)
            return err_set(err, ERR_INPUT_VALIDATION_FAILED,
                           "token %d is not in the model's vocabulary of %lld", (int)ids[i],
                           (long long)session->model->config.vocab);
    run_pass(session, pass, ids, start, targets);
    const char *failed = session->backend->finish(session->backend);
    return failed == NULL || err_set(err, ERR_INTERNAL_ERROR, "the device failed: %s", failed);
}
