/* test_model_broken.c — every family's folders with one thing wrong, and weights in several files
 * of which one is damaged: each is refused with a message that names what and where.
 */
#include "test_support.h"

#include "model/model.h"

static const char *golden(Arena *arena, const char *folder, const char *file)
{
    return arena_printf(arena, "%s/golden/%s/%s", TEST_DATA, folder, file);
}

static void write_json(const char *path, const Json *json)
{
    Buf text = {0};
    json_write(json, (JsonStyle){.indent = 2}, &text);
    write_text(path, text.data);
    buf_free(&text);
}

static const char *empty_folder(Arena *arena, const char *temp)
{
    static int count;
    Err err = {0};
    const char *folder = arena_printf(arena, "%s/folder%d", temp, count++);
    assert_true(folder_make(folder, ERR_RUNTIME_IO_FAILED, &err));
    return folder;
}

static void assert_refused(const char *path, const char *first, const char *second)
{
    Arena arena;
    Err err = {0};
    Model model;
    assert_true(arena_open(&arena, 0, &err));
    if (model_open(&model, path, &arena, &err))
        fail_msg("'%s' was opened; expected '%s', '%s'", path, first, second);
    assert_int_equal(err.code, ERR_DEP_MODEL_LOAD_FAILED);
    if (strstr(err.message, first) == NULL || strstr(err.message, second) == NULL)
        fail_msg("'%s' names neither '%s' nor '%s'", err.message, first, second);
    model_close(&model);
    arena_close(&arena);
}

static void assert_opens(const char *path)
{
    Arena arena;
    Err err = {0};
    Model model;
    assert_true(arena_open(&arena, 0, &err));
    if (!model_open(&model, path, &arena, &err))
        fail_msg("%s", err.message);
    model_close(&model);
    arena_close(&arena);
}

/* A golden folder's weights under its configuration with the members of `patch` put in. */
static const char *patched(Arena *arena, const char *temp, const char *source, const char *patch)
{
    Err err = {0};
    const char *folder = empty_folder(arena, temp);
    Json *config = json_load(golden(arena, source, "config.json"), ERR_INTERNAL_ERROR, &err);
    Json *changes = json_parse(str_of(patch), "patch", ERR_INTERNAL_ERROR, &err);
    assert_non_null(config);
    assert_non_null(changes);
    const char *key;
    Json *value;
    for (void *at = NULL; (at = json_next(changes, at, &key, &value)) != NULL;)
        json_put(config, key, json_clone(value));
    write_json(path_join(arena, folder, "config.json"), config);
    json_free(config);
    json_free(changes);
    assert_int_equal(symlink(golden(arena, source, "model.safetensors"),
                             path_join(arena, folder, "model.safetensors")),
                     0);
    return folder;
}

/* ---- configurations ---- */

#define LONGROPE(rest) \
    "{\"rope_parameters\": {\"rope_type\": \"longrope\", \"rope_theta\": 10000.0, " \
    "\"partial_rotary_factor\": 0.75, \"original_max_position_embeddings\": 16" rest "}}"
#define SHORT ", \"short_factor\": [1, 1, 1, 1, 1, 1]"

static void test_configs_refused(void **state)
{
    static const char *const cases[][4] = {
        {"qwen2/biased", "{\"use_sliding_window\": true}", "use_sliding_window", "not supported"},
        {"qwen2/biased", "{\"model_type\": \"qwen3\", \"head_dim\": 16}", "missing tensor",
         "q_norm.weight'"},
        {"qwen3/wide", "{\"model_type\": \"qwen2\"}", "missing tensor", "q_proj.bias'"},
        {"qwen3/wide", "{\"head_dim\": 16}", "q_proj.weight", "[96, 64]"},
        {"qwen3/wide", "{\"head_dim\": null}", "q_proj.weight", "asks for [512, 64]"},
        {"qwen3/wide", "{\"attention_bias\": true}", "attention_bias", "not supported"},
        {"qwen3/tied", "{\"tie_word_embeddings\": false}", "missing tensor", "'lm_head.weight'"},
        {"mistral/v03", "{\"sliding_window\": 16}", "sliding_window of 16", "not supported"},
        {"mistral/v03", "{\"num_key_value_heads\": 0}", "'num_key_value_heads'", "from 1"},
        {"smollm3/nope", "{\"no_rope_layers\": [1, 1, 0, 1, 1]}", "every fourth", "not supported"},
        {"smollm3/nope", "{\"no_rope_layers\": [1, 1]}", "every fourth", "not supported"},
        {"smollm3/nope", "{\"no_rope_layers\": null, \"no_rope_layer_interval\": 3}",
         "every fourth", "not supported"},
        {"gemma3/windows", "{\"final_logit_softcapping\": 30.0}", "final_logit_softcapping",
         "not supported"},
        {"gemma3/windows", "{\"hidden_activation\": \"gelu\"}", "hidden_activation", "'gelu'"},
        {"gemma3/windows", "{\"sliding_window\": 0}", "'sliding_window'", "from 1"},
        {"gemma3/windows", "{\"layer_types\": [\"full_attention\"]}", "layer_types", "layer"},
        {"gemma3/windows", "{\"query_pre_attn_scalar\": -1}", "query_pre_attn_scalar", "from 1"},
        {"gemma3/windows", "{\"use_bidirectional_attention\": true}", "bidirectional",
         "not supported"},
        {"phi3/longrope", LONGROPE(""), "'short_factor'", "list of 6 positive"},
        {"phi3/longrope", LONGROPE(SHORT), "'long_factor'", "list of 6 positive"},
        {"phi3/longrope", LONGROPE(SHORT ", \"long_factor\": [1, 1, 1, 1, 1]"), "'long_factor'",
         "list of 6 positive"},
        {"phi3/longrope", LONGROPE(SHORT ", \"long_factor\": [1, 1, 1, 1, 1, 0]"),
         "'long_factor'", "list of 6 positive"},
        {"phi3/longrope", "{\"rope_parameters\": {\"rope_type\": \"yarn\"}}", "rope scaling",
         "'yarn'"},
        {"phi3/window", "{\"rope_parameters\": {\"partial_rotary_factor\": 0}}", "above 0",
         "partial_rotary_factor"},
        {"phi3/window", "{\"intermediate_size\": 95}", "down_proj.weight", "[64, 95]"},
        {"phi3/window", "{\"num_key_value_heads\": 4}", "qkv_proj.weight", "[192, 64]"},
    };
    Arena arena;
    Err err = {0};
    assert_true(arena_open(&arena, 0, &err));
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        assert_opens(patched(&arena, *state, cases[i][0], "{}"));
        assert_refused(patched(&arena, *state, cases[i][0], cases[i][1]), cases[i][2],
                       cases[i][3]);
    }
    arena_close(&arena);
}

/* ---- several weight files ---- */

enum { SHARDS = 3 };
static const char *const SHARD_NAMES[SHARDS] = {"model-00001-of-00003.safetensors",
                                                "model-00002-of-00003.safetensors",
                                                "model-00003-of-00003.safetensors"};
static const char INDEX[] = "model.safetensors.index.json";

/* The golden model's tensors dealt out to three files. */
static const char *sharded(Arena *arena, const char *temp)
{
    Err err = {0};
    SafeTensors st;
    const char *folder = empty_folder(arena, temp);
    assert_true(st_open(&st, golden(arena, "llama/untied", "model.safetensors"),
                        ERR_INTERNAL_ERROR, arena, &err));
    Json *index = json_new_object(), *map = json_new_object();
    for (size_t s = 0; s < SHARDS; s++) {
        StEntry entries[64];
        size_t n = 0;
        for (size_t i = s; i < st.n_tensors; i += SHARDS) {
            const StTensor *t = &st.tensors[i];
            entries[n++] = (StEntry){.name = t->name, .dtype = t->dtype, .n_dims = t->n_dims,
                                     .shape = {t->shape[0], t->shape[1]}, .data = t->data};
            json_put(map, t->name, json_new_text(SHARD_NAMES[s]));
        }
        assert_true(st_write(path_join(arena, folder, SHARD_NAMES[s]), entries, n, NULL, NULL, 0,
                             ERR_INTERNAL_ERROR, &err));
    }
    json_put(index, "weight_map", map);
    write_json(path_join(arena, folder, INDEX), index);
    json_free(index);
    st_close(&st);
    assert_int_equal(symlink(golden(arena, "llama/untied", "config.json"),
                             path_join(arena, folder, "config.json")),
                     0);
    return folder;
}

static void test_shards_open(void **state)
{
    Arena arena;
    Err err = {0};
    Model whole, parts;
    assert_true(arena_open(&arena, 0, &err));
    const char *folder = sharded(&arena, *state);
    if (!model_open(&parts, folder, &arena, &err))
        fail_msg("%s", err.message);
    assert_true(model_open(&whole, golden(&arena, "llama/untied", ""), &arena, &err));
    assert_int_equal(parts.file.n_shards, SHARDS);
    for (int role = 0; role < ROLE_LINEAR_COUNT; role++) {
        const Weight *a = &whole.layers[1].linear[role], *b = &parts.layers[1].linear[role];
        assert_int_equal(a->rows, b->rows);
        if (a->rows > 0)
            assert_memory_equal(a->source, b->source, (size_t)(2 * a->rows * a->cols));
    }
    model_close(&whole);
    model_close(&parts);
    arena_close(&arena);
}

/* The index with one member of its weight_map changed. */
static void remap(Arena *arena, const char *folder, const char *tensor, const char *to)
{
    Err err = {0};
    const char *path = path_join(arena, folder, INDEX);
    Json *index = json_load(path, ERR_INTERNAL_ERROR, &err);
    Json *map = json_clone(json_get(index, "weight_map"));
    if (to == NULL)
        json_del(map, tensor);
    else
        json_put(map, tensor, json_new_text(to));
    json_put(index, "weight_map", map);
    write_json(path, index);
    json_free(index);
}

static void test_shards_refused(void **state)
{
    Arena arena;
    Err err = {0};
    assert_true(arena_open(&arena, 0, &err));
    static const char *const maps[][3] = {
        {"model.norm.weight", "../model.safetensors", "in no file of this folder"},
        {"model.norm.weight", "/etc/passwd", "in no file of this folder"},
        {"model.norm.weight", ".hidden.safetensors", "in no file of this folder"},
        {"model.norm.weight", "weights.bin", "in no file of this folder"},
        {"model.norm.weight", "absent.safetensors", "'absent.safetensors' is missing"},
        {"model.norm.weight", NULL, "which the index does not name"},
        {"model.layers.9.mlp.up_proj.weight", "model-00002-of-00003.safetensors",
         "is not in file 'model-00002-of-00003.safetensors'"},
    };
    for (size_t i = 0; i < COUNT_OF(maps); i++) {
        const char *folder = sharded(&arena, *state);
        remap(&arena, folder, maps[i][0], maps[i][1]);
        assert_refused(folder, maps[i][2], "");
    }
    const char *folder = sharded(&arena, *state);
    const char *second = path_join(&arena, folder, SHARD_NAMES[1]);
    assert_int_equal(truncate(second, (off_t)file_bytes(second) - 1), 0);
    assert_refused(folder, SHARD_NAMES[1], "");
    assert_int_equal(truncate(second, 4), 0);
    assert_refused(folder, SHARD_NAMES[1], "");
    assert_int_equal(unlink(second), 0);
    assert_refused(folder, "'model-00002-of-00003.safetensors' is missing", "of 3)");
    arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_configs_refused, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_shards_open, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_shards_refused, temp_setup, temp_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
