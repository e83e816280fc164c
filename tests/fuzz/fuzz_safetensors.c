// layer: format
/* fuzz_safetensors.c — any bytes as a safetensors file: st_parse accepts or refuses, never crashes.
 *
 * What it accepts is then used as a loader would: names and metadata are looked up, and every
 * tensor of a known type is decoded.
 */
#include <stdlib.h>
#include <string.h>

#include "format/quant.h"
#include "format/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile double sink;

static void use_tensor(const SafeTensors *st, const StTensor *tensor, Arena *scratch)
{
    if (st_find(st, tensor->name) != tensor || tensor->type_name == NULL)
        abort();
    if (!tensor->known || tensor->bytes == 0)
        return;
    int64_t elements = 1;
    for (int d = 0; d < tensor->n_dims; d++)
        elements *= tensor->shape[d];
    if (dtype_row_bytes(tensor->dtype, elements) != tensor->bytes)
        abort();
    float *values = arena_push(scratch, (size_t)elements * sizeof *values);
    quant_decode_row(tensor->dtype, tensor->data, values, elements);
    sink = (double)values[elements - 1];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Arena arena;
    Err err = {0};
    if (arena.base == NULL && !arena_open(&arena, 0, &err))
        abort();
    const size_t mark = arena_mark(&arena);
    SafeTensors st;
    if (st_parse(&st, data, size, "fuzz", ERR_DEP_MODEL_LOAD_FAILED, &arena, &err)) {
        for (size_t i = 0; i < st.n_tensors; i++)
            use_tensor(&st, &st.tensors[i], &arena);
        for (size_t i = 0; i < st.n_meta; i++) {
            const char *value = st_meta(&st, st.meta_keys[i]);
            if (value == NULL || strcmp(value, st.meta_values[i]) != 0)
                abort();
        }
    } else if (!err_is_set(&err)) {
        abort();
    }
    arena_rewind(&arena, mark);
    return 0;
}
