/* base.c — the end of the line for a broken invariant.
 *
 * Owns must_failed alone. It formats into a stack buffer and writes to stderr without touching the
 * log: the log's own invariants may be the ones that broke.
 */
#include "core/base.h"

#include <stdio.h>
#include <stdlib.h>

void must_failed(const char *text, const char *file, int line)
{
    fprintf(stderr, "%s:%d: must(%s)\n", file, line, text);
    fflush(stderr);
    abort();
}
