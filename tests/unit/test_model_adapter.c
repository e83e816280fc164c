/* test_model_adapter.c — adapters: targets, shapes, first values, and PEFT folders in and out.
 *
 * Files are compared through our own reader; PEFT reads them in tests/prove.
 */
#include "test_support.h"

#include "format/quant.h"
#include "compute/cuda_traits.h"
#include "model/full.h"

#include <math.h>

static const char TIED[] = TEST_DATA "/golden/llama/tied";
static const char FOREIGN[] = TEST_DATA "/golden/llama/tied/adapter"; /* written by PEFT */

typedef struct World {
    Arena arena;
    Model model;
    const char *temp;
} World;

static int world_setup(void **state)
{
    Err err = {0};
    World *world = heap_resize(NULL, sizeof *world);
    void *temp;
    if (temp_setup(&temp) != 0 || !arena_open(&world->arena, 0, &err) ||
        !model_open(&world->model, TIED, &world->arena, &err))
        return -1;
    world->temp = temp;
    *state = world;
    return 0;
}

static int world_teardown(void **state)
{
    World *world = *state;
    void *temp = (void *)(uintptr_t)world->temp;
    model_close(&world->model);
    arena_close(&world->arena);
    temp_teardown(&temp);
    heap_free(world);
    return 0;
}

static void test_targets(void **state)
{
    (void)state;
    Err err = {0};
    unsigned targets = 0;
    assert_true(adapter_parse_targets("q_proj,v_proj", &targets, &err));
    assert_int_equal(targets, 1u << ROLE_Q | 1u << ROLE_V);
    assert_true(adapter_parse_targets(" all-linear ", &targets, &err));
    assert_int_equal(targets, ADAPTER_ALL_LINEAR);
    assert_true(adapter_parse_targets("down_proj , gate_proj", &targets, &err));
    assert_int_equal(targets, 1u << ROLE_DOWN | 1u << ROLE_GATE);
    static const char *const bad[] = {"", "q_proj,", ",", "q_projx", "q_proj v_proj", "all"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        err = (Err){0};
        assert_false(adapter_parse_targets(bad[i], &targets, &err));
        assert_int_equal(err.code, ERR_CONFIG_INVALID_SETTING);
    }
    err = (Err){0};
    adapter_parse_targets("q_proj,wq", &targets, &err);
    assert_non_null(strstr(err.message, "'wq'"));
    assert_int_equal(targets, 1u << ROLE_DOWN | 1u << ROLE_GATE); /* untouched on failure */
}

static void test_make(void **state)
{
    World *world = *state;
    Err err = {0};
    AdapterConfig config = {.r = 4, .alpha = 8, .targets = 1u << ROLE_K | 1u << ROLE_DOWN};
    Adapter *adapter = adapter_make(&world->model, &config, &world->arena, &err);
    assert_non_null(adapter);
    assert_int_equal(adapter->n_params, 2 * 4 * ((64 + 32) + (96 + 64)));
    const AdapterPair *k = &adapter->pairs[ROLE_LINEAR_COUNT + ROLE_K];
    assert_true(k->present && k->in == 64 && k->out == 32);
    assert_int_equal(k->a_offset, 4 * ((64 + 32) + (96 + 64)));
    assert_int_equal(k->b_offset, k->a_offset + 4 * 64);
    assert_false(adapter->pairs[ROLE_Q].present);
    config.r = 32;
    assert_non_null(adapter_make(&world->model, &config, &world->arena, &err));
    config.r = 33;
    assert_null(adapter_make(&world->model, &config, &world->arena, &err));
    assert_int_equal(err.code, ERR_CONFIG_INVALID_SETTING);
    assert_non_null(strstr(err.message, "k_proj"));
    err = (Err){0};
    config.r = 0;
    assert_null(adapter_make(&world->model, &config, &world->arena, &err));
}

static void test_first_values(void **state)
{
    World *world = *state;
    Err err = {0};
    AdapterConfig config = {.r = 8, .alpha = 16, .targets = ADAPTER_ALL_LINEAR};
    Adapter *adapter = adapter_make(&world->model, &config, &world->arena, &err);
    float *one = arena_array(&world->arena, float, adapter->n_params);
    float *two = arena_array(&world->arena, float, adapter->n_params);
    memset(two, 1, (size_t)adapter->n_params * sizeof(float));
    adapter_init_values(adapter, 42, one);
    adapter_init_values(adapter, 42, two);
    assert_memory_equal(one, two, (size_t)adapter->n_params * sizeof(float));
    for (int64_t i = 0; i < adapter->n_layers * ROLE_LINEAR_COUNT; i++) {
        const AdapterPair *pair = &adapter->pairs[i];
        if (!pair->present)
            continue;
        double sum = 0, squares = 0, bound = 1 / sqrt((double)pair->in);
        int64_t n = 8 * pair->in;
        for (int64_t j = 0; j < n; j++) {
            double a = one[pair->a_offset + j];
            assert_true(fabs(a) <= bound);
            sum += a;
            squares += a * a;
        }
        /* uniform: mean 0 and variance bound^2/3, each within 5 standard errors */
        assert_true(fabs(sum / (double)n) <= 5 * bound / sqrt(3.0 * (double)n));
        assert_true(fabs(3 * squares / ((double)n * bound * bound) - 1) <= 5 / sqrt((double)n));
        for (int64_t j = 0; j < 8 * pair->out; j++)
            assert_true(one[pair->b_offset + j] == 0);
    }
    adapter_init_values(adapter, 43, two);
    assert_memory_not_equal(one, two, 256);
    const AdapterPair *q0 = &adapter->pairs[ROLE_Q], *k0 = &adapter->pairs[ROLE_K];
    assert_memory_not_equal(one + q0->a_offset, one + k0->a_offset, 256);
}

/* Patterns match whole paths; the layers that they leave out have no pair. */
static void test_patterns(void **state)
{
    World *world = *state;
    static const struct {
        const char *pattern;
        int64_t pairs; /* that re.fullmatch of Python finds among the 14 linears */
    } cases[] = {
        {".*_proj", 14},
        {".*\\.(q|v)_proj", 4},
        {"model\\.layers\\.1\\.mlp\\..*", 3},
        {".*layers\\.[0].*|.*down_proj", 8},
        {"q_proj|.*k_proj", 2},
        {".*self_attn", 0},
        {"(", 0},
    };
    assert_false(adapter_is_pattern("q_proj,v_proj") || adapter_is_pattern("all-linear"));
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        Err err = {0};
        const AdapterConfig config = {.r = 4, .alpha = 8, .targets = ADAPTER_ALL_LINEAR,
                                      .pattern = cases[i].pattern};
        const Adapter *adapter = adapter_make(&world->model, &config, &world->arena, &err);
        int64_t pairs = 0;
        assert_true(adapter_is_pattern(cases[i].pattern));
        for (int64_t p = 0; adapter != NULL && p < adapter->n_layers * ROLE_LINEAR_COUNT; p++)
            pairs += adapter->pairs[p].present;
        assert_int_equal(pairs, cases[i].pairs);
        assert_int_equal(err.code, pairs > 0 ? 0 : ERR_CONFIG_INVALID_SETTING);
    }
}

/* A DoRA adapter starts as its base: every length is its row's, times nothing. */
static void test_first_magnitudes(void **state)
{
    World *world = *state;
    Err err = {0};
    AdapterConfig config = {.r = 8, .alpha = 16, .targets = ADAPTER_ALL_LINEAR,
                            .methods = ADAPTER_DORA | ADAPTER_RSLORA};
    Adapter *adapter = adapter_make(&world->model, &config, &world->arena, &err);
    assert_true(fabs(adapter_scale(&config) - 16 / sqrt(8.0)) < 1e-15);
    const Weight *w = &world->model.layers[1].linear[ROLE_DOWN];
    const AdapterPair *pair = &adapter->pairs[ROLE_LINEAR_COUNT + ROLE_DOWN];
    float *values = arena_array(&world->arena, float, adapter->n_params);
    float *row = arena_array(&world->arena, float, w->cols);
    assert_int_equal(pair->m_offset + pair->out, adapter->n_params); /* the last of all */
    adapter_init_values(adapter, 42, values);
    adapter_init_magnitudes(adapter, &world->model, values);
    for (int64_t i = 0; i < w->rows; i++) {
        const size_t bytes = dtype_row_bytes(w->dtype, w->cols);
        quant_decode_row(w->dtype, (const uint8_t *)w->source + (size_t)i * bytes, row, w->cols);
        double squares = 0;
        for (int64_t j = 0; j < w->cols; j++)
            squares += (double)row[j] * row[j];
        assert_true(fabs(values[pair->m_offset + i] / sqrt(squares) - 1) < 1e-7);
    }
}

/* A backend that lacks the op that DoRA needs refuses it, and nothing else. */
static void test_backend_without_dora(void **state)
{
    World *world = *state;
    Err err = {0};
    Backend backend;
    AdapterConfig config = {.r = 4, .alpha = 8, .targets = ADAPTER_ALL_LINEAR};
    assert_true(backend_open_cpu(&backend, &err));
    backend.run[PASS_FWD][OP_row_norms] = NULL;
    Adapter *adapter = adapter_make(&world->model, &config, &world->arena, &err);
    assert_true(adapter_fits_backend(adapter, &backend, &err));
    config.methods = ADAPTER_DORA;
    adapter = adapter_make(&world->model, &config, &world->arena, &err);
    assert_false(adapter_fits_backend(adapter, &backend, &err));
    assert_int_equal(err.code, ERR_CONFIG_INVALID_SETTING);
    backend.close(&backend);
    /* The plug-in starts from these. */
    backend_traits_cuda(&backend);
    err = (Err){0};
    assert_false(adapter_fits_backend(adapter, &backend, &err));
    assert_non_null(strstr(err.message, "DoRA"));
    err = (Err){0};
    assert_false(adapter_fits_backend(full_make(&world->model, &world->arena), &backend, &err));
    assert_non_null(strstr(err.message, "full"));
}

/* What PEFT wrote comes back from our writer with the same tensors and settings. */
static void test_round_trip(void **state)
{
    World *world = *state;
    Arena *arena = &world->arena;
    Err err = {0};
    float *values, *again;
    Adapter *adapter = adapter_load_peft(&world->model, FOREIGN, &values, arena, &err);
    if (adapter == NULL)
        fail_msg("%s", err.message);
    assert_int_equal(adapter->config.r, 4);
    assert_true(adapter->config.alpha == 8);
    assert_int_equal(adapter->config.targets, adapter_targets_of(world->model.family));
    const char *folder = path_join(arena, world->temp, "out/lora");
    assert_true(adapter_save_peft(adapter, &world->model, values, "some/base", folder, &err));
    assert_string_equal(adapter_base_name(folder, arena, &err), "some/base");
    assert_non_null(adapter_load_peft(&world->model, folder, &again, arena, &err));
    assert_memory_equal(values, again, (size_t)adapter->n_params * sizeof(float));

    SafeTensors theirs, ours;
    assert_true(st_open(&theirs, path_join(arena, FOREIGN, "adapter_model.safetensors"),
                        ERR_RUNTIME_IO_FAILED, arena, &err));
    assert_true(st_open(&ours, path_join(arena, folder, "adapter_model.safetensors"),
                        ERR_RUNTIME_IO_FAILED, arena, &err));
    assert_int_equal(ours.n_tensors, theirs.n_tensors);
    assert_string_equal(st_meta(&ours, "format"), "pt");
    for (size_t i = 0; i < ours.n_tensors; i++) {
        const StTensor *t = st_find(&theirs, ours.tensors[i].name);
        assert_non_null(t);
        assert_int_equal(t->bytes, ours.tensors[i].bytes);
        assert_memory_equal(t->data, ours.tensors[i].data, t->bytes);
    }
    st_close(&theirs);
    st_close(&ours);
}

/* Keys that PEFT writes and we write too have PEFT's values. */
static void test_config_keys(void **state)
{
    World *world = *state;
    Arena *arena = &world->arena;
    Err err = {0};
    float *values;
    Adapter *adapter = adapter_load_peft(&world->model, FOREIGN, &values, arena, &err);
    const char *folder = path_join(arena, world->temp, "lora");
    assert_true(adapter_save_peft(adapter, &world->model, values, "tied", folder, &err));
    Json *theirs = json_load(path_join(arena, FOREIGN, "adapter_config.json"),
                             ERR_RUNTIME_IO_FAILED, &err);
    Json *ours = json_load(path_join(arena, folder, "adapter_config.json"),
                           ERR_RUNTIME_IO_FAILED, &err);
    assert_true(json_len(ours) > 20);
    const char *key, *before = "";
    Json *value;
    for (void *it = NULL; (it = json_next(ours, it, &key, &value)) != NULL;) {
        Buf a = {0}, b = {0};
        assert_true(strcmp(before, key) < 0); /* sorted */
        before = key;
        if (strcmp(key, "target_modules") == 0) {
            assert_int_equal(json_len(value), json_len(json_get(theirs, key)));
            continue; /* a set: PEFT's order is arbitrary */
        }
        json_write(value, (JsonStyle){0}, &a);
        json_write(json_get(theirs, key), (JsonStyle){0}, &b);
        assert_string_equal(a.data, b.data);
        buf_free(&a);
        buf_free(&b);
    }
    json_free(theirs);
    json_free(ours);
}

/* A copy of PEFT's folder whose configuration has one key changed. */
static const char *changed(World *world, const char *key, const char *json)
{
    Err err = {0};
    Arena *arena = &world->arena;
    const char *folder = path_join(arena, world->temp, "changed");
    folder_remove(folder);
    assert_true(folder_make(folder, ERR_RUNTIME_IO_FAILED, &err));
    Json *config = json_load(path_join(arena, FOREIGN, "adapter_config.json"),
                             ERR_RUNTIME_IO_FAILED, &err);
    if (key != NULL)
        json_put(config, key, json_parse(str_of(json), "test", ERR_INTERNAL_ERROR, &err));
    Buf text = {0};
    json_write(config, (JsonStyle){.indent = 2}, &text);
    write_text(path_join(arena, folder, "adapter_config.json"), text.data);
    buf_free(&text);
    json_free(config);
    assert_int_equal(symlink(path_join(arena, FOREIGN, "adapter_model.safetensors"),
                             path_join(arena, folder, "adapter_model.safetensors")), 0);
    return folder;
}

static void test_settings(void **state)
{
    World *world = *state;
    static const struct {
        const char *key, *json, *named; /* named NULL: accepted */
    } cases[] = {
        {NULL, NULL, NULL},
        {"something_new", "{\"a\": 1}", NULL},
        {"target_modules", "\"all-linear\"", NULL},
        {"use_dora", "true", "q_proj.lora_magnitude_vector'"},
        {"use_rslora", "true", NULL},
        {"bias", "\"all\"", "'bias'"},
        {"modules_to_save", "[\"lm_head\"]", "'modules_to_save'"},
        {"rank_pattern", "{\"q_proj\": 2}", "'rank_pattern'"},
        {"alpha_pattern", "{\"q_proj\": 2}", "'alpha_pattern'"},
        {"layers_to_transform", "[0]", "'layers_to_transform'"},
        {"peft_type", "\"IA3\"", "'IA3'"},
        {"r", "0", "r or lora_alpha"},
        {"r", "3", "[4, 64], the model needs [3, 64]"},
        {"r", "100000000000", "r or lora_alpha"},
        {"target_modules", "[\"q_proj\", \"lm_head\"]", "'lm_head'"},
        {"target_modules", "[]", "names nothing"},
        {"target_modules", "\".*_proj\"", NULL},
        {"target_modules", "\".*\\\\.q_proj\"", "has no place"},
        {"target_modules", "\"q_.*\"", "match no linear"},
        {"target_modules", "\"(q_proj\"", "'(q_proj'"},
        {"target_modules", "[\"q_proj\"]", "has no place"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        Err err = {0};
        float *values;
        const char *folder = changed(world, cases[i].key, cases[i].json);
        const Adapter *adapter =
            adapter_load_peft(&world->model, folder, &values, &world->arena, &err);
        if (cases[i].named == NULL) {
            if (adapter == NULL)
                fail_msg("case %zu: %s", i, err.message);
            continue;
        }
        assert_null(adapter);
        if (err.code != ERR_CONFIG_INVALID_SETTING) /* that of a pattern */
            assert_int_equal(err.code, ERR_RUNTIME_LORA_EXPORT_FAILED);
        if (strstr(err.message, cases[i].named) == NULL)
            fail_msg("'%s' does not name %s", err.message, cases[i].named);
    }
}

static void test_foreign_model(void **state)
{
    World *world = *state;
    Err err = {0};
    float *values;
    const char *untied = TEST_DATA "/golden/llama/untied/adapter"; /* of heads of 24 */
    assert_null(adapter_load_peft(&world->model, untied, &values, &world->arena, &err));
    assert_non_null(strstr(err.message, "[96, 3], the model needs [64, 3]"));
    assert_non_null(strstr(err.message, "self_attn.q_proj.lora_B.weight"));
    err = (Err){0};
    assert_null(adapter_load_peft(&world->model, TIED, &values, &world->arena, &err));
    assert_non_null(strstr(err.message, "adapter_config.json"));
    err = (Err){0};
    assert_null(adapter_base_name(world->temp, &world->arena, &err));
    assert_int_equal(err.code, ERR_RUNTIME_LORA_EXPORT_FAILED);
    err = (Err){0};
    const char *folder = changed(world, "base_model_name_or_path", "null");
    assert_null(adapter_base_name(folder, &world->arena, &err));
    assert_non_null(strstr(err.message, "base_model_name_or_path"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_targets),
        cmocka_unit_test_setup_teardown(test_make, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(test_first_values, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(test_patterns, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(test_first_magnitudes, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(test_backend_without_dora, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(test_round_trip, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(test_config_keys, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(test_settings, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(test_foreign_model, world_setup, world_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
