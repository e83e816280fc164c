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

Json *resume_numbers(const TrainOptions *options, int64_t steps, int32_t batch_size,
                     const Dataset *dataset)
{
    must(steps > 0 && batch_size > 0);
    Buf digest = {0};
    buf_printf(&digest, "%016" PRIx64, data_digest(dataset));
    Json *json = json_new_object();
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
