/* file_fault.c — the counter of durable operations and the fault armed on it.
 *
 * Owns three process-wide numbers. The checkpoint writer is a thread of its own, so the counter is
 * atomic; arming happens while nothing else runs.
 */
#include "core/file_fault.h"

#include "core/os.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static FileFault armed;
static uint64_t armed_at;
static _Atomic uint64_t count, pieces;

static void read_environment(void)
{
    static const struct {
        const char *prefix;
        FileFault fault;
    } FAULTS[] = {{"write:", FAULT_WRITE}, {"full:", FAULT_FULL}, {"kill:", FAULT_KILL},
                  {"memory:", FAULT_MEMORY}};
    const char *text = os_env("BACKPROPAGATE_FAULT");
    if (text == NULL)
        return;
    for (size_t i = 0; i < COUNT_OF(FAULTS); i++) {
        size_t len = strlen(FAULTS[i].prefix);
        if (strncmp(text, FAULTS[i].prefix, len) == 0) {
            armed = FAULTS[i].fault;
            armed_at = strtoull(text + len, NULL, 10);
        }
    }
}

void file_fault_set(FileFault fault, uint64_t n)
{
    must(fault == FAULT_NONE || n > 0);
    pthread_once(&once, read_environment);
    armed = fault;
    armed_at = n;
    atomic_store(&count, 0);
    atomic_store(&pieces, 0);
}

uint64_t file_fault_count(void) { return atomic_load(&count); }

static uint64_t count_one(void)
{
    pthread_once(&once, read_environment);
    uint64_t n = atomic_fetch_add(&count, 1) + 1;
    if (armed == FAULT_KILL && n == armed_at)
        os_die_now();
    return n;
}

int file_fault_check(void)
{
    uint64_t n = count_one();
    assert(n > 0);
    bool fails = (armed == FAULT_WRITE && n == armed_at) || (armed == FAULT_FULL && n >= armed_at);
    return fails ? ENOSPC : 0;
}

void file_fault_check_removal(void) { count_one(); }

bool memory_fault_check(void)
{
    pthread_once(&once, read_environment);
    const uint64_t n = atomic_fetch_add(&pieces, 1) + 1;
    assert(n > 0);
    return armed == FAULT_MEMORY && n == armed_at;
}
