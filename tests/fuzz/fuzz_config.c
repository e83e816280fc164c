// layer: model
/* fuzz_config.c — any JSON as a config.json: the family that it names reads it or refuses with an
 * error, never crashes, and what it accepts is within the limits of config.h.
 */
#include <math.h>
#include <stdlib.h>

#include "model/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

/* What the rest of the program relies on. */
static void use(const Family *family, const ModelConfig *c)
{
    static float frequencies[MODEL_MAX_HEAD_DIM / 2];
    check(c->n_layers >= 1 && c->n_layers <= MODEL_MAX_LAYERS);
    check(c->n_heads % c->n_kv_heads == 0 && c->n_heads * c->head_dim <= MODEL_MAX_WIDTH);
    check(c->rope_dim >= 2 && c->rope_dim <= c->head_dim && c->rope_dim % 2 == 0);
    check(c->window >= 0 && isfinite(c->rope_scale) && isfinite(c->attention_scale));
    rope_frequencies(c, ROPE_GLOBAL, frequencies);
    if (c->rope_factors_long != NULL)
        rope_frequencies(c, ROPE_LONG, frequencies);
    for (int64_t i = 0; i < c->n_layers; i++)
        check((layer_flags(c, i) & LAYER_LOCAL) == 0 || c->window > 0);
    for (int role = 0; role < ROLE_COUNT; role++) {
        if (!family_has(family, (Role)role))
            continue;
        WeightShape shape = weight_shape(c, (Role)role);
        check(shape.rows > 0 && shape.cols > 0);
    }
    Err err = {0};
    if (family->can_write_gguf != NULL && !family->can_write_gguf(c, &err))
        check(err_is_set(&err));
    Json *json = config_write_folder(c, family);
    if (family->write_config != NULL)
        family->write_config(c, json, &err);
    json_free(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Arena arena;
    Err err = {0};
    if (arena.base == NULL)
        check(arena_open(&arena, 0, &err));
    const size_t mark = arena_mark(&arena);
    ModelFile file = {.format = MODEL_FOLDER, .path = "fuzz"};
    file.config = json_parse((Str){(const char *)data, size}, "fuzz", ERR_DEP_MODEL_LOAD_FAILED,
                             &err);
    const char *type = json_text(json_get(file.config, "model_type"));
    const Family *family = family_find(type);
    if (family != NULL) {
        ModelConfig config = {.name = "fuzz", .norm_offset = family->folder_norm_offset};
        if (family->read_config(&file, &config, &arena, &err))
            use(family, &config);
        else
            check(err_is_set(&err));
    }
    json_free(file.config);
    arena_rewind(&arena, mark);
    return 0;
}
