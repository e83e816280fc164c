/* test_model_golden.c — the engine against PyTorch, transformers and PEFT on tiny models of every
 * family (the make.py of each family's folder made the references; model_golden.py repeats the
 * numbers used here): loss, logits, every adapter gradient, gradients of base weights, the adapter
 * after ten AdamW steps.
 *
 * Each model is run from its Hugging Face folder and from a GGUF file that this test writes (with
 * the rows and norms that llama.cpp expects), keeping and recomputing segments, packed and not.
 */
#include "test_support.h"

#include "model/generate.h"
#include "model_run.h"
#include "format/quant.h"

static const char *const MODELS[] = {
    "llama/tied",  "llama/untied", "llama/scaled",   "qwen2/biased",   "qwen2/wide",
    "qwen3/wide",  "qwen3/tied",   "mistral/v03",     "smollm3/nope",   "gemma3/windows",
    "gemma3/period2", "phi3/longrope", "phi3/window"};
/* Those that have a DoRA adapter, too; llama's is scaled by the root of its rank (rsLoRA). */
static const char *const DORA_MODELS[] = {
    "llama/untied", "qwen2/biased", "qwen3/tied", "mistral/v03", "smollm3/nope", "gemma3/windows",
    "phi3/longrope"};
/* Its scale of attention is not that of its heads, which GGUF cannot say. */
static const char WITHOUT_GGUF[] = "gemma3/period2";

typedef struct Golden {
    Arena arena;
    SafeTensors reference;
    const char *folder, *adapter;
    int64_t n_sequences;
    int32_t lengths[8];
} Golden;

/* variant: "" or what stands behind the names of its adapter and reference. */
static void golden_open_variant(Golden *g, const char *name, const char *variant)
{
    Err err = {0};
    *g = (Golden){0};
    if (!arena_open(&g->arena, 0, &err))
        run_fail(&err);
    g->folder = arena_printf(&g->arena, "%s/golden/%s", TEST_DATA, name);
    g->adapter = arena_printf(&g->arena, "%s/adapter%s", g->folder, variant);
    const char *path = arena_printf(&g->arena, "%s/reference%s.safetensors", g->folder, variant);
    if (!st_open(&g->reference, path, ERR_RUNTIME_IO_FAILED, &g->arena, &err))
        run_fail(&err);
    const StTensor *lengths = st_find(&g->reference, "lengths");
    g->n_sequences = lengths->shape[0];
    memcpy(g->lengths, lengths->data, (size_t)g->n_sequences * sizeof(int32_t));
}

static void golden_open(Golden *g, const char *name)
{
    golden_open_variant(g, name, "");
}

static void golden_close(Golden *g)
{
    st_close(&g->reference);
    arena_close(&g->arena);
}

static const StTensor *golden_tensor(const Golden *g, const char *prefix, const char *name)
{
    char key[256];
    snprintf(key, sizeof key, "%s%s", prefix, name);
    const StTensor *t = st_find(&g->reference, key);
    if (t == NULL)
        fail_msg("the reference lacks '%s'", key);
    return t;
}

/* Sequences [first, first + count) flat, then padding to n tokens. */
static void golden_batch(const Golden *g, int64_t first, int64_t count, int64_t n, Flat *flat)
{
    const int32_t *tokens = golden_tensor(g, "", "tokens")->data;
    const int32_t *carries = golden_tensor(g, "", "carries")->data;
    int32_t source = 0, at = 0;
    *flat = (Flat){.n = n};
    for (int64_t s = 0; s < first + count; source += g->lengths[s++]) {
        if (s < first)
            continue;
        int32_t begin = at;
        for (int32_t i = 0; i < g->lengths[s]; i++, at++) {
            flat->tokens[at] = tokens[source + i];
            flat->positions[at] = i;
            flat->kv_begin[at] = begin;
            flat->kv_end[at] = at + 1;
            flat->q_end[at] = begin + g->lengths[s];
            if (i > 0 && carries[source + i]) {
                flat->rows[flat->n_loss] = at - 1;
                flat->targets[flat->n_loss++] = tokens[source + i];
            }
        }
    }
    assert_true(at <= n && n <= RUN_MAX_TOKENS);
    for (; at < n; at++) { /* padding: sequences of one token without loss */
        flat->kv_begin[at] = at;
        flat->kv_end[at] = flat->q_end[at] = at + 1;
    }
}

static int64_t golden_length(const Golden *g)
{
    int64_t n = 0;
    for (int64_t s = 0; s < g->n_sequences; s++)
        n += g->lengths[s];
    return n;
}

/* ---- comparing ---- */

typedef struct Closeness {
    double cosine, relative; /* |a - b| / |b| */
} Closeness;

static Closeness closeness(const float *a, const float *b, int64_t n)
{
    double ab = 0, aa = 0, bb = 0, dd = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)a[i] - b[i];
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
        dd += d * d;
    }
    return (Closeness){ab / sqrt(aa * bb), sqrt(dd / bb)};
}

/* Checks that a comparison of reference values can see a wrong one. */
static void assert_close(const char *what, const float *ours, const StTensor *t, double tolerance)
{
    int64_t n = (int64_t)(t->bytes / sizeof(float));
    assert_true(t->dtype == DTYPE_F32 && n > 0);
    Closeness c = closeness(ours, t->data, n);
    if (!(c.cosine >= 0.99999) || !(c.relative <= tolerance))
        fail_msg("%s: cosine %.9f, relative error %.3g (allowed %.3g)", what, c.cosine,
                 c.relative, tolerance);
}

/* Compares every tensor of a flat adapter vector with `prefix` of the reference, by PEFT name,
 * after
 * a round trip through a PEFT folder (which brings B rows of q and k into PEFT's order). */
static void compare_adapter(const Golden *g, const ModelRun *run, const float *vector,
                            const char *prefix, const char *folder, double tolerance)
{
    Err err = {0};
    Arena arena;
    SafeTensors st;
    assert_true(arena_open(&arena, 0, &err));
    if (!adapter_save_peft(run->adapter, &run->model, vector, "base", folder, &err) ||
        !st_open(&st, path_join(&arena, folder, "adapter_model.safetensors"),
                 ERR_RUNTIME_IO_FAILED, &arena, &err))
        run_fail(&err);
    assert_true(st.n_tensors > 0);
    for (size_t i = 0; i < st.n_tensors; i++) {
        const StTensor *want = golden_tensor(g, prefix, st.tensors[i].name);
        assert_int_equal(want->bytes, st.tensors[i].bytes);
        assert_close(want->name, st.tensors[i].data, want, tolerance);
    }
    size_t n_reference = 0;
    for (size_t i = 0; i < g->reference.n_tensors; i++)
        n_reference += str_starts(str_of(g->reference.tensors[i].name), prefix);
    assert_int_equal(st.n_tensors, n_reference);
    st_close(&st);
    arena_close(&arena);
}

/* ---- a GGUF of the same model ---- */

static void gguf_tensor_of(GgufWriter *w, const Model *model, const Weight *weight, Role role,
                           int64_t layer, bool data)
{
    const WeightName *row = family_weight(model->family, role);
    char name[WEIGHT_NAME_MAX];
    bool vector = weight->rows == 1;
    if (weight->rows == 0) /* not of this family */
        return;
    if (!data) {
        const int64_t ne[2] = {weight->cols, weight->rows};
        gguf_add_tensor(w, weight_name(row->gguf, layer, name), vector ? DTYPE_F32 : weight->dtype,
                        vector ? 1 : 2, ne);
        return;
    }
    size_t row_bytes = dtype_row_bytes(weight->dtype, weight->cols);
    size_t bytes = (size_t)weight->rows * row_bytes;
    uint8_t *copy = heap_resize(NULL, 2 * bytes);
    int64_t heads = row->flags & WEIGHT_ROPE_ROWS_Q   ? model->config.n_heads
                    : row->flags & WEIGHT_ROPE_ROWS_K ? model->config.n_kv_heads
                                                      : 0;
    if (vector) {
        quant_decode_row(weight->dtype, weight->source, (float *)(void *)copy, weight->cols);
        bytes = (size_t)weight->cols * sizeof(float);
        bool norm = role == ROLE_FINAL_NORM || (role >= ROLE_ATTN_NORM && role <= ROLE_K_NORM);
        for (int64_t i = 0; i < weight->cols && norm; i++)
            ((float *)(void *)copy)[i] += model->config.norm_offset;
    } else if (heads > 0) {
        rope_rows_convert(weight->source, copy, heads, model->config.head_dim,
                          model->config.rope_dim, row_bytes, ROPE_HALVES, ROPE_INTERLEAVED);
    } else {
        memcpy(copy, weight->source, bytes);
    }
    gguf_write_data(w, copy, bytes);
    heap_free(copy);
}

static void gguf_tensors(GgufWriter *w, const Model *model, bool data)
{
    gguf_tensor_of(w, model, &model->embed, ROLE_EMBED, 0, data);
    gguf_tensor_of(w, model, &model->final_norm_file, ROLE_FINAL_NORM, 0, data);
    if (!model->config.tied)
        gguf_tensor_of(w, model, &model->head, ROLE_HEAD, 0, data);
    float *const factors[] = {model->config.rope_factors, model->config.rope_factors_long};
    for (size_t i = 0; i < COUNT_OF(factors); i++) {
        const Weight tensor = {.source = factors[i], .dtype = DTYPE_F32,
                               .rows = factors[i] == NULL ? 0 : 1,
                               .cols = model->config.rope_dim / 2};
        gguf_tensor_of(w, model, &tensor, (Role)((int)ROLE_ROPE_FACTORS + (int)i), 0, data);
    }
    for (int64_t layer = 0; layer < model->config.n_layers; layer++) {
        const Layer *l = &model->layers[layer];
        for (int role = 0; role < ROLE_LINEAR_COUNT; role++)
            gguf_tensor_of(w, model, &l->linear[role], (Role)role, layer, data);
        for (int i = 0; i < NORM_COUNT; i++)
            gguf_tensor_of(w, model, &l->norm_file[i], (Role)(ROLE_ATTN_NORM + i), layer, data);
        for (int i = 0; i < BIAS_COUNT; i++)
            gguf_tensor_of(w, model, &l->bias_file[i], (Role)(ROLE_Q_BIAS + i), layer, data);
    }
}

/* False when the model has no GGUF form. */
static bool write_gguf(const char *folder, const char *path)
{
    Err err = {0};
    Arena arena;
    Model model;
    assert_true(arena_open(&arena, 0, &err));
    if (!model_open(&model, folder, &arena, &err))
        run_fail(&err);
    const Family *family = model.family;
    if (family->can_write_gguf != NULL && !family->can_write_gguf(&model.config, &err)) {
        assert_int_equal(err.code, ERR_RUNTIME_GGUF_EXPORT_FAILED);
        model_close(&model);
        arena_close(&arena);
        return false;
    }
    GgufWriter *w = gguf_writer_open(path, &err);
    assert_non_null(w);
    gguf_put_str(w, "general.architecture", str_of(model.family->name));
    model.family->write_gguf_keys(&model.config, w);
    gguf_tensors(w, &model, false);
    gguf_writer_begin_data(w);
    gguf_tensors(w, &model, true);
    if (!gguf_writer_commit(w, &err))
        run_fail(&err);
    model_close(&model);
    arena_close(&arena);
    return true;
}

/* ---- tests ---- */

/* Relative error of f32 sums over this model: K additions of at most ~100 terms, a few in a row. */
static const double GRADIENT_TOLERANCE = 2e-5, ADAPTER_TOLERANCE = 1e-4, LOSS_TOLERANCE = 1e-5;

/* Loss and gradients, ten steps, the adapter afterwards. Returns the loss; grads (n_params) if not
 * NULL receives the gradient. */
static double train_and_compare(const Golden *g, const char *path, SegmentMode segments,
                                const char *folder, float *grads)
{
    ModelRun run;
    Flat flat;
    int64_t n = golden_length(g);
    golden_batch(g, 0, g->n_sequences, n, &flat);
    run_open(&run, path, g->adapter, segments, n);
    const float *losses = golden_tensor(g, "", "losses")->data;
    double first = 0;
    for (int32_t step = 1; step <= 10; step++) {
        double loss = run_microbatch(&run, &flat, flat.n_loss, step) / flat.n_loss;
        double error = fabs(loss - losses[step - 1]) / losses[step - 1];
        if (!(error <= LOSS_TOLERANCE))
            fail_msg("step %d: loss %.8f, reference %.8f", step, loss, losses[step - 1]);
        if (step == 1) {
            first = loss;
            compare_adapter(g, &run, run.adapter->grads, "grad.", folder, GRADIENT_TOLERANCE);
            if (grads != NULL)
                memcpy(grads, run.adapter->grads,
                       (size_t)run.adapter->n_params * sizeof(float));
        }
        run_update(&run);
    }
    compare_adapter(g, &run, run.adapter->values, "after.", folder, ADAPTER_TOLERANCE);
    run_close(&run);
    return first;
}

/* From the folder, keeping and recomputing, and from a GGUF file. */
static void training_matches(const char *name, const char *variant, const char *temp)
{
    Golden g;
    golden_open_variant(&g, name, variant);
    const char *gguf = path_join(&g.arena, temp, "model.gguf");
    const char *folder = path_join(&g.arena, temp, "peft");
    bool has_gguf = write_gguf(g.folder, gguf);
    assert_true(has_gguf == (strcmp(name, WITHOUT_GGUF) != 0));
    float *keep = arena_array(&g.arena, float, 1 << 16);
    float *again = arena_array(&g.arena, float, 1 << 16);
    double kept = train_and_compare(&g, g.folder, SEGMENT_KEEP, folder, keep);
    double redone = train_and_compare(&g, g.folder, SEGMENT_RECOMPUTE, folder, again);
    assert_true(kept == redone);
    assert_memory_equal(keep, again, (1 << 16) * sizeof(float));
    double other = has_gguf ? train_and_compare(&g, gguf, SEGMENT_RECOMPUTE, folder, NULL) : kept;
    assert_true(fabs(other - kept) <= 1e-6 * kept);
    golden_close(&g);
}

static void test_training_matches(void **state)
{
    for (size_t m = 0; m < COUNT_OF(MODELS); m++)
        training_matches(MODELS[m], "", *state);
}

static void test_dora_training_matches(void **state)
{
    for (size_t m = 0; m < COUNT_OF(DORA_MODELS); m++)
        training_matches(DORA_MODELS[m], "-dora", *state);
}

static void test_logits_match(void **state)
{
    (void)state;
    for (size_t m = 0; m < COUNT_OF(MODELS); m++) {
        Golden g;
        ModelRun run;
        Flat flat;
        golden_open(&g, MODELS[m]);
        int64_t n = golden_length(&g);
        golden_batch(&g, 0, g.n_sequences, n, &flat);
        run_open(&run, g.folder, g.adapter, SEGMENT_KEEP, n);
        run_upload(&run, &flat);
        Value *hidden = run_forward(&run, TAPE_INFER, n);
        Tensor logits = run_logits(&run, hidden, 0, n, &g.arena);
        assert_close(MODELS[m], logits.data, golden_tensor(&g, "", "logits"), LOSS_TOLERANCE);
        run_close(&run);
        golden_close(&g);
    }
}

/* One packed microbatch, one padded to 128, and a microbatch a sequence give the same step. */
static void test_packed_equals_unpacked(void **state)
{
    (void)state;
    for (size_t m = 0; m < COUNT_OF(MODELS); m++) {
        Golden g;
        golden_open(&g, MODELS[m]);
        int64_t n = golden_length(&g), lengths[] = {n, 128, 20};
        float *grads[3];
        double losses[3] = {0};
        int64_t n_params = 0;
        Flat flat;
        golden_batch(&g, 0, g.n_sequences, n, &flat);
        int32_t n_loss = flat.n_loss;
        for (int i = 0; i < 3; i++) {
            ModelRun run;
            run_open(&run, g.folder, g.adapter, SEGMENT_RECOMPUTE, lengths[i]);
            int64_t count = i < 2 ? g.n_sequences : 1;
            for (int64_t s = 0; s < g.n_sequences; s += count) {
                golden_batch(&g, s, count, lengths[i], &flat);
                losses[i] += run_microbatch(&run, &flat, n_loss, 1);
            }
            n_params = run.adapter->n_params;
            grads[i] = arena_array(&g.arena, float, n_params);
            memcpy(grads[i], run.adapter->grads, (size_t)n_params * sizeof(float));
            run_close(&run);
        }
        for (int i = 1; i < 3; i++) {
            assert_true(fabs(losses[i] - losses[0]) <= 1e-6 * losses[0]);
            assert_true(closeness(grads[i], grads[0], n_params).relative <= 1e-5);
        }
        golden_close(&g);
    }
}

/* The place in `grads` for the weight that Hugging Face calls `name`; its role. */
static Tensor *gradient_place(const Model *model, ModelGrads *grads, const char *name, Role *role)
{
    char full[WEIGHT_NAME_MAX];
    for (int64_t layer = 0; layer < model->config.n_layers; layer++) {
        for (size_t i = 0; i < model->family->n_names; i++) {
            const WeightName *row = &model->family->names[i];
            if (row->hf == NULL || strcmp(weight_name(row->hf, layer, full), name) != 0)
                continue;
            *role = row->role;
            if (row->role < ROLE_LINEAR_COUNT)
                return &grads->layers[layer].linear[row->role];
            if (row->role < ROLE_LAYER_COUNT)
                return &grads->layers[layer].norm[row->role - ROLE_ATTN_NORM];
            return row->role == ROLE_EMBED ? &grads->embed : &grads->final_norm;
        }
    }
    fail_msg("the model has no '%s'", name);
    return NULL;
}

/* Gradients of base weights: norms, embedding with a tied head, projections. */
static int compare_base_gradients(const char *name)
{
    Golden g;
    ModelRun run;
    Flat flat;
    Err err = {0};
    golden_open(&g, name);
    golden_batch(&g, 0, g.n_sequences, golden_length(&g), &flat);
    run_open(&run, g.folder, NULL, SEGMENT_RECOMPUTE, golden_length(&g));
    /* The plan was of a frozen base: these runs get a step slab of their own. */
    run.backend.slab_close(&run.backend, &run.slabs.step);
    assert_true(run.backend.slab_open(&run.backend, &run.slabs.step, 64 << 20, &err));
    ModelGrads grads = {.layers = arena_array(&g.arena, LayerGrads, run.model.config.n_layers)};
    Tensor *places[16];
    const StTensor *wanted[16];
    size_t n = 0;
    for (size_t i = 0; i < g.reference.n_tensors; i++) {
        const char *full = g.reference.tensors[i].name;
        if (!str_starts(str_of(full), "full."))
            continue;
        assert_true(n < COUNT_OF(wanted));
        Role role = ROLE_EMBED;
        places[n] = gradient_place(&run.model, &grads, full + 5, &role);
        WeightShape shape = weight_shape(&run.model.config, role);
        *places[n] = tensor_make(arena_array(&g.arena, float, shape.rows * shape.cols), DTYPE_F32,
                                 shape.rows, shape.cols);
        wanted[n++] = &g.reference.tensors[i];
    }
    run.model.grads = &grads;
    if (n > 0)
        run_microbatch(&run, &flat, flat.n_loss, 1);
    for (size_t i = 0; i < n; i++)
        assert_close(wanted[i]->name, places[i]->data, wanted[i], GRADIENT_TOLERANCE);
    run_close(&run);
    golden_close(&g);
    return (int)n;
}

static void test_base_gradients_match(void **state)
{
    (void)state;
    int compared = 0;
    for (size_t m = 0; m < COUNT_OF(MODELS); m++)
        compared += compare_base_gradients(MODELS[m]);
    assert_true(compared >= 20);
}

/* Arena bytes of the plan are those of the run, for each slab, mode and length. */
static void test_plan_equals_run(void **state)
{
    (void)state;
    static const int64_t lengths[] = {42, 64, 128, 200};
    for (size_t m = 0; m < COUNT_OF(MODELS); m++) {
        for (size_t i = 0; i < 2 * COUNT_OF(lengths); i++) {
            Golden g;
            ModelRun run;
            Flat flat;
            golden_open(&g, MODELS[m]);
            SegmentMode mode = i % 2 == 0 ? SEGMENT_KEEP : SEGMENT_RECOMPUTE;
            golden_batch(&g, 0, g.n_sequences, lengths[i / 2], &flat);
            run_open(&run, g.folder, g.adapter, mode, lengths[i / 2]);
            run_microbatch(&run, &flat, flat.n_loss, 1);
            run_microbatch(&run, &flat, flat.n_loss, 1);
            run_update(&run);
            const Slabs used = run.slabs;
            const SlabBytes bytes = run_plan(&run);
            run.slabs = used;
            assert_int_equal(used.weights.peak, bytes.weights);
            assert_int_equal(used.run.peak, bytes.run);
            assert_int_equal(used.step.peak, bytes.step);
            run_close(&run);
            golden_close(&g);
        }
    }
}

/* The cache gives what the batch gave: mean nll of each sequence, from the reference's logits. */
static void test_cached_nll_matches(void **state)
{
    (void)state;
    for (size_t m = 0; m < COUNT_OF(MODELS); m++) {
        Golden g;
        ModelRun run;
        Err err = {0};
        golden_open(&g, MODELS[m]);
        run_open(&run, g.folder, g.adapter, SEGMENT_KEEP, 16);
        const int32_t *tokens = golden_tensor(&g, "", "tokens")->data;
        const float *logits = golden_tensor(&g, "", "logits")->data;
        int64_t V = run.model.config.vocab;
        for (int64_t s = 0, at = 0; s < g.n_sequences; at += g.lengths[s++]) {
            double want = 0, got;
            for (int64_t t = at; t + 1 < at + g.lengths[s]; t++) {
                double sum = 0;
                for (int64_t v = 0; v < V; v++)
                    sum += exp(logits[t * V + v]);
                want += log(sum) - logits[t * V + tokens[t + 1]];
            }
            want /= g.lengths[s] - 1;
            if (!evaluate_nll(&run.model, &run.backend, tokens + at, g.lengths[s], run.values,
                              &got, &err))
                run_fail(&err);
            assert_true(fabs(got - want) <= LOSS_TOLERANCE * want);
        }
        run_close(&run);
        golden_close(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_training_matches, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_dora_training_matches, temp_setup, temp_teardown),
        cmocka_unit_test(test_logits_match),
        cmocka_unit_test(test_packed_equals_unpacked),
        cmocka_unit_test(test_base_gradients_match),
        cmocka_unit_test(test_plan_equals_run),
        cmocka_unit_test(test_cached_nll_matches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
