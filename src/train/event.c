/* event.c — names of events and their JSON form, both derived from events.def.
 *
 * The JSON form is what `--json` progress, the web page and trackers read: its keys are the field
 * names of Event, so a new field is one row of the table.
 */
#include "train/event.h"

const char *event_name(EventKind kind)
{
    static const char *const names[EVENT_COUNT] = {
#define X(name, json, when) json,
#include "train/events.def"
    };
    must((int)kind >= 0 && kind < EVENT_COUNT);
    return names[kind];
}

const char *run_status_name(RunStatus status)
{
    static const char *const names[RUN_STATUS_COUNT] = {"completed", "interrupted", "failed"};
    must((int)status >= 0 && status < RUN_STATUS_COUNT);
    return names[status];
}

static Json *value_INT(int64_t value)
{
    return json_new_int(value);
}

static Json *value_DOUBLE(double value)
{
    return json_new_double(value);
}

static Json *value_TEXT(const char *value)
{
    return json_new_text(value);
}

static Json *value_STATUS(RunStatus value)
{
    return json_new_text(run_status_name(value));
}

/* null, or {"code", "message", "hint"}. */
static Json *value_ERROR(const Err *value)
{
    if (value == NULL)
        return json_new_null();
    Json *json = json_new_object();
    json_put(json, "code", json_new_text(err_info(value->code)->name));
    json_put(json, "message", json_new_text(value->message));
    json_put(json, "hint", json_new_text(err_hint_text(value)));
    return json;
}

Json *event_json(const Event *event)
{
    assert(event->kind < EVENT_COUNT);
    Json *json = json_new_object();
    json_put(json, "event", json_new_text(event_name(event->kind)));
#define F(name, field, kind_of_value) \
    if (event->kind == EVENT_##name) \
        json_put(json, #field, value_##kind_of_value(event->field));
#include "train/events.def"
    return json;
}
