/* export.h — a trained adapter, or a plain model, in the forms that other programs load: PEFT
 * folder, GGUF adapter, merged GGUF. Everything is written aside and renamed into place; merging is
 * done in f32, a tensor at a time, from the base as it lies on disk.
 */
#ifndef EXPORT_EXPORT_H
#define EXPORT_EXPORT_H

#include "export/mix.h"
#include "format/imatrix.h"
#include "model/adapter.h"
#include "text/tokenizer.h"

typedef enum ExportFormat {
    EXPORT_LORA,
    EXPORT_MERGED, /* a folder with config.json and safetensors, as transformers reads it */
    EXPORT_GGUF,
    EXPORT_GGUF_ADAPTER
} ExportFormat;

typedef struct ExportOptions {
    ExportFormat format;
    Mix mix;     /* EXPORT_GGUF: any; EXPORT_GGUF_ADAPTER: F32 or F16 */
    Dtype dtype; /* EXPORT_MERGED: F16, BF16, F32, or DTYPE_COUNT for that of the base (F16 where it
                  * is packed) */
    const Imatrix *imatrix;   /* of EXPORT_GGUF; NULL = every column counts the same */
    const char *imatrix_file; /* where it came from, for the file's keys */
    const char *output; /* folder */
    uint64_t shard_bytes; /* EXPORT_MERGED: most bytes of a weight file; 0 = 5 GB */
    const char *name;   /* general.name and file stem; NULL = from the model */
    /* Progress of long writes: tensors done of all. May be NULL. */
    void (*progress)(void *context, int64_t done, int64_t all);
    void *context;
} ExportOptions;

typedef struct ExportResult {
    const char *path; /* the file, or the folder for EXPORT_LORA */
    uint64_t bytes;
    double seconds;
} ExportResult;

/* adapter may be NULL for EXPORT_GGUF (a plain model is converted). values: host vector. `adapter_
 * folder`: where EXPORT_LORA copies from. Results live in out. */
bool export_run(const Model *model, const Adapter *adapter, const float *values,
                const char *adapter_folder, const Tokenizer *tokenizer,
                const ExportOptions *options, Arena *out, ExportResult *result, Err *err);

/* Modelfile text for `ollama create`: FROM, TEMPLATE when known, stop parameters. */
bool export_modelfile(const char *gguf_path, const Tokenizer *tokenizer, const char *path,
                      Err *err);

#endif
