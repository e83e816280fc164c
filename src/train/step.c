/* step.c — one optimiser step: k microbatches forward and backward, norm, clip, AdamW.
 *
 * The loss is the mean over the loss tokens of the whole step. Their number is known before the
 * first microbatch runs, so every gradient carries its final weight from the start and splitting a
 * step into microbatches changes nothing but rounding. Sums that decide numbers are taken in double
 * in a fixed order.
 */
#include "train/step.h"

#include "model/full.h"

#include <math.h>
#include <string.h>

/* AdamW as transformers' TrainingArguments default it. */
static const float beta1 = 0.9f, beta2 = 0.999f, epsilon = 1e-8f;

static int32_t *push_ints(Arena *slab, int64_t count)
{
    return (int32_t *)arena_push(slab, (size_t)count * sizeof(int32_t));
}

static void place_inputs(Stepper *s, Arena *run)
{
    const int64_t tokens = s->setup.tokens, max_loss = s->setup.max_loss;
    s->tokens = push_ints(run, tokens);
    s->positions = push_ints(run, tokens);
    s->kv_begin = push_ints(run, tokens);
    s->kv_end = push_ints(run, tokens);
    s->q_end = push_ints(run, tokens);
    s->loss_rows = push_ints(run, max_loss);
    s->targets = push_ints(run, max_loss);
    void *nll = arena_push(run, (size_t)max_loss * sizeof(float));
    s->nll = tensor_make(nll, DTYPE_F32, max_loss, 1);
    s->state = arena_push(run, sizeof(StepState));
    s->sum_squares = arena_push(run, sizeof(double));
}

void step_place(Stepper *s, const StepSetup *setup, StepSlabs *slabs, Arena *host, Arena *records)
{
    must(setup->tokens > 0 && setup->n_positions > 0);
    must(setup->max_loss > 0 && setup->max_loss <= setup->tokens);
    *s = (Stepper){.setup = *setup};
    const bool full = adapter_has(setup->adapter, ADAPTER_FULL);
    Model *model = full ? full_copy(setup->model, host) : setup->model;
    if (!full)
        model->adapter = setup->adapter;
    s->setup.model = model;
    Arena *host_slab = setup->backend->host_slab_open == NULL ? NULL : &slabs->host;
    model_place(model, setup->backend, &slabs->weights, host_slab, setup->n_positions);
    adapter_place(setup->adapter, setup->backend, ADAPTER_TRAINED, &slabs->run);
    if (full)
        full_attach(model, setup->adapter);
    place_inputs(s, &slabs->run);
    s->host_nll = arena_array(host, float, setup->max_loss);
    s->tape = tape_make(setup->backend, records, &slabs->step);
    if (host_slab != NULL)
        tape_offload_to(s->tape, host_slab);
    tape_profile(s->tape, setup->profile);
    must(setup->adapter->grads != NULL && setup->adapter->m != NULL && setup->adapter->v != NULL);
}

static size_t vector_bytes(const Stepper *s)
{
    return (size_t)s->setup.adapter->n_params * sizeof(float);
}

void step_load(Stepper *s, const TrainVectors *vectors)
{
    Backend *backend = s->setup.backend;
    Adapter *adapter = s->setup.adapter;
    backend->upload(backend, adapter->values, vectors->values, vector_bytes(s));
    backend->upload(backend, adapter->m, vectors->m, vector_bytes(s));
    backend->upload(backend, adapter->v, vectors->v, vector_bytes(s));
    backend->zero(backend, adapter->grads, vector_bytes(s));
    linear_refresh_all(s->setup.model, s->tape);
}

void step_store(Stepper *s, const TrainVectors *vectors)
{
    Backend *backend = s->setup.backend;
    const Adapter *adapter = s->setup.adapter;
    if (vectors->values == adapter->values)
        return; /* the host reads them where they are */
    backend->download(backend, vectors->values, adapter->values, vector_bytes(s));
    backend->download(backend, vectors->m, adapter->m, vector_bytes(s));
    backend->download(backend, vectors->v, adapter->v, vector_bytes(s));
}

static void upload_microbatch(Stepper *s, const Microbatch *mb)
{
    Backend *backend = s->setup.backend;
    const size_t per_token = (size_t)s->setup.tokens * sizeof(int32_t);
    const size_t per_loss = (size_t)s->setup.max_loss * sizeof(int32_t);
    backend->upload(backend, s->tokens, mb->tokens, per_token);
    backend->upload(backend, s->positions, mb->positions, per_token);
    backend->upload(backend, s->kv_begin, mb->kv_begin, per_token);
    backend->upload(backend, s->kv_end, mb->kv_end, per_token);
    backend->upload(backend, s->q_end, mb->q_end, per_token);
    backend->upload(backend, s->loss_rows, mb->loss_rows, per_loss);
    backend->upload(backend, s->targets, mb->targets, per_loss);
}

/* Everything that ops get is the same in every step, but for what lies in device memory. */
static void run_part(Stepper *s, StepRecording *part, void (*run)(Stepper *s))
{
    Backend *backend = s->setup.backend;
    if (part->recording == NULL && part->ran && backend->record_begin != NULL &&
        !s->setup.profile) {
        backend->record_begin(backend);
        run(s);
        part->recording = backend->record_end(backend);
        if (part->recording == NULL)
            return; /* the device error is read at the end of the step */
    }
    if (part->recording != NULL)
        backend->replay(backend, part->recording);
    else
        run(s);
    part->ran = true;
}

static void run_passes(Stepper *s)
{
    const Model *model = s->setup.model;
    tape_begin(s->tape, TAPE_TRAIN, s->setup.segments);
    const DecoderInput input = {
        .tokens = s->tokens, .positions = s->positions, .n_tokens = s->setup.tokens,
        .spans = {.kv_begin = s->kv_begin, .kv_end = s->kv_end, .q_end = s->q_end},
    };
    Value *hidden = decoder_forward(model, s->tape, &input, NULL);
    const LossRows loss = {.rows = s->loss_rows, .targets = s->targets,
                           .max_rows = s->setup.max_loss, .step = s->state, .nll = s->nll};
    Tensor dhead = {0};
    if (model->grads != NULL)
        dhead = model->config.tied ? model->grads->embed : model->grads->head;
    tape_cross_entropy(s->tape, hidden, &model->head, dhead, loss);
    tape_backward(s->tape);
}

/* Forward and backward of one microbatch; the sum of its negative log-likelihoods. */
static double run_microbatch(Stepper *s, const Microbatch *mb, StepState state)
{
    must(mb->n_loss >= 0 && mb->n_loss <= s->setup.max_loss);
    Backend *backend = s->setup.backend;
    state.n_loss = mb->n_loss;
    upload_microbatch(s, mb);
    backend->upload(backend, s->state, &state, sizeof state);
    run_part(s, &s->passes, run_passes);

    backend->download(backend, s->host_nll, s->nll.data, tensor_bytes(&s->nll));
    double sum = 0;
    for (int32_t i = 0; i < mb->n_loss; i++)
        sum += (double)s->host_nll[i];
    return sum;
}

static double gradient_sum_squares(Stepper *s)
{
    const Adapter *adapter = s->setup.adapter;
    OpCall call = {.op = OP_sum_squares};
    call.sum_squares = (SumSquaresArgs){
        .x = adapter->grads, .n = adapter->n_params, .out = s->sum_squares};
    tape_run(s->tape, &call, PASS_FWD);
    double sum = 0;
    Backend *backend = s->setup.backend;
    backend->download(backend, &sum, s->sum_squares, sizeof sum);
    return sum;
}

/* Parameters [from, to) with this weight decay. */
static void update_range(Stepper *s, int64_t from, int64_t to, double decay)
{
    const Adapter *adapter = s->setup.adapter;
    OpCall call = {.op = OP_adamw};
    call.adamw = (AdamwArgs){
        .p = adapter->values + from, .g = adapter->grads + from, .m = adapter->m + from,
        .v = adapter->v + from, .n = to - from, .step = s->state, .sum_squares = s->sum_squares,
        .max_norm = (float)s->setup.max_grad_norm, .beta1 = beta1, .beta2 = beta2,
        .eps = epsilon, .decay = (float)decay};
    tape_run(s->tape, &call, PASS_FWD);
}

static void run_update(Stepper *s)
{
    const Adapter *adapter = s->setup.adapter;
    update_range(s, 0, adapter->n_decayed, s->setup.weight_decay);
    if (adapter->n_decayed < adapter->n_params)
        update_range(s, adapter->n_decayed, adapter->n_params, 0);
    linear_refresh_all(s->setup.model, s->tape);
}

static void count_tokens(const StepInput *input, StepStats *stats)
{
    int64_t seen = 0;
    for (int32_t i = 0; i < input->n_microbatches; i++) {
        const Microbatch *mb = &input->microbatches[i];
        stats->tokens += mb->n_used;
        stats->loss_tokens += mb->n_loss;
        for (int32_t t = 0; t < mb->n_used; t++)
            seen += mb->kv_end[t] - mb->kv_begin[t];
    }
    stats->mean_context = stats->tokens > 0 ? (double)seen / (double)stats->tokens : 0;
}

bool step_run(Stepper *s, const StepInput *input, StepStats *stats, Err *err)
{
    must(input->n_microbatches > 0 && input->step >= 1 && input->step <= INT32_MAX);
    *stats = (StepStats){.bad_microbatch = -1};
    count_tokens(input, stats);
    must(stats->loss_tokens > 0); /* the dataset holds no example without loss */
    const StepState state = {.lr = (float)input->lr, .step = (int32_t)input->step,
                             .inv_loss_tokens = (float)(1.0 / (double)stats->loss_tokens)};
    double sum = 0;
    for (int32_t i = 0; i < input->n_microbatches; i++) {
        const double nll = run_microbatch(s, &input->microbatches[i], state);
        if (!isfinite(nll) && stats->bad_microbatch < 0)
            stats->bad_microbatch = i;
        sum += nll;
        if (input->poll != NULL)
            input->poll(input->poll_context);
    }
    const double sum_squares = gradient_sum_squares(s);
    const char *device_error = s->setup.backend->finish(s->setup.backend);
    if (device_error != NULL && strstr(device_error, "out of memory") != NULL)
        return err_set(err, ERR_RUNTIME_OUT_OF_MEMORY, "step %lld ran out of memory: %s",
                       (long long)input->step, device_error);
    if (device_error != NULL)
        return err_set(err, ERR_RUNTIME_TRAINING_FAILED, "step %lld failed on the device: %s",
                       (long long)input->step, device_error);
    stats->loss = sum / (double)stats->loss_tokens;
    stats->grad_norm = sqrt(sum_squares);
    if (!isfinite(stats->loss))
        return err_set(err, ERR_RUNTIME_TRAINING_DIVERGED, "the loss of step %lld is not finite",
                       (long long)input->step);
    if (!isfinite(stats->grad_norm))
        return err_set(err, ERR_RUNTIME_TRAINING_DIVERGED,
                       "the gradient of step %lld is not finite", (long long)input->step);
    run_part(s, &s->update, run_update);
    return true;
}
