/* log.h — one log for the whole process: console or JSON lines, level, optional file, run id bound.
 *
 * Lines go to stderr and to the log file. Console form: "12:00:01 INFO  run_started run_id=…";
 * JSON form: one object a line with event, level, timestamp (ISO UTC), the bound fields, the given
 * fields. Secrets are redacted in both (patterns: log_redact.c). Never writes to stdout.
 */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include "core/err.h"
#include "core/str.h"

typedef enum LogLevel { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR } LogLevel;
typedef enum LogFormat { LOG_CONSOLE, LOG_JSON } LogFormat;

typedef struct LogOptions {
    LogLevel level;
    LogFormat format;
    const char *file; /* appended to; NULL = none */
    bool quiet;       /* nothing on stderr below ERROR (the file still gets everything) */
} LogOptions;

/* A library user's sink instead of stderr; called with whole lines, without newline. */
typedef void LogSink(void *context, LogLevel level, const char *line);

bool log_open(const LogOptions *options, Err *err);
void log_close(void);
void log_set_sink(LogSink *sink, void *context);
/* Binds `key=value` to every later line; value NULL unbinds. At most 8 bindings. */
void log_bind(const char *key, const char *value);

/* An event with fields: log_event(LOG_INFO, "run_started", "steps=%d model=%s", steps, model).
 * Fields are space-separated key=value; a value with spaces is quoted: key="a b". */
void log_event(LogLevel level, const char *event, const char *fields, ...) PRINTF_LIKE(3, 4);
#define log_debug(event, ...) log_event(LOG_DEBUG, event, __VA_ARGS__)
#define log_info(event, ...) log_event(LOG_INFO, event, __VA_ARGS__)
#define log_warn(event, ...) log_event(LOG_WARNING, event, __VA_ARGS__)
#define log_error(event, ...) log_event(LOG_ERROR, event, __VA_ARGS__)

/* Copies text into out with secrets replaced by <REDACTED>. */
void log_redact(Str text, Buf *out);

#endif
