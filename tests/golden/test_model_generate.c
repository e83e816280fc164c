/* test_model_generate.c — text from a tiny llama: what the cache gives is what a whole forward pass
 * gives, whatever the chunks and windows; sampling stays inside its rules; everything that can
 * stop a
 * generation does.
 */
#include "test_support.h"

#include "model/generate.h"
#include "model_run.h"

enum { VOCAB = 96, LONG = 700 };

static const char TIED[] = TEST_DATA "/golden/llama/tied";
static const char ADAPTER[] = TEST_DATA "/golden/llama/tied/adapter";
static const int32_t PROMPT[] = {5, 17, 3, 60, 60, 31, 8};

typedef struct World {
    ModelRun run;
    Gguf gguf;
    Tokenizer *tokenizer;
} World;

/* A tokenizer of 96 one-character tokens; `eos` is its end token. */
static void tokenizer_open(World *world, const char *temp, uint32_t eos)
{
    Err err = {0};
    Arena *arena = &world->run.host;
    const char *path = arena_printf(arena, "%s/tokens%u.gguf", temp, eos);
    Str tokens[VOCAB], merges[1] = {STR("! \"")};
    int32_t kinds[VOCAB];
    for (int i = 0; i < VOCAB; i++) {
        tokens[i] = str_of(i < 94 ? arena_printf(arena, "%c", '!' + i)
                                  : arena_printf(arena, "<|end%d|>", i));
        kinds[i] = i < 94 ? TOKEN_NORMAL : TOKEN_CONTROL;
    }
    tokens[93] = STR("!\"");
    GgufWriter *w = gguf_writer_open(path, &err);
    gguf_put_str(w, "general.architecture", STR("llama"));
    gguf_put_str(w, "tokenizer.ggml.model", STR("gpt2"));
    gguf_put_str(w, "tokenizer.ggml.pre", STR("smollm"));
    gguf_put_strs(w, "tokenizer.ggml.tokens", tokens, VOCAB);
    gguf_put_i32s(w, "tokenizer.ggml.token_type", kinds, VOCAB);
    gguf_put_strs(w, "tokenizer.ggml.merges", merges, 1);
    gguf_put_u32(w, "tokenizer.ggml.eos_token_id", eos);
    gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 94);
    gguf_writer_begin_data(w);
    if (!gguf_writer_commit(w, &err) || !gguf_open(&world->gguf, path, arena, &err))
        run_fail(&err);
    world->tokenizer = tokenizer_from_gguf(&world->gguf, arena, &err);
    run_fail(&err);
}

static void world_open(World *world, const char *temp, const char *model, int64_t n_tokens,
                       uint32_t eos)
{
    *world = (World){0};
    run_open(&world->run, model, ADAPTER, SEGMENT_RECOMPUTE, n_tokens);
    tokenizer_open(world, temp, eos);
}

static void world_close(World *world)
{
    tokenizer_close(world->tokenizer);
    gguf_close(&world->gguf);
    run_close(&world->run);
}

/* The golden model with room for LONG tokens. */
static const char *long_model(const char *temp, Arena *arena)
{
    Err err = {0};
    const char *folder = path_join(arena, temp, "long");
    Json *config = json_load(path_join(arena, TIED, "config.json"), ERR_RUNTIME_IO_FAILED, &err);
    assert_true(folder_make(folder, ERR_RUNTIME_IO_FAILED, &err));
    json_put(config, "max_position_embeddings", json_new_int(1024));
    Buf text = {0};
    json_write(config, (JsonStyle){0}, &text);
    write_text(path_join(arena, folder, "config.json"), text.data);
    buf_free(&text);
    json_free(config);
    assert_int_equal(symlink(path_join(arena, TIED, "model.safetensors"),
                             path_join(arena, folder, "model.safetensors")), 0);
    return folder;
}

static int32_t random_id(int64_t i)
{
    return (int32_t)((i * 37 + i * i % 23) % VOCAB);
}

/* One sequence with a loss on every token, padded to n. */
static void sequence(Flat *flat, const int32_t *ids, int64_t length, int64_t n)
{
    *flat = (Flat){.n = n, .n_loss = (int32_t)length - 1};
    for (int32_t i = 0; i < n; i++) {
        bool padding = i >= length;
        flat->tokens[i] = padding ? 0 : ids[i];
        flat->positions[i] = padding ? 0 : i;
        flat->kv_begin[i] = padding ? i : 0;
        flat->kv_end[i] = i + 1;
        flat->q_end[i] = padding ? i + 1 : (int32_t)length;
        flat->rows[i] = i;
        flat->targets[i] = i + 1 < length ? ids[i + 1] : 0;
    }
}

/* Logits after ids by one whole forward pass without a cache. */
static const float *whole_logits(World *world, const int32_t *ids, int64_t n)
{
    static Flat flat;
    sequence(&flat, ids, n, world->run.n_tokens);
    run_upload(&world->run, &flat);
    Value *hidden = run_forward(&world->run, TAPE_INFER, world->run.n_tokens);
    return run_logits(&world->run, hidden, n - 1, 1, &world->run.host).data;
}

static int32_t largest(const float *logits)
{
    int32_t best = 0;
    for (int32_t i = 1; i < VOCAB; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

static void collect_text(void *context, Str piece) { buf_str(context, piece); }

static bool collect(void *context, Str piece)
{
    collect_text(context, piece);
    return true;
}

static bool stop_after_three(void *context, Str piece)
{
    collect_text(context, piece);
    return ((Buf *)context)->len < 3;
}

static GenerateResult generate_ok(World *world, const GenerateOptions *options, GenerateSink *sink,
                                  Buf *text)
{
    Err err = {0};
    GenerateResult result;
    const Adapter *adapter = world->run.model.adapter;
    if (!generate(&world->run.model, &world->run.backend, world->tokenizer, PROMPT,
                  COUNT_OF(PROMPT), world->run.values, options, sink, text, &result, &err))
        run_fail(&err);
    assert_ptr_equal(world->run.model.adapter, adapter);
    assert_int_equal(result.prompt_tokens, COUNT_OF(PROMPT));
    return result;
}

static void test_greedy(void **state)
{
    World world;
    Err err = {0};
    int32_t ids[64];
    int64_t n = COUNT_OF(PROMPT);
    world_open(&world, *state, TIED, 64, 95);
    memcpy(ids, PROMPT, sizeof PROMPT);
    for (; n < 32; n++) {
        ids[n] = largest(whole_logits(&world, ids, n));
        assert_int_not_equal(ids[n], 95);
    }
    Buf text = {0}, want = {0};
    GenerateOptions options = {.max_new_tokens = 32 - (int32_t)COUNT_OF(PROMPT), .top_p = 1};
    GenerateResult result = generate_ok(&world, &options, collect, &text);
    assert_int_equal(result.stop, GENERATE_LENGTH);
    assert_int_equal(result.ids.len, options.max_new_tokens);
    assert_memory_equal(result.ids.ids, ids + COUNT_OF(PROMPT), result.ids.len * sizeof(int32_t));
    for (size_t i = 0; i < result.ids.len; i++)
        tokenizer_decode(world.tokenizer, result.ids.ids[i], SPECIAL_HIDDEN, &want);
    assert_string_equal(text.data, want.data);
    token_list_free(&result.ids);

    /* The end token is not part of the answer: let it be the second one. */
    World ended;
    world_open(&ended, *state, TIED, 64, (uint32_t)ids[COUNT_OF(PROMPT) + 1]);
    result = generate_ok(&ended, &options, NULL, NULL);
    assert_int_equal(result.stop, GENERATE_END_OF_TURN);
    assert_int_equal(result.ids.len, 1);
    token_list_free(&result.ids);
    world_close(&ended);

    buf_clear(&text);
    result = generate_ok(&world, &options, stop_after_three, &text);
    assert_int_equal(result.stop, GENERATE_CANCELLED);
    assert_true(text.len >= 3 && result.ids.len < (size_t)options.max_new_tokens);
    token_list_free(&result.ids);

    /* Without the adapter it says something else. */
    GenerateResult base;
    assert_true(generate(&world.run.model, &world.run.backend, world.tokenizer, PROMPT,
                         COUNT_OF(PROMPT), NULL, &options, NULL, NULL, &base, &err));
    assert_memory_not_equal(base.ids.ids, ids + COUNT_OF(PROMPT), base.ids.len * sizeof(int32_t));
    assert_non_null(world.run.model.adapter);
    token_list_free(&base.ids);
    buf_free(&text);
    buf_free(&want);
    world_close(&world);
}

/* First token of many seeds: only tokens of the nucleus, in about their shares. */
static void test_sampling(void **state)
{
    World world;
    world_open(&world, *state, TIED, 64, 95);
    float logits[VOCAB];
    memcpy(logits, whole_logits(&world, PROMPT, COUNT_OF(PROMPT)), sizeof logits);
    enum { SEEDS = 400 };
    const float temperature = 0.7f, top_p = 0.6f;
    double weight[VOCAB], total = 0;
    for (int i = 0; i < VOCAB; i++)
        total += weight[i] = exp((double)logits[i] / temperature);
    int counts[VOCAB] = {0};
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        GenerateOptions options = {.max_new_tokens = 1, .temperature = temperature,
                                   .top_p = top_p, .seed = seed};
        GenerateResult result = generate_ok(&world, &options, NULL, NULL);
        if (result.ids.len == 1)
            counts[result.ids.ids[0]]++;
        else
            counts[95]++;
        token_list_free(&result.ids);
    }
    double nucleus = 0;
    int different = 0;
    for (int i = 0; i < VOCAB; i++) {
        double likelier = 0;
        for (int j = 0; j < VOCAB; j++)
            likelier += weight[j] > weight[i] ? weight[j] : 0;
        bool inside = likelier < top_p * total;
        assert_true(inside || counts[i] == 0);
        nucleus += inside ? weight[i] : 0;
        different += counts[i] > 0;
    }
    assert_true(different > 1);
    for (int i = 0; i < VOCAB; i++) {
        double p = counts[i] == 0 ? 0 : weight[i] / nucleus;
        assert_true(fabs(counts[i] - SEEDS * p) <= 5 * sqrt(SEEDS * p * (1 - p)) + 1);
    }
    GenerateOptions cold = {.max_new_tokens = 1, .temperature = 1.5f, .top_p = 1e-6f, .seed = 3};
    GenerateResult result = generate_ok(&world, &cold, NULL, NULL);
    assert_int_equal(result.ids.ids[0], largest(logits));
    token_list_free(&result.ids);
    world_close(&world);
}

static void test_bad_prompts(void **state)
{
    World world;
    world_open(&world, *state, TIED, 16, 95);
    int32_t ids[200] = {0}, wrong[2] = {1, VOCAB}, negative[2] = {1, -1};
    const struct {
        const int32_t *ids;
        int64_t n;
        const char *named;
    } cases[] = {{ids, 0, "empty"},
                 {ids, 128, "128 tokens"},
                 {wrong, 2, "token 96"},
                 {negative, 2, "token -1"}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        Err err = {0};
        GenerateResult result;
        GenerateOptions options = {.max_new_tokens = 4, .top_p = 1};
        assert_false(generate(&world.run.model, &world.run.backend, world.tokenizer, cases[i].ids,
                              cases[i].n, NULL, &options, NULL, NULL, &result, &err));
        assert_int_equal(err.code, ERR_INPUT_VALIDATION_FAILED);
        assert_non_null(strstr(err.message, cases[i].named));
        assert_null(result.ids.ids);
        double nll;
        err = (Err){0};
        if (cases[i].n < 3)
            assert_false(evaluate_nll(&world.run.model, &world.run.backend, cases[i].ids,
                                      cases[i].n, NULL, &nll, &err));
    }
    /* A prompt that leaves room for one token gets one. */
    Err err = {0};
    GenerateResult result;
    GenerateOptions options = {.max_new_tokens = 4, .top_p = 1};
    assert_true(generate(&world.run.model, &world.run.backend, world.tokenizer, ids, 127, NULL,
                         &options, NULL, NULL, &result, &err));
    assert_int_equal(result.ids.len, 1);
    token_list_free(&result.ids);
    world_close(&world);
}

static double total_nll(World *world, const int32_t *ids, int64_t n)
{
    double mean;
    Err err = {0};
    if (n < 2)
        return 0;
    if (!evaluate_nll(&world->run.model, &world->run.backend, ids, n, world->run.values, &mean,
                      &err))
        run_fail(&err);
    return mean * (double)(n - 1);
}

/* A text longer than a chunk: the same as one pass over all of it; and a prompt likewise. */
static void test_chunks(void **state)
{
    World world;
    static Flat flat;
    Arena arena;
    Err err = {0};
    int32_t ids[LONG + 1];
    assert_true(arena_open(&arena, 0, &err));
    world_open(&world, *state, long_model(*state, &arena), LONG, 95);
    for (int64_t i = 0; i < LONG; i++)
        ids[i] = random_id(i);
    sequence(&flat, ids, LONG, LONG);
    double whole = run_microbatch(&world.run, &flat, LONG - 1, 1);
    int32_t next = largest(whole_logits(&world, ids, LONG));
    double chunked = total_nll(&world, ids, LONG);
    assert_true(fabs(chunked - whole) <= 1e-6 * whole);

    GenerateResult result;
    GenerateOptions options = {.max_new_tokens = 1, .top_p = 1};
    assert_true(generate(&world.run.model, &world.run.backend, world.tokenizer, ids, LONG,
                         world.run.values, &options, NULL, NULL, &result, &err));
    assert_int_equal(result.ids.ids[0], next);
    token_list_free(&result.ids);
    world_close(&world);
    arena_close(&arena);
}

/* A text longer than the model takes: windows of 128 that overlap by half. */
static void test_windows(void **state)
{
    World world;
    enum { N = 230, WINDOW = 128, HALF = 64 };
    int32_t ids[N];
    for (int64_t i = 0; i < N; i++)
        ids[i] = random_id(i * 3 + 1);
    world_open(&world, *state, TIED, 16, 95);
    double want = total_nll(&world, ids, WINDOW);
    for (int64_t scored = WINDOW; scored < N;) {
        int64_t begin = scored - HALF, end = min_i64(N, begin + WINDOW);
        want += total_nll(&world, ids + begin, end - begin) -
                total_nll(&world, ids + begin, scored - begin);
        scored = end;
    }
    assert_true(fabs(total_nll(&world, ids, N) - want) <= 1e-6 * want);
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_greedy, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_sampling, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_bad_prompts, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_chunks, temp_setup, temp_teardown),
        cmocka_unit_test_setup_teardown(test_windows, temp_setup, temp_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
