/* test_model_load.c — opening models: what is read from a GGUF file and from a folder, and that
 * every damaged or foreign one is refused with a message that names what is wrong.
 */
#include "test_support.h"

#include "model/config.h"

enum { C = 32, H = 4, G = 2, D = 8, F = 64, V = 16 };

/* How a GGUF differs from a good one. */
typedef struct Twist {
    const char *arch, *type, *scaling; /* NULL: as it should be */
    const char *leave_out;             /* tensor or key */
    const char *extra, *wrong_shape;   /* tensor */
    uint32_t experts, rope_dim;
    bool untied, factors;
} Twist;

static void add(GgufWriter *w, const Twist *twist, const char *name, int64_t rows, int64_t cols,
                bool data)
{
    static const float values[2 * V * F + 2 * F * F] = {[0] = 1};
    static const float ones[F] = {1, 1, 1, 1};
    if (twist->leave_out != NULL && strcmp(twist->leave_out, name) == 0)
        return;
    if (twist->wrong_shape != NULL && strcmp(twist->wrong_shape, name) == 0)
        rows += 1;
    const int64_t ne[2] = {cols, rows};
    if (data)
        gguf_write_data(w, rows == 1 ? ones : values, (size_t)(rows * cols) * sizeof(float));
    else
        gguf_add_tensor(w, name, DTYPE_F32, rows == 1 ? 1 : 2, ne);
}

static void tensors(GgufWriter *w, const Twist *twist, bool data)
{
    add(w, twist, "token_embd.weight", V, C, data);
    add(w, twist, "output_norm.weight", 1, C, data);
    if (twist->untied)
        add(w, twist, "output.weight", V, C, data);
    if (twist->factors)
        add(w, twist, "rope_freqs.weight", 1, D / 2, data);
    add(w, twist, "blk.0.attn_norm.weight", 1, C, data);
    add(w, twist, "blk.0.attn_q.weight", H * D, C, data);
    add(w, twist, "blk.0.attn_k.weight", G * D, C, data);
    add(w, twist, "blk.0.attn_v.weight", G * D, C, data);
    add(w, twist, "blk.0.attn_output.weight", C, H * D, data);
    add(w, twist, "blk.0.ffn_norm.weight", 1, C, data);
    add(w, twist, "blk.0.ffn_gate.weight", F, C, data);
    add(w, twist, "blk.0.ffn_up.weight", F, C, data);
    add(w, twist, "blk.0.ffn_down.weight", C, F, data);
    if (twist->extra != NULL)
        add(w, twist, twist->extra, 2, C, data);
}

static void put(GgufWriter *w, const Twist *twist, const char *key, uint32_t value)
{
    if (twist->leave_out == NULL || strcmp(twist->leave_out, key) != 0)
        gguf_put_u32(w, key, value);
}

static void write_twisted(const char *path, const Twist *twist)
{
    Err err = {0};
    GgufWriter *w = gguf_writer_open(path, &err);
    assert_non_null(w);
    gguf_put_str(w, "general.architecture", str_of(twist->arch != NULL ? twist->arch : "llama"));
    if (twist->type != NULL)
        gguf_put_str(w, "general.type", str_of(twist->type));
    put(w, twist, "llama.block_count", 1);
    put(w, twist, "llama.context_length", 64);
    put(w, twist, "llama.embedding_length", C);
    put(w, twist, "llama.feed_forward_length", F);
    put(w, twist, "llama.attention.head_count", H);
    put(w, twist, "llama.attention.head_count_kv", G);
    if (twist->rope_dim != 0)
        put(w, twist, "llama.rope.dimension_count", twist->rope_dim);
    if (twist->experts != 0)
        put(w, twist, "llama.expert_count", twist->experts);
    if (twist->scaling != NULL)
        gguf_put_str(w, "llama.rope.scaling.type", str_of(twist->scaling));
    const char *eps = "llama.attention.layer_norm_rms_epsilon";
    if (twist->leave_out == NULL || strcmp(twist->leave_out, eps) != 0)
        gguf_put_f32(w, eps, 1e-5f);
    tensors(w, twist, false);
    gguf_writer_begin_data(w);
    tensors(w, twist, true);
    if (!gguf_writer_commit(w, &err))
        fail_msg("%s", err.message);
}

/* Opens, expects a refusal whose message holds both texts. */
static void assert_refused(const char *path, const char *first, const char *second)
{
    Arena arena;
    Err err = {0};
    Model model;
    assert_true(arena_open(&arena, 0, &err));
    assert_false(model_open(&model, path, &arena, &err));
    assert_int_equal(err.code, ERR_DEP_MODEL_LOAD_FAILED);
    if (strstr(err.message, first) == NULL || strstr(err.message, second) == NULL)
        fail_msg("'%s' names neither '%s' nor '%s'", err.message, first, second);
    assert_null(model.layers);
    model_close(&model);
    arena_close(&arena);
}

static void test_gguf_refused(void **state)
{
    static const struct {
        Twist twist;
        const char *first, *second;
    } cases[] = {
        {{.arch = "gpt-neox"}, "'gpt-neox'", "(llama, "},
        {{.arch = "LlamaForCausalLM"}, "is not supported", "(llama, "},
        {{.type = "adapter"}, "holds 'adapter'", "not a model"},
        {{.leave_out = "blk.0.attn_k.weight"}, "missing tensor", "'blk.0.attn_k.weight'"},
        {{.leave_out = "token_embd.weight"}, "missing tensor", "'token_embd.weight'"},
        {{.leave_out = "output_norm.weight"}, "missing tensor", "'output_norm.weight'"},
        {{.leave_out = "llama.block_count"}, "'llama.block_count'", "from 1 to 1024"},
        {{.leave_out = "llama.attention.head_count"}, "'llama.attention.head_count'", "missing"},
        {{.leave_out = "llama.attention.layer_norm_rms_epsilon"}, "epsilon", "missing"},
        {{.extra = "blk.0.attn_q.bias"}, "'blk.0.attn_q.bias'", "does not have"},
        {{.extra = "blk.1.attn_q.weight"}, "'blk.1.attn_q.weight'", "does not have"},
        {{.wrong_shape = "blk.0.attn_q.weight"}, "'blk.0.attn_q.weight'",
         "[33, 32], the configuration asks for [32, 32]"},
        {{.wrong_shape = "blk.0.ffn_down.weight"}, "'blk.0.ffn_down.weight'", "[33, 64]"},
        {{.scaling = "yarn"}, "rope scaling", "'yarn'"},
        {{.experts = 8}, "mixture of experts", "not supported"},
        {{.rope_dim = 4}, "a part of the heads", "not supported"},
        {{.rope_dim = 7}, "7 rotary dimensions", "heads of 8"},
    };
    Arena arena;
    Err err = {0};
    assert_true(arena_open(&arena, 0, &err));
    const char *path = path_join(&arena, *state, "model.gguf");
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        write_twisted(path, &cases[i].twist);
        assert_refused(path, cases[i].first, cases[i].second);
    }
    arena_close(&arena);
}

static void test_gguf_read(void **state)
{
    static const Twist twists[] = {{.rope_dim = D},
                                   {.untied = true, .scaling = "none"},
                                   {.factors = true, .scaling = "linear"}};
    for (size_t i = 0; i < COUNT_OF(twists); i++) {
        Arena arena;
        Err err = {0};
        Model model;
        assert_true(arena_open(&arena, 0, &err));
        const char *path = path_join(&arena, *state, "good.gguf");
        write_twisted(path, &twists[i]);
        if (!model_open(&model, path, &arena, &err))
            fail_msg("%s", err.message);
        const ModelConfig *c = &model.config;
        assert_int_equal(c->n_layers * 1000 + c->d_model, 1000 + C);
        assert_int_equal(c->n_heads * 1000 + c->n_kv_heads, H * 1000 + G);
        assert_int_equal(c->head_dim * 1000 + c->rope_dim, D * 1000 + D);
        assert_int_equal(c->vocab * 1000 + c->max_positions, V * 1000 + 64);
        assert_true(c->rope_theta == 10000 && c->rms_eps == 1e-5f);
        assert_int_equal(c->pairing, ROPE_INTERLEAVED);
        assert_int_equal(c->tied, !twists[i].untied);
        assert_int_equal(c->tied, model.head.source == model.embed.source);
        assert_int_equal(c->rope_factors != NULL, twists[i].factors);
        assert_string_equal(c->name, "good.gguf");
        int64_t linears = 2 * C * H * D + 2 * C * G * D + 3 * C * F;
        assert_int_equal(model_parameter_count(&model),
                         V * C * (twists[i].untied ? 2 : 1) + 3 * C + linears);
        model_close(&model);
        model_close(&model);
        arena_close(&arena);
    }
}

/* ---- folders ---- */

static const char GOOD_CONFIG[] =
    "{\"model_type\": \"llama\", \"hidden_size\": 64, \"intermediate_size\": 96, "
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
    "\"vocab_size\": 96, \"max_position_embeddings\": 128, \"rms_norm_eps\": 1e-5, "
    "\"tie_word_embeddings\": true%s}";

/* A folder with the weights of the golden tied model and a configuration of our own. */
static const char *folder_with(Arena *arena, const char *temp, const char *more)
{
    static int count;
    const char *folder = arena_printf(arena, "%s/folder%d", temp, count++);
    Err err = {0};
    assert_true(folder_make(folder, ERR_RUNTIME_IO_FAILED, &err));
    char text[1024];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, sizeof text, GOOD_CONFIG, more);
#pragma GCC diagnostic pop
    write_text(path_join(arena, folder, "config.json"), text);
    assert_int_equal(symlink(TEST_DATA "/golden/llama/tied/model.safetensors",
                             path_join(arena, folder, "model.safetensors")),
                     0);
    return folder;
}

static void test_folder_refused(void **state)
{
    static const char *const cases[][3] = {
        {", \"model_type\": \"gpt2\"", "'gpt2'", "(llama, "},
        {", \"hidden_size\": 0", "'hidden_size'", "from 1"},
        {", \"hidden_size\": \"64\"", "'hidden_size'", "from 1"},
        {", \"num_hidden_layers\": 3", "missing tensor", "'model.layers.2."},
        {", \"num_hidden_layers\": 1", "'model.layers.1.", "does not have"},
        {", \"num_hidden_layers\": 100000", "'num_hidden_layers'", "to 1024"},
        {", \"intermediate_size\": 95", "mlp.gate_proj.weight", "[95, 64]"},
        {", \"num_key_value_heads\": 3", "4 heads", "3 key/value"},
        {", \"tie_word_embeddings\": false", "missing tensor", "'lm_head.weight'"},
        {", \"attention_bias\": true", "attention_bias", "not supported"},
        {", \"hidden_act\": \"gelu\"", "hidden_act", "'gelu'"},
        {", \"quantization_config\": {\"bits\": 4}", "quantization_config", "not supported"},
        {", \"rope_scaling\": {\"rope_type\": \"yarn\"}", "rope scaling", "'yarn'"},
        {", \"rope_scaling\": {\"type\": \"dynamic\"}", "rope scaling", "'dynamic'"},
        {", \"rope_parameters\": {\"rope_type\": \"longrope\"}", "missing",
         "'original_max_position_embeddings'"},
        {", \"rope_parameters\": {\"rope_type\": \"linear\"}", "positive", "'factor'"},
        {", \"partial_rotary_factor\": 1.5", "up to 1", "partial_rotary_factor"},
        {", \"partial_rotary_factor\": 0.5", "a part of the heads", "not supported"},
        {", \"rope_parameters\": {\"rope_type\": \"llama3\", \"factor\": 0}", "llama3", "numbers"},
        {", \"rope_theta\": -1", "rope_theta", "positive"},
        {", \"rope_theta\": \"big\"", "rope_theta", "positive"},
        {", \"rope_scaling\": 8", "rope_scaling", "not an object"},
        {", \"head_dim\": 15", "odd", "head_dim"},
        {", \"rms_norm_eps\": 0", "epsilon", "positive"},
    };
    Arena arena;
    Err err = {0};
    assert_true(arena_open(&arena, 0, &err));
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_refused(folder_with(&arena, *state, cases[i][0]), cases[i][1], cases[i][2]);
    arena_close(&arena);
}

static void test_folder_incomplete(void **state)
{
    Arena arena;
    Err err = {0};
    assert_true(arena_open(&arena, 0, &err));
    const char *folder = folder_with(&arena, *state, "");
    const char *weights = path_join(&arena, folder, "model.safetensors");
    assert_int_equal(unlink(weights), 0);
    assert_refused(folder, folder, "no model.safetensors");
    write_text(path_join(&arena, folder, "model.safetensors.index.json"), "{}");
    assert_refused(folder, "model.safetensors.index.json", "has no weight_map");
    write_text(weights, "");
    assert_refused(folder, "model.safetensors", "");
    write_text(path_join(&arena, folder, "config.json"), "{");
    assert_refused(folder, "config.json", "");
    assert_int_equal(unlink(path_join(&arena, folder, "config.json")), 0);
    assert_refused(folder, folder, "no config.json");
    assert_refused(path_join(&arena, folder, "nothing"), "nothing'", "does not exist");
    const char *text = path_join(&arena, folder, "text.gguf");
    write_text(text, "not a model at all");
    assert_refused(text, "text.gguf", "");
    write_text(text, "");
    assert_refused(text, "text.gguf", "");
    arena_close(&arena);
}

static void test_folder_read(void **state)
{
    static const char *const styles[] = {
        ", \"rope_theta\": 500000.0, \"rope_scaling\": null",
        ", \"rope_parameters\": {\"rope_theta\": 500000.0, \"rope_type\": \"default\"}",
        ", \"rope_theta\": 500000, \"rope_scaling\": {\"type\": \"default\"}"};
    for (size_t i = 0; i < COUNT_OF(styles); i++) {
        Arena arena;
        Err err = {0};
        Model model;
        assert_true(arena_open(&arena, 0, &err));
        if (!model_open(&model, folder_with(&arena, *state, styles[i]), &arena, &err))
            fail_msg("%s", err.message);
        assert_true(model.config.rope_theta == 500000);
        assert_int_equal(model.config.pairing, ROPE_HALVES);
        assert_int_equal(model.config.head_dim, 16);
        assert_null(model.config.rope_factors);
        assert_int_equal(model.layers[1].linear[ROLE_GATE].dtype, DTYPE_BF16);
        model_close(&model);
        arena_close(&arena);
    }
}

/* ---- numbers ---- */

/* The published values of Llama 3.2 1B and 3.1 8B. */
static void test_llama3_factors(void **state)
{
    static const struct {
        const char *dims;
        int64_t half, ones;
        float between[6];
        int n;
        float last;
    } models[] = {
        {", \"head_dim\": 64, \"rope_theta\": 500000.0, \"rope_scaling\": {\"rope_type\": "
         "\"llama3\", \"factor\": 32.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
         "\"original_max_position_embeddings\": 8192}",
         32, 15, {1.651329f, 3.292262f, 9.666729f}, 3, 32},
        {", \"head_dim\": 128, \"rope_parameters\": {\"rope_theta\": 500000.0, \"rope_type\": "
         "\"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
         "\"original_max_position_embeddings\": 8192}",
         64, 29, {1.207484f, 1.553415f, 2.026313f, 2.69453f, 3.684253f, 5.257327f}, 6, 8},
    };
    for (size_t m = 0; m < COUNT_OF(models); m++) {
        Arena arena;
        Err err = {0};
        ModelConfig config = {0};
        assert_true(arena_open(&arena, 0, &err));
        const char *folder = folder_with(&arena, *state, models[m].dims);
        ModelFile file = {.format = MODEL_FOLDER, .path = folder};
        file.config = json_load(path_join(&arena, folder, "config.json"),
                                ERR_DEP_MODEL_LOAD_FAILED, &err);
        config_defaults(&config);
        assert_true(config_read_folder(&file, "silu", &config, &arena, &err));
        for (int64_t i = 0; i < models[m].half; i++) {
            int64_t k = i - models[m].ones;
            float want = k < 0 ? 1 : k < models[m].n ? models[m].between[k] : models[m].last;
            assert_true(config.rope_factors[i] >= want * 0.9999995f &&
                        config.rope_factors[i] <= want * 1.0000005f);
        }
        json_free(file.config);
        arena_close(&arena);
    }
}

/* The released models, counted from their shapes. */
static void test_counts(void **state)
{
    (void)state;
    static const struct {
        const char *family;
        ModelConfig config;
        int64_t count;
    } models[] = {
        {"llama", {.n_layers = 16, .d_model = 2048, .n_heads = 32, .n_kv_heads = 8, .head_dim = 64,
                   .d_ff = 8192, .vocab = 128256, .tied = true}, 1235814400},
        {"llama", {.n_layers = 32, .d_model = 4096, .n_heads = 32, .n_kv_heads = 8,
                   .head_dim = 128, .d_ff = 14336, .vocab = 128256}, 8030261248},
        {"qwen2", {.n_layers = 24, .d_model = 896, .n_heads = 14, .n_kv_heads = 2, .head_dim = 64,
                   .d_ff = 4864, .vocab = 151936, .tied = true}, 494032768},
        {"mistral", {.n_layers = 32, .d_model = 4096, .n_heads = 32, .n_kv_heads = 8,
                     .head_dim = 128, .d_ff = 14336, .vocab = 32768}, 7248023552},
        {"qwen3", {.n_layers = 28, .d_model = 1024, .n_heads = 16, .n_kv_heads = 8,
                   .head_dim = 128, .d_ff = 3072, .vocab = 151936, .tied = true}, 596049920},
        {"qwen3", {.n_layers = 36, .d_model = 4096, .n_heads = 32, .n_kv_heads = 8,
                   .head_dim = 128, .d_ff = 12288, .vocab = 151936}, 8190735360},
        {"smollm3", {.n_layers = 36, .d_model = 2048, .n_heads = 16, .n_kv_heads = 4,
                     .head_dim = 128, .d_ff = 11008, .vocab = 128256, .tied = true}, 3075098624},
        {"gemma3_text", {.n_layers = 18, .d_model = 640, .n_heads = 4, .n_kv_heads = 1,
                         .head_dim = 256, .d_ff = 2048, .vocab = 262144, .tied = true},
         268098176},
        {"gemma3_text", {.n_layers = 26, .d_model = 1152, .n_heads = 4, .n_kv_heads = 1,
                         .head_dim = 256, .d_ff = 6912, .vocab = 262144, .tied = true},
         999885952},
        {"phi3", {.n_layers = 32, .d_model = 3072, .n_heads = 24, .n_kv_heads = 8,
                  .head_dim = 128, .d_ff = 8192, .vocab = 200064, .tied = true}, 3836021760},
    };
    for (size_t i = 0; i < COUNT_OF(models); i++) {
        Model model = {.family = family_find(models[i].family), .config = models[i].config};
        assert_non_null(model.family);
        assert_int_equal(model_parameter_count(&model), models[i].count);
    }
}

static void test_rope_rows(void **state)
{
    (void)state;
    uint16_t rows[2 * 8], mixed[2 * 8], back[2 * 8];
    for (uint16_t i = 0; i < 16; i++)
        rows[i] = i;
    rope_rows_convert(rows, mixed, 2, 8, 6, 2, ROPE_HALVES, ROPE_INTERLEAVED);
    static const uint16_t want[16] = {0, 3, 1, 4, 2, 5, 6, 7, 8, 11, 9, 12, 10, 13, 14, 15};
    assert_memory_equal(mixed, want, sizeof want);
    rope_rows_convert(mixed, back, 2, 8, 6, 2, ROPE_INTERLEAVED, ROPE_HALVES);
    assert_memory_equal(back, rows, sizeof rows);
    rope_rows_convert(rows, back, 2, 8, 6, 2, ROPE_HALVES, ROPE_HALVES);
    assert_memory_equal(back, rows, sizeof rows);
}

static void test_families(void **state)
{
    (void)state;
    assert_string_equal(family_list(),
                        "llama, qwen2, mistral, qwen3, smollm3, gemma3_text, phi3");
    /* Two families share a GGUF architecture: a file of it is read as the first. */
    assert_string_equal(family_find("mistral")->name, "llama");
    assert_string_equal(family_find("llama")->hf_model_type, "llama");
    const Family *family = family_find("llama");
    assert_non_null(family);
    assert_ptr_equal(family_find("LlamaForCausalLM"), family);
    assert_null(family_find("mamba"));
    assert_null(family_find(NULL));
    char name[WEIGHT_NAME_MAX];
    assert_string_equal(weight_name(family_weight(family, ROLE_O)->gguf, 11, name),
                        "blk.11.attn_output.weight");
    assert_string_equal(weight_name(family_weight(family, ROLE_EMBED)->hf, 0, name),
                        "model.embed_tokens.weight");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_gguf_refused, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_gguf_read, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_folder_refused, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_folder_incomplete, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_folder_read, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_llama3_factors, temp_setup, temp_teardown),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_rope_rows),
        cmocka_unit_test(test_families),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
