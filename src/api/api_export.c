/* api_export.c — bp_export: the adapter of this handle, or the plain model, to files that other
 * programs load.
 */
#include "api/handle.h"

#include <string.h>

#include "core/file.h"
#include "core/log.h"
#include "core/thread.h"
#include "export/export.h"
#include "model/importance.h"

enum { IMPORTANCE_MAX_BYTES = 64 << 20 };

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
    must(mix_find(settings_text(s, OPTION_QUANTIZATION), &options->mix));
    if (options->format == EXPORT_GGUF_ADAPTER && !settings_given(s, OPTION_QUANTIZATION))
        options->mix = MIX_F32;
    if (options->format == EXPORT_GGUF_ADAPTER && options->mix != MIX_F32 &&
        options->mix != MIX_F16)
        return err_set(&t->err, ERR_INPUT_VALIDATION_FAILED,
                       "an adapter is written as f32 or f16, not '%s'", mix_name(options->mix));
    options->dtype = settings_given(s, OPTION_QUANTIZATION) ? mix_default(options->mix)
                                                            : DTYPE_COUNT;
    if (options->format == EXPORT_MERGED && options->dtype != DTYPE_COUNT &&
        !dtype_is_plain(options->dtype))
        return err_set(&t->err, ERR_INPUT_VALIDATION_FAILED,
                       "a merged folder is written as f32, f16 or bf16, not '%s'",
                       mix_name(options->mix));
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

/* ---- importance -------------------------------------------------------------------------- */

static bool read_importance(bp_trainer *t, const char *path, Arena *arena, Adapter *adapter,
                            const float *values, TokenList *ids, Importance *importance)
{
    Str text;
    Backend backend = {0};
    const int32_t bos =
        tokenizer_adds_bos(t->tokenizer) ? tokenizer_bos(t->tokenizer) : TOKEN_NONE;
    if (!file_read(path, IMPORTANCE_MAX_BYTES, arena, &text, ERR_INPUT_DATASET_NOT_FOUND, &t->err))
        return false;
    if (bos != TOKEN_NONE)
        token_list_push(ids, bos);
    tokenizer_encode(t->tokenizer, text, SPECIAL_AS_TEXT, ids, NULL);
    if (!backend_open_cpu(&backend, &t->err))
        return false;
    t->model.adapter = adapter;
    const bool ok = importance_collect(&t->model, &backend, ids->ids, (int64_t)ids->len, bos,
                                       values, arena, importance, &t->err);
    t->model.adapter = NULL;
    backend.close(&backend);
    return ok;
}

static bool write_importance(bp_trainer *t, const Importance *importance, const char *dataset,
                             const char *path, Arena *arena)
{
    const Model *model = &t->model;
    const int64_t all = model->config.n_layers * ROLE_LINEAR_COUNT;
    ImatrixSums *sums = arena_array(arena, ImatrixSums, all);
    size_t n = 0;
    for (int64_t i = 0; i < all; i++) {
        const Role role = (Role)(i % ROLE_LINEAR_COUNT);
        const Weight *w = &model->layers[i / ROLE_LINEAR_COUNT].linear[role];
        char name[WEIGHT_NAME_MAX];
        if (w->source == NULL)
            continue;
        weight_name(family_weight(model->family, role)->gguf, i / ROLE_LINEAR_COUNT, name);
        sums[n++] = (ImatrixSums){arena_strdup(arena, name), importance->sums[i], w->cols};
    }
    const ImatrixOrigin origin = {.dataset = dataset, .chunks = (uint32_t)importance->chunks,
                                  .chunk_tokens = (uint32_t)importance->chunk_tokens,
                                  .tokens = (uint64_t)importance->tokens};
    return imatrix_write(path, sums, n, &origin, &t->err);
}

/* Makes the matrix from the text that --imatrix-data names, beside the result; returns its path. */
static const char *make_imatrix(bp_trainer *t, const char *data, const char *folder, Arena *arena,
                                Adapter *adapter, const float *values)
{
    TokenList ids = {0};
    Importance importance;
    const char *path = path_join(arena, folder, "imatrix.gguf");
    handle_phase(t, "Measuring importance");
    const bool ok = read_importance(t, data, arena, adapter, values, &ids, &importance) &&
                    folder_make(folder, ERR_RUNTIME_EXPORT_FAILED, &t->err) &&
                    write_importance(t, &importance, data, path, arena);
    token_list_free(&ids);
    return ok ? path : NULL;
}

static bool take_imatrix(bp_trainer *t, Arena *arena, Adapter *adapter, const float *values,
                         ExportOptions *options)
{
    const char *path = settings_text(&t->settings, OPTION_IMATRIX);
    const char *data = settings_text(&t->settings, OPTION_IMATRIX_DATA);
    if ((*path == '\0' && *data == '\0') || options->format != EXPORT_GGUF)
        return true;
    if (*path != '\0' && *data != '\0')
        return err_set(&t->err, ERR_INPUT_VALIDATION_FAILED,
                       "--imatrix and --imatrix-data exclude each other");
    if (*data != '\0')
        path = make_imatrix(t, data, options->output, arena, adapter, values);
    Imatrix *imatrix = arena_new(arena, Imatrix);
    if (path == NULL || !imatrix_open(imatrix, path, arena, &t->err))
        return false;
    options->imatrix = imatrix;
    options->imatrix_file = path;
    return true;
}

/* ---- the verb ---------------------------------------------------------------------------- */

static bool export_all(bp_trainer *t, Arena *arena)
{
    ExportOptions options = {0};
    Adapter *adapter = NULL;
    float *values = NULL;
    ExportResult done = {0};
    threads_set((int)settings_int(&t->settings, OPTION_THREADS, 0));
    if (!handle_load(t) || !fill_options(t, &options) ||
        !handle_adapter(t, arena, &adapter, &values) ||
        !take_imatrix(t, arena, adapter, values, &options))
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
