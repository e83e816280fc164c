/* resume.c — the numbers object: options and a digest of the data.
 *
 * A run that is continued under another seed, learning rate, batch or dataset would be neither the
 * old run nor a new one, so such a resume is refused (checkpoint_compare names the difference). The
 * dataset is held twice: by its file's hash, for a clear message, and by a digest of its tokens and
 * loss marks, which also sees another tokenizer, template, --samples or --train-on-prompts.
 */
#include "train/resume.h"

#include <inttypes.h>

/* FNV-1a over what training reads of the data. */
static uint64_t data_digest(const Dataset *dataset)
{
    const uint64_t prime = UINT64_C(0x100000001b3);
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (int64_t i = 0; i < dataset->n_examples; i++) {
        const Example *example = &dataset->examples[i];
        assert(example->start + example->len <= dataset->n_tokens);
        hash = (hash ^ (uint64_t)example->len) * prime;
        for (int64_t t = example->start; t < example->start + example->len; t++)
            hash = (hash ^ ((uint64_t)dataset->tokens[t] << 1 | (dataset->loss[t] != 0))) * prime;
    }
    return hash;
}

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t n)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* Shape, type and both ends of a matrix: enough to tell models apart without reading them whole. */
static uint64_t hash_weight(uint64_t hash, const Weight *weight)
{
    enum { END_BYTES = 256 };
    if (weight->source == NULL)
        return hash;
    const int64_t facts[] = {weight->rows, weight->cols, (int64_t)weight->dtype};
    const size_t bytes = (size_t)weight->rows * dtype_row_bytes(weight->dtype, weight->cols);
    const size_t end = bytes < END_BYTES ? bytes : END_BYTES;
    hash = hash_bytes(hash, facts, sizeof facts);
    hash = hash_bytes(hash, weight->source, end);
    return hash_bytes(hash, (const uint8_t *)weight->source + bytes - end, end);
}

static uint64_t base_digest(const Model *model)
{
    uint64_t hash = hash_weight(UINT64_C(0xcbf29ce484222325), &model->embed);
    for (int64_t i = 0; i < model->config.n_layers; i++) {
        for (int role = 0; role < ROLE_LINEAR_COUNT; role++)
            hash = hash_weight(hash, &model->layers[i].linear[role]);
    }
    return hash_weight(hash, &model->head);
}

Json *resume_numbers(const TrainOptions *options, int64_t steps, int32_t batch_size,
                     const Dataset *dataset, const Model *model)
{
    must(steps > 0 && batch_size > 0);
    Buf digest = {0}, base = {0};
    buf_printf(&digest, "%016" PRIx64, data_digest(dataset));
    buf_printf(&base, "%016" PRIx64, base_digest(model));
    Json *json = json_new_object();
    json_put(json, "base_weights", json_new_text(base.data));
    buf_free(&base);
    json_put(json, "dataset_sha256", json_new_text(dataset->sha256));
    json_put(json, "dataset_tokens", json_new_text(digest.data));
    json_put(json, "seed", json_new_int((int64_t)options->seed));
    json_put(json, "steps", json_new_int(steps));
    json_put(json, "batch_size", json_new_int(batch_size));
    json_put(json, "accumulation", json_new_int(options->accumulation));
    json_put(json, "max_seq_length", json_new_int(options->max_seq_length));
    json_put(json, "packing", json_new_bool(options->packing));
    json_put(json, "curriculum", json_new_bool(options->curriculum));
    json_put(json, "lr", json_new_double(options->lr));
    json_put(json, "schedule", json_new_text(schedule_name(options->schedule)));
    json_put(json, "warmup_steps", json_new_int(options->warmup_steps));
    json_put(json, "weight_decay", json_new_double(options->weight_decay));
    json_put(json, "max_grad_norm", json_new_double(options->max_grad_norm));
    buf_free(&digest);
    return json;
}

int32_t resume_batch_size(const Json *numbers)
{
    const int64_t size = json_int(json_get(numbers, "batch_size"), 0);
    return size > 0 && size <= INT32_MAX ? (int32_t)size : 0;
}
