/* settings.c — checking, storing and reading option values; the table is options.def.
 *
 * Values stay text until somebody asks for a number, so that what is stored in a checkpoint or
 * shown by `info` is what the user typed.
 */
#include "api/settings.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/log.h"

const OptionRow option_rows[OPTION_COUNT] = {
#define O(id, name, flag, letter, kind, values, fallback, variable, verbs, meta, help)             \
    {name, flag, letter, KIND_##kind, values, fallback, variable, verbs, meta, help},
#include "api/options.def"
#undef O
};

int settings_find(const char *name)
{
    assert(name != NULL);
    for (int i = 0; i < OPTION_COUNT; i++) {
        if (strcmp(option_rows[i].name, name) == 0)
            return i;
    }
    return -1;
}

static bool parse_number(const char *text, double *out)
{
    assert(text != NULL && out != NULL);
    char *end = NULL;
    errno = 0;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value) || strpbrk(text, "xXpP") != NULL)
        return false;
    *out = value;
    return true;
}

static bool parse_int(const char *text, int64_t *out)
{
    assert(text != NULL && out != NULL);
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno == ERANGE)
        return false;
    *out = value;
    return true;
}

static bool parse_flag(const char *text, bool *out)
{
    static const char *const yes[] = {"true", "1", "yes", "on"};
    static const char *const no[] = {"false", "0", "no", "off"};
    for (size_t i = 0; i < COUNT_OF(yes); i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *out = strcasecmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

/* The spelling in `values` ("a|b|1..9") that equals text whatever its case, NULL if none does. */
static const char *match_word(const char *values, const char *text, Arena *out)
{
    size_t len = strlen(text);
    assert(values != NULL);
    for (const char *at = values; *at != '\0' && len > 0;) {
        size_t n = strcspn(at, "|");
        if (n == len && strncasecmp(at, text, n) == 0)
            return arena_strndup(out, at, n);
        at += n + (at[n] == '|');
    }
    return NULL;
}

/* "auto|1..4096": the bounds of the last alternative. */
static bool in_range(const char *values, double value)
{
    const char *last = strrchr(values, '|');
    const char *range = last != NULL ? last + 1 : values;
    const char *dots = strstr(range, "..");
    if (dots == NULL)
        return true;
    return value >= strtod(range, NULL) && value <= strtod(dots + 2, NULL);
}

static bool check_value(Settings *settings, const OptionRow *row, const char **value)
{
    double number = 0;
    int64_t whole = 0;
    bool flag = false;
    const char *word = match_word(row->values, *value, settings->arena);
    switch (row->kind) {
    case KIND_FLAG:
        if (!parse_flag(*value, &flag))
            return false;
        *value = flag ? "true" : "false";
        return true;
    case KIND_CHOICE:
        if (word != NULL)
            *value = word;
        return word != NULL || **value == '\0';
    case KIND_INT:
        if (word != NULL && strchr(word, '.') == NULL) {
            *value = word;
            return true;
        }
        return parse_int(*value, &whole) && in_range(row->values, (double)whole);
    case KIND_NUMBER:
        if (word != NULL && strchr(word, '.') == NULL) {
            *value = word;
            return true;
        }
        return parse_number(*value, &number) && in_range(row->values, number);
    case KIND_LIST:
        return strchr(*value, '\r') == NULL;
    case KIND_TEXT:
        return strpbrk(*value, "\n\r") == NULL || strcmp(row->name, "system") == 0;
    }
    return false;
}

bool settings_set(Settings *settings, OptionId id, const char *value, SettingSource source,
                  Err *err)
{
    must(id < OPTION_COUNT && value != NULL);
    const OptionRow *row = &option_rows[id];
    if (source < settings->source[id])
        return true;
    const char *checked = value;
    if (!check_value(settings, row, &checked)) {
        const char *expected = *row->values != '\0'     ? row->values
                               : row->kind == KIND_FLAG ? "true or false"
                                                        : "one line of text";
        err_set(err, ERR_CONFIG_INVALID_SETTING, "'%s' is not a value for %s%s (expected %s)",
                value, source == FROM_CALLER ? "--" : "",
                source == FROM_CALLER ? row->flag : source == FROM_CONFIG ? row->name
                                                                          : row->variable,
                expected);
        if (source == FROM_CONFIG)
            err_hint(err, "The configuration file has it; correct or remove that line of it");
        return false;
    }
    settings->value[id] = arena_strdup(settings->arena, checked);
    settings->source[id] = source;
    return true;
}

/* Every member is text and the name of an option; others are left alone with a warning. */
static bool read_config(Settings *settings, Err *err)
{
    Json *config = config_load(settings->arena, err);
    const char *name;
    Json *value;
    bool ok = config != NULL;
    for (void *it = NULL; ok && (it = json_next(config, it, &name, &value)) != NULL;) {
        const int id = settings_find(name);
        if (id < 0 || !json_is_string(value))
            log_warn("config_unknown", "name=\"%s\" file=\"%s\"", name,
                     config_path(settings->arena));
        else
            ok = settings_set(settings, (OptionId)id, json_text(value), FROM_CONFIG, err);
    }
    json_free(config);
    return ok;
}

const char *setting_source_name(SettingSource source)
{
    static const char *const names[] = {"default", "config", ".env", "environment", "caller"};
    must((size_t)source < COUNT_OF(names));
    return names[source];
}

typedef struct EnvReading {
    Settings *settings;
    Err *err;
} EnvReading;

/* Names that the original read and that mean nothing here: said once, never an error. */
static bool is_dropped(const char *name)
{
    return strstr(name, "_DEFER_FEATURE_") != NULL || strstr(name, "_LLAMA_CPP_PATH") != NULL ||
           strstr(name, "TRUST_REMOTE_CODE") != NULL || strstr(name, "_WINDOWS__") != NULL;
}

static void warn_unknown(const char *name)
{
    if (is_dropped(name)) {
        log_warn("variable_ignored", "name=%s reason=\"has no meaning in this program\"", name);
        return;
    }
    const char *nearest = "";
    int best = 8;
    for (int i = 0; i < OPTION_COUNT; i++) {
        if (*option_rows[i].variable == '\0')
            continue;
        int distance = str_distance(name, option_rows[i].variable);
        if (distance < best) {
            best = distance;
            nearest = option_rows[i].variable;
        }
    }
    if (*nearest != '\0')
        log_warn("variable_unknown", "name=%s did_you_mean=%s", name, nearest);
    else
        log_warn("variable_unknown", "name=%s", name);
}

/* Read by core/os before any handle exists. */
static bool is_read_elsewhere(const char *name)
{
    return strcasecmp(name, "BACKPROPAGATE_CPU_ISA") == 0 ||
           strcasecmp(name, "BACKPROPAGATE_FAULT") == 0 ||
           strcasecmp(name, "BACKPROPAGATE_NVML") == 0 ||
           strcasecmp(name, "BACKPROPAGATE_DEBUG") == 0;
}

static bool read_variable(void *context, const char *name, const char *value, SettingSource source)
{
    EnvReading *reading = context;
    if (strncasecmp(name, "BACKPROPAGATE_", 14) != 0 || *value == '\0' || is_read_elsewhere(name))
        return true;
    if (strcasecmp(name, "BACKPROPAGATE_LOG_JSON") == 0) {
        bool json = false;
        if (!parse_flag(value, &json))
            return err_set(reading->err, ERR_CONFIG_INVALID_SETTING,
                           "'%s' is not a value for %s (expected true or false)", value, name);
        return settings_set(reading->settings, OPTION_LOG_FORMAT, json ? "json" : "console", source,
                            reading->err);
    }
    for (int i = 0; i < OPTION_COUNT; i++) {
        if (*option_rows[i].variable != '\0' && strcasecmp(name, option_rows[i].variable) == 0)
            return settings_set(reading->settings, (OptionId)i, value, source, reading->err);
    }
    warn_unknown(name);
    return true;
}

bool settings_open(Settings *settings, Arena *arena, Err *err)
{
    *settings = (Settings){.arena = arena};
    for (int i = 0; i < OPTION_COUNT; i++)
        settings->value[i] = option_rows[i].fallback;
    EnvReading reading = {settings, err};
    return read_config(settings, err) && env_visit_all(arena, read_variable, &reading, err);
}

const char *settings_text(const Settings *settings, OptionId id)
{
    assert(settings->value[id] != NULL);
    return settings->value[id];
}

bool settings_flag(const Settings *settings, OptionId id)
{
    assert(option_rows[id].kind == KIND_FLAG);
    return strcmp(settings->value[id], "true") == 0;
}

bool settings_is(const Settings *settings, OptionId id, const char *word)
{
    assert(id < OPTION_COUNT && word != NULL);
    return strcmp(settings->value[id], word) == 0;
}

int64_t settings_int(const Settings *settings, OptionId id, int64_t when_a_word)
{
    assert(option_rows[id].kind == KIND_INT);
    int64_t value = 0;
    return parse_int(settings->value[id], &value) ? value : when_a_word;
}

double settings_number(const Settings *settings, OptionId id, double when_a_word)
{
    assert(option_rows[id].kind == KIND_NUMBER);
    double value = 0;
    return parse_number(settings->value[id], &value) ? value : when_a_word;
}

bool settings_given(const Settings *settings, OptionId id)
{
    return settings->source[id] != FROM_DEFAULT;
}
