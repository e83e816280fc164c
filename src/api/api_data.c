/* api_data.c — what can be said about a data file, or done to it, without a run.
 *
 * Opens a tokenizer and a chat template where they are needed, never weights.
 */
#include "api/handle.h"

#include <string.h>

#include "core/file.h"
#include "data/quality.h"
#include "data/split.h"
#include "data/validate.h"

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

/* The first rows that were dropped or cut. */
static Json *notes_json(const Dataset *dataset)
{
    Json *list = json_new_array();
    for (int64_t i = 0; i < dataset->n_notes; i++) {
        const RowNote *note = &dataset->notes[i];
        Json *item = json_new_object();
        json_put(item, "line", json_new_int(note->line));
        json_put(item, "kind", json_new_text(note->truncated ? "cut" : fault_name(note->kind)));
        json_put(item, "message", json_new_text(note->text));
        json_add(list, item);
    }
    return list;
}

static bool has_path(bp_trainer *t, const char *data)
{
    if (data != NULL)
        return true;
    err_set(&t->err, ERR_INPUT_DATASET_NOT_FOUND, "no data file was given");
    return handle_fail(t);
}

const char *bp_data_preview_json(bp_trainer *t, const char *data)
{
    if (!handle_ok(t) || !has_path(t, data))
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
    json_put(json, "notes", notes_json(&dataset));
    dataset_close(&dataset);
    return handle_json(t, json);
}

static RowFormat format_of(const Settings *s)
{
    const char *name = settings_text(s, OPTION_DATA_FORMAT);
    if (strcmp(name, "raw") == 0)
        return FORMAT_RAW_TEXT;
    for (int i = 0; i < FORMAT_COUNT; i++) {
        if (strcmp(format_name((RowFormat)i), name) == 0)
            return (RowFormat)i;
    }
    return FORMAT_UNKNOWN; /* auto */
}

const char *bp_validate_json(bp_trainer *t, const char *data)
{
    if (!handle_ok(t) || !has_path(t, data))
        return NULL;
    const ValidateOptions options = {
        .format = format_of(&t->settings),
        .hint = settings_text(&t->settings, OPTION_DATA_FORMAT),
        .max_errors = settings_int(&t->settings, OPTION_MAX_ERRORS, 100),
        .max_samples = settings_int(&t->settings, OPTION_MAX_SAMPLES, 0),
    };
    return handle_json(t, data_validate(data, &options));
}

/* A limit of the report: the user's, else that of --strict, else none. */
static double limit_of(const Settings *s, OptionId id, double strict)
{
    const double given = settings_number(s, id, -1);
    return given < 0 && settings_flag(s, OPTION_STRICT) ? strict : given;
}

const char *bp_data_report_json(bp_trainer *t, const char *data)
{
    if (!handle_ok(t) || !has_path(t, data))
        return NULL;
    const Settings *s = &t->settings;
    const char *model = settings_text(s, OPTION_REPORT_MODEL);
    const char *against = settings_text(s, OPTION_AGAINST);
    DataTexts texts = {0};
    if (*model != '\0') {
        if (!handle_texts(t, model)) {
            handle_fail(t);
            return NULL;
        }
        texts = handle_data_texts(t);
    }
    const ReportOptions options = {
        .format = format_of(s),
        .against = *against != '\0' ? against : NULL,
        .max_samples = settings_int(s, OPTION_MAX_SAMPLES, 0),
        .dup_threshold = settings_number(s, OPTION_DUP_THRESHOLD, 0.9),
        .texts = *model != '\0' ? &texts : NULL,
        .fail_on_dups = limit_of(s, OPTION_FAIL_ON_DUPS, 0.25),
        .fail_on_contamination = limit_of(s, OPTION_FAIL_ON_CONTAMINATION, 0.01),
        .max_outlier_rate = limit_of(s, OPTION_MAX_OUTLIER_RATE, -1),
        .fail_on_empty = settings_flag(s, OPTION_STRICT) ? 0.05 : -1,
    };
    Json *json = data_report(data, &options, &t->err);
    if (json != NULL)
        return handle_json(t, json);
    handle_fail(t);
    return NULL;
}

/* "dir/chat.jsonl.gz" gives "dir/chat" + ending. */
static const char *beside(bp_trainer *t, const char *path, const char *ending)
{
    Str name = str_of(path_base(path));
    if (str_ends(name, ".gz"))
        name.len -= 3;
    size_t stem = name.len;
    for (size_t i = 1; i < name.len; i++) {
        if (name.data[i] == '.')
            stem = i;
    }
    const size_t folder = (size_t)(name.data - path);
    return arena_printf(&t->arena, "%.*s%s", (int)(folder + stem), path, ending);
}

const char *bp_data_split_json(bp_trainer *t, const char *data)
{
    if (!handle_ok(t) || !has_path(t, data))
        return NULL;
    const Settings *s = &t->settings;
    const char *train = settings_text(s, OPTION_OUT_TRAIN);
    const char *held_out = settings_text(s, OPTION_OUT_HELDOUT);
    const SplitOptions options = {
        .ratio = settings_number(s, OPTION_HELDOUT_RATIO, 0.1),
        .seed = (uint64_t)settings_int(s, OPTION_SPLIT_SEED, 0),
        .train = *train != '\0' ? train : beside(t, data, ".train.jsonl"),
        .held_out = *held_out != '\0' ? held_out : beside(t, data, ".heldout.jsonl"),
    };
    SplitResult result = {0};
    bool ok = options.ratio > 0 && options.ratio < 1;
    if (!ok)
        err_set(&t->err, ERR_CONFIG_INVALID_SETTING,
                "'%s' is not a value for --heldout-ratio (expected between 0 and 1)",
                settings_text(s, OPTION_HELDOUT_RATIO));
    if (!ok || !data_split(data, &options, &result, &t->err)) {
        handle_fail(t);
        return NULL;
    }
    Json *json = json_new_object();
    json_put(json, "schema_version", json_new_text("1"));
    json_put(json, "dataset", json_new_text(data));
    json_put(json, "total_rows", json_new_int(result.rows));
    json_put(json, "train_rows", json_new_int(result.train));
    json_put(json, "heldout_rows", json_new_int(result.held_out));
    json_put(json, "train", json_new_text(options.train));
    json_put(json, "heldout", json_new_text(options.held_out));
    return handle_json(t, json);
}
