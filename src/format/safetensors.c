/* safetensors.c — reads, checks and writes safetensors files (huggingface/safetensors, README).
 *
 * Layout: u64 little-endian header length (at most 100 MB), a JSON object of that many bytes that
 * starts with '{' and may end in spaces, then the data:
 *   {"__metadata__": {string: string}, "name": {"dtype": "F32", "shape": [2, 3],
 *    "data_offsets": [begin, end]}, …}          offsets count from the end of the header
 * Checked: the header lies in the file; a name stands once; shapes and offsets are whole numbers;
 * shape * element size = end - begin (for element types we know the size of); the data of all
 * tensors covers the rest of the file without gap or overlap, as the reference reader demands.
 */
#include "format/safetensors.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied as they lie");

enum {
    ST_LENGTH_BYTES = 8,
    ST_MAX_HEADER = 100 * 1000 * 1000,
    ST_MAX_DIMS = 64,
    ST_HEADER_ALIGN = 8,
    ST_SHAPE = 4, /* dimensions that StTensor holds */
};

/* Element types of the format; dtype DTYPE_COUNT = Tensor cannot hold it. */
typedef struct StType {
    const char *name;
    Dtype dtype;
    int bits;
} StType;

static const StType st_types[] = {
    {"F32", DTYPE_F32, 32},      {"F16", DTYPE_F16, 16},      {"BF16", DTYPE_BF16, 16},
    {"I32", DTYPE_I32, 32},      {"BOOL", DTYPE_COUNT, 8},    {"U8", DTYPE_COUNT, 8},
    {"I8", DTYPE_COUNT, 8},      {"F8_E5M2", DTYPE_COUNT, 8}, {"F8_E4M3", DTYPE_COUNT, 8},
    {"F8_E8M0", DTYPE_COUNT, 8}, {"I16", DTYPE_COUNT, 16},    {"U16", DTYPE_COUNT, 16},
    {"U32", DTYPE_COUNT, 32},    {"F64", DTYPE_COUNT, 64},    {"I64", DTYPE_COUNT, 64},
    {"U64", DTYPE_COUNT, 64},    {"C64", DTYPE_COUNT, 64},    {"F4", DTYPE_COUNT, 4},
    {"F6_E2M3", DTYPE_COUNT, 6}, {"F6_E3M2", DTYPE_COUNT, 6},
};

typedef struct Reader {
    const char *subject;
    const uint8_t *data; /* behind the header */
    size_t size;
    ErrCode code;
    Arena *out;
    Err *err;
} Reader;

PRINTF_LIKE(2, 3) static bool fail(Reader *r, const char *format, ...)
{
    char what[400];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return err_set(r->err, r->code, "cannot read '%s': %s", r->subject, what);
}

static const StType *find_type(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(st_types); i++) {
        if (strcmp(st_types[i].name, name) == 0)
            return &st_types[i];
    }
    return NULL;
}

/* A whole number >= 0 of the header. */
static bool take_count(const Json *json, int64_t *value)
{
    *value = json_is_int(json) ? json_int(json, -1) : -1;
    return *value >= 0;
}

/* Reads the shape; *elements is the product of all dimensions. */
static bool read_shape(Reader *r, const Json *shape, StTensor *tensor, size_t *elements)
{
    const ShownName name = name_shown(str_of(tensor->name));
    if (!json_is_array(shape) || json_len(shape) > ST_MAX_DIMS)
        return fail(r, "tensor '%s' has no shape, or one of more than %d dimensions", name.text,
                    ST_MAX_DIMS);
    tensor->n_dims = (int)json_len(shape);
    *elements = 1;
    for (int d = 0; d < tensor->n_dims; d++) {
        int64_t extent;
        if (!take_count(json_at(shape, (size_t)d), &extent))
            return fail(r, "tensor '%s' has a dimension that is no whole number", name.text);
        if (!size_mul(*elements, (size_t)extent, elements))
            return fail(r, "tensor '%s' is too large", name.text);
        if (d < ST_SHAPE)
            tensor->shape[d] = extent;
    }
    return true;
}

static bool read_tensor(Reader *r, const char *name, const Json *entry, StTensor *tensor)
{
    const ShownName shown = name_shown(str_of(name));
    *tensor = (StTensor){.name = arena_strdup(r->out, name), .dtype = DTYPE_COUNT};
    const char *type_name = json_text(json_get(entry, "dtype"));
    if (type_name == NULL)
        return fail(r, "tensor '%s' has no dtype", shown.text);
    tensor->type_name = arena_strdup(r->out, type_name);
    size_t elements = 0;
    if (!read_shape(r, json_get(entry, "shape"), tensor, &elements))
        return false;
    const Json *offsets = json_get(entry, "data_offsets");
    int64_t begin, end;
    if (!json_is_array(offsets) || json_len(offsets) != 2 ||
        !take_count(json_at(offsets, 0), &begin) || !take_count(json_at(offsets, 1), &end))
        return fail(r, "tensor '%s' has no data_offsets of two whole numbers", shown.text);
    if (begin > end || (uint64_t)end > r->size)
        return fail(r, "the data of tensor '%s' ends at %lld of %zu bytes", shown.text,
                    (long long)end, r->size);
    tensor->data = r->data + begin;
    tensor->bytes = (size_t)(end - begin);
    const StType *type = find_type(type_name);
    if (type == NULL)
        return true;
    size_t bits;
    if (!size_mul(elements, (size_t)type->bits, &bits) || bits % 8 != 0 ||
        bits / 8 != tensor->bytes)
        return fail(r, "tensor '%s' has %zu bytes of data, which is not what its shape takes",
                    shown.text, tensor->bytes);
    tensor->dtype = tensor->n_dims <= ST_SHAPE ? type->dtype : DTYPE_COUNT;
    tensor->known = tensor->dtype != DTYPE_COUNT;
    return true;
}

static bool read_meta(Reader *r, const Json *meta, SafeTensors *st)
{
    if (!json_is_object(meta))
        return fail(r, "'__metadata__' is not an object");
    const size_t count = json_len(meta);
    if (count == 0)
        return true;
    st->meta_keys = arena_array(r->out, const char *, count);
    st->meta_values = arena_array(r->out, const char *, count);
    const char *key;
    Json *value;
    for (void *it = NULL; (it = json_next(meta, it, &key, &value)) != NULL;) {
        must(st->n_meta < count);
        if (!json_is_string(value))
            return fail(r, "'__metadata__' holds '%s', which is not a string",
                        name_shown(str_of(key)).text);
        st->meta_keys[st->n_meta] = arena_strdup(r->out, key);
        st->meta_values[st->n_meta++] = arena_strdup(r->out, json_text(value));
    }
    assert(st->n_meta == count);
    return true;
}

/* Members of the outermost object as the text has them, which is more than json_len() if a name
 * stands twice. The text is valid JSON: a ':' outside of strings at depth 1 ends a name there. */
static size_t count_members(Str text)
{
    size_t members = 0;
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.len; i++) {
        const char c = text.data[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
            continue;
        }
        if (c == '"')
            in_string = true;
        else if (c == '{' || c == '[')
            depth++;
        else if (c == '}' || c == ']')
            depth--;
        else if (c == ':' && depth == 1)
            members++;
    }
    return members;
}

/* By position of the data; an empty tensor comes before one that starts where it lies. */
static int compare_positions(const void *left, const void *right)
{
    const StTensor *a = left;
    const StTensor *b = right;
    const uint8_t *from_a = a->data;
    const uint8_t *from_b = b->data;
    if (from_a != from_b)
        return (from_a > from_b) - (from_a < from_b);
    return (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

/* The tensors, sorted by position, must tile the data. */
static bool check_tiling(Reader *r, const SafeTensors *st)
{
    const uint8_t *expected = r->data;
    for (size_t i = 0; i < st->n_tensors; i++) {
        const StTensor *tensor = &st->tensors[i];
        if (tensor->data != expected)
            return fail(r, "there is a gap or an overlap before the data of tensor '%s'",
                        name_shown(str_of(tensor->name)).text);
        expected += tensor->bytes;
    }
    const size_t covered = (size_t)(expected - r->data);
    if (covered != r->size)
        return fail(r, "its tensors take %zu bytes, the file holds %zu", covered, r->size);
    return true;
}

/* Callers read elements in place, so those of a known type must be aligned. */
static void align_data(Reader *r, SafeTensors *st)
{
    for (size_t i = 0; i < st->n_tensors; i++) {
        StTensor *tensor = &st->tensors[i];
        if (!tensor->known || tensor->bytes == 0)
            continue;
        const size_t element = (size_t)dtype_info(tensor->dtype)->block_bytes;
        if ((uintptr_t)tensor->data % element == 0)
            continue;
        void *copy = arena_push(r->out, tensor->bytes);
        memcpy(copy, tensor->data, tensor->bytes);
        tensor->data = copy;
    }
}

static bool read_header(Reader *r, const Json *header, SafeTensors *st)
{
    if (!json_is_object(header))
        return fail(r, "its header is not a JSON object");
    const size_t count = json_len(header);
    if (count > 0)
        st->tensors = arena_array(r->out, StTensor, count);
    const char *name;
    Json *entry;
    for (void *it = NULL; (it = json_next(header, it, &name, &entry)) != NULL;) {
        if (strcmp(name, "__metadata__") == 0) {
            if (!read_meta(r, entry, st))
                return false;
            continue;
        }
        must(st->n_tensors < count);
        if (!read_tensor(r, name, entry, &st->tensors[st->n_tensors]))
            return false;
        st->n_tensors++;
    }
    if (st->n_tensors > 1)
        qsort(st->tensors, st->n_tensors, sizeof *st->tensors, compare_positions);
    if (!check_tiling(r, st))
        return false;
    align_data(r, st);
    st->index = name_index_make(st->n_tensors, r->out);
    for (size_t i = 0; i < st->n_tensors; i++)
        name_index_set(&st->index, i, str_of(st->tensors[i].name));
    Str duplicate;
    must(name_index_sort(&st->index, &duplicate)); /* count_members has seen to that */
    return true;
}

/* Finds the header's text and sets the reader to the data behind it. */
static bool find_header(Reader *r, Str *text)
{
    uint64_t length;
    if (r->size < ST_LENGTH_BYTES)
        return fail(r, "%zu bytes are too few for a safetensors file", r->size);
    memcpy(&length, r->data, sizeof length);
    r->data += ST_LENGTH_BYTES;
    r->size -= ST_LENGTH_BYTES;
    if (length > ST_MAX_HEADER)
        return fail(r, "its header would take %llu bytes, more than %d; is it a safetensors file?",
                    (unsigned long long)length, ST_MAX_HEADER);
    if (length > r->size)
        return fail(r, "the file ends inside its header (%llu bytes, %zu are there)",
                    (unsigned long long)length, r->size);
    *text = (Str){(const char *)r->data, (size_t)length};
    if (text->len == 0 || text->data[0] != '{')
        return fail(r, "its header does not start with '{'");
    r->data += length;
    r->size -= (size_t)length;
    return true;
}

bool st_parse(SafeTensors *st, const uint8_t *data, size_t size, const char *subject, ErrCode code,
              Arena *out, Err *err)
{
    must(st != NULL && subject != NULL && (data != NULL || size == 0));
    *st = (SafeTensors){0};
    Reader reader = {subject, data, size, code, out, err};
    Str text;
    if (!find_header(&reader, &text))
        return false;
    Json *header = json_parse(text, subject, code, err);
    if (header == NULL)
        return false;
    const size_t mark = arena_mark(out);
    const bool once = count_members(text) == json_len(header);
    if (!once)
        fail(&reader, "a name stands twice in its header");
    const bool ok = once && read_header(&reader, header, st);
    json_free(header);
    if (!ok) {
        arena_rewind(out, mark);
        *st = (SafeTensors){0};
    }
    return ok;
}

bool st_open(SafeTensors *st, const char *path, ErrCode code, Arena *out, Err *err)
{
    *st = (SafeTensors){0};
    FileMap map = {0};
    if (!file_map(&map, path, code, err))
        return false;
    if (!st_parse(st, map.data, map.size, path, code, out, err)) {
        file_unmap(&map);
        return false;
    }
    st->map = map;
    return true;
}

void st_close(SafeTensors *st)
{
    file_unmap(&st->map);
    *st = (SafeTensors){0};
}

const StTensor *st_find(const SafeTensors *st, const char *name)
{
    const int64_t at = name_index_find(&st->index, str_of(name));
    return at < 0 ? NULL : &st->tensors[at];
}

const char *st_meta(const SafeTensors *st, const char *key)
{
    for (size_t i = 0; i < st->n_meta; i++) {
        if (strcmp(st->meta_keys[i], key) == 0)
            return st->meta_values[i];
    }
    return NULL;
}

static const char *type_name_of(Dtype dtype)
{
    for (size_t i = 0; i < COUNT_OF(st_types); i++) {
        if (st_types[i].dtype == dtype && dtype != DTYPE_COUNT)
            return st_types[i].name;
    }
    must(!"a dtype that safetensors files do not hold");
    return NULL;
}

static size_t entry_bytes(const StEntry *entry)
{
    must(entry->n_dims >= 0 && entry->n_dims <= ST_SHAPE);
    size_t bytes = (size_t)dtype_info(entry->dtype)->block_bytes;
    for (int d = 0; d < entry->n_dims; d++)
        must(entry->shape[d] >= 0 && size_mul(bytes, (size_t)entry->shape[d], &bytes));
    return bytes;
}

/* The entry's object in the header; *offset moves behind its data. */
static Json *entry_header(const StEntry *entry, size_t *offset)
{
    Json *object = json_new_object();
    json_put(object, "dtype", json_new_text(type_name_of(entry->dtype)));
    Json *shape = json_new_array();
    for (int d = 0; d < entry->n_dims; d++)
        json_add(shape, json_new_int(entry->shape[d]));
    json_put(object, "shape", shape);
    Json *offsets = json_new_array();
    json_add(offsets, json_new_int((int64_t)*offset));
    must(size_add(*offset, entry_bytes(entry), offset));
    json_add(offsets, json_new_int((int64_t)*offset));
    json_put(object, "data_offsets", offsets);
    return object;
}

FileWriter *st_begin(const char *path, const StEntry *entries, size_t count,
                     const char *const *meta_keys, const char *const *meta_values, size_t n_meta,
                     ErrCode code, Err *err)
{
    must(path != NULL && (entries != NULL || count == 0));
    Json *header = json_new_object();
    if (n_meta > 0) {
        Json *meta = json_new_object();
        for (size_t i = 0; i < n_meta; i++)
            json_put(meta, meta_keys[i], json_new_text(meta_values[i]));
        json_put(header, "__metadata__", meta);
    }
    size_t offset = 0;
    for (size_t i = 0; i < count; i++) {
        must(json_get(header, entries[i].name) == NULL); /* a name twice is a bug of the caller */
        json_put(header, entries[i].name, entry_header(&entries[i], &offset));
    }
    Buf text = {.max = ST_MAX_HEADER};
    json_write(header, (JsonStyle){0}, &text);
    json_free(header);
    while (text.len % ST_HEADER_ALIGN != 0 && !text.failed)
        buf_char(&text, ' ');
    if (text.failed) {
        buf_free(&text);
        err_set(err, code, "cannot write '%s': its header takes more than %d bytes", path,
                ST_MAX_HEADER);
        return NULL;
    }
    FileWriter *file = file_writer_open(path, code, err);
    const uint64_t length = text.len;
    if (file != NULL) {
        file_writer_write(file, &length, sizeof length);
        file_writer_write(file, text.data, text.len);
    }
    buf_free(&text);
    return file;
}

bool st_write(const char *path, const StEntry *entries, size_t count, const char *const *meta_keys,
              const char *const *meta_values, size_t n_meta, ErrCode code, Err *err)
{
    FileWriter *file = st_begin(path, entries, count, meta_keys, meta_values, n_meta, code, err);
    if (file == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (entry_bytes(&entries[i]) > 0)
            file_writer_write(file, entries[i].data, entry_bytes(&entries[i]));
    }
    return file_writer_commit(file, err);
}
