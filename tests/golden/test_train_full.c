/* test_train_full.c — every weight trained: ten steps of the trainer's step over the reference runs
 * of PyTorch (reference-full.safetensors, see model_golden.py), for a model of every family; and
 * the memory of such a step on the plan.
 */
#include "test_support.h"

#include "model/full.h"
#include "train/plan.h"
#include "train/step.h"

#include <math.h>
#include <string.h>

enum { STEPS = 10 };

static const char *const MODELS[] = {"llama/untied", "qwen2/biased",   "qwen3/tied",  "mistral/v03",
                                     "smollm3/nope", "gemma3/windows", "phi3/longrope"};

typedef struct World {
    Arena arena, records;
    SafeTensors reference;
    Dataset dataset;
    Model model;
    Adapter *full;
    Backend backend;
    StepSlabs slabs;
    Stepper stepper;
    Microbatch mb;
} World;

static void no_error(const Err *err)
{
    if (err_is_set(err))
        fail_msg("%s", err->message);
}

static const StTensor *reference(const World *w, const char *name)
{
    const StTensor *t = st_find(&w->reference, name);
    assert_non_null(t);
    return t;
}

/* The flat batch of the reference as a data set of its sequences. */
static void make_dataset(World *w)
{
    const StTensor *lengths = reference(w, "lengths"), *tokens = reference(w, "tokens");
    const int32_t *carries = reference(w, "carries")->data;
    Dataset *d = &w->dataset;
    Example *examples = arena_array(&w->arena, Example, lengths->shape[0]);
    uint8_t *loss = arena_array(&w->arena, uint8_t, tokens->shape[0]);
    d->examples = examples;
    d->n_examples = lengths->shape[0];
    d->tokens = tokens->data;
    d->loss = loss;
    for (int64_t i = 0; i < d->n_examples; i++) {
        Example *e = &examples[i];
        *e = (Example){.start = d->n_tokens, .len = ((const int32_t *)lengths->data)[i],
                       .line = (int32_t)i + 1};
        for (int64_t t = e->start; t < e->start + e->len; t++) {
            loss[t] = carries[t] != 0;
            e->n_loss += loss[t];
        }
        d->n_tokens += e->len;
        d->n_loss += e->n_loss;
    }
}

/* Measured on the plan, then placed in slabs of exactly that size. */
static void place(World *w, SegmentMode segments)
{
    Err err = {0};
    const PackOptions pack = {.rows = 3, .max_seq_length = 64, .seed = 5};
    Packer *packer = packer_make(&w->dataset, &pack, &w->arena);
    StepSetup setup = {
        .model = &w->model, .adapter = w->full, .tokens = packer_tokens(packer),
        .max_loss = packer_max_loss(packer), .n_positions = plan_positions(&w->dataset),
        .segments = segments, .weight_decay = 0.01, .max_grad_norm = 1};
    float *start = arena_array(&w->arena, float, w->full->n_params);
    float *zero = arena_array(&w->arena, float, w->full->n_params);
    full_init_values(w->full, &w->model, start);
    microbatch_make(&w->mb, setup.tokens, &w->arena);
    DataCursor cursor = {0};
    packer_next(packer, &cursor, &w->mb);
    Backend plan = {0}, *const backends[] = {&plan, &w->backend};
    size_t bytes[3] = {PLAN_SLAB_BYTES, PLAN_SLAB_BYTES, PLAN_SLAB_BYTES};
    backend_open_plan(&plan, &w->backend);
    for (int real = 0; real < 2; real++) {
        Backend *backend = setup.backend = backends[real];
        Arena *const slabs[] = {&w->slabs.weights, &w->slabs.run, &w->slabs.step};
        for (int i = 0; i < 3; i++)
            backend->slab_open(backend, slabs[i], bytes[i], &err);
        no_error(&err);
        step_place(&w->stepper, &setup, &w->slabs, &w->arena, &w->records);
        step_load(&w->stepper, &(TrainVectors){start, zero, zero});
        if (real)
            return;
        StepStats stats;
        const StepInput input = {.microbatches = &w->mb, .n_microbatches = 1, .step = 1};
        assert_true(step_run(&w->stepper, &input, &stats, &err));
        for (int i = 0; i < 3; i++)
            bytes[i] = slabs[i]->peak;
        arena_rewind(&w->records, 0);
    }
}

static void world_open(World *w, const char *name, SegmentMode segments)
{
    Err err = {0};
    *w = (World){0};
    assert_true(arena_open(&w->arena, 0, &err) && arena_open(&w->records, 0, &err));
    const char *folder = arena_printf(&w->arena, TEST_DATA "/golden/%s", name);
    st_open(&w->reference, path_join(&w->arena, folder, "reference-full.safetensors"),
            ERR_RUNTIME_IO_FAILED, &w->arena, &err);
    no_error(&err);
    make_dataset(w);
    assert_true(model_open(&w->model, folder, &w->arena, &err));
    assert_true(backend_open_cpu(&w->backend, &err));
    w->full = full_make(&w->model, &w->arena);
    assert_int_equal(w->full->n_params, model_parameter_count(&w->model));
    place(w, segments);
}

static void world_close(World *w)
{
    w->backend.slab_close(&w->backend, &w->slabs.weights);
    w->backend.slab_close(&w->backend, &w->slabs.run);
    w->backend.slab_close(&w->backend, &w->slabs.step);
    w->backend.close(&w->backend);
    model_close(&w->model);
    st_close(&w->reference);
    arena_close(&w->records);
    arena_close(&w->arena);
}

/* The weight that a folder of this family calls `name`, as one would hold it. */
static const float *weight_named(World *w, const Model *view, const char *name)
{
    char full[WEIGHT_NAME_MAX];
    for (int64_t i = 0; i < w->full->n_weights; i++) {
        const FullParam *p = &w->full->weights[i];
        const WeightName *row = family_weight(w->model.family, p->role);
        if (row->hf == NULL || strcmp(weight_name(row->hf, p->layer, full), name) != 0)
            continue;
        const Layer *l = &view->layers[p->layer];
        return p->role == ROLE_EMBED        ? view->embed.source
               : p->role == ROLE_HEAD       ? view->head.source
               : p->role == ROLE_FINAL_NORM ? view->final_norm_file.source
               : p->role < ROLE_LINEAR_COUNT ? l->linear[p->role].source
               : p->role < ROLE_Q_BIAS       ? l->norm_file[p->role - ROLE_ATTN_NORM].source
                                             : l->bias_file[p->role - ROLE_Q_BIAS].source;
    }
    fail_msg("the model has no '%s'", name);
    return NULL;
}

static void compare_weights(World *w, const char *model)
{
    const Model *view = full_view(&w->model, w->full, w->full->values, &w->arena);
    for (size_t i = 0; i < w->reference.n_tensors; i++) {
        const StTensor *t = &w->reference.tensors[i];
        if (!str_starts(str_of(t->name), "after."))
            continue;
        const float *got = weight_named(w, view, t->name + strlen("after.")), *want = t->data;
        double ab = 0, aa = 0, bb = 0, dd = 0;
        for (size_t j = 0; j < t->bytes / sizeof(float); j++) {
            ab += (double)got[j] * want[j];
            aa += (double)got[j] * got[j];
            bb += (double)want[j] * want[j];
            dd += ((double)got[j] - want[j]) * ((double)got[j] - want[j]);
        }
        /* Adam divides by the size of a gradient: where that is near the rounding of its sum, the
         * step may differ by a share of lr; weights are hundreds of steps large. */
        if (!(ab / sqrt(aa * bb) >= 0.99999) || !(sqrt(dd / bb) <= 1e-4))
            fail_msg("%s %s: cosine %.9f, relative error %.3g", model, t->name,
                     ab / sqrt(aa * bb), sqrt(dd / bb));
    }
}

static void ten_steps(const char *name, SegmentMode segments, double *losses)
{
    World w;
    world_open(&w, name, segments);
    const float *want = reference(&w, "losses")->data;
    for (int64_t step = 1; step <= STEPS; step++) {
        Err err = {0};
        StepStats stats;
        const StepInput input = {.microbatches = &w.mb, .n_microbatches = 1, .step = step,
                                 .lr = 1e-3};
        if (!step_run(&w.stepper, &input, &stats, &err))
            fail_msg("%s", err.message);
        losses[step - 1] = stats.loss;
        if (!(fabs(stats.loss - (double)want[step - 1]) <= 1e-5 * stats.loss))
            fail_msg("%s, step %lld: loss %.8f, reference %.8f", name, (long long)step, stats.loss,
                     (double)want[step - 1]);
    }
    compare_weights(&w, name);
    assert_int_equal(w.slabs.run.peak, w.slabs.run.capacity);
    assert_int_equal(w.slabs.step.peak, w.slabs.step.capacity);
    world_close(&w);
}

static void ten_steps_equal_pytorch(void **state)
{
    (void)state;
    for (size_t m = 0; m < COUNT_OF(MODELS); m++) {
        double kept[STEPS], recomputed[STEPS];
        ten_steps(MODELS[m], SEGMENT_KEEP, kept);
        ten_steps(MODELS[m], SEGMENT_RECOMPUTE, recomputed);
        assert_memory_equal(kept, recomputed, sizeof kept);
        assert_true(kept[STEPS - 1] < 0.9 * kept[0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ten_steps_equal_pytorch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
