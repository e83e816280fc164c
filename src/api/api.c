/* api.c — the handle: open, close, sticky errors, options, events. See backprop.h.
 *
 * The first error wins and is published once: to the log, and to stderr when nobody listens.
 */
#include "api/handle.h"

#include <stdio.h>
#include <string.h>

#include "core/file.h"
#include "core/log.h"
#include "core/thread.h"

const char *bp_version(void)
{
    return BP_VERSION;
}

bp_trainer *bp_open(const char *model, const bp_open_options *options)
{
    bp_trainer *t = heap_resize(NULL, sizeof *t);
    *t = (bp_trainer){.loaded = false};
    if (!arena_open(&t->arena, 0, &t->err)) {
        handle_fail(t);
        return t;
    }
    bool ok = settings_open(&t->settings, &t->arena, &t->err);
    if (ok && options != NULL && options->device != NULL)
        ok = settings_set(&t->settings, OPTION_DEVICE, options->device, FROM_CALLER, &t->err);
    if (ok && options != NULL && options->output != NULL)
        ok = settings_set(&t->settings, OPTION_OUTPUT, options->output, FROM_CALLER, &t->err);
    if (ok && model != NULL)
        ok = settings_set(&t->settings, OPTION_MODEL, model, FROM_CALLER, &t->err);
    if (!ok)
        handle_fail(t);
    return t;
}

int bp_close(bp_trainer *t)
{
    if (t == NULL)
        return 0;
    int code = err_is_set(&t->err) ? err_info(t->err.code)->exit_code : 0;
    tokenizer_close(t->tokenizer);
    gguf_close(&t->texts);
    model_close(&t->model);
    json_free(t->result);
    buf_free(&t->text);
    buf_free(&t->answer);
    arena_close(&t->arena);
    heap_free(t);
    return code;
}

bool handle_fail(bp_trainer *t)
{
    must(err_is_set(&t->err));
    const ErrInfo *info = err_info(t->err.code);
    bool first = t->public_error.code == NULL;
    t->public_error = (bp_error){.code = info->name,
                                 .message = t->err.message,
                                 .hint = err_hint_text(&t->err),
                                 .exit_code = info->exit_code};
    if (first && t->on_event == NULL) {
        Buf clean = {0};
        log_redact(str_of(t->err.message), &clean);
        fprintf(stderr, "[%s] %s\n", info->name, clean.data != NULL ? clean.data : "");
        if (*t->public_error.hint != '\0')
            fprintf(stderr, "  %s\n", t->public_error.hint);
        buf_free(&clean);
    }
    return false;
}

const bp_error *bp_last_error(const bp_trainer *t)
{
    return t != NULL && t->public_error.code != NULL ? &t->public_error : NULL;
}

bool bp_set(bp_trainer *t, const char *name, const char *value)
{
    if (!handle_ok(t))
        return false;
    int id = settings_find(name != NULL ? name : "");
    if (id < 0) {
        err_set(&t->err, ERR_CONFIG_INVALID_SETTING, "there is no option '%s'",
                name != NULL ? name : "(null)");
        return handle_fail(t);
    }
    if (!settings_set(&t->settings, (OptionId)id, value != NULL ? value : "", FROM_CALLER, &t->err))
        return handle_fail(t);
    return true;
}

const char *bp_get(const bp_trainer *t, const char *name)
{
    int id = t != NULL && name != NULL ? settings_find(name) : -1;
    return id < 0 ? NULL : settings_text(&t->settings, (OptionId)id);
}

static const char *const kind_names[] = {"flag", "int", "number", "choice", "text", "list"};

const bp_option *bp_options(size_t *count)
{
    static bp_option public_rows[OPTION_COUNT];
    for (int i = 0; i < OPTION_COUNT && public_rows[OPTION_COUNT - 1].name == NULL; i++) {
        const OptionRow *row = &option_rows[i];
        public_rows[i] =
            (bp_option){row->name,   row->flag,     row->letter,   kind_names[row->kind],
                        row->values, row->fallback, row->variable, row->verbs,
                        row->meta,   row->help};
    }
    *count = OPTION_COUNT;
    return public_rows;
}

const bp_error_row *bp_errors(size_t *count)
{
    static bp_error_row rows[ERR_COUNT - 1];
    for (int i = 1; i < ERR_COUNT; i++) {
        const ErrInfo *info = err_info((ErrCode)i);
        rows[i - 1] =
            (bp_error_row){info->name, info->retry, info->what, info->hint, info->exit_code};
    }
    *count = ERR_COUNT - 1;
    return rows;
}

void bp_on_event(bp_trainer *t, bp_event_fn *fn, void *context)
{
    if (t == NULL)
        return;
    t->on_event = fn;
    t->on_event_context = context;
}

void bp_stop(bp_trainer *t)
{
    if (t != NULL)
        t->stop = 1;
}

void handle_phase(bp_trainer *t, const char *text)
{
    assert(t != NULL && text != NULL);
    if (t->on_event != NULL)
        t->on_event(t->on_event_context, &(bp_event){.name = "phase", .text = text});
}

const char *handle_json(bp_trainer *t, Json *json)
{
    assert(json != NULL);
    buf_clear(&t->text);
    json_write(json, (JsonStyle){.indent = 2}, &t->text);
    json_free(json);
    return t->text.data;
}

const char *bp_result_json(bp_trainer *t)
{
    if (t == NULL)
        return NULL;
    Json *json = t->result != NULL ? json_clone(t->result) : json_new_object();
    json_put(json, "schema_version", json_new_text("1"));
    if (t->public_error.code != NULL) {
        Json *error = json_new_object();
        json_put(error, "code", json_new_text(t->public_error.code));
        json_put(error, "message", json_new_text(t->public_error.message));
        json_put(error, "hint", json_new_text(t->public_error.hint));
        json_put(json, "error", error);
    }
    return handle_json(t, json);
}
