/* test_export_dora.c — DoRA adapters that PEFT made (model_golden.py), merged by our exporter: the
 * merged folder's logits are those that PEFT computes with the adapter beside its base. A GGUF
 * adapter, which has no place for magnitudes, is refused.
 */
#include "test_support.h"

#include "export/export.h"
#include "model_run.h"

#include <string.h>

static const char *const MODELS[] = {"llama/untied", "qwen2/biased",   "qwen3/tied",  "mistral/v03",
                                     "smollm3/nope", "gemma3/windows", "phi3/longrope"};

typedef struct Subject {
    Arena arena;
    SafeTensors reference;
    const char *folder, *adapter, *merged;
} Subject;

static const StTensor *reference(const Subject *s, const char *name)
{
    const StTensor *t = st_find(&s->reference, name);
    assert_non_null(t);
    return t;
}

static void subject_open(Subject *s, const char *name, const char *temp)
{
    Err err = {0};
    *s = (Subject){0};
    assert_true(arena_open(&s->arena, 0, &err));
    s->folder = arena_printf(&s->arena, TEST_DATA "/golden/%s", name);
    s->adapter = path_join(&s->arena, s->folder, "adapter-dora");
    s->merged = path_join(&s->arena, temp, path_parent(&s->arena, name));
    if (!st_open(&s->reference, path_join(&s->arena, s->folder, "reference-dora.safetensors"),
                 ERR_RUNTIME_IO_FAILED, &s->arena, &err))
        run_fail(&err);
}

/* Writes the merged folder; the same adapter as GGUF is refused with a way out. */
static void export_subject(Subject *s)
{
    Err err = {0};
    Model model = {0};
    float *values;
    ExportResult result = {0};
    Tokenizer *tokenizer =
        tokenizer_from_folder(TEST_DATA "/golden/tokenizer/tiny", &s->arena, &err);
    assert_true(tokenizer != NULL && model_open(&model, s->folder, &s->arena, &err));
    const Adapter *adapter = adapter_load_peft(&model, s->adapter, &values, &s->arena, &err);
    ExportOptions options = {.format = EXPORT_MERGED, .dtype = DTYPE_F32, .output = s->merged};
    if (adapter == NULL || !export_run(&model, adapter, values, s->adapter, tokenizer, &options,
                                       &s->arena, &result, &err))
        run_fail(&err);
    options.format = EXPORT_GGUF_ADAPTER;
    options.mix = MIX_F32;
    assert_false(export_run(&model, adapter, values, s->adapter, tokenizer, &options, &s->arena,
                            &result, &err));
    assert_int_equal(err.code, ERR_RUNTIME_GGUF_EXPORT_FAILED);
    assert_non_null(strstr(err_hint_text(&err), "Merge"));
    model_close(&model);
    tokenizer_close(tokenizer);
}

static void fill_batch(const Subject *s, Flat *flat)
{
    const StTensor *lengths = reference(s, "lengths");
    *flat = (Flat){0};
    memcpy(flat->tokens, reference(s, "tokens")->data, reference(s, "tokens")->bytes);
    for (int64_t i = 0; i < lengths->shape[0]; i++) {
        const int32_t begin = (int32_t)flat->n, n = ((const int32_t *)lengths->data)[i];
        for (int32_t t = begin; t < begin + n; t++) {
            flat->positions[t] = t - begin;
            flat->kv_begin[t] = begin;
            flat->kv_end[t] = t + 1;
            flat->q_end[t] = begin + n;
        }
        flat->n += n;
    }
}

static void merged_equals_peft(void **state)
{
    for (size_t m = 0; m < COUNT_OF(MODELS); m++) {
        Subject s;
        ModelRun run;
        Flat flat;
        subject_open(&s, MODELS[m], *state);
        export_subject(&s);
        fill_batch(&s, &flat);
        run_open(&run, s.merged, NULL, SEGMENT_KEEP, flat.n);
        run_upload(&run, &flat);
        Value *hidden = run_forward(&run, TAPE_INFER, flat.n);
        Tensor logits = run_logits(&run, hidden, 0, flat.n, &s.arena);
        const float *got = logits.data, *want = reference(&s, "logits")->data;
        double error = 0, size = 0;
        for (int64_t i = 0; i < logits.rows * logits.cols; i++) {
            error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
            size += (double)want[i] * want[i];
        }
        if (!(sqrt(error / size) <= 1e-5)) /* f32 sums of at most a hundred terms, a few in a row */
            fail_msg("%s: logits differ by %g of their size", MODELS[m], sqrt(error / size));
        run_close(&run);
        st_close(&s.reference);
        arena_close(&s.arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(merged_equals_peft, temp_setup, temp_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
