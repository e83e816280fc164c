/* imagine.c — see imagine.h. Shapes are those that load.c asks of a file's tensors (weight_shape);
 * the one piece of memory behind all weights is as large as the longest vector, because vectors are
 * decoded also when they are placed on the plan.
 */
#include "model/imagine.h"

#include <stdio.h>
#include <string.h>

static Weight imagined(const Model *model, Role role, const void *nothing, Dtype matrices)
{
    const WeightName *row = family_weight(model->family, role);
    if (row == NULL || row->hf == NULL)
        return (Weight){0};
    const WeightShape shape = weight_shape(&model->config, role);
    const bool whole = shape.rows > 1 && shape.cols % dtype_info(matrices)->block == 0;
    return (Weight){.source = nothing, .dtype = whole ? matrices : DTYPE_BF16,
                    .rows = shape.rows, .cols = shape.cols};
}

static void imagine_weights(Model *model, Dtype matrices, Arena *out)
{
    const ModelConfig *c = &model->config;
    const int64_t longest = max_i64(max_i64(c->d_model, c->d_ff), c->n_heads * c->head_dim);
    const void *nothing = arena_array(out, uint16_t, longest);
    model->layers = arena_array(out, Layer, c->n_layers);
    for (int64_t i = 0; i < c->n_layers; i++) {
        Layer *l = &model->layers[i];
        for (int role = 0; role < ROLE_LINEAR_COUNT; role++)
            l->linear[role] = imagined(model, (Role)role, nothing, matrices);
        for (int n = 0; n < NORM_COUNT; n++)
            l->norm_file[n] = imagined(model, (Role)(ROLE_ATTN_NORM + n), nothing, matrices);
        for (int n = 0; n < BIAS_COUNT; n++)
            l->bias_file[n] = imagined(model, (Role)(ROLE_Q_BIAS + n), nothing, matrices);
    }
    model->embed = imagined(model, ROLE_EMBED, nothing, matrices);
    model->head = c->tied ? model->embed : imagined(model, ROLE_HEAD, nothing, matrices);
    model->final_norm_file = imagined(model, ROLE_FINAL_NORM, nothing, matrices);
    assert(model->embed.rows > 0 && model->head.rows > 0 && model->final_norm_file.rows == 1);
}

bool model_imagine(Model *model, const char *name, Json *config, Dtype matrices, Arena *out,
                   Err *err)
{
    *model = (Model){.file = {.format = MODEL_FOLDER, .path = arena_strdup(out, name),
                              .config = config}};
    const char *type = json_text(json_get(config, "model_type"));
    model->family = type == NULL ? NULL : family_find(type);
    bool ok = model->family != NULL && strcmp(type, model->family->hf_model_type) == 0;
    if (!ok) {
        err_set(err, ERR_DEP_MODEL_LOAD_FAILED, "'%s': architecture '%.60s' is not supported (%s)",
                name, type == NULL ? "" : type, family_list());
    } else {
        model->config.pairing = ROPE_HALVES;
        model->config.norm_offset = model->family->folder_norm_offset;
        ok = model->family->read_config(&model->file, &model->config, out, err);
    }
    if (!ok) {
        model_close(model);
        return false;
    }
    snprintf(model->config.name, sizeof model->config.name, "%.95s", name);
    imagine_weights(model, matrices, out);
    return true;
}
