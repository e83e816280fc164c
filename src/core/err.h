/* err.h — the error that a fallible function hands back: a code from errors.def, a message, a hint.
 *
 * A function that can fail returns bool (or a pointer, NULL = failed) and takes `Err *err` last.
 * err is untouched on success; the first error wins (a set Err is never overwritten).
 * Message grammar: lower-case, what failed first, the subject in single quotes, no full stop. The
 * hint is a separate sentence that starts with a verb and names a command or flag.
 */
#ifndef CORE_ERR_H
#define CORE_ERR_H

#include "core/base.h"

typedef enum ErrCode {
    ERR_NONE = 0,
#define X(name, exit_code, retry, what, hint) ERR_##name,
#include "core/errors.def"
#undef X
    ERR_COUNT
} ErrCode;

typedef struct Err {
    ErrCode code; /* ERR_NONE = no error */
    char message[600];
    char hint[400]; /* empty = the code's own hint */
} Err;

typedef struct ErrInfo {
    const char *name;  /* "INPUT_DATASET_NOT_FOUND": the stable contract */
    int exit_code;     /* what the program exits with when this error ends it */
    const char *retry; /* "yes", "no" or "sometimes": whether the same call may work later */
    const char *what;  /* when it happens, one line */
    const char *hint;  /* default hint */
} ErrInfo;

/* The row of errors.def; never NULL. */
const ErrInfo *err_info(ErrCode code);
/* The code of that name, ERR_NONE if there is none. */
ErrCode err_code(const char *name);

/* Sets code and message if err is not set yet (err may be NULL). Always returns false, so that
 * `return err_set(err, CODE, ...)` reads as one line. */
bool err_set(Err *err, ErrCode code, const char *format, ...) PRINTF_LIKE(3, 4);
/* Replaces the default hint of an error just set. Always returns false. */
bool err_hint(Err *err, const char *format, ...) PRINTF_LIKE(2, 3);
/* The error's own hint or its code's default one; never NULL, may be empty. */
const char *err_hint_text(const Err *err);
static inline bool err_is_set(const Err *err) { return err != NULL && err->code != ERR_NONE; }

#endif
