/* api_replay.c — bp_replay: an earlier run once more, with its own options or some of them changed.
 * The new run has an id of its own and goes the way of every run; nothing of the old one but its
 * options is read.
 */
#include "api/handle.h"
#include "api/run_options.h"

#include <string.h>

#include "runs/history.h"

/* The lines of --override, each name=value; also as an object for the result. */
static bool take_overrides(bp_trainer *t, Json *taken)
{
    Str rest = str_of(settings_text(&t->settings, OPTION_OVERRIDE));
    while (rest.len > 0) {
        const char *end = memchr(rest.data, '\n', rest.len);
        const size_t len = end != NULL ? (size_t)(end - rest.data) : rest.len;
        const Str line = str_sub(rest, 0, len);
        rest = str_sub(rest, len + (end != NULL), rest.len);
        const char *equals = memchr(line.data, '=', line.len);
        if (equals == NULL) {
            err_set(&t->err, ERR_CONFIG_INVALID, "the override '%.*s' has no '='", (int)line.len,
                    line.data);
            return err_hint(&t->err, "Write --override name=value");
        }
        const size_t name_len = (size_t)(equals - line.data);
        const char *name = arena_printf(&t->arena, "%.*s", (int)name_len, line.data);
        const char *value =
            arena_printf(&t->arena, "%.*s", (int)(line.len - name_len - 1), equals + 1);
        if (!run_options_override(t, str_of(name), value))
            return false;
        json_put(taken, name, json_new_text(value));
    }
    return true;
}

static bool replay(bp_trainer *t, const Json *entry, Json *overrides)
{
    Json *stored = run_options_of(entry);
    bool ok = run_options_restore(t, stored) && take_overrides(t, overrides);
    json_free(stored);
    if (ok && *settings_text(&t->settings, OPTION_DATA) == '\0') {
        err_set(&t->err, ERR_INPUT_VALIDATION_FAILED, "run '%s' has no data file recorded",
                json_text(json_get(entry, "run_id")));
        ok = err_hint(&t->err, "Start a new run with backprop train --data");
    }
    return ok && settings_set(&t->settings, OPTION_RESUME, "", FROM_CALLER, &t->err);
}

bool bp_replay(bp_trainer *t, const char *run_id)
{
    if (!handle_ok(t))
        return false;
    Json *entry = history_find(settings_text(&t->settings, OPTION_OUTPUT),
                               run_id != NULL ? run_id : "", &t->err);
    Json *overrides = json_new_object();
    bool ok = entry != NULL && replay(t, entry, overrides);
    if (!ok)
        handle_fail(t);
    const SessionKind kind = session_kind_of(entry);
    ok = ok && (kind == SESSION_MULTI ? bp_multi_run(t, NULL) : bp_train(t, NULL, NULL));
    if (ok && t->result != NULL) {
        json_put(t->result, "original_run_id", json_clone(json_get(entry, "run_id")));
        json_put(t->result, "session_kind", json_new_text(session_kind_name(kind)));
        json_put(t->result, "model", json_new_text(settings_text(&t->settings, OPTION_MODEL)));
        json_put(t->result, "dataset", json_new_text(settings_text(&t->settings, OPTION_DATA)));
        json_put(t->result, "overrides", json_clone(overrides));
    }
    json_free(overrides);
    json_free(entry);
    return ok;
}
