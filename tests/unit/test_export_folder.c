/* test_export_folder.c — a model of every family written as a folder and read back: the same bits,
 * whether in one file or in many; refusals.
 */
#include "test_support.h"

#include "export/export.h"

static const char *const MODELS[] = {"llama/untied", "qwen2/biased",   "qwen3/wide",  "mistral/v03",
                                     "smollm3/nope", "gemma3/windows", "phi3/longrope"};

typedef struct World {
    Arena arena;
    const char *temp;
    Tokenizer *tokenizer;
} World;

static int setup(void **state)
{
    static World world;
    void *temp = NULL;
    Err err = {0};
    world = (World){0};
    assert_int_equal(temp_setup(&temp), 0);
    world.temp = temp;
    assert_true(arena_open(&world.arena, 0, &err));
    world.tokenizer =
        tokenizer_from_folder(TEST_DATA "/golden/tokenizer/tiny", &world.arena, &err);
    assert_non_null(world.tokenizer);
    *state = &world;
    return 0;
}

static int teardown(void **state)
{
    World *world = *state;
    void *temp = (void *)(uintptr_t)world->temp;
    tokenizer_close(world->tokenizer);
    int result = temp_teardown(&temp);
    arena_close(&world->arena);
    return result;
}

static void open_model(World *world, Model *model, const char *path)
{
    Err err = {0};
    if (!model_open(model, path, &world->arena, &err))
        fail_msg("%s", err.message);
}

static void assert_same_weight(const Weight *a, const Weight *b)
{
    assert_int_equal(a->rows, b->rows);
    assert_int_equal(a->cols, b->cols);
    assert_int_equal(a->dtype, b->dtype);
    if (a->rows > 0)
        assert_memory_equal(a->source, b->source,
                            (size_t)a->rows * dtype_row_bytes(a->dtype, a->cols));
}

static void assert_same_model(const Model *a, const Model *b)
{
    assert_ptr_equal(a->family, b->family);
    assert_int_equal(a->config.tied, b->config.tied);
    assert_same_weight(&a->embed, &b->embed);
    assert_same_weight(&a->head, &b->head);
    assert_same_weight(&a->final_norm_file, &b->final_norm_file);
    for (int64_t i = 0; i < a->config.n_layers; i++) {
        for (int role = 0; role < ROLE_LINEAR_COUNT; role++)
            assert_same_weight(&a->layers[i].linear[role], &b->layers[i].linear[role]);
        for (int norm = 0; norm < NORM_COUNT; norm++)
            assert_same_weight(&a->layers[i].norm_file[norm], &b->layers[i].norm_file[norm]);
        for (int bias = 0; bias < BIAS_COUNT; bias++)
            assert_same_weight(&a->layers[i].bias_file[bias], &b->layers[i].bias_file[bias]);
    }
}

static void test_same_bits(void **state)
{
    World *world = *state;
    for (size_t m = 0; m < COUNT_OF(MODELS); m++) {
        for (int many = 0; many < 2; many++) {
            Err err = {0};
            Model model, copy;
            ExportResult result = {0};
            const char *out = arena_printf(&world->arena, "%s/%zu-%d", world->temp, m, many);
            open_model(world, &model, arena_printf(&world->arena, "%s/golden/%s", TEST_DATA,
                                                   MODELS[m]));
            ExportOptions options = {.format = EXPORT_MERGED, .dtype = DTYPE_COUNT, .output = out,
                                     .shard_bytes = many ? 20000 : 0};
            if (!export_run(&model, NULL, NULL, NULL, world->tokenizer, &options, &world->arena,
                            &result, &err))
                fail_msg("%s", err.message);
            open_model(world, &copy, out);
            assert_int_equal(copy.file.n_shards > 1, many);
            assert_same_model(&model, &copy);
            assert_true(result.bytes > 10000);
            model_close(&copy);
            model_close(&model);
        }
    }
}

/* A vocabulary that the tokenizer does not fill has no GGUF form; nothing is left behind. */
static void test_other_vocabulary(void **state)
{
    World *world = *state;
    Err err = {0};
    Model model;
    ExportResult result = {0};
    const char *out = path_join(&world->arena, world->temp, "gguf");
    open_model(world, &model, TEST_DATA "/golden/qwen3/wide");
    ExportOptions options = {.format = EXPORT_GGUF, .dtype = DTYPE_F16, .output = out};
    assert_false(export_run(&model, NULL, NULL, NULL, world->tokenizer, &options, &world->arena,
                            &result, &err));
    assert_int_equal(err.code, ERR_RUNTIME_GGUF_EXPORT_FAILED);
    assert_non_null(strstr(err.message, "96 rows"));
    const char **names;
    size_t n = 0;
    assert_true(folder_list(out, &world->arena, &names, &n));
    assert_int_equal(n, 0);
    model_close(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_same_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_vocabulary, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
