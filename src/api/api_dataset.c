/* api_dataset.c — the options of a dataset, from settings to data/dataset.h.
 *
 * Shared by everything that reads data with a model in mind: training, the preview, the report.
 */
#include "api/handle.h"

#include <string.h>

#include "core/thread.h"
#include "data/dataset.h"

static bool check_roles(const char *roles, Err *err)
{
    static const char *const known[] = {"user", "assistant", "system", "tool", "developer"};
    for (const char *at = roles; *at != '\0';) {
        const size_t len = strcspn(at, ",");
        bool found = len == 0;
        for (size_t i = 0; i < COUNT_OF(known); i++)
            found |= strlen(known[i]) == len && memcmp(known[i], at, len) == 0;
        if (!found)
            return err_set(err, ERR_CONFIG_INVALID_SETTING,
                           "'%.*s' is not a role for --require-roles (expected user, assistant, "
                           "system, tool, developer)",
                           (int)len, at);
        at += len + (at[len] == ',');
    }
    return true;
}

static Truncation truncation_of(const Settings *s)
{
    static const char *const names[] = {"end", "start", "split", "drop"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (settings_is(s, OPTION_TRUNCATION, names[i]))
            return (Truncation)i;
    }
    return TRUNCATE_END;
}

bool handle_dataset_options(bp_trainer *t, DatasetOptions *options)
{
    const Settings *s = &t->settings;
    const char *roles = settings_text(s, OPTION_REQUIRE_ROLES);
    *options = (DatasetOptions){
        .max_seq_length = (int32_t)settings_int(s, OPTION_MAX_SEQ_LENGTH, 2048),
        .truncation = truncation_of(s),
        .max_samples = settings_int(s, OPTION_SAMPLES, 0),
        .seed = (uint64_t)settings_int(s, OPTION_SEED, 42),
        .train_on_prompts = settings_flag(s, OPTION_TRAIN_ON_PROMPTS),
        .filter = {.min_tokens = settings_int(s, OPTION_MIN_TOKENS, 0),
                   .max_tokens = settings_int(s, OPTION_MAX_TOKENS, 0),
                   .min_turns = settings_int(s, OPTION_MIN_TURNS, 0),
                   .max_turns = settings_int(s, OPTION_MAX_TURNS, 0),
                   .roles = roles},
        .dedup = settings_is(s, OPTION_DEDUP, "exact")     ? DEDUP_EXACT
                 : settings_is(s, OPTION_DEDUP, "minhash") ? DEDUP_MINHASH
                                                           : DEDUP_NONE,
        .dup_threshold = settings_number(s, OPTION_DUP_THRESHOLD, 0.9),
        .held_out = settings_number(s, OPTION_EVAL_SPLIT, 0),
        .difficulty = settings_flag(s, OPTION_CURRICULUM),
    };
    threads_set((int)settings_int(s, OPTION_THREADS, 0));
    return check_roles(roles, &t->err);
}

DataTexts handle_data_texts(const bp_trainer *t)
{
    assert(t->tokenizer != NULL);
    return (DataTexts){t->tokenizer, t->chat_template};
}
