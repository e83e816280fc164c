// layer: format
/* fuzz_imatrix.c — any bytes as an importance matrix: imatrix_parse accepts or refuses, and never
 * crashes. What it accepts is then found by name and read to the last value.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "format/imatrix.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile float sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Arena arena;
    Err err = {0};
    if (arena.base == NULL && !arena_open(&arena, 0, &err))
        abort();
    const size_t mark = arena_mark(&arena);
    Imatrix imatrix;
    if (imatrix_parse(&imatrix, data, size, "fuzz", &arena, &err)) {
        for (size_t i = 0; i < imatrix.n_entries; i++) {
            const ImatrixEntry *entry = &imatrix.entries[i];
            if (strlen(entry->name.data) == entry->name.len &&
                imatrix_find(&imatrix, entry->name.data) != entry)
                abort();
            float sum = 0;
            for (int64_t j = 0; j < entry->n; j++)
                sum += entry->values[j];
            if (entry->n < 1 || isnan(entry->values[0]))
                abort();
            sink = sum;
        }
    } else if (!err_is_set(&err)) {
        abort();
    }
    arena_rewind(&arena, mark);
    return 0;
}
