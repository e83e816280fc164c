/* load.c — opening a model: files, configuration, and the name table bound to the tensors found.
 *
 * Every tensor that the family's table asks for must be there in the shape that the configuration
 * gives it, and nothing else may be there: a tensor that nobody uses would be a different model.
 * Exceptions, known to be derivable: buffers that old checkpoints saved (rotary_emb.inv_freq,
 * attention.bias, masked_bias) and the lm_head of a tied model.
 */
#include "model/model.h"

#include "model/config.h"
#include "model/shards.h"
#include "core/quant_block.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* One tensor of either format. */
typedef struct FileTensor {
    const char *name;
    Dtype dtype;
    bool readable; /* of a type we hold, with one or two dimensions */
    int64_t rows, cols;
    const void *data;
    size_t bytes;
} FileTensor;

typedef struct Loader {
    Model *model;
    Arena *out;
    FileTensor *tensors;
    bool *used;
    size_t n_tensors;
    Err *err;
} Loader;

const char *weight_name(const char *pattern, int64_t layer, char out[WEIGHT_NAME_MAX])
{
    assert(pattern != NULL);
    const char *mark = strstr(pattern, "%d");
    int n = mark == NULL ? snprintf(out, WEIGHT_NAME_MAX, "%s", pattern)
                         : snprintf(out, WEIGHT_NAME_MAX, "%.*s%lld%s", (int)(mark - pattern),
                                    pattern, (long long)layer, mark + 2);
    must(n > 0 && n < WEIGHT_NAME_MAX);
    return out;
}

WeightShape weight_shape(const ModelConfig *c, Role role)
{
    int64_t q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    switch (role) {
    case ROLE_Q:
        return (WeightShape){q, c->d_model};
    case ROLE_K:
    case ROLE_V:
        return (WeightShape){kv, c->d_model};
    case ROLE_Q_BIAS:
        return (WeightShape){1, q};
    case ROLE_K_BIAS:
    case ROLE_V_BIAS:
        return (WeightShape){1, kv};
    case ROLE_QKV:
        return (WeightShape){q + 2 * kv, c->d_model};
    case ROLE_O:
        return (WeightShape){c->d_model, q};
    case ROLE_GATE:
    case ROLE_UP:
        return (WeightShape){c->d_ff, c->d_model};
    case ROLE_GATE_UP:
        return (WeightShape){2 * c->d_ff, c->d_model};
    case ROLE_DOWN:
        return (WeightShape){c->d_model, c->d_ff};
    case ROLE_EMBED:
    case ROLE_HEAD:
        return (WeightShape){c->vocab, c->d_model};
    case ROLE_Q_NORM:
    case ROLE_K_NORM:
        return (WeightShape){1, c->head_dim};
    case ROLE_ATTN_NORM:
    case ROLE_FFN_NORM:
    case ROLE_ATTN_POST_NORM:
    case ROLE_FFN_POST_NORM:
    case ROLE_FINAL_NORM:
        return (WeightShape){1, c->d_model};
    case ROLE_ROPE_FACTORS:
    case ROLE_ROPE_FACTORS_LONG:
        return (WeightShape){1, c->rope_dim / 2};
    default:
        must(false);
    }
}

/* ---- tensors of the file ---- */

static bool load_bad(const Loader *l, const char *what, const char *name)
{
    return err_set(l->err, ERR_DEP_MODEL_LOAD_FAILED, "'%s': %s '%s'", l->model->file.path, what,
                   name);
}

static void list_gguf(Loader *l)
{
    const Gguf *gguf = &l->model->file.gguf;
    l->n_tensors = (size_t)gguf->n_tensors;
    l->tensors = arena_array(l->out, FileTensor, l->n_tensors);
    for (size_t i = 0; i < l->n_tensors; i++) {
        const GgufTensor *t = &gguf->tensors[i];
        l->tensors[i] = (FileTensor){
            .name = t->name, .dtype = t->dtype, .readable = t->n_dims >= 1 && t->n_dims <= 2,
            .rows = t->ne[1], .cols = t->ne[0], .data = t->data, .bytes = t->bytes};
    }
}

static void list_folder(Loader *l)
{
    const ModelFile *file = &l->model->file;
    for (size_t s = 0; s < file->n_shards; s++)
        l->n_tensors += file->shards[s].n_tensors;
    l->tensors = arena_array(l->out, FileTensor, l->n_tensors);
    FileTensor *to = l->tensors;
    for (size_t s = 0; s < file->n_shards; s++) {
        for (size_t i = 0; i < file->shards[s].n_tensors; i++) {
            const StTensor *t = &file->shards[s].tensors[i];
            bool vector = t->n_dims == 1;
            *to++ = (FileTensor){
                .name = t->name, .dtype = t->dtype,
                .readable = t->known && (vector || t->n_dims == 2) && t->dtype != DTYPE_I32,
                .rows = vector ? 1 : t->shape[0], .cols = vector ? t->shape[0] : t->shape[1],
                .data = t->data, .bytes = t->bytes};
        }
    }
}

/* -1 when absent. */
static int64_t find_tensor(const Loader *l, const char *name)
{
    const ModelFile *file = &l->model->file;
    if (file->format == MODEL_GGUF) {
        const GgufTensor *t = gguf_tensor(&file->gguf, name);
        return t == NULL ? -1 : t - file->gguf.tensors;
    }
    int64_t before = 0;
    for (size_t s = 0; s < file->n_shards; s++) {
        const StTensor *t = st_find(&file->shards[s], name);
        if (t != NULL)
            return before + (t - file->shards[s].tensors);
        before += (int64_t)file->shards[s].n_tensors;
    }
    return -1;
}

/* Binds one weight. *found: whether an optional one was there. */
static bool bind(Loader *l, Role role, int64_t layer, Weight *weight, bool *found)
{
    const Model *model = l->model;
    const WeightName *row = family_weight(model->family, role);
    bool folder = model->file.format == MODEL_FOLDER;
    const char *pattern = row == NULL ? NULL : folder ? row->hf : row->gguf;
    *found = false;
    if (pattern == NULL)
        return true;
    char name[WEIGHT_NAME_MAX];
    int64_t i = find_tensor(l, weight_name(pattern, layer, name));
    if (i < 0)
        return (row->flags & WEIGHT_OPTIONAL) != 0 || load_bad(l, "missing tensor", name);
    const FileTensor *t = &l->tensors[i];
    if (!t->readable)
        return load_bad(l, "element type or dimensions not supported of tensor", name);
    WeightShape want = weight_shape(&model->config, role);
    if (t->rows != want.rows || t->cols != want.cols)
        return err_set(l->err, ERR_DEP_MODEL_LOAD_FAILED,
                       "'%s': tensor '%s' is [%lld, %lld], the configuration asks for [%lld, %lld]",
                       model->file.path, name, (long long)t->rows, (long long)t->cols,
                       (long long)want.rows, (long long)want.cols);
    must(t->bytes == (size_t)t->rows * dtype_row_bytes(t->dtype, t->cols));
    *weight = (Weight){.source = t->data, .dtype = t->dtype, .rows = t->rows,
                       .cols = t->cols};
    l->used[i] = true;
    *found = true;
    return true;
}

static bool bind_vector(Loader *l, Role role, int64_t layer, Weight *weight, bool *found)
{
    if (!bind(l, role, layer, weight, found))
        return false;
    return !*found || dtype_is_plain(weight->dtype) ||
           load_bad(l, "packed element type not supported of a vector in", l->model->file.path);
}

static bool bind_layer(Loader *l, int64_t layer)
{
    Layer *to = &l->model->layers[layer];
    bool found;
    for (int role = 0; role < ROLE_LINEAR_COUNT; role++)
        if (!bind(l, (Role)role, layer, &to->linear[role], &found))
            return false;
    for (int i = 0; i < NORM_COUNT; i++)
        if (!bind_vector(l, (Role)(ROLE_ATTN_NORM + i), layer, &to->norm_file[i], &found))
            return false;
    for (int i = 0; i < BIAS_COUNT; i++)
        if (!bind_vector(l, (Role)(ROLE_Q_BIAS + i), layer, &to->bias_file[i], &found))
            return false;
    return true;
}

static void decode_vector(const Weight *weight, float *out)
{
    const uint8_t *bytes = weight->source;
    for (int64_t i = 0; i < weight->cols; i++) {
        if (weight->dtype == DTYPE_F32)
            memcpy(&out[i], bytes + 4 * i, 4);
        else if (weight->dtype == DTYPE_F16)
            out[i] = qb_from_f16(qb_load16(bytes + 2 * i));
        else
            out[i] = qb_from_bf16(qb_load16(bytes + 2 * i));
    }
}

static bool bind_head(Loader *l)
{
    Model *model = l->model;
    bool found;
    if (model->file.format == MODEL_FOLDER && model->config.tied) {
        model->head = model->embed;
        return true;
    }
    if (!bind(l, ROLE_HEAD, 0, &model->head, &found))
        return false;
    if (!found && model->file.format == MODEL_FOLDER)
        return load_bad(l, "missing tensor (tie_word_embeddings is false)",
                        family_weight(model->family, ROLE_HEAD)->hf);
    model->config.tied = !found;
    if (!found)
        model->head = model->embed;
    return true;
}

/* Factors that a file holds as a tensor. */
static bool bind_rope_factors(Loader *l, Role role, float **factors)
{
    Weight tensor;
    bool found;
    if (!bind_vector(l, role, 0, &tensor, &found))
        return false;
    if (!found)
        return true;
    *factors = arena_array(l->out, float, tensor.cols);
    decode_vector(&tensor, *factors);
    for (int64_t i = 0; i < tensor.cols; i++)
        if (!((*factors)[i] > 0) || !isfinite((*factors)[i]))
            return load_bad(l, "not all positive numbers: tensor",
                            family_weight(l->model->family, role)->gguf);
    return true;
}

static bool bind_all(Loader *l)
{
    Model *model = l->model;
    bool found;
    model->layers = arena_array(l->out, Layer, model->config.n_layers);
    if (!bind(l, ROLE_EMBED, 0, &model->embed, &found) || !bind_head(l) ||
        !bind_vector(l, ROLE_FINAL_NORM, 0, &model->final_norm_file, &found) ||
        !bind_rope_factors(l, ROLE_ROPE_FACTORS, &model->config.rope_factors) ||
        !bind_rope_factors(l, ROLE_ROPE_FACTORS_LONG, &model->config.rope_factors_long))
        return false;
    for (int64_t layer = 0; layer < model->config.n_layers; layer++)
        if (!bind_layer(l, layer))
            return false;
    return true;
}

static bool harmless(const Loader *l, const char *name)
{
    static const char *const ends[] = {".rotary_emb.inv_freq", ".attention.bias", ".masked_bias"};
    Str text = str_of(name);
    for (size_t i = 0; i < COUNT_OF(ends); i++)
        if (str_ends(text, ends[i]))
            return true;
    const WeightName *head = family_weight(l->model->family, ROLE_HEAD);
    return l->model->config.tied && head != NULL && head->hf != NULL &&
           str_eq_text(text, head->hf);
}

static bool no_tensor_left(const Loader *l)
{
    for (size_t i = 0; i < l->n_tensors; i++)
        if (!l->used[i] && !harmless(l, l->tensors[i].name))
            return load_bad(l, "a tensor that this architecture does not have:",
                            l->tensors[i].name);
    return true;
}

/* ---- files ---- */

static bool unknown_family(const ModelFile *file, Str name, Err *err)
{
    err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "'%s': architecture '%.*s' is not supported (%s)",
            file->path, (int)min_i64((int64_t)name.len, 60), name.len == 0 ? "" : name.data,
            family_list());
    return err_hint(err, "Use a model of one of these architectures: %s", family_list());
}

static bool open_gguf(Loader *l)
{
    Model *model = l->model;
    ModelFile *file = &model->file;
    file->format = MODEL_GGUF;
    if (!gguf_open(&file->gguf, file->path, l->out, l->err))
        return false;
    Str arch = gguf_str(&file->gguf, "general.architecture");
    Str type = gguf_str(&file->gguf, "general.type");
    if (type.len > 0 && !str_eq_text(type, "model"))
        return err_set(l->err, ERR_DEP_MODEL_LOAD_FAILED, "'%s': holds '%.*s', not a model",
                       file->path, (int)min_i64((int64_t)type.len, 60), type.data);
    model->family = family_find(arena_strndup(l->out, arch.len == 0 ? "" : arch.data, arch.len));
    if (model->family == NULL || !str_eq_text(arch, model->family->name))
        return unknown_family(file, arch, l->err);
    model->config.pairing = model->family->gguf_pairing;
    list_gguf(l);
    Str name = gguf_str(&file->gguf, "general.name");
    if (name.len == 0)
        name = str_of(path_base(file->path));
    snprintf(model->config.name, sizeof model->config.name, "%.*s",
             (int)min_i64((int64_t)name.len, (int64_t)sizeof model->config.name - 1), name.data);
    return true;
}

static bool open_folder(Loader *l)
{
    Model *model = l->model;
    ModelFile *file = &model->file;
    file->format = MODEL_FOLDER;
    const char *config = path_join(l->out, file->path, "config.json");
    if (!path_exists(config))
        return err_set(l->err, ERR_DEP_MODEL_LOAD_FAILED, "'%s': has no config.json", file->path);
    file->config = json_load(config, ERR_DEP_MODEL_LOAD_FAILED, l->err);
    if (file->config == NULL)
        return false;
    const char *type = json_text(json_get(file->config, "model_type"));
    model->family = family_find(type);
    if (model->family == NULL || strcmp(type, model->family->hf_model_type) != 0)
        return unknown_family(file, str_of(type), l->err);
    model->config.pairing = ROPE_HALVES;
    model->config.norm_offset = model->family->folder_norm_offset;
    if (!shards_open(file, l->out, l->err))
        return false;
    list_folder(l);
    snprintf(model->config.name, sizeof model->config.name, "%.95s", path_base(file->path));
    return true;
}

static bool open_checked(Loader *l)
{
    Model *model = l->model;
    const char *path = model->file.path;
    if (!path_exists(path))
        return err_set(l->err, ERR_DEP_MODEL_LOAD_FAILED, "'%s' does not exist", path);
    if (path_is_folder(path) ? !open_folder(l) : !open_gguf(l))
        return false;
    if (!model->family->read_config(&model->file, &model->config, l->out, l->err))
        return false;
    l->used = arena_array(l->out, bool, l->n_tensors);
    return bind_all(l) && no_tensor_left(l);
}

bool model_open(Model *model, const char *path, Arena *out, Err *err)
{
    must(model != NULL && path != NULL);
    *model = (Model){.file.path = arena_strdup(out, path)};
    Loader loader = {.model = model, .out = out, .err = err};
    if (open_checked(&loader))
        return true;
    model_close(model);
    return false;
}

void model_close(Model *model)
{
    gguf_close(&model->file.gguf);
    shards_close(&model->file);
    json_free(model->file.config);
    *model = (Model){0};
}
