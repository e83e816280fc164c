/* base.h — what every file may assume: sized integers, `must`, checked size arithmetic, slices.
 *
 * Owns no state. Three different things are never mixed here (style: errors):
 *   assert(x)  we have a proof; debug builds check it
 *   must(x)    always on; aborts with file:line; for what only a bug in this program can break
 *   Err        the world's fault; see err.h
 */
#ifndef CORE_BASE_H
#define CORE_BASE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define NORETURN __attribute__((noreturn))
#else
#define PRINTF_LIKE(fmt, args)
#define NORETURN
#endif

/* Prints "file:line: must(text)" to stderr and aborts. Never returns. */
NORETURN void must_failed(const char *text, const char *file, int line);
#define must(x) ((x) ? (void)0 : must_failed(#x, __FILE__, __LINE__))

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

/* *out = a * b (or a + b). False, *out untouched, when the result does not fit size_t. */
static inline bool size_mul(size_t a, size_t b, size_t *out)
{
    if (b != 0 && a > SIZE_MAX / b)
        return false;
    *out = a * b;
    return true;
}

static inline bool size_add(size_t a, size_t b, size_t *out)
{
    if (a > SIZE_MAX - b)
        return false;
    *out = a + b;
    return true;
}

#endif
