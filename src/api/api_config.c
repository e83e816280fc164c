/* api_config.c — the user's configuration file: showing what is in force and where it is from,
 * setting and forgetting. The file is read by settings.c; here it is written.
 */
#include "api/handle.h"

#include <string.h>
#include <strings.h>

#include "core/file.h"

/* Options that make sense for one call only. */
static bool is_lasting(OptionId id)
{
    const OptionRow *row = &option_rows[id];
    return row->kind != KIND_LIST && id != OPTION_RESUME && id != OPTION_JSON &&
           strcmp(row->verbs, " config ") != 0 && strcmp(row->verbs, " info ") != 0;
}

/* By its name, with '_' for '-' if one likes, or its variable. */
static int find_key(const char *key)
{
    for (int i = 0; i < OPTION_COUNT; i++) {
        const OptionRow *row = &option_rows[i];
        const char *a = row->name, *b = key;
        while (*a != '\0' && (*a == *b || (*a == '-' && *b == '_'))) {
            a++;
            b++;
        }
        if ((*a == '\0' && *b == '\0') ||
            (*row->variable != '\0' && strcasecmp(row->variable, key) == 0))
            return i;
    }
    return -1;
}

static bool unknown_key(bp_trainer *t, const char *key)
{
    const char *nearest = "lora-r";
    int best = 64;
    for (int i = 0; i < OPTION_COUNT; i++) {
        const int distance = str_distance(key, option_rows[i].name);
        if (distance < best && is_lasting((OptionId)i)) {
            best = distance;
            nearest = option_rows[i].name;
        }
    }
    err_set(&t->err, ERR_CONFIG_INVALID_SETTING, "'%s' is no setting that can be kept", key);
    return err_hint(&t->err, "Did you mean %s? `backprop config --show` lists them", nearest);
}

static bool save(bp_trainer *t, const Json *config)
{
    const char *path = config_path(&t->arena);
    if (path == NULL)
        return err_set(&t->err, ERR_CONFIG_INVALID, "there is no home folder to keep settings in");
    Buf text = {0};
    json_write(config, (JsonStyle){.indent = 2, .sorted = true}, &text);
    buf_char(&text, '\n');
    const bool ok =
        folder_make(path_parent(&t->arena, path), ERR_RUNTIME_IO_FAILED, &t->err) &&
        file_write_atomic(path, buf_view(&text), ERR_RUNTIME_IO_FAILED, &t->err);
    buf_free(&text);
    return ok;
}

static bool set_one(bp_trainer *t, Json *config, const char *assignment)
{
    const char *equals = strchr(assignment, '=');
    if (equals == NULL) {
        err_set(&t->err, ERR_CONFIG_INVALID_SETTING, "'%s' has no '='", assignment);
        return err_hint(&t->err, "Write backprop config --set lora-r=16");
    }
    const char *key = arena_strndup(&t->arena, assignment, (size_t)(equals - assignment));
    const int id = find_key(key);
    if (id < 0 || !is_lasting((OptionId)id))
        return unknown_key(t, key);
    if (!settings_set(&t->settings, (OptionId)id, equals + 1, FROM_CALLER, &t->err))
        return false;
    json_put(config, option_rows[id].name,
             json_new_text(settings_text(&t->settings, (OptionId)id)));
    return true;
}

bool bp_config_set(bp_trainer *t, const char *assignments)
{
    if (!handle_ok(t))
        return false;
    Json *config = config_load(&t->arena, &t->err);
    bool ok = config != NULL && assignments != NULL;
    for (const char *at = assignments; ok && *at != '\0';) {
        const size_t len = strcspn(at, "\n");
        ok = set_one(t, config, arena_strndup(&t->arena, at, len));
        at += len + (at[len] == '\n');
    }
    ok = ok && save(t, config);
    json_free(config);
    return ok || handle_fail(t);
}

bool bp_config_reset(bp_trainer *t)
{
    if (!handle_ok(t))
        return false;
    Json *nothing = json_new_object();
    const bool ok = save(t, nothing);
    json_free(nothing);
    return ok || handle_fail(t);
}

const char *bp_config_json(bp_trainer *t)
{
    if (!handle_ok(t))
        return NULL;
    Json *list = json_new_array();
    for (int i = 0; i < OPTION_COUNT; i++) {
        if (!is_lasting((OptionId)i))
            continue;
        const OptionRow *row = &option_rows[i];
        Json *one = json_new_object();
        json_put(one, "name", json_new_text(row->name));
        json_put(one, "value", json_new_text(settings_text(&t->settings, (OptionId)i)));
        json_put(one, "source", json_new_text(setting_source_name(t->settings.source[i])));
        json_put(one, "default", json_new_text(row->fallback));
        json_put(one, "env_var", json_new_text(*row->variable != '\0' ? row->variable : NULL));
        json_add(list, one);
    }
    Json *json = json_new_object();
    assert(json_len(list) > 0);
    json_put(json, "schema_version", json_new_text("1"));
    json_put(json, "file", json_new_text(config_path(&t->arena)));
    json_put(json, "settings", list);
    return handle_json(t, json);
}
