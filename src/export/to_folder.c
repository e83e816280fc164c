/* to_folder.c — writing a merged model the way transformers' save_pretrained lays it out:
 * model.safetensors, or model-0000i-of-0000n.safetensors of at most 5 GB each with
 * model.safetensors.index.json ({"metadata": {"total_size"}, "weight_map"}), tensors by their
 * Hugging Face names, q and k rows in ROPE_HALVES order, norms as the family's folders hold them.
 *
 * A base that came from a folder keeps its config.json but for the element type; one that came from
 * a GGUF file gets one made from its keys. Matrices stream through panels of rows.
 */
#include "export/to_folder.h"

#include <stdio.h>
#include <string.h>

#include "export/merge.h"
#include "format/quant.h"
#include "model/config.h"

static const ErrCode CODE = ERR_RUNTIME_EXPORT_FAILED;
static const uint64_t DEFAULT_SHARD_BYTES = 5000000000u;
enum { SHARD_NAME_MAX = 48 };

typedef struct OutTensor {
    const char *name;
    MergeSource source; /* matrices and vectors: one row */
    float offset;       /* added to a vector */
    uint64_t bytes;
} OutTensor;

typedef struct Folder {
    const Model *model;
    const Adapter *adapter;
    const float *values;
    Dtype dtype;
    uint64_t shard_bytes;
    const char *path;
    OutTensor *tensors;
    int64_t n, done;
    int64_t *first; /* [n_shards + 1] first tensor of each file */
    int64_t n_shards;
    Arena *scratch;
    const ExportOptions *options;
} Folder;

/* ---- what goes where ---- */

static void add(Folder *f, Role role, int64_t layer, MergeSource source, float offset)
{
    const WeightName *row = family_weight(f->model->family, role);
    if (row == NULL || row->hf == NULL || source.weight->rows == 0)
        return;
    char name[WEIGHT_NAME_MAX];
    OutTensor *t = &f->tensors[f->n++];
    *t = (OutTensor){.name = arena_strdup(f->scratch, weight_name(row->hf, layer, name)),
                     .source = source, .offset = offset};
    t->bytes = (uint64_t)source.weight->rows * dtype_row_bytes(f->dtype, source.weight->cols);
}

static void list_tensors(Folder *f)
{
    const Model *model = f->model;
    /* What a GGUF file holds whole, a folder holds less the family's offset. */
    const float offset = model->config.norm_offset - model->family->folder_norm_offset;
    f->tensors = arena_array(f->scratch, OutTensor, 3 + model->config.n_layers * ROLE_LAYER_COUNT);
    add(f, ROLE_EMBED, 0, merge_plain(&model->embed), 0);
    for (int64_t layer = 0; layer < model->config.n_layers; layer++) {
        const Layer *l = &model->layers[layer];
        for (int role = 0; role < ROLE_LINEAR_COUNT; role++)
            if (family_has(model->family, (Role)role))
                add(f, (Role)role, layer,
                    merge_source(model, f->adapter, f->values, layer, (Role)role, ROPE_HALVES), 0);
        for (int i = 0; i < NORM_COUNT; i++)
            add(f, (Role)(ROLE_ATTN_NORM + i), layer, merge_plain(&l->norm_file[i]), offset);
        for (int i = 0; i < BIAS_COUNT; i++)
            add(f, (Role)(ROLE_Q_BIAS + i), layer, merge_plain(&l->bias_file[i]), 0);
    }
    add(f, ROLE_FINAL_NORM, 0, merge_plain(&model->final_norm_file), offset);
    if (!model->config.tied)
        add(f, ROLE_HEAD, 0, merge_plain(&model->head), 0);
}

/* Files are filled in order; one tensor is never split. */
static void deal_out(Folder *f)
{
    f->first = arena_array(f->scratch, int64_t, f->n + 1);
    uint64_t filled = 0;
    for (int64_t i = 0; i < f->n; i++) {
        if (i == 0 || filled + f->tensors[i].bytes > f->shard_bytes) {
            f->first[f->n_shards++] = i;
            filled = 0;
        }
        filled += f->tensors[i].bytes;
    }
    f->first[f->n_shards] = f->n;
}

static const char *shard_name(const Folder *f, int64_t shard, char out[SHARD_NAME_MAX])
{
    assert(shard >= 0 && shard < f->n_shards);
    if (f->n_shards == 1)
        snprintf(out, SHARD_NAME_MAX, "model.safetensors");
    else
        snprintf(out, SHARD_NAME_MAX, "model-%05d-of-%05d.safetensors", (int)shard + 1,
                 (int)f->n_shards);
    return out;
}

/* ---- weights ---- */

static void write_tensor(Folder *f, const OutTensor *t, FileWriter *file)
{
    const MergeSource *source = &t->source;
    const int64_t rows = source->weight->rows, cols = source->weight->cols;
    const size_t row_bytes = dtype_row_bytes(f->dtype, cols);
    const size_t mark = arena_mark(f->scratch);
    const int64_t panel = min_i64(merge_panel_rows(source), rows);
    float *work = arena_push(f->scratch, (size_t)(panel * cols) * sizeof(float));
    float *values = arena_push(f->scratch, (size_t)(panel * cols) * sizeof(float));
    uint8_t *bytes = arena_push(f->scratch, (size_t)panel * row_bytes);
    for (int64_t from = 0; from < rows; from += panel) {
        const int64_t n = min_i64(panel, rows - from);
        merge_rows(source, from, n, work, values);
        for (int64_t i = 0; t->offset != 0 && i < n * cols; i++)
            values[i] += t->offset;
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < n; i++)
            quant_encode_row(f->dtype, values + i * cols, bytes + (size_t)i * row_bytes, cols);
        file_writer_write(file, bytes, (size_t)n * row_bytes);
    }
    arena_rewind(f->scratch, mark);
}

static bool write_shard(Folder *f, int64_t shard, Err *err)
{
    static const char *const keys[] = {"format"}, *const texts[] = {"pt"};
    const int64_t from = f->first[shard], n = f->first[shard + 1] - from;
    char name[SHARD_NAME_MAX];
    StEntry *entries = arena_array(f->scratch, StEntry, n);
    for (int64_t i = 0; i < n; i++) {
        const Weight *w = f->tensors[from + i].source.weight;
        const bool vector = w->rows == 1;
        entries[i] = (StEntry){.name = f->tensors[from + i].name, .dtype = f->dtype,
                               .n_dims = vector ? 1 : 2,
                               .shape = {vector ? w->cols : w->rows, vector ? 0 : w->cols}};
    }
    FileWriter *file = st_begin(path_join(f->scratch, f->path, shard_name(f, shard, name)),
                                entries, (size_t)n, keys, texts, 1, CODE, err);
    if (file == NULL)
        return false;
    for (int64_t i = 0; i < n; i++) {
        write_tensor(f, &f->tensors[from + i], file);
        if (f->options->progress != NULL)
            f->options->progress(f->options->context, ++f->done, f->n);
    }
    return file_writer_commit(file, err);
}

static bool write_json_file(const Folder *f, const char *name, Json *json, Err *err)
{
    Buf text = {0};
    json_write(json, (JsonStyle){.indent = 2}, &text);
    buf_char(&text, '\n');
    must(!text.failed);
    bool ok = file_write_atomic(path_join(f->scratch, f->path, name), (Str){text.data, text.len},
                                CODE, err);
    buf_free(&text);
    return ok;
}

static bool write_index(Folder *f, uint64_t total, Err *err)
{
    if (f->n_shards == 1)
        return true;
    Json *json = json_new_object(), *meta = json_new_object(), *map = json_new_object();
    char name[SHARD_NAME_MAX];
    json_put(meta, "total_size", json_new_int((int64_t)total));
    for (int64_t shard = 0; shard < f->n_shards; shard++)
        for (int64_t i = f->first[shard]; i < f->first[shard + 1]; i++)
            json_put(map, f->tensors[i].name, json_new_text(shard_name(f, shard, name)));
    json_put(json, "metadata", meta);
    json_put(json, "weight_map", map);
    bool ok = write_json_file(f, "model.safetensors.index.json", json, err);
    json_free(json);
    return ok;
}

/* ---- the rest of the folder ---- */

static void put_token(Json *json, const char *key, int32_t id)
{
    if (id != TOKEN_NONE)
        json_put(json, key, json_new_int(id));
}

static Json *make_config(const Folder *f, const Tokenizer *tokenizer, Err *err)
{
    static const char *const type_names[] = {
        [DTYPE_F32] = "float32", [DTYPE_F16] = "float16", [DTYPE_BF16] = "bfloat16"};
    const Model *model = f->model;
    const bool folder = model->file.format == MODEL_FOLDER;
    Json *json = folder ? json_clone(model->file.config)
                        : config_write_folder(&model->config, model->family);
    const char *old = "torch_dtype", *key = json_is_null(json_get(json, old)) ? "dtype" : old;
    json_put(json, key, json_new_text(type_names[f->dtype]));
    if (folder)
        return json;
    put_token(json, "bos_token_id", tokenizer_bos(tokenizer));
    put_token(json, "eos_token_id", tokenizer_eos(tokenizer));
    put_token(json, "pad_token_id", tokenizer_pad(tokenizer));
    if (model->family->write_config == NULL ||
        model->family->write_config(&model->config, json, err))
        return json;
    json_free(json);
    return NULL;
}

static bool write_config(const Folder *f, const Tokenizer *tokenizer, Err *err)
{
    static const char generation[] = "generation_config.json";
    Json *json = make_config(f, tokenizer, err);
    if (json == NULL)
        return false;
    bool ok = write_json_file(f, "config.json", json, err);
    json_free(json);
    const char *from = path_join(f->scratch, f->model->file.path, generation);
    if (!ok || f->model->file.format != MODEL_FOLDER || !path_exists(from))
        return ok;
    FileMap map = {0};
    ok = file_map(&map, from, CODE, err) &&
         file_write_atomic(path_join(f->scratch, f->path, generation),
                           (Str){(const char *)map.data, map.size}, CODE, err);
    file_unmap(&map);
    return ok;
}

static bool fill(Folder *f, const Tokenizer *tokenizer, uint64_t *bytes, Err *err)
{
    list_tensors(f);
    deal_out(f);
    *bytes = 0;
    for (int64_t i = 0; i < f->n; i++)
        *bytes += f->tensors[i].bytes;
    if (!write_config(f, tokenizer, err) || !tokenizer_write_folder(tokenizer, f->path, err))
        return false;
    for (int64_t shard = 0; shard < f->n_shards; shard++)
        if (!write_shard(f, shard, err))
            return false;
    return write_index(f, *bytes, err);
}

/* Nothing there, an empty folder, or a model and its tokenizer: files of ours or of their kind. */
static bool may_replace(const char *path, Arena *scratch, Err *err)
{
    static const char *const kinds[] = {".safetensors", ".json",  ".txt",
                                         ".jinja",       ".model", "run_id"};
    const char **names;
    size_t n = 0;
    if (!path_exists(path) || !folder_list(path, scratch, &names, &n))
        return true; /* folder_begin says why not, if so */
    bool model = n == 0 || path_exists(path_join(scratch, path, "config.json"));
    for (size_t i = 0; model && i < n; i++) {
        bool known = false;
        for (size_t k = 0; k < COUNT_OF(kinds); k++)
            known = known || str_ends(str_of(names[i]), kinds[k]);
        model = known;
    }
    if (model)
        return true;
    err_set(err, CODE, "'%s' holds other files than a model's and would be replaced", path);
    return err_hint(err, "Name a new folder with --output");
}

bool folder_export_merged(const Model *model, const Adapter *adapter, const float *values,
                          const Tokenizer *tokenizer, const ExportOptions *options,
                          Arena *scratch, uint64_t *bytes, Err *err)
{
    Dtype dtype = options->dtype;
    if (dtype == DTYPE_COUNT)
        dtype = dtype_is_plain(model->embed.dtype) ? model->embed.dtype : DTYPE_F16;
    must(dtype == DTYPE_F32 || dtype == DTYPE_F16 || dtype == DTYPE_BF16);
    Folder f = {.model = model, .adapter = adapter, .values = values, .dtype = dtype,
                .shard_bytes = options->shard_bytes == 0 ? DEFAULT_SHARD_BYTES
                                                         : options->shard_bytes,
                .scratch = scratch, .options = options};
    if (!may_replace(options->output, scratch, err))
        return false;
    f.path = folder_begin(options->output, scratch, CODE, err);
    if (f.path == NULL)
        return false;
    if (fill(&f, tokenizer, bytes, err) && folder_commit(options->output, CODE, err))
        return true;
    folder_abandon(options->output);
    return false;
}
