/* gguf_read.c — reads and checks GGUF files, versions 2 and 3 (ggml, docs/gguf.md).
 *
 * Layout, little-endian throughout:
 *   magic "GGUF", u32 version, u64 n_tensors, u64 n_keys
 *   n_keys    x { string key, u32 type, value }       string = u64 length, bytes (no NUL)
 *             a value of type array = u32 element type, u64 count, elements; never of arrays
 *   n_tensors x { string name, u32 n_dims, u64 ne[n_dims] (ne[0] innermost), u32 element type,
 *                 u64 offset from the start of the data }
 *   zero bytes up to the alignment (key general.alignment, default 32), then the data of the
 *   tensors in the same order, each padded to the alignment. Offsets must be exactly that running
 *   sum. Version 1 had 32-bit lengths and is refused; versions 2 and 3 share this layout.
 *
 * Every byte is read through take(), which checks bounds; every count has a named limit and is
 * compared with the bytes left before memory is asked for, so memory stays proportional to the
 * file. What was read is checked as ggml's reader does: keys and names unique and not empty, names
 * below 64 bytes, types known, rows of whole blocks.
 */
#include "format/gguf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "format/gguf_layout.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied as they lie");
static_assert(sizeof(float) == 4 && sizeof(double) == 8, "IEEE floats");

typedef struct Reader {
    const uint8_t *data;
    size_t size, position;
    const char *subject;
    Arena *out;
    Err *err;
} Reader;

/* Names of ggml's types by id, for messages about those that we do not read. */
static const char *const ggml_type_names[] = {
    [0] = "F32", [1] = "F16", [2] = "Q4_0", [3] = "Q4_1", [6] = "Q5_0", [7] = "Q5_1",
    [8] = "Q8_0", [9] = "Q8_1", [10] = "Q2_K", [11] = "Q3_K", [12] = "Q4_K", [13] = "Q5_K",
    [14] = "Q6_K", [15] = "Q8_K", [16] = "IQ2_XXS", [17] = "IQ2_XS", [18] = "IQ3_XXS",
    [19] = "IQ1_S", [20] = "IQ4_NL", [21] = "IQ3_S", [22] = "IQ2_S", [23] = "IQ4_XS", [24] = "I8",
    [25] = "I16", [26] = "I32", [27] = "I64", [28] = "F64", [29] = "IQ1_M", [30] = "BF16",
    [34] = "TQ1_0", [35] = "TQ2_0", [39] = "MXFP4", [40] = "NVFP4", [41] = "Q1_0", [42] = "Q2_0",
};

PRINTF_LIKE(2, 3) static bool fail(Reader *r, const char *format, ...)
{
    char what[400];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return err_set(r->err, ERR_DEP_MODEL_LOAD_FAILED, "cannot read '%s': %s", r->subject, what);
}

static bool fail_short(Reader *r, const char *what)
{
    fail(r, "the file ends inside %s (%zu bytes)", what, r->size);
    return err_hint(r->err, "Copy or download the file again: it is shorter than it says");
}

static size_t left(const Reader *r)
{
    assert(r->position <= r->size);
    return r->size - r->position;
}

/* The next `bytes` bytes, or NULL with the error set. `what` names the part for the message. */
static const uint8_t *take(Reader *r, size_t bytes, const char *what)
{
    if (bytes > left(r)) {
        fail_short(r, what);
        return NULL;
    }
    const uint8_t *at = r->data + r->position;
    r->position += bytes;
    return at;
}

static bool take_copy(Reader *r, void *value, size_t bytes, const char *what)
{
    const uint8_t *at = take(r, bytes, what);
    if (at == NULL)
        return false;
    memcpy(value, at, bytes);
    return true;
}

static bool take_u32(Reader *r, uint32_t *value, const char *what)
{
    return take_copy(r, value, sizeof *value, what);
}

static bool take_u64(Reader *r, uint64_t *value, const char *what)
{
    return take_copy(r, value, sizeof *value, what);
}

static bool take_str(Reader *r, Str *value, uint64_t limit, const char *what)
{
    uint64_t len;
    if (!take_u64(r, &len, what))
        return false;
    if (len > left(r))
        return fail_short(r, what);
    if (len > limit)
        return fail(r, "%s has %llu bytes, more than %llu", what, (unsigned long long)len,
                    (unsigned long long)limit);
    value->len = (size_t)len;
    value->data = (const char *)take(r, (size_t)len, what);
    return value->data != NULL;
}

/* A number as it lies in the file, widened. type is a scalar kind. */
static void widen(GgufType type, const uint8_t *at, GgufValue *value)
{
    uint64_t raw = 0;
    memcpy(&raw, at, gguf_type_bytes(type));
    float single;
    switch (type) {
    case GGUF_I8:
        value->as.i = (int8_t)raw;
        return;
    case GGUF_I16:
        value->as.i = (int16_t)raw;
        return;
    case GGUF_I32:
        value->as.i = (int32_t)raw;
        return;
    case GGUF_I64:
        value->as.i = (int64_t)raw;
        return;
    case GGUF_F32:
        memcpy(&single, at, sizeof single);
        value->as.f = (double)single;
        return;
    case GGUF_F64:
        memcpy(&value->as.f, at, sizeof value->as.f);
        return;
    case GGUF_BOOL:
        value->as.u = raw != 0;
        return;
    default:
        assert(type == GGUF_U8 || type == GGUF_U16 || type == GGUF_U32 || type == GGUF_U64);
        value->as.u = raw;
    }
}

static bool read_strings(Reader *r, GgufValue *value, const char *what)
{
    if (value->count > left(r) / GGUF_MIN_STRING_BYTES)
        return fail_short(r, what);
    Str *strs = NULL;
    if (value->count > 0)
        strs = arena_array(r->out, Str, value->count);
    for (uint64_t i = 0; i < value->count; i++) {
        if (!take_str(r, &strs[i], GGUF_MAX_STRING, what))
            return false;
    }
    value->as.strs = strs;
    return true;
}

static bool read_array(Reader *r, GgufValue *value, const char *what)
{
    uint32_t element;
    if (!take_u32(r, &element, what) || !take_u64(r, &value->count, what))
        return false;
    if (element >= GGUF_TYPE_COUNT)
        return fail(r, "%s has elements of unknown type %u", what, element);
    if (element == GGUF_ARRAY)
        return fail(r, "%s is an array of arrays, which GGUF readers do not accept", what);
    value->element = (GgufType)element;
    if (value->element == GGUF_STRING)
        return read_strings(r, value, what);
    const size_t element_bytes = gguf_type_bytes(value->element);
    if (value->count > left(r) / element_bytes)
        return fail_short(r, what);
    value->as.raw = take(r, (size_t)value->count * element_bytes, what);
    return value->as.raw != NULL;
}

static bool read_value(Reader *r, GgufValue *value, uint64_t number)
{
    char what[120];
    snprintf(what, sizeof what, "key %llu", (unsigned long long)number);
    if (!take_str(r, &value->key, GGUF_MAX_KEY, what))
        return false;
    if (value->key.len == 0)
        return fail(r, "%s is empty", what);
    snprintf(what, sizeof what, "key '%s'", name_shown(value->key).text);
    uint32_t type;
    if (!take_u32(r, &type, what))
        return false;
    if (type >= GGUF_TYPE_COUNT)
        return fail(r, "%s is of unknown type %u", what, type);
    value->type = (GgufType)type;
    if (value->type == GGUF_ARRAY)
        return read_array(r, value, what);
    if (value->type == GGUF_STRING)
        return take_str(r, &value->as.str, GGUF_MAX_STRING, what);
    const uint8_t *at = take(r, gguf_type_bytes(value->type), what);
    if (at == NULL)
        return false;
    widen(value->type, at, value);
    return true;
}

static bool read_header(Reader *r, Gguf *gguf)
{
    if (r->size == 0)
        return fail(r, "the file is empty");
    if (r->size < 4 || memcmp(r->data, "GGUF", 4) != 0)
        return fail(r, "it does not start with 'GGUF', so it is no GGUF file");
    r->position = 4;
    if (!take_u32(r, &gguf->version, "its header"))
        return false;
    if (gguf->version != 0 && (gguf->version & 0xffff) == 0)
        return fail(r, "it is a big-endian GGUF file, which this program does not read");
    if (gguf->version < GGUF_MIN_VERSION || gguf->version > GGUF_MAX_VERSION)
        return fail(r, "GGUF version %u is not one of %d to %d", gguf->version, GGUF_MIN_VERSION,
                    GGUF_MAX_VERSION);
    if (!take_u64(r, &gguf->n_tensors, "its header") || !take_u64(r, &gguf->n_values, "its header"))
        return false;
    if (gguf->n_values > GGUF_MAX_KEYS)
        return fail(r, "it claims %llu keys, more than %d", (unsigned long long)gguf->n_values,
                    GGUF_MAX_KEYS);
    if (gguf->n_tensors > GGUF_MAX_TENSORS)
        return fail(r, "it claims %llu tensors, more than %d",
                    (unsigned long long)gguf->n_tensors, GGUF_MAX_TENSORS);
    if (gguf->n_values > left(r) / GGUF_MIN_KEY_BYTES)
        return fail_short(r, "its keys");
    if (gguf->n_tensors > left(r) / GGUF_MIN_TENSOR_BYTES)
        return fail_short(r, "its tensor list");
    return true;
}

static bool read_values(Reader *r, Gguf *gguf)
{
    const size_t count = (size_t)gguf->n_values;
    if (count > 0)
        gguf->values = arena_array(r->out, GgufValue, count);
    gguf->value_index = name_index_make(count, r->out);
    for (size_t i = 0; i < count; i++) {
        if (!read_value(r, &gguf->values[i], i))
            return false;
        name_index_set(&gguf->value_index, i, gguf->values[i].key);
    }
    Str duplicate;
    if (!name_index_sort(&gguf->value_index, &duplicate))
        return fail(r, "key '%s' stands twice", name_shown(duplicate).text);
    gguf->alignment = GGUF_DEFAULT_ALIGNMENT;
    const GgufValue *alignment = gguf_find(gguf, "general.alignment");
    if (alignment == NULL)
        return true;
    if (alignment->type != GGUF_U32 || !gguf_alignment_ok(alignment->as.u))
        return fail(r, "key 'general.alignment' is not a 32-bit power of two from %d to %d",
                    GGUF_MIN_ALIGNMENT, GGUF_MAX_ALIGNMENT);
    gguf->alignment = alignment->as.u;
    return true;
}

static bool read_dims(Reader *r, GgufTensor *tensor, const char *what)
{
    uint32_t n_dims;
    if (!take_u32(r, &n_dims, what))
        return false;
    if (n_dims > GGUF_MAX_DIMS)
        return fail(r, "%s has %u dimensions, more than %d", what, n_dims, GGUF_MAX_DIMS);
    tensor->n_dims = (int)n_dims;
    for (int d = 0; d < GGUF_MAX_DIMS; d++)
        tensor->ne[d] = 1;
    for (uint32_t d = 0; d < n_dims; d++) {
        uint64_t extent;
        if (!take_u64(r, &extent, what))
            return false;
        if (extent == 0 || extent > INT64_MAX)
            return fail(r, "%s has an impossible dimension of %llu", what,
                        (unsigned long long)extent);
        tensor->ne[d] = (int64_t)extent;
    }
    return true;
}

static bool fail_type(Reader *r, const char *what, uint32_t type)
{
    const char *name = type < COUNT_OF(ggml_type_names) ? ggml_type_names[type] : NULL;
    if (name == NULL)
        return fail(r, "%s is of unknown type %u", what, type);
    fail(r, "%s is of type %s, which this program does not read", what, name);
    return err_hint(r->err, "Take the F16, BF16, Q8_0, Q4_1 or Q4_0 file of this model");
}

/* One entry of the tensor list. *end is the sum of the padded sizes so far, where its data must
 * start. */
static bool read_tensor(Reader *r, GgufTensor *tensor, uint64_t alignment, size_t *end,
                        uint64_t number)
{
    char what[120];
    snprintf(what, sizeof what, "tensor %llu", (unsigned long long)number);
    Str name;
    if (!take_str(r, &name, GGUF_MAX_NAME, what))
        return false;
    if (name.len == 0 || memchr(name.data, '\0', name.len) != NULL)
        return fail(r, "%s has an empty name or one with a NUL byte", what);
    tensor->name = arena_strndup(r->out, name.data, name.len);
    snprintf(what, sizeof what, "tensor '%s'", name_shown(name).text);
    uint32_t type;
    uint64_t offset;
    if (!read_dims(r, tensor, what) || !take_u32(r, &type, what) || !take_u64(r, &offset, what))
        return false;
    if (!dtype_from_ggml(type, &tensor->dtype))
        return fail_type(r, what, type);
    const int block = dtype_info(tensor->dtype)->block;
    if (tensor->ne[0] % block != 0)
        return fail(r, "%s has rows of %lld elements, not whole blocks of %d", what,
                    (long long)tensor->ne[0], block);
    size_t padded;
    if (!gguf_tensor_bytes(tensor, &tensor->bytes) || tensor->bytes > r->size ||
        !size_add(tensor->bytes, (size_t)alignment - 1, &padded))
        return fail_short(r, what);
    padded -= padded % alignment;
    if (offset != *end)
        return fail(r, "%s lies at offset %llu instead of %zu", what, (unsigned long long)offset,
                    *end);
    if (!size_add(*end, padded, end))
        return fail_short(r, what);
    return true;
}

static bool read_tensors(Reader *r, Gguf *gguf)
{
    const size_t count = (size_t)gguf->n_tensors;
    if (count > 0)
        gguf->tensors = arena_array(r->out, GgufTensor, count);
    gguf->tensor_index = name_index_make(count, r->out);
    size_t end = 0;
    for (size_t i = 0; i < count; i++) {
        if (!read_tensor(r, &gguf->tensors[i], gguf->alignment, &end, i))
            return false;
        name_index_set(&gguf->tensor_index, i, str_of(gguf->tensors[i].name));
    }
    Str duplicate;
    if (!name_index_sort(&gguf->tensor_index, &duplicate))
        return fail(r, "tensor '%s' stands twice", name_shown(duplicate).text);
    return true;
}

/* Offsets are running sums already; here they must lie inside the file. Padding after the last
 * tensor may be missing. */
static bool place_data(Reader *r, Gguf *gguf)
{
    size_t at = r->position;
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        GgufTensor *tensor = &gguf->tensors[i];
        at += (size_t)(gguf->alignment - at % gguf->alignment) % gguf->alignment;
        if (at > r->size || tensor->bytes > r->size - at) {
            char what[120];
            snprintf(what, sizeof what, "the data of tensor '%s'",
                     name_shown(str_of(tensor->name)).text);
            return fail_short(r, what);
        }
        tensor->data = r->data + at;
        at += tensor->bytes;
    }
    return true;
}

bool gguf_parse(Gguf *gguf, const uint8_t *data, size_t size, const char *subject, Arena *out,
                Err *err)
{
    must(gguf != NULL && subject != NULL && (data != NULL || size == 0));
    *gguf = (Gguf){0};
    Reader reader = {.data = data, .size = size, .subject = subject, .out = out, .err = err};
    const size_t mark = arena_mark(out);
    const bool ok = read_header(&reader, gguf) && read_values(&reader, gguf) &&
                    read_tensors(&reader, gguf) && place_data(&reader, gguf);
    if (!ok) {
        arena_rewind(out, mark);
        *gguf = (Gguf){0};
    }
    return ok;
}

bool gguf_open(Gguf *gguf, const char *path, Arena *out, Err *err)
{
    *gguf = (Gguf){0};
    FileMap map = {0};
    if (!file_map(&map, path, ERR_DEP_MODEL_LOAD_FAILED, err))
        return false;
    if (!gguf_parse(gguf, map.data, map.size, path, out, err)) {
        file_unmap(&map);
        return false;
    }
    gguf->map = map;
    return true;
}

void gguf_close(Gguf *gguf)
{
    file_unmap(&gguf->map);
    *gguf = (Gguf){0};
}

const GgufValue *gguf_find(const Gguf *gguf, const char *key)
{
    const int64_t at = name_index_find(&gguf->value_index, str_of(key));
    return at < 0 ? NULL : &gguf->values[at];
}

const GgufTensor *gguf_tensor(const Gguf *gguf, const char *name)
{
    const int64_t at = name_index_find(&gguf->tensor_index, str_of(name));
    return at < 0 ? NULL : &gguf->tensors[at];
}

int64_t gguf_int(const Gguf *gguf, const char *key, int64_t fallback)
{
    const GgufValue *value = gguf_find(gguf, key);
    if (value == NULL)
        return fallback;
    switch (value->type) {
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64:
        return value->as.i;
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64:
        return value->as.u <= INT64_MAX ? (int64_t)value->as.u : fallback;
    default:
        return fallback;
    }
}

/* A widened number as double; not for bool, string and array. */
static bool value_number(const GgufValue *value, double *number)
{
    switch (value->type) {
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64:
        *number = (double)value->as.i;
        return true;
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64:
        *number = (double)value->as.u;
        return true;
    case GGUF_F32:
    case GGUF_F64:
        *number = value->as.f;
        return true;
    default:
        return false;
    }
}

double gguf_float(const Gguf *gguf, const char *key, double fallback)
{
    const GgufValue *value = gguf_find(gguf, key);
    double number;
    return value != NULL && value_number(value, &number) ? number : fallback;
}

bool gguf_bool(const Gguf *gguf, const char *key, bool fallback)
{
    const GgufValue *value = gguf_find(gguf, key);
    return value != NULL && value->type == GGUF_BOOL ? value->as.u != 0 : fallback;
}

Str gguf_str(const Gguf *gguf, const char *key)
{
    const GgufValue *value = gguf_find(gguf, key);
    return value != NULL && value->type == GGUF_STRING ? value->as.str : (Str){0};
}

double gguf_array_number(const GgufValue *array, uint64_t i)
{
    must(array != NULL && array->type == GGUF_ARRAY && array->element != GGUF_STRING);
    must(i < array->count);
    const uint8_t *at = (const uint8_t *)array->as.raw + i * gguf_type_bytes(array->element);
    GgufValue element = {.type = array->element};
    widen(array->element, at, &element);
    double number;
    if (!value_number(&element, &number))
        number = (double)element.as.u; /* bool */
    return number;
}
