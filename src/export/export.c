/* export.c — names of result files, and the choice between the forms. See export.h.
 * What a result is called: NAME-TYPE.gguf, NAME-lora-TYPE.gguf.
 */
#include "export/export.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "core/os.h"
#include "export/to_folder.h"
#include "export/to_gguf.h"

/* A file name from a model name: nothing that a path or a shell would read as something else. */
static const char *file_stem(const char *name, Arena *out)
{
    assert(name != NULL);
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

/* "SmolLM2-135M.Q4_1" without its element type: the type of the result is appended anew. */
static const char *without_type(char *stem)
{
    char *dot = strrchr(stem, '.');
    char *dash = strrchr(stem, '-');
    char *last = dot > dash ? dot : dash;
    static const char *const types[] = {"q", "iq", "f16", "f32", "bf16"};
    for (size_t i = 0; last != NULL && last > stem && i < COUNT_OF(types); i++) {
        size_t len = strlen(types[i]);
        bool quant = len < 3 && isdigit((unsigned char)last[1 + len]);
        if (strncasecmp(last + 1, types[i], len) == 0 && (quant || last[1 + len] == '\0'))
            *last = '\0';
    }
    return stem;
}

/* The name that the user gave, else that of the base model's file or folder. */
static const char *model_stem(const Model *model, const ExportOptions *options, Arena *out)
{
    if (options->name != NULL)
        return file_stem(options->name, out);
    char *base = arena_strdup(out, path_base(model->file.path));
    size_t len = strlen(base);
    if (len > 5 && strcasecmp(base + len - 5, ".gguf") == 0)
        base[len - 5] = '\0';
    return file_stem(without_type(base), out);
}

static const char *result_path(const Model *model, const ExportOptions *options, Arena *out)
{
    const char *kind = options->format == EXPORT_GGUF_ADAPTER ? "lora-" : "";
    const char *file = arena_printf(out, "%s-%s%s.gguf", model_stem(model, options, out), kind,
                                    mix_name(options->mix));
    return path_join(out, options->output, file);
}

bool export_run(const Model *model, const Adapter *adapter, const float *values,
                const char *adapter_folder, const Tokenizer *tokenizer,
                const ExportOptions *options, Arena *out, ExportResult *result, Err *err)
{
    must(options->format == EXPORT_GGUF || options->format == EXPORT_MERGED || adapter != NULL);
    double start = os_now();
    Arena scratch = {0};
    bool whole = options->format == EXPORT_MERGED; /* its folder appears by a rename */
    if ((!whole && !folder_make(options->output, ERR_RUNTIME_EXPORT_FAILED, err)) ||
        !arena_open(&scratch, 0, err))
        return false;
    bool ok = false;
    if (options->format == EXPORT_LORA) {
        const char *base = adapter_base_name(adapter_folder, out, err);
        result->path = options->output;
        ok = base != NULL && adapter_save_peft(adapter, model, values, base, options->output, err);
        result->bytes = file_bytes(path_join(out, options->output, "adapter_model.safetensors"));
    } else if (whole) {
        result->path = options->output;
        ok = folder_export_merged(model, adapter, values, tokenizer, options, &scratch,
                                  &result->bytes, err);
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
