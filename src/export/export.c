/* export.c — names of result files, and the choice between the forms. See export.h.
 */
#include "export/export.h"

#include <ctype.h>

#include "core/os.h"
#include "export/to_gguf.h"

/* A file name from a model name: nothing that a path or a shell would read as something else. */
static const char *file_stem(const char *name, Arena *out)
{
    char *stem = arena_strdup(out, *name != '\0' ? name : "model");
    for (char *at = stem; *at != '\0'; at++) {
        bool plain = isalnum((unsigned char)*at) || *at == '-' || *at == '_' || *at == '.';
        if (!plain)
            *at = '-';
    }
    if (stem[0] == '.' || stem[0] == '-')
        stem[0] = '_';
    return stem;
}

static const char *result_path(const Model *model, const ExportOptions *options, Arena *out)
{
    const char *name = options->name != NULL ? options->name : model->config.name;
    const char *kind = options->format == EXPORT_GGUF_ADAPTER ? "lora-" : "";
    const char *file = arena_printf(out, "%s-%s%s.gguf", file_stem(name, out), kind,
                                    dtype_info(options->dtype)->name);
    return path_join(out, options->output, file);
}

bool export_run(const Model *model, const Adapter *adapter, const float *values,
                const char *adapter_folder, const Tokenizer *tokenizer,
                const ExportOptions *options, Arena *out, ExportResult *result, Err *err)
{
    must(options->format == EXPORT_GGUF || adapter != NULL);
    double start = os_now();
    Arena scratch = {0};
    if (!folder_make(options->output, ERR_RUNTIME_EXPORT_FAILED, err) ||
        !arena_open(&scratch, 0, err))
        return false;
    bool ok = false;
    if (options->format == EXPORT_LORA) {
        const char *base = adapter_base_name(adapter_folder, out, err);
        result->path = options->output;
        ok = base != NULL && adapter_save_peft(adapter, model, values, base, options->output, err);
        result->bytes = file_bytes(path_join(out, options->output, "adapter_model.safetensors"));
    } else {
        result->path = result_path(model, options, out);
        ok =
            options->format == EXPORT_GGUF
                ? gguf_export_merged(model, adapter, values, tokenizer, options, result->path,
                                     &scratch, err)
                : gguf_export_adapter(model, adapter, values, options, result->path, &scratch, err);
        result->bytes = file_bytes(result->path);
    }
    arena_close(&scratch);
    result->seconds = os_now() - start;
    return ok;
}
