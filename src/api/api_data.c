/* api_data.c — what can be said about a data file without a run: bp_data_preview_json.
 *
 * Opens a tokenizer and a chat template where they are needed, never weights.
 */
#include "api/handle.h"

#include "data/dataset.h"

static Json *example_json(const bp_trainer *t, const Dataset *dataset, const Example *example)
{
    Json *tokens = json_new_array(), *segments = json_new_array(), *row = json_new_object();
    Buf text = {0};
    assert(example->len > 0);
    for (int32_t i = 0; i < example->len; i++) {
        const int64_t at = example->start + i;
        const bool loss = dataset->loss[at] != 0;
        size_t before = text.len;
        tokenizer_decode(t->tokenizer, dataset->tokens[at], SPECIAL_SHOWN, &text);
        Json *token = json_new_object();
        json_put(token, "id", json_new_int(dataset->tokens[at]));
        json_put(token, "text", json_new_str(str_sub(buf_view(&text), before, text.len)));
        json_put(token, "loss", json_new_bool(loss));
        json_add(tokens, token);
        if (i + 1 == example->len || (dataset->loss[at + 1] != 0) != loss) {
            Json *segment = json_new_object();
            json_put(segment, "text", json_new_str(buf_view(&text)));
            json_put(segment, "loss", json_new_bool(loss));
            json_add(segments, segment);
            buf_clear(&text);
        }
    }
    buf_free(&text);
    json_put(row, "line", json_new_int(example->line));
    json_put(row, "n_tokens", json_new_int(example->len));
    json_put(row, "n_loss", json_new_int(example->n_loss));
    json_put(row, "segments", segments);
    json_put(row, "tokens", tokens);
    return row;
}

const char *bp_data_preview_json(bp_trainer *t, const char *data)
{
    if (!handle_ok(t))
        return NULL;
    const Settings *s = &t->settings;
    DatasetOptions options;
    Dataset dataset = {0};
    if (!handle_dataset_options(t, &options) || !handle_texts(t, settings_text(s, OPTION_MODEL)) ||
        !dataset_load(&dataset, &(DataFile){data, 1}, 1,
                      &(DataTexts){t->tokenizer, t->chat_template}, &options, &t->arena, &t->err)) {
        dataset_close(&dataset);
        handle_fail(t);
        return NULL;
    }
    Json *rows = json_new_array(), *json = json_new_object();
    const int64_t from = settings_int(s, OPTION_ROW, 1) - 1;
    const int64_t to = min_i64(dataset.n_examples, from + settings_int(s, OPTION_ROWS, 1));
    for (int64_t i = from; i < to; i++)
        json_add(rows, example_json(t, &dataset, &dataset.examples[i]));
    json_put(json, "schema_version", json_new_text("1"));
    json_put(json, "dataset", json_new_text(data));
    json_put(json, "rows", rows);
    dataset_close(&dataset);
    return handle_json(t, json);
}
