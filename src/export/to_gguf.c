/* to_gguf.c — writing GGUF: the merged model and the adapter alone.
 *
 * Keys, tensor types and the order of tensors are those of llama.cpp's converter and of
 * llama-quantize: one-dimensional tensors stay f32, every matrix takes the type that the mix gives
 * it. A model that came as GGUF keeps its own keys in their order; only name and file type change.
 * Adapter layout: "<base tensor>.lora_a" with ne {in, r}, "<base tensor>.lora_b" with ne {r, out},
 * keys adapter.type and adapter.lora.alpha (llama.cpp, convert_lora_to_gguf.py).
 */
#include "export/to_gguf.h"

#include <stdlib.h>
#include <string.h>

#include "export/merge.h"
#include "format/quant.h"

/* ---- keys -------------------------------------------------------------------------------- */

static void copy_keys(const Model *model, const ExportOptions *options, GgufWriter *writer)
{
    const Gguf *gguf = &model->file.gguf;
    for (uint64_t i = 0; i < gguf->n_values; i++) {
        const GgufValue *value = &gguf->values[i];
        bool replaced = str_eq_text(value->key, "general.file_type") ||
                        str_eq_text(value->key, "general.quantization_version") ||
                        str_eq_text(value->key, "general.alignment") ||
                        (options->imatrix != NULL &&
                         str_starts(value->key, "quantize.imatrix.")) ||
                        (options->name != NULL && str_eq_text(value->key, "general.name"));
        if (!replaced)
            gguf_put_copy(writer, value);
    }
    if (options->name != NULL)
        gguf_put_str(writer, "general.name", str_of(options->name));
}

static void make_keys(const Model *model, const Tokenizer *tokenizer, const ExportOptions *options,
                      GgufWriter *writer)
{
    const char *name = options->name != NULL ? options->name : model->config.name;
    gguf_put_str(writer, "general.architecture", str_of(model->family->name));
    gguf_put_str(writer, "general.type", STR("model"));
    gguf_put_str(writer, "general.name", str_of(name));
    model->family->write_gguf_keys(&model->config, writer);
    tokenizer_write_gguf(tokenizer, model->config.vocab, writer);
}

/* ---- tensors of a merged model ----------------------------------------------------------- */

/* One tensor of the file to be written, whatever the source. */
typedef struct OutTensor {
    char name[WEIGHT_NAME_MAX];
    MergeSource source;  /* matrices */
    const float *vector; /* one-dimensional, f32 */
    int64_t n;           /* of the vector */
    Dtype dtype;         /* in the file */
} OutTensor;

typedef struct OutList {
    OutTensor *items;
    int64_t count, capacity;
} OutList;

static OutTensor *list_add(OutList *list, const char *pattern, int64_t layer)
{
    must(list->count < list->capacity);
    OutTensor *t = &list->items[list->count++];
    weight_name(pattern, layer, t->name);
    return t;
}

static void add_vector(OutList *list, const Model *model, Role role, int64_t layer,
                       const float *values, int64_t n)
{
    OutTensor *t = list_add(list, family_weight(model->family, role)->gguf, layer);
    t->vector = values;
    t->n = n;
}

/* A vector of the base with `offset` added (GGUF files hold norms as they are used). */
static void add_base_vector(OutList *list, const Model *model, Role role, int64_t layer,
                            const Weight *vector, float offset, Arena *scratch)
{
    if (vector->rows == 0)
        return;
    float *values = arena_push(scratch, (size_t)vector->cols * sizeof(float));
    quant_decode_row(vector->dtype, vector->source, values, vector->cols);
    for (int64_t i = 0; i < vector->cols; i++)
        values[i] += offset;
    add_vector(list, model, role, layer, values, vector->cols);
}

static OutList list_tensors(const Model *model, const Adapter *adapter, const float *values,
                            Arena *scratch)
{
    const ModelConfig *c = &model->config;
    const Family *family = model->family;
    OutList list = {.capacity = 5 + c->n_layers * ROLE_LAYER_COUNT};
    list.items = arena_array(scratch, OutTensor, list.capacity);
    if (c->rope_factors != NULL)
        add_vector(&list, model, ROLE_ROPE_FACTORS, 0, c->rope_factors, c->rope_dim / 2);
    if (c->rope_factors_long != NULL)
        add_vector(&list, model, ROLE_ROPE_FACTORS_LONG, 0, c->rope_factors_long, c->rope_dim / 2);
    OutTensor *embed = list_add(&list, family_weight(family, ROLE_EMBED)->gguf, 0);
    embed->source = merge_plain(&model->embed);
    for (int64_t layer = 0; layer < c->n_layers; layer++) {
        const Layer *l = &model->layers[layer];
        for (int role = 0; role < ROLE_LINEAR_COUNT; role++) {
            if (!family_has(family, (Role)role))
                continue;
            OutTensor *t = list_add(&list, family_weight(family, (Role)role)->gguf, layer);
            t->source =
                merge_source(model, adapter, values, layer, (Role)role, family->gguf_pairing);
        }
        for (int i = 0; i < NORM_COUNT; i++)
            add_base_vector(&list, model, (Role)(ROLE_ATTN_NORM + i), layer, &l->norm_file[i],
                            c->norm_offset, scratch);
        for (int i = 0; i < BIAS_COUNT; i++)
            add_base_vector(&list, model, (Role)(ROLE_Q_BIAS + i), layer, &l->bias_file[i], 0,
                            scratch);
    }
    add_base_vector(&list, model, ROLE_FINAL_NORM, 0, &model->final_norm_file, c->norm_offset,
                    scratch);
    if (!c->tied) {
        OutTensor *head = list_add(&list, family_weight(family, ROLE_HEAD)->gguf, 0);
        head->source = merge_plain(&model->head);
    }
    return list;
}

static int by_place(const void *a, const void *b)
{
    const OutTensor *x = a, *y = b;
    assert(x->name[0] != '\0' && y->name[0] != '\0');
    return mix_before(x->name, y->name) ? -1 : mix_before(y->name, x->name);
}

static void choose_types(const Model *model, const ExportOptions *options, OutList *list)
{
    const ModelConfig *c = &model->config;
    MixState state = {.mix = options->mix,
                      .model = {.n_layers = c->n_layers, .n_heads = c->n_heads,
                                .n_kv_heads = c->n_kv_heads, .tied = true,
                                .importance = options->imatrix != NULL}};
    for (int64_t i = 0; i < list->count; i++) {
        state.model.n_values += mix_is_value(list->items[i].name);
        if (strcmp(list->items[i].name, "output.weight") == 0)
            state.model.tied = false;
    }
    for (int64_t i = 0; i < list->count; i++) {
        OutTensor *t = &list->items[i];
        t->dtype = t->vector != NULL ? DTYPE_F32
                                     : mix_choose(&state, t->name, t->source.weight->cols);
    }
}

static void declare_tensors(const OutList *list, GgufWriter *writer)
{
    for (int64_t i = 0; i < list->count; i++) {
        const OutTensor *t = &list->items[i];
        const Weight *w = t->source.weight;
        if (t->vector != NULL)
            gguf_add_tensor(writer, t->name, DTYPE_F32, 1, (int64_t[]){t->n});
        else
            gguf_add_tensor(writer, t->name, t->dtype, 2, (int64_t[]){w->cols, w->rows});
    }
}

/* The importance of a matrix's columns. A tied head shares the embedding's name, which no
 * importance matrix has; anything else of another length belongs to another model. */
static bool column_importance(const OutTensor *t, const ExportOptions *options,
                              const float **values, Err *err)
{
    const ImatrixEntry *entry =
        options->imatrix == NULL ? NULL : imatrix_find(options->imatrix, t->name);
    *values = NULL;
    if (entry == NULL)
        return true;
    if (entry->n == t->source.weight->cols) {
        *values = entry->values;
        return true;
    }
    err_set(err, ERR_INPUT_VALIDATION_FAILED,
            "the importance of '%s' has %lld columns, the model %lld", t->name,
            (long long)entry->n, (long long)t->source.weight->cols);
    return err_hint(err, "Use an importance matrix of the same model, or --imatrix-data");
}

static bool write_tensors(const OutList *list, const ExportOptions *options, GgufWriter *writer,
                          Arena *scratch, Err *err)
{
    for (int64_t i = 0; i < list->count; i++) {
        const OutTensor *t = &list->items[i];
        const float *importance;
        if (t->vector != NULL)
            gguf_write_data(writer, t->vector, (size_t)t->n * sizeof(float));
        else if (!column_importance(t, options, &importance, err))
            return false;
        else if (!merge_write(&t->source, t->dtype, importance, writer, scratch))
            return err_set(err, ERR_RUNTIME_GGUF_EXPORT_FAILED,
                           "tensor '%s' holds a value that is not finite", t->name);
        if (options->progress != NULL)
            options->progress(options->context, i + 1, list->count);
    }
    return true;
}

/* The keys that llama-quantize adds. */
static void imatrix_keys(const ExportOptions *options, GgufWriter *writer)
{
    enum { LONGEST = 127 }; /* bytes of a text there */
    const Imatrix *m = options->imatrix;
    assert(m != NULL && options->imatrix_file != NULL);
    Str file = str_of(options->imatrix_file), dataset = m->dataset;
    file.len = file.len < LONGEST ? file.len : LONGEST;
    dataset.len = dataset.len < LONGEST ? dataset.len : LONGEST;
    gguf_put_str(writer, "quantize.imatrix.file", file);
    if (dataset.len > 0)
        gguf_put_str(writer, "quantize.imatrix.dataset", dataset);
    gguf_put_u32(writer, "quantize.imatrix.entries_count", (uint32_t)m->n_entries);
    if (m->chunks > 0)
        gguf_put_u32(writer, "quantize.imatrix.chunks_count", (uint32_t)m->chunks);
}

bool gguf_export_merged(const Model *model, const Adapter *adapter, const float *values,
                        const Tokenizer *tokenizer, const ExportOptions *options, const char *path,
                        Arena *scratch, Err *err)
{
    const Family *family = model->family;
    if (family->can_write_gguf != NULL && !family->can_write_gguf(&model->config, err))
        return false;
    if (model->file.format == MODEL_FOLDER &&
        !tokenizer_can_write_gguf(tokenizer, model->config.vocab, err))
        return false;
    GgufWriter *writer = gguf_writer_open(path, err);
    if (writer == NULL)
        return false;
    if (model->file.format == MODEL_GGUF)
        copy_keys(model, options, writer);
    else
        make_keys(model, tokenizer, options, writer);
    gguf_put_u32(writer, "general.quantization_version", 2);
    gguf_put_u32(writer, "general.file_type", mix_file_type(options->mix));
    if (options->imatrix != NULL)
        imatrix_keys(options, writer);
    OutList list = list_tensors(model, adapter, values, scratch);
    qsort(list.items, (size_t)list.count, sizeof *list.items, by_place);
    choose_types(model, options, &list);
    declare_tensors(&list, writer);
    gguf_writer_begin_data(writer);
    if (!write_tensors(&list, options, writer, scratch, err)) {
        gguf_writer_abandon(writer);
        return false;
    }
    return gguf_writer_commit(writer, err);
}

/* ---- the adapter alone ------------------------------------------------------------------- */

static void write_factor(GgufWriter *writer, const float *values, int64_t rows, int64_t cols,
                         Dtype dtype, Arena *scratch)
{
    size_t mark = arena_mark(scratch);
    size_t row_bytes = dtype_row_bytes(dtype, cols);
    uint8_t *bytes = arena_push(scratch, (size_t)rows * row_bytes);
    for (int64_t i = 0; i < rows; i++)
        quant_encode_row(dtype, values + i * cols, bytes + (size_t)i * row_bytes, cols);
    gguf_write_data(writer, bytes, (size_t)rows * row_bytes);
    arena_rewind(scratch, mark);
}

/* B in the row order of GGUF files of this family. */
static const float *gguf_rows_of_b(const Model *model, const AdapterPair *pair, Role role,
                                   const float *b, int64_t r, Arena *scratch)
{
    unsigned flags = family_weight(model->family, role)->flags;
    const ModelConfig *c = &model->config;
    bool moved = (flags & (WEIGHT_ROPE_ROWS_Q | WEIGHT_ROPE_ROWS_K)) != 0 &&
                 c->pairing != model->family->gguf_pairing;
    if (!moved)
        return b;
    float *out = arena_push(scratch, (size_t)(pair->out * r) * sizeof(float));
    rope_rows_convert(b, out, pair->out / c->head_dim, c->head_dim, c->rope_dim,
                      (size_t)r * sizeof(float), c->pairing, model->family->gguf_pairing);
    return out;
}

static void adapter_keys(const Model *model, const Adapter *adapter, const ExportOptions *options,
                         GgufWriter *writer)
{
    gguf_put_str(writer, "general.architecture", str_of(model->family->name));
    gguf_put_str(writer, "general.type", STR("adapter"));
    gguf_put_str(writer, "general.name",
                 str_of(options->name != NULL ? options->name : model->config.name));
    gguf_put_u32(writer, "general.quantization_version", 2);
    gguf_put_str(writer, "adapter.type", STR("lora"));
    /* Readers take alpha / r for the scale, also where it was another (rsLoRA). */
    gguf_put_f32(writer, "adapter.lora.alpha",
                 (float)(adapter_scale(&adapter->config) * (double)adapter->config.r));
}

/* Visits every pair: declares its tensors (write == NULL) or writes their data. */
static void each_pair(const Model *model, const Adapter *adapter, const float *values, Dtype dtype,
                      GgufWriter *declare, GgufWriter *write, Arena *scratch)
{
    const int64_t r = adapter->config.r;
    assert(r > 0 && (declare == NULL) != (write == NULL));
    for (int64_t i = 0; i < adapter->n_layers * ROLE_LINEAR_COUNT; i++) {
        const AdapterPair *pair = &adapter->pairs[i];
        Role role = (Role)(i % ROLE_LINEAR_COUNT);
        if (!pair->present)
            continue;
        size_t mark = arena_mark(scratch);
        if (declare != NULL) {
            char base[WEIGHT_NAME_MAX];
            weight_name(family_weight(model->family, role)->gguf, i / ROLE_LINEAR_COUNT, base);
            gguf_add_tensor(declare, arena_printf(scratch, "%s.lora_a", base), dtype, 2,
                            (int64_t[]){pair->in, r});
            gguf_add_tensor(declare, arena_printf(scratch, "%s.lora_b", base), dtype, 2,
                            (int64_t[]){r, pair->out});
        } else {
            const float *b = gguf_rows_of_b(model, pair, role, values + pair->b_offset, r, scratch);
            write_factor(write, values + pair->a_offset, r, pair->in, dtype, scratch);
            write_factor(write, b, pair->out, r, dtype, scratch);
        }
        arena_rewind(scratch, mark);
    }
}

bool gguf_export_adapter(const Model *model, const Adapter *adapter, const float *values,
                         const ExportOptions *options, const char *path, Arena *scratch, Err *err)
{
    if (adapter_has(adapter, ADAPTER_DORA)) {
        err_set(err, ERR_RUNTIME_GGUF_EXPORT_FAILED,
                "a GGUF adapter cannot hold the magnitudes of a DoRA adapter");
        return err_hint(err, "Merge it: backprop export ADAPTER --format gguf");
    }
    GgufWriter *writer = gguf_writer_open(path, err);
    if (writer == NULL)
        return false;
    adapter_keys(model, adapter, options, writer);
    const Dtype dtype = mix_default(options->mix);
    each_pair(model, adapter, values, dtype, writer, NULL, scratch);
    gguf_writer_begin_data(writer);
    each_pair(model, adapter, values, dtype, NULL, writer, scratch);
    return gguf_writer_commit(writer, err);
}
