/* start_linux.c — what must be settled before the first shared library starts.
 *
 * The OpenMP library reads its settings when it is loaded, before main. Its default lets a thread
 * that waits spin for milliseconds: on a machine with anything else to do that halves the speed.
 * A tenth of a millisecond bridges the gaps between products just as well (measured: the speed of
 * spinning on a quiet machine, twice that speed beside one busy program).
 */
#include "cli/cli.h"

#include <stdlib.h>

#include "core/os.h"

static void settle(int argc, char **argv, char **environment)
{
    (void)argc, (void)argv, (void)environment;
    if (os_env("OMP_WAIT_POLICY") == NULL)
        setenv("GOMP_SPINCOUNT", "10000", 0);
}

/* Run by the loader before any library's own start. */
static void (*const before_libraries)(int, char **, char **)
    __attribute__((used, section(".preinit_array"))) = settle;
