/* log.c — the process's log: lines to stderr (or a sink) and to a file, with secrets redacted.
 *
 * Owns the one log state, guarded by a mutex: any thread may log. A line is built whole, redacted
 * before it is split into fields, and written by one call. Redaction itself is log_redact.c.
 */
#include "core/log.h"

#include "core/arena.h"
#include "core/json.h"
#include "core/os.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { BINDING_MAX = 8, BINDING_KEY_MAX = 32, BINDING_VALUE_MAX = 96, LINE_MAX_BYTES = 1 << 16 };

typedef struct Binding {
    char key[BINDING_KEY_MAX];
    char value[BINDING_VALUE_MAX];
} Binding;

static struct {
    pthread_mutex_t lock;
    LogOptions options;
    FILE *file;
    LogSink *sink;
    void *sink_context;
    Binding bindings[BINDING_MAX];
    int n_bindings;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER, .options = {.level = LOG_INFO}};

static const char *const LEVEL_NAMES[] = {"DEBUG", "INFO", "WARNING", "ERROR"};

bool log_open(const LogOptions *options, Err *err)
{
    assert(options != NULL);
    assert(options->level >= LOG_DEBUG && options->level <= LOG_ERROR);
    log_close();
    FILE *file = NULL;
    int error = 0;
    if (options->file != NULL) {
        file = fopen(options->file, "ae");
        error = file == NULL ? errno : 0;
    }
    pthread_mutex_lock(&state.lock);
    state.options = *options;
    state.options.file = NULL; /* the caller's string; the open file stands for it */
    state.file = file;
    pthread_mutex_unlock(&state.lock);
    if (error != 0)
        return err_set(err, ERR_CONFIG_INVALID_SETTING, "cannot append to log file '%s': %s",
                       options->file, strerror(error));
    return true;
}

void log_close(void)
{
    pthread_mutex_lock(&state.lock);
    if (state.file != NULL)
        fclose(state.file);
    state.file = NULL;
    state.options = (LogOptions){.level = LOG_INFO};
    state.n_bindings = 0;
    pthread_mutex_unlock(&state.lock);
}

void log_set_sink(LogSink *sink, void *context)
{
    pthread_mutex_lock(&state.lock);
    state.sink = sink;
    state.sink_context = context;
    pthread_mutex_unlock(&state.lock);
}

static int find_binding(const char *key)
{
    for (int i = 0; i < state.n_bindings; i++)
        if (strcmp(state.bindings[i].key, key) == 0)
            return i;
    return -1;
}

void log_bind(const char *key, const char *value)
{
    must(key != NULL && strlen(key) < BINDING_KEY_MAX);
    pthread_mutex_lock(&state.lock);
    int i = find_binding(key);
    if (value == NULL && i >= 0) {
        state.n_bindings--;
        memmove(&state.bindings[i], &state.bindings[i + 1],
                (size_t)(state.n_bindings - i) * sizeof *state.bindings);
    } else if (value != NULL) {
        must(i >= 0 || state.n_bindings < BINDING_MAX);
        Binding *to = &state.bindings[i >= 0 ? i : state.n_bindings++];
        snprintf(to->key, sizeof to->key, "%s", key);
        snprintf(to->value, sizeof to->value, "%s", value);
    }
    pthread_mutex_unlock(&state.lock);
}

/* A quote inside a quoted value is no end of it: behind the end comes nothing, or " key=". */
static bool closes_value(Str s, size_t quote)
{
    size_t i = quote + 1;
    if (i >= s.len)
        return true;
    if (s.data[i++] != ' ')
        return false;
    size_t start = i;
    while (i < s.len && (isalnum((unsigned char)s.data[i]) || s.data[i] == '_'))
        i++;
    return i > start && i < s.len && s.data[i] == '=';
}

/* Takes the next key=value from s at *pos; the value's quotes are dropped. A word without '=' has
 * an empty key. */
static bool next_field(Str s, size_t *pos, Str *key, Str *value)
{
    size_t i = *pos;
    while (i < s.len && s.data[i] == ' ')
        i++;
    if (i >= s.len)
        return false;
    size_t start = i;
    while (i < s.len && s.data[i] != ' ' && s.data[i] != '=')
        i++;
    if (i >= s.len || s.data[i] == ' ') {
        *key = STR("");
        *value = str_sub(s, start, i);
        *pos = i;
        return true;
    }
    *key = str_sub(s, start, i++);
    bool quoted = i < s.len && s.data[i] == '"';
    size_t from = quoted ? ++i : i;
    while (i < s.len && !(quoted ? s.data[i] == '"' && closes_value(s, i) : s.data[i] == ' '))
        i++;
    *value = str_sub(s, from, i);
    *pos = quoted && i < s.len ? i + 1 : i;
    return true;
}

/* A field's value in JSON: a number when it is written as one, else text. */
static Json *field_json(Str value)
{
    bool number = value.len > 0 && value.len < 32;
    for (size_t i = 0; number && i < value.len; i++)
        number = strchr("0123456789+-.eE", value.data[i]) != NULL && value.data[i] != '\0';
    Json *json = number ? json_parse(value, "log field", ERR_INTERNAL_ERROR, NULL) : NULL;
    return json != NULL ? json : json_new_str(value);
}

static void build_json(LogLevel level, Str event, Str fields, Buf *line)
{
    char now[32];
    os_time_iso_utc(now);
    Json *json = json_new_object();
    json_put(json, "event", json_new_str(event));
    json_put(json, "level", json_new_text(LEVEL_NAMES[level]));
    json_put(json, "timestamp", json_new_text(now));
    for (int i = 0; i < state.n_bindings; i++)
        json_put(json, state.bindings[i].key, json_new_text(state.bindings[i].value));
    Str key, value;
    Buf text = {0}, name = {0};
    for (size_t pos = 0; next_field(fields, &pos, &key, &value);) {
        buf_clear(&name);
        buf_str(&name, key);
        if (key.len > 0 && utf8_valid(key) && json_get(json, name.data) == NULL) {
            json_put(json, name.data, field_json(value));
            continue;
        }
        /* a bare word, or a value that tries to pass for "level" or "event" */
        buf_printf(&text, "%s%s%s", text.len > 0 ? " " : "", key.len > 0 ? name.data : "",
                   key.len > 0 ? "=" : "");
        buf_str(&text, value);
    }
    if (text.len > 0)
        json_put(json, "message", json_new_str(buf_view(&text)));
    json_write(json, (JsonStyle){0}, line);
    buf_free(&text);
    buf_free(&name);
    json_free(json);
}

/* Control characters would let a value forge a line or drive the terminal. */
static void append_visible(Buf *line, Str text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c == '\n')
            buf_text(line, "\\n");
        else if (c < 0x20 || c == 0x7F)
            buf_printf(line, "\\x%02x", c);
        else
            buf_char(line, (char)c);
    }
}

static void build_console(LogLevel level, Str event, Str fields, Buf *line)
{
    char now[32];
    os_time_iso(now);
    buf_printf(line, "%.8s %-7s ", now + 11, LEVEL_NAMES[level]);
    append_visible(line, event);
    if (fields.len > 0)
        buf_char(line, ' ');
    append_visible(line, fields);
    for (int i = 0; i < state.n_bindings; i++) {
        buf_printf(line, " %s=", state.bindings[i].key);
        append_visible(line, str_of(state.bindings[i].value));
    }
}

/* Called with the lock held. */
static void emit(LogLevel level, const char *text)
{
    if (state.file != NULL) {
        fprintf(state.file, "%s\n", text);
        fflush(state.file); /* a killed run's log must tell how far it came */
    }
    if (state.options.quiet && level < LOG_ERROR)
        return;
    if (state.sink != NULL)
        state.sink(state.sink_context, level, text);
    else
        fprintf(stderr, "%s\n", text);
}

void log_event(LogLevel level, const char *event, const char *fields, ...)
{
    must(event != NULL && fields != NULL);
    must(level >= LOG_DEBUG && level <= LOG_ERROR);
    pthread_mutex_lock(&state.lock);
    if (level >= state.options.level) {
        va_list args;
        va_start(args, fields);
        char *raw = heap_resize(NULL, LINE_MAX_BYTES);
        int len = vsnprintf(raw, LINE_MAX_BYTES, fields, args);
        va_end(args);
        size_t kept = len < 0 ? 0 : len < LINE_MAX_BYTES ? (size_t)len : LINE_MAX_BYTES - 1;
        Buf safe = {0}, line = {0};
        log_redact((Str){raw, kept}, &safe);
        if (state.options.format == LOG_JSON)
            build_json(level, str_of(event), buf_view(&safe), &line);
        else
            build_console(level, str_of(event), buf_view(&safe), &line);
        emit(level, line.data);
        buf_free(&line);
        buf_free(&safe);
        heap_free(raw);
    }
    pthread_mutex_unlock(&state.lock);
}
