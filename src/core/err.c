/* err.c — the error table made from errors.def, and the two functions that fill an Err.
 *
 * Owns no state: the table is constant, every Err belongs to its caller. The first error wins: a
 * set Err is never overwritten, so clean-up code may report its own failures without hiding the
 * cause.
 */
#include "core/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const ErrInfo TABLE[ERR_COUNT] = {
    [ERR_NONE] = {"NONE", 0, "no", "no error", ""},
#define X(name, exit_code, retry, what, hint) [ERR_##name] = {#name, exit_code, retry, what, hint},
#include "core/errors.def"
#undef X
};

const ErrInfo *err_info(ErrCode code)
{
    must((unsigned)code < ERR_COUNT);
    assert(TABLE[code].name != NULL);
    return &TABLE[code];
}

ErrCode err_code(const char *name)
{
    assert(name != NULL);
    for (int code = 1; code < ERR_COUNT; code++)
        if (strcmp(TABLE[code].name, name) == 0)
            return (ErrCode)code;
    return ERR_NONE;
}

bool err_set(Err *err, ErrCode code, const char *format, ...)
{
    assert(code > ERR_NONE && code < ERR_COUNT);
    if (err == NULL || err->code != ERR_NONE)
        return false;
    err->code = code;
    err->hint[0] = '\0';
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    return false;
}

bool err_hint(Err *err, const char *format, ...)
{
    if (err == NULL || err->code == ERR_NONE || err->hint[0] != '\0')
        return false;
    va_list args;
    va_start(args, format);
    vsnprintf(err->hint, sizeof err->hint, format, args);
    va_end(args);
    return false;
}

const char *err_hint_text(const Err *err)
{
    if (err == NULL || err->code == ERR_NONE)
        return "";
    return err->hint[0] != '\0' ? err->hint : err_info(err->code)->hint;
}
