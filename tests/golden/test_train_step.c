/* test_train_step.c — the trainer's step over the reference runs of PyTorch and PEFT in
 * tests/golden/llama: ten losses, whole, packed and accumulated.
 *
 * Here the data comes through the packer and the loss weights through step.c, so this proves the
 * token-weighted mean over a step, clipping, decay and moments against PyTorch, whatever the split.
 */
#include "test_support.h"

#include "train/plan.h"
#include "train/step.h"

#include <math.h>

enum { STEPS = 10 };

typedef struct Reference {
    Arena arena;
    SafeTensors st;
    Dataset dataset;
    const char *model, *adapter;
} Reference;

static const void *values_of(const Reference *r, const char *name)
{
    const StTensor *tensor = st_find(&r->st, name);
    assert_non_null(tensor);
    return tensor->data;
}

/* The flat batch of the reference as a data set of its sequences. */
static void make_dataset(Reference *r)
{
    const StTensor *lengths = st_find(&r->st, "lengths");
    const int32_t *tokens = values_of(r, "tokens"), *carries = values_of(r, "carries");
    const int64_t n = lengths->shape[0];
    Dataset *d = &r->dataset;
    Example *examples = arena_array(&r->arena, Example, n);
    d->examples = examples;
    d->n_examples = n;
    for (int64_t i = 0; i < n; i++) {
        const int32_t len = ((const int32_t *)lengths->data)[i];
        examples[i] = (Example){.start = d->n_tokens, .len = len, .line = (int32_t)i + 1};
        d->n_tokens += len;
    }
    int32_t *ids = arena_array(&r->arena, int32_t, d->n_tokens);
    uint8_t *loss = arena_array(&r->arena, uint8_t, d->n_tokens);
    d->tokens = ids;
    d->loss = loss;
    for (int64_t i = 0; i < n; i++) {
        Example *e = &examples[i];
        for (int64_t t = e->start; t < e->start + e->len; t++) {
            ids[t] = tokens[t];
            loss[t] = carries[t] != 0;
            e->n_loss += carries[t] != 0;
        }
        d->n_loss += e->n_loss;
    }
}

static void reference_open(Reference *r, const char *name)
{
    Err err = {0};
    *r = (Reference){0};
    assert_true(arena_open(&r->arena, 0, &err));
    r->model = arena_printf(&r->arena, TEST_DATA "/golden/llama/%s", name);
    r->adapter = path_join(&r->arena, r->model, "adapter");
    const char *path = path_join(&r->arena, r->model, "reference.safetensors");
    if (!st_open(&r->st, path, ERR_RUNTIME_IO_FAILED, &r->arena, &err))
        fail_msg("%s", err.message);
    make_dataset(r);
}

/* How the three sequences become the microbatches of a step. */
typedef struct Split {
    int32_t rows, accumulation;
    bool packing;
} Split;

static void run_split(Reference *r, const Split *split, double *losses)
{
    Err err = {0};
    Model model = {0};
    Backend backend = {0};
    float *values = NULL;
    StepSlabs slabs = {0};
    Arena records;
    assert_true(model_open(&model, r->model, &r->arena, &err));
    Adapter *adapter = adapter_load_peft(&model, r->adapter, &values, &r->arena, &err);
    assert_non_null(adapter);
    assert_true(backend_open_cpu(&backend, &err) && arena_open(&records, 0, &err));
    const PackOptions pack = {split->rows, 64, split->packing, 5};
    Packer *packer = packer_make(&r->dataset, &pack, &r->arena);
    const StepSetup setup = {
        .model = &model, .adapter = adapter, .backend = &backend,
        .tokens = packer_tokens(packer), .max_loss = packer_max_loss(packer),
        .n_positions = plan_positions(&r->dataset), .segments = SEGMENT_KEEP,
        .weight_decay = 0.01, .max_grad_norm = 1}; /* make.py's */
    const size_t roomy = (size_t)32 << 20;
    assert_true(backend.slab_open(&backend, &slabs.weights, roomy, &err) &&
                backend.slab_open(&backend, &slabs.run, roomy, &err) &&
                backend.slab_open(&backend, &slabs.step, roomy, &err));
    Stepper stepper;
    step_place(&stepper, &setup, &slabs, &r->arena, &records);
    float *zero = arena_array(&r->arena, float, adapter->n_params);
    step_load(&stepper, &(TrainVectors){values, zero, zero});
    Microbatch mbs[3];
    for (int i = 0; i < split->accumulation; i++)
        microbatch_make(&mbs[i], setup.tokens, &r->arena);
    DataCursor cursor = {0};
    for (int64_t step = 1; step <= STEPS; step++) {
        assert_int_equal(packer_left(packer, &cursor), split->accumulation);
        for (int i = 0; i < split->accumulation; i++)
            packer_next(packer, &cursor, &mbs[i]);
        StepStats stats;
        const StepInput input = {.microbatches = mbs, .n_microbatches = split->accumulation,
                                 .step = step, .lr = 1e-3};
        if (!step_run(&stepper, &input, &stats, &err))
            fail_msg("%s", err.message);
        losses[step - 1] = stats.loss;
    }
    backend.slab_close(&backend, &slabs.weights);
    backend.slab_close(&backend, &slabs.run);
    backend.slab_close(&backend, &slabs.step);
    backend.close(&backend);
    arena_close(&records);
    model_close(&model);
}

static void ten_losses_equal_pytorch(void **state)
{
    (void)state;
    static const char *const models[] = {"tied", "untied", "scaled"};
    static const Split splits[] = {{3, 1, false}, {1, 3, false}, {1, 1, true}, {2, 2, false}};
    for (size_t m = 0; m < COUNT_OF(models); m++) {
        Reference r;
        reference_open(&r, models[m]);
        const float *want = values_of(&r, "losses");
        for (size_t s = 0; s < COUNT_OF(splits); s++) {
            double losses[STEPS];
            run_split(&r, &splits[s], losses);
            for (int i = 0; i < STEPS; i++) {
                const double error = fabs(losses[i] - (double)want[i]) / (double)want[i];
                if (!(error <= 1e-5))
                    fail_msg("%s, split %zu, step %d: loss %.8f, reference %.8f", models[m], s,
                             i + 1, losses[i], (double)want[i]);
            }
            assert_true(losses[STEPS - 1] < 0.99 * losses[0]);
        }
        st_close(&r.st);
        arena_close(&r.arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ten_losses_equal_pytorch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
