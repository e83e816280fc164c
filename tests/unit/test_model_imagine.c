/* test_model_imagine.c — models of which only the configuration is known: the same shapes as the
 * files of every family have, and as many parameters as the published models of the presets.
 */
#include "test_support.h"

#include "model/imagine.h"
#include "model/preset.h"

static const char *const MODELS[] = {
    "llama/tied",  "llama/untied", "llama/scaled",   "qwen2/biased",   "qwen2/wide",
    "qwen3/wide",  "qwen3/tied",   "mistral/v03",     "smollm3/nope",   "gemma3/windows",
    "gemma3/period2", "phi3/longrope", "phi3/window"};

static void assert_same_shape(const char *model, const Weight *a, const Weight *b)
{
    if (a->rows != b->rows || a->cols != b->cols || (a->rows > 0 && a->dtype != b->dtype))
        fail_msg("%s: a weight of %lld x %lld is imagined as %lld x %lld", model,
                 (long long)a->rows, (long long)a->cols, (long long)b->rows, (long long)b->cols);
}

static void imagined_as_it_is(void **state)
{
    (void)state;
    for (size_t m = 0; m < COUNT_OF(MODELS); m++) {
        Err err = {0};
        Arena arena;
        Model real, model;
        assert_true(arena_open(&arena, 0, &err));
        const char *folder = arena_printf(&arena, TEST_DATA "/golden/%s", MODELS[m]);
        Json *config = json_load(path_join(&arena, folder, "config.json"), ERR_INTERNAL_ERROR,
                                 &err);
        if (!model_open(&real, folder, &arena, &err) ||
            !model_imagine(&model, folder, config, DTYPE_BF16, &arena, &err))
            fail_msg("%s", err.message);
        assert_same_shape(MODELS[m], &real.embed, &model.embed);
        assert_same_shape(MODELS[m], &real.head, &model.head);
        assert_same_shape(MODELS[m], &real.final_norm_file, &model.final_norm_file);
        for (int64_t i = 0; i < real.config.n_layers; i++) {
            const Layer *a = &real.layers[i], *b = &model.layers[i];
            for (int role = 0; role < ROLE_LINEAR_COUNT; role++)
                assert_same_shape(MODELS[m], &a->linear[role], &b->linear[role]);
            for (int n = 0; n < NORM_COUNT; n++)
                assert_same_shape(MODELS[m], &a->norm_file[n], &b->norm_file[n]);
            for (int n = 0; n < BIAS_COUNT; n++)
                assert_same_shape(MODELS[m], &a->bias_file[n], &b->bias_file[n]);
        }
        model_close(&model);
        model_close(&real);
        arena_close(&arena);
    }
}

/* Parameters as the models' pages on Hugging Face count them (safetensors). */
static void presets_have_their_size(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t parameters;
    } published[] = {
        {"qwen2.5-7b", 7615616512},      {"qwen2.5-3b", 3085938688},
        {"llama-3.2-3b", 3212749824},    {"llama-3.2-1b", 1235814400},
        {"llama-3.1-8b", 8030261248},    {"mistral-7b", 7248023552},
        {"phi-4-mini-3.8b", 3836021760}, {"smollm3-3b", 3075098624},
        {"qwen2.5-14b", 14770033664},    {"qwen2.5-32b", 32763876352},
    };
    size_t with_config = 0;
    for (size_t i = 0; model_preset_at(i) != NULL; i++)
        with_config += *model_preset_at(i)->config != '\0';
    assert_int_equal(with_config, COUNT_OF(published));
    for (size_t i = 0; i < COUNT_OF(published); i++) {
        Err err = {0};
        Arena arena;
        Model model;
        assert_true(arena_open(&arena, 0, &err));
        const ModelPreset *preset = model_preset(published[i].name);
        Json *config = json_parse(str_of(preset->config), "preset", ERR_INTERNAL_ERROR, &err);
        if (!model_imagine(&model, preset->name, config, DTYPE_BF16, &arena, &err))
            fail_msg("%s", err.message);
        assert_int_equal(model_parameter_count(&model), published[i].parameters);
        model_close(&model);
        arena_close(&arena);
    }
}

static void not_a_model(void **state)
{
    (void)state;
    static const char *const bad[] = {"{}", "{\"model_type\":\"bert\"}", "{\"model_type\":7}",
                                      "{\"model_type\":\"llama\"}",
                                      "{\"model_type\":\"llama\",\"hidden_size\":-1}"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        Err err = {0};
        Arena arena;
        Model model;
        assert_true(arena_open(&arena, 0, &err));
        Json *config = json_parse(str_of(bad[i]), "bad", ERR_INTERNAL_ERROR, &err);
        assert_false(model_imagine(&model, "bad", config, DTYPE_BF16, &arena, &err));
        assert_int_equal(err.code, ERR_DEP_MODEL_LOAD_FAILED);
        arena_close(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(imagined_as_it_is),
        cmocka_unit_test(presets_have_their_size),
        cmocka_unit_test(not_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
