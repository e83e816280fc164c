// layer: format
/* fuzz_gguf.c — any bytes as a GGUF file: gguf_parse accepts or refuses, and never crashes.
 *
 * What it accepts is then used as a loader would: every key is looked up and read, every array
 * element touched, the first and last row of every tensor decoded.
 */
#include <stdlib.h>
#include <string.h>

#include "format/gguf.h"
#include "format/quant.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile double sink;

static void use_value(const Gguf *gguf, const GgufValue *value, Arena *scratch)
{
    const char *key = arena_strndup(scratch, value->key.data, value->key.len);
    if (strlen(key) == value->key.len && gguf_find(gguf, key) != value)
        abort();
    double sum = (double)gguf_int(gguf, key, 1) + gguf_float(gguf, key, 1.0);
    sum += gguf_bool(gguf, key, true) + (double)gguf_str(gguf, key).len;
    for (uint64_t i = 0; value->type == GGUF_ARRAY && i < value->count; i++) {
        if (value->element == GGUF_STRING)
            sum += value->as.strs[i].len > 0 ? value->as.strs[i].data[0] : 0;
        else
            sum += gguf_array_number(value, i);
    }
    sink = sum;
}

static void use_tensor(const Gguf *gguf, const GgufTensor *tensor, Arena *scratch)
{
    if (gguf_tensor(gguf, tensor->name) != tensor)
        abort();
    const size_t row_bytes = dtype_row_bytes(tensor->dtype, tensor->ne[0]);
    if (tensor->bytes % row_bytes != 0)
        abort();
    float *row = arena_push(scratch, (size_t)tensor->ne[0] * sizeof *row);
    const uint8_t *bytes = tensor->data;
    quant_decode_row(tensor->dtype, bytes, row, tensor->ne[0]);
    quant_decode_row(tensor->dtype, bytes + tensor->bytes - row_bytes, row, tensor->ne[0]);
    sink = (double)row[0];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Arena arena;
    Err err = {0};
    if (arena.base == NULL && !arena_open(&arena, 0, &err))
        abort();
    const size_t mark = arena_mark(&arena);
    Gguf gguf;
    if (gguf_parse(&gguf, data, size, "fuzz", &arena, &err)) {
        for (uint64_t i = 0; i < gguf.n_values; i++)
            use_value(&gguf, &gguf.values[i], &arena);
        for (uint64_t i = 0; i < gguf.n_tensors; i++)
            use_tensor(&gguf, &gguf.tensors[i], &arena);
    } else if (!err_is_set(&err)) {
        abort();
    }
    arena_rewind(&arena, mark);
    return 0;
}
