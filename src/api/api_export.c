/* api_export.c — bp_export: the adapter of this handle, or the plain model, to files that other
 * programs load.
 */
#include "api/handle.h"

#include <string.h>

#include "core/file.h"
#include "core/log.h"
#include "core/thread.h"
#include "export/export.h"

static bool take_struct(bp_trainer *t, const char *format, const bp_export_options *given)
{
    Settings *s = &t->settings;
    if (format != NULL && !settings_set(s, OPTION_FORMAT, format, FROM_CALLER, &t->err))
        return false;
    if (given == NULL)
        return true;
    return (given->quant == NULL ||
            settings_set(s, OPTION_QUANTIZATION, given->quant, FROM_CALLER, &t->err)) &&
           (given->output == NULL ||
            settings_set(s, OPTION_EXPORT_OUTPUT, given->output, FROM_CALLER, &t->err)) &&
           (given->name == NULL || settings_set(s, OPTION_NAME, given->name, FROM_CALLER, &t->err));
}

static Dtype quant_dtype(const char *name)
{
    static const struct {
        const char *name;
        Dtype dtype;
    } rows[] = {
        {"f16", DTYPE_F16},
        {"bf16", DTYPE_BF16},
        {"q8_0", DTYPE_Q8_0},
        {"f32", DTYPE_F32},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (strcmp(rows[i].name, name) == 0)
            return rows[i].dtype;
    }
    must(!"options.def and quant_dtype disagree");
    return DTYPE_F16;
}

static void on_progress(void *context, int64_t done, int64_t all)
{
    bp_trainer *t = context;
    if (t->on_event != NULL)
        t->on_event(t->on_event_context,
                    &(bp_event){.name = "progress", .step = done, .steps = all});
}

static bool fill_options(bp_trainer *t, ExportOptions *options)
{
    const Settings *s = &t->settings;
    const char *format = settings_text(s, OPTION_FORMAT);
    assert(t->loaded);
    options->format = strcmp(format, "gguf") == 0           ? EXPORT_GGUF
                      : strcmp(format, "gguf-adapter") == 0 ? EXPORT_GGUF_ADAPTER
                      : strcmp(format, "merged") == 0       ? EXPORT_MERGED
                                                            : EXPORT_LORA;
    options->dtype = quant_dtype(settings_text(s, OPTION_QUANTIZATION));
    if (options->format == EXPORT_GGUF_ADAPTER && options->dtype != DTYPE_F32) {
        if (settings_given(s, OPTION_QUANTIZATION) && options->dtype != DTYPE_F16)
            return err_set(&t->err, ERR_INPUT_VALIDATION_FAILED,
                           "an adapter is written as f32 or f16, not '%s'",
                           settings_text(s, OPTION_QUANTIZATION));
        options->dtype = settings_given(s, OPTION_QUANTIZATION) ? DTYPE_F16 : DTYPE_F32;
    }
    if (options->format == EXPORT_MERGED && !settings_given(s, OPTION_QUANTIZATION))
        options->dtype = DTYPE_COUNT;
    if (options->format == EXPORT_MERGED && options->dtype == DTYPE_Q8_0)
        return err_set(&t->err, ERR_INPUT_VALIDATION_FAILED,
                       "a merged folder is written as f32, f16 or bf16, not 'q8_0'");
    if ((options->format == EXPORT_LORA || options->format == EXPORT_GGUF_ADAPTER) &&
        t->adapter_folder == NULL) {
        err_set(&t->err, ERR_INPUT_VALIDATION_FAILED, "'%s' has no adapter to export as '%s'",
                t->source, format);
        return err_hint(&t->err, "Use --format gguf for a plain model, or name an adapter folder");
    }
    const char *beside = t->adapter_folder != NULL ? t->adapter_folder : t->base_path;
    options->output = settings_text(s, OPTION_EXPORT_OUTPUT);
    if (*options->output == '\0')
        options->output = path_join(&t->arena, path_parent(&t->arena, beside), format);
    const char *name = settings_text(s, OPTION_NAME);
    options->name = *name != '\0' ? name : NULL;
    options->progress = on_progress;
    options->context = t;
    return true;
}

static bool export_all(bp_trainer *t, Arena *arena)
{
    ExportOptions options = {0};
    Adapter *adapter = NULL;
    float *values = NULL;
    ExportResult done = {0};
    threads_set((int)settings_int(&t->settings, OPTION_THREADS, 0));
    if (!handle_load(t) || !fill_options(t, &options) ||
        !handle_adapter(t, arena, &adapter, &values))
        return false;
    bool merges = options.format == EXPORT_GGUF || options.format == EXPORT_MERGED;
    handle_phase(t, adapter != NULL && merges ? "Merging and writing" : "Writing");
    if (!export_run(&t->model, adapter, values, t->adapter_folder, t->tokenizer, &options, arena,
                    &done, &t->err))
        return false;
    const char *modelfile = NULL;
    if (options.format == EXPORT_GGUF) {
        modelfile = path_join(arena, options.output, "Modelfile");
        if (!export_modelfile(done.path, t->tokenizer, modelfile, &t->err))
            return false;
    }
    Json *json = json_new_object();
    json_put(json, "format", json_new_text(settings_text(&t->settings, OPTION_FORMAT)));
    json_put(json, "path", json_new_text(done.path));
    json_put(json, "bytes", json_new_int((int64_t)done.bytes));
    json_put(json, "seconds", json_new_double(done.seconds));
    json_put(json, "modelfile", modelfile != NULL ? json_new_text(modelfile) : json_new_null());
    json_free(t->result);
    t->result = json;
    log_info("export_done", "path=\"%s\" bytes=%llu", done.path, (unsigned long long)done.bytes);
    return true;
}

bool bp_export(bp_trainer *t, const char *format, const bp_export_options *options)
{
    if (!handle_ok(t))
        return false;
    Arena arena = {0};
    bool ok =
        take_struct(t, format, options) && arena_open(&arena, 0, &t->err) && export_all(t, &arena);
    arena_close(&arena);
    return ok ? true : handle_fail(t);
}
