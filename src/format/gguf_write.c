/* gguf_write.c — writes GGUF files, version 3 (layout at the head of gguf_read.c).
 *
 * Keys and tensor headers are collected in two buffers; gguf_writer_begin_data writes header, keys
 * and headers at once, then data streams through. Everything goes to a file aside that commit
 * renames. What only a bug can cause (data for no tensor, a missing tensor, a wrong order of
 * calls) aborts; what input can cause (a name twice or too long, a full disk) sticks until commit.
 */
#include "format/gguf.h"

#include <string.h>

#include "format/gguf_layout.h"

struct GgufWriter {
    Arena arena; /* holds this struct too */
    FileWriter *file;
    Err err; /* the first failure */
    Buf keys, headers;
    GgufTensor *tensors; /* [GGUF_MAX_TENSORS] of reserved address space, n_tensors of them used */
    Str *names;          /* [GGUF_MAX_KEYS] likewise, the keys */
    uint64_t n_tensors, n_keys;
    uint64_t alignment;
    size_t end;       /* sum of the padded sizes of the tensors so far */
    bool data_begun;
    uint64_t current; /* the tensor being written, and how much of it is there */
    size_t written;
};

GgufWriter *gguf_writer_open(const char *path, Err *err)
{
    Arena arena;
    if (!arena_open(&arena, 0, err))
        return NULL;
    GgufWriter *w = arena_new(&arena, GgufWriter);
    w->file = file_writer_open(path, ERR_RUNTIME_GGUF_EXPORT_FAILED, err);
    if (w->file == NULL) {
        arena_close(&arena);
        return NULL;
    }
    w->tensors = arena_push(&arena, GGUF_MAX_TENSORS * sizeof *w->tensors);
    w->names = arena_push(&arena, GGUF_MAX_KEYS * sizeof *w->names);
    w->alignment = GGUF_DEFAULT_ALIGNMENT;
    w->arena = arena; /* from here on the arena lives in its own memory */
    return w;
}

static void fail(GgufWriter *w, const char *what, Str name)
{
    err_set(&w->err, ERR_RUNTIME_GGUF_EXPORT_FAILED, "cannot write a GGUF file: %s '%s'", what,
            name_shown(name).text);
}

static void append_u32(Buf *buf, uint32_t value)
{
    buf_append(buf, &value, sizeof value);
}

static void append_u64(Buf *buf, uint64_t value)
{
    buf_append(buf, &value, sizeof value);
}

static void append_str(Buf *buf, Str value)
{
    append_u64(buf, value.len);
    buf_append(buf, value.data, value.len);
}

/* Key and type of a value; the caller appends the value itself. */
static void put_key(GgufWriter *w, Str key, GgufType type)
{
    must(!w->data_begun);
    if (key.len == 0 || key.len > GGUF_MAX_KEY)
        fail(w, "the key is empty or too long:", key);
    if (w->n_keys == GGUF_MAX_KEYS) {
        fail(w, "too many keys, the last is", key);
        return;
    }
    w->names[w->n_keys++] = (Str){arena_strndup(&w->arena, key.data, key.len), key.len};
    append_str(&w->keys, key);
    append_u32(&w->keys, type);
}

static void set_alignment(GgufWriter *w, uint64_t alignment)
{
    must(w->n_tensors == 0);
    if (gguf_alignment_ok(alignment))
        w->alignment = alignment;
    else
        fail(w, "the alignment is not usable:", STR("general.alignment"));
}

void gguf_put_u32(GgufWriter *w, const char *key, uint32_t value)
{
    put_key(w, str_of(key), GGUF_U32);
    append_u32(&w->keys, value);
    if (str_eq_text(str_of(key), "general.alignment"))
        set_alignment(w, value);
}

void gguf_put_f32(GgufWriter *w, const char *key, float value)
{
    put_key(w, str_of(key), GGUF_F32);
    buf_append(&w->keys, &value, sizeof value);
}

void gguf_put_bool(GgufWriter *w, const char *key, bool value)
{
    put_key(w, str_of(key), GGUF_BOOL);
    const uint8_t byte = value ? 1 : 0;
    buf_append(&w->keys, &byte, sizeof byte);
}

void gguf_put_str(GgufWriter *w, const char *key, Str value)
{
    put_key(w, str_of(key), GGUF_STRING);
    append_str(&w->keys, value);
}

static void put_array(GgufWriter *w, Str key, GgufType element, uint64_t count)
{
    put_key(w, key, GGUF_ARRAY);
    append_u32(&w->keys, element);
    append_u64(&w->keys, count);
}

void gguf_put_strs(GgufWriter *w, const char *key, const Str *values, uint64_t count)
{
    put_array(w, str_of(key), GGUF_STRING, count);
    for (uint64_t i = 0; i < count; i++)
        append_str(&w->keys, values[i]);
}

void gguf_put_i32s(GgufWriter *w, const char *key, const int32_t *values, uint64_t count)
{
    put_array(w, str_of(key), GGUF_I32, count);
    buf_append(&w->keys, values, (size_t)count * sizeof *values);
}

void gguf_put_f32s(GgufWriter *w, const char *key, const float *values, uint64_t count)
{
    put_array(w, str_of(key), GGUF_F32, count);
    buf_append(&w->keys, values, (size_t)count * sizeof *values);
}

/* A scalar narrowed to its kind again; little-endian, so the low bytes come first. */
static void append_scalar(GgufWriter *w, const GgufValue *value)
{
    const float single = value->type == GGUF_F32 ? (float)value->as.f : 0.0f;
    if (value->type == GGUF_F32)
        buf_append(&w->keys, &single, sizeof single);
    else
        buf_append(&w->keys, &value->as, gguf_type_bytes(value->type));
}

void gguf_put_copy(GgufWriter *w, const GgufValue *value)
{
    if (value->type == GGUF_ARRAY) {
        put_array(w, value->key, value->element, value->count);
        if (value->element == GGUF_STRING) {
            for (uint64_t i = 0; i < value->count; i++)
                append_str(&w->keys, value->as.strs[i]);
        } else {
            const size_t element_bytes = gguf_type_bytes(value->element);
            buf_append(&w->keys, value->as.raw, (size_t)value->count * element_bytes);
        }
        return;
    }
    put_key(w, value->key, value->type);
    if (value->type == GGUF_STRING)
        append_str(&w->keys, value->as.str);
    else
        append_scalar(w, value);
    if (value->type == GGUF_U32 && str_eq_text(value->key, "general.alignment"))
        set_alignment(w, value->as.u);
}

void gguf_add_tensor(GgufWriter *w, const char *name, Dtype dtype, int n_dims, const int64_t *ne)
{
    must(!w->data_begun && n_dims >= 1 && n_dims <= GGUF_MAX_DIMS);
    must(ne[0] > 0 && ne[0] % dtype_info(dtype)->block == 0);
    const Str text = str_of(name);
    if (text.len == 0 || text.len > GGUF_MAX_NAME)
        fail(w, "the tensor's name is empty or longer than 63 bytes:", text);
    if (w->n_tensors == GGUF_MAX_TENSORS) {
        fail(w, "too many tensors, the last is", text);
        return;
    }
    GgufTensor tensor = {.name = arena_strdup(&w->arena, name), .dtype = dtype, .n_dims = n_dims};
    for (int d = 0; d < GGUF_MAX_DIMS; d++)
        tensor.ne[d] = d < n_dims ? ne[d] : 1;
    must(tensor.ne[1] > 0 && tensor.ne[2] > 0 && tensor.ne[3] > 0);
    append_str(&w->headers, text);
    append_u32(&w->headers, (uint32_t)n_dims);
    for (int d = 0; d < n_dims; d++)
        append_u64(&w->headers, (uint64_t)ne[d]);
    append_u32(&w->headers, (uint32_t)dtype_info(dtype)->ggml_id);
    append_u64(&w->headers, w->end);
    must(gguf_tensor_bytes(&tensor, &tensor.bytes));
    must(size_add(w->end, tensor.bytes, &w->end));
    w->end = (w->end + w->alignment - 1) / w->alignment * w->alignment;
    w->tensors[w->n_tensors++] = tensor;
}

/* Names twice would make a file that no reader takes. */
static void check_names(GgufWriter *w)
{
    Str duplicate;
    NameIndex keys = name_index_make((size_t)w->n_keys, &w->arena);
    for (size_t i = 0; i < keys.count; i++)
        name_index_set(&keys, i, w->names[i]);
    if (!name_index_sort(&keys, &duplicate))
        fail(w, "it would hold twice the key", duplicate);
    NameIndex tensors = name_index_make((size_t)w->n_tensors, &w->arena);
    for (size_t i = 0; i < tensors.count; i++)
        name_index_set(&tensors, i, str_of(w->tensors[i].name));
    if (!name_index_sort(&tensors, &duplicate))
        fail(w, "it would hold twice the tensor", duplicate);
}

static void pad(GgufWriter *w)
{
    static const uint8_t zeros[64];
    size_t missing = (size_t)(file_writer_offset(w->file) % w->alignment);
    missing = missing == 0 ? 0 : (size_t)w->alignment - missing;
    while (missing > 0) {
        const size_t piece = missing < sizeof zeros ? missing : sizeof zeros;
        file_writer_write(w->file, zeros, piece);
        missing -= piece;
    }
}

void gguf_writer_begin_data(GgufWriter *w)
{
    must(!w->data_begun);
    w->data_begun = true;
    check_names(w);
    if (w->keys.failed || w->headers.failed)
        fail(w, "its keys take more than 1 GiB:", STR("metadata"));
    if (err_is_set(&w->err))
        return;
    Buf head = {0};
    buf_append(&head, "GGUF", 4);
    append_u32(&head, GGUF_MAX_VERSION);
    append_u64(&head, w->n_tensors);
    append_u64(&head, w->n_keys);
    file_writer_write(w->file, head.data, head.len);
    buf_free(&head);
    if (w->keys.len > 0)
        file_writer_write(w->file, w->keys.data, w->keys.len);
    if (w->headers.len > 0)
        file_writer_write(w->file, w->headers.data, w->headers.len);
    pad(w);
}

void gguf_write_data(GgufWriter *w, const void *data, size_t bytes)
{
    must(w->data_begun);
    const uint8_t *at = data;
    while (bytes > 0) {
        must(w->current < w->n_tensors);
        const size_t wanted = w->tensors[w->current].bytes - w->written;
        const size_t piece = bytes < wanted ? bytes : wanted;
        if (!err_is_set(&w->err))
            file_writer_write(w->file, at, piece);
        at += piece;
        bytes -= piece;
        w->written += piece;
        if (piece < wanted)
            continue;
        w->current++;
        w->written = 0;
        if (!err_is_set(&w->err))
            pad(w);
    }
}

static void release(GgufWriter *w)
{
    buf_free(&w->keys);
    buf_free(&w->headers);
    Arena arena = w->arena;
    arena_close(&arena);
}

bool gguf_writer_commit(GgufWriter *w, Err *err)
{
    must(w->data_begun && (err_is_set(&w->err) || w->current == w->n_tensors));
    if (err_is_set(&w->err)) {
        err_set(err, w->err.code, "%s", w->err.message);
        gguf_writer_abandon(w);
        return false;
    }
    const bool ok = file_writer_commit(w->file, err);
    release(w);
    return ok;
}

void gguf_writer_abandon(GgufWriter *w)
{
    if (w == NULL)
        return;
    file_writer_abandon(w->file);
    release(w);
}
