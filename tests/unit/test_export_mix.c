/* test_export_mix.c — the mixing rules against llama.cpp's snapshots of real models (golden/mix),
 * and the order of tensors.
 */
#include "export/mix.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/json.h"

enum { MAX_TENSORS = 4096, NAME = 80 };

typedef struct Tensors {
    char name[MAX_TENSORS][NAME];
    const char *expected[MAX_TENSORS]; /* type, NULL = the default */
    int64_t cols[MAX_TENSORS];
    size_t n;
} Tensors;
static Tensors tensors;

static size_t find(const char *name)
{
    for (size_t i = 0; i < tensors.n; i++)
        if (strcmp(tensors.name[i], name) == 0)
            return i;
    fail_msg("'%s' is not among the tensors", name);
    return 0;
}

typedef void VisitFn(const char *name, void *context);

/* Names grouped by layers, as make.py writes them. */
static void each(const Json *group, VisitFn *visit, void *context)
{
    const char *pattern;
    Json *runs;
    for (void *it = NULL; (it = json_next(group, it, &pattern, &runs)) != NULL;) {
        const char *gap = strstr(pattern, "%d");
        if (gap == NULL)
            visit(pattern, context);
        for (size_t i = 0; i < json_len(runs); i++) {
            const int64_t last = json_int(json_at(json_at(runs, i), 1), -1);
            for (int64_t l = json_int(json_at(json_at(runs, i), 0), 0); l <= last; l++) {
                char name[NAME];
                snprintf(name, sizeof name, "%.*s%lld%s", (int)(gap - pattern), pattern,
                         (long long)l, gap + 2);
                visit(name, context);
            }
        }
    }
}

static void add(const char *name, void *context)
{
    assert_true(tensors.n < MAX_TENSORS && strlen(name) < NAME);
    memcpy(tensors.name[tensors.n++], name, strlen(name) + 1);
}

static void set_cols(const char *name, void *context)
{
    tensors.cols[find(name)] = *(const int64_t *)context;
}

static void expect(const char *name, void *context)
{
    tensors.expected[find(name)] = context;
}

static int by_place(const void *a, const void *b)
{
    return mix_before(a, b) ? -1 : mix_before(b, a);
}

static void read_tensors(const Json *model)
{
    int64_t half = 96, odd = 40;
    tensors.n = 0;
    each(json_get(model, "tensors"), add, NULL);
    qsort(tensors.name, tensors.n, NAME, by_place);
    for (size_t i = 0; i < tensors.n; i++)
        tensors.cols[i] = 512;
    each(json_get(model, "not_of_256"), set_cols, &half);
    each(json_get(model, "not_of_32"), set_cols, &odd);
}

static int compare(const Json *model, Mix mix)
{
    const char *kind;
    Json *group;
    const Json *types = json_get(json_get(model, "mixes"), mix_name(mix));
    assert_true(json_is_object(types));
    memset(tensors.expected, 0, sizeof tensors.expected);
    for (void *it = NULL; (it = json_next(types, it, &kind, &group)) != NULL;)
        each(group, expect, (void *)(uintptr_t)kind);
    MixState state = {.mix = mix,
                      .model = {.n_layers = json_int(json_get(model, "n_layers"), 0),
                                .n_heads = json_int(json_get(model, "n_heads"), 0),
                                .n_kv_heads = json_int(json_get(model, "n_kv_heads"), 0),
                                .n_experts = json_int(json_get(model, "n_experts"), 0),
                                .tied = true}};
    for (size_t i = 0; i < tensors.n; i++) {
        state.model.n_values += mix_is_value(tensors.name[i]);
        state.model.tied = state.model.tied && strcmp(tensors.name[i], "output.weight") != 0;
    }
    int bad = 0;
    for (size_t i = 0; i < tensors.n; i++) {
        const char *want = tensors.expected[i];
        if (want == NULL)
            want = dtype_info(mix_default(mix))->name;
        const char *got = dtype_info(mix_choose(&state, tensors.name[i], tensors.cols[i]))->name;
        if (strcmp(got, want) != 0 && bad++ < 3)
            print_message("%s %s: %s is %s, expected %s\n", json_text(json_get(model, "name")),
                          mix_name(mix), tensors.name[i], got, want);
    }
    return bad;
}

static void test_rules_are_llama_quantizes(void **state)
{
    Err err = {0};
    Json *models =
        json_load(TEST_DATA "/golden/mix/snapshots.json", ERR_RUNTIME_IO_FAILED, &err);
    assert_non_null(models);
    assert_int_equal(json_len(models), 12);
    int bad = 0;
    for (size_t i = 0; i < json_len(models); i++) {
        read_tensors(json_at(models, i));
        assert_true(tensors.n > 50);
        for (int mix = 0; mix < MIX_COUNT; mix++)
            if (!dtype_is_plain(mix_default((Mix)mix)))
                bad += compare(json_at(models, i), (Mix)mix);
    }
    json_free(models);
    assert_int_equal(bad, 0);
}

/* Rows that even blocks of 32 do not divide, and what importance changes. */
static void test_fallback_and_importance(void **state)
{
    MixState s = {.mix = MIX_Q4_K_M, .model = {.n_layers = 16, .n_heads = 8, .n_kv_heads = 8}};
    assert_int_equal(mix_choose(&s, "blk.0.attn_q.weight", 40), DTYPE_F16);
    assert_int_equal(mix_choose(&s, "blk.0.attn_q.weight", 96), DTYPE_Q5_0);
    assert_int_equal(mix_choose(&s, "token_embd.weight", 512), DTYPE_Q4_K);
    s = (MixState){.mix = MIX_Q4_0, .model = {.n_layers = 16, .importance = true}};
    assert_int_equal(mix_choose(&s, "blk.0.ffn_down.weight", 512), DTYPE_Q4_1);
    assert_int_equal(mix_choose(&s, "blk.1.ffn_down.weight", 512), DTYPE_Q4_1);
    assert_int_equal(mix_choose(&s, "blk.2.ffn_down.weight", 512), DTYPE_Q4_0);
    s = (MixState){.mix = MIX_IQ4_XS, .model = {.n_layers = 16, .importance = true}};
    assert_int_equal(mix_choose(&s, "blk.0.ffn_down.weight", 512), DTYPE_IQ4_XS);
    s = (MixState){.mix = MIX_BF16};
    assert_int_equal(mix_choose(&s, "blk.0.ffn_down.weight", 33), DTYPE_BF16);
}

static void test_order_and_names(void **state)
{
    Mix mix;
    assert_true(mix_before("output.weight", "token_embd.weight"));
    assert_true(mix_before("token_embd.weight", "blk.0.attn_k.weight"));
    assert_true(mix_before("blk.2.ffn_up.weight", "blk.10.attn_k.weight"));
    assert_false(mix_before("blk.10.attn_k.weight", "blk.10.attn_k.weight"));
    assert_true(mix_find("q3_k_l", &mix) && mix == MIX_Q3_K_L && mix_file_type(mix) == 13);
    assert_false(mix_find("q4_k", &mix));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules_are_llama_quantizes),
        cmocka_unit_test(test_fallback_and_importance),
        cmocka_unit_test(test_order_and_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
