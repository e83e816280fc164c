/* shards.c — opening the weight files of a folder. The index is
 *     {"metadata": {"total_size": bytes}, "weight_map": {tensor name: file name, ...}}
 * as transformers' save_pretrained writes it; total_size is not relied upon. A download that
 * stopped half-way shows as a file that is missing or shorter than its own header says.
 */
#include "model/shards.h"

#include <string.h>

enum { MAX_SHARDS = 1024, SHARD_NAME_MAX = 200 };
static const char SINGLE[] = "model.safetensors", INDEX[] = "model.safetensors.index.json";
static const ErrCode CODE = ERR_DEP_MODEL_LOAD_FAILED;

/* The index while it is read. */
typedef struct ShardIndex {
    const Json *map;
    const char *path;
    const char *names[MAX_SHARDS]; /* of the files, in order of their first tensor */
    size_t n;
} ShardIndex;

/* A name inside the folder and nothing else. */
static bool plain_name(const char *name)
{
    if (name == NULL || *name == '\0' || *name == '.' || strlen(name) > SHARD_NAME_MAX)
        return false;
    return strpbrk(name, "/\\") == NULL && str_ends(str_of(name), ".safetensors");
}

/* MAX_SHARDS when it is not one of the index. */
static size_t shard_of(const ShardIndex *index, const char *name)
{
    for (size_t i = 0; i < index->n; i++)
        if (strcmp(index->names[i], name) == 0)
            return i;
    return MAX_SHARDS;
}

static bool list_shards(ShardIndex *index, Err *err)
{
    const char *tensor;
    Json *value;
    for (void *at = NULL; (at = json_next(index->map, at, &tensor, &value)) != NULL;) {
        const char *name = json_text(value);
        if (!plain_name(name))
            return err_set(err, CODE, "'%s': tensor '%.80s' lies in no file of this folder",
                           index->path, tensor);
        if (shard_of(index, name) != MAX_SHARDS)
            continue;
        if (index->n == MAX_SHARDS)
            return err_set(err, CODE, "'%s' names more than %d files", index->path, MAX_SHARDS);
        index->names[index->n++] = name;
    }
    return index->n > 0 || err_set(err, CODE, "'%s' has no weight_map", index->path);
}

static bool open_shards(ModelFile *file, const ShardIndex *index, Arena *out, Err *err)
{
    file->shards = arena_array(out, SafeTensors, index->n);
    for (size_t i = 0; i < index->n; i++) {
        const char *path = path_join(out, file->path, index->names[i]);
        if (!path_exists(path)) {
            err_set(err, CODE, "'%s': file '%s' is missing (%zu of %zu)", file->path,
                    index->names[i], i + 1, index->n);
            return err_hint(err, "Download the model again: its index names %zu files", index->n);
        }
        if (!st_open(&file->shards[i], path, CODE, out, err))
            return false;
        file->n_shards = i + 1;
    }
    return true;
}

/* Every tensor of the index is where it says, and no file holds one more. */
static bool index_true(const ModelFile *file, const ShardIndex *index, Err *err)
{
    const char *tensor;
    Json *value;
    for (void *at = NULL; (at = json_next(index->map, at, &tensor, &value)) != NULL;) {
        const size_t i = shard_of(index, json_text(value));
        must(i < index->n);
        if (st_find(&file->shards[i], tensor) == NULL)
            return err_set(err, CODE, "'%s': tensor '%.80s' is not in file '%s', as the index says",
                           file->path, tensor, index->names[i]);
    }
    for (size_t i = 0; i < index->n; i++) {
        const SafeTensors *st = &file->shards[i];
        for (size_t t = 0; t < st->n_tensors; t++) {
            const char *name = json_text(json_get(index->map, st->tensors[t].name));
            if (name != NULL && strcmp(name, index->names[i]) == 0)
                continue;
            return err_set(err, CODE, "'%s': file '%s' holds tensor '%.80s', which the index %s",
                           file->path, index->names[i], st->tensors[t].name,
                           name == NULL ? "does not name" : "says is in another file");
        }
    }
    return true;
}

static bool open_indexed(ModelFile *file, const char *path, Arena *out, Err *err)
{
    Json *json = json_load(path, CODE, err);
    if (json == NULL)
        return false;
    ShardIndex *index = arena_new(out, ShardIndex);
    *index = (ShardIndex){.map = json_get(json, "weight_map"), .path = path};
    const bool ok = list_shards(index, err) && open_shards(file, index, out, err) &&
                    index_true(file, index, err);
    json_free(json);
    return ok;
}

bool shards_open(ModelFile *file, Arena *out, Err *err)
{
    assert(file->path != NULL && file->n_shards == 0);
    const char *single = path_join(out, file->path, SINGLE);
    const char *index = path_join(out, file->path, INDEX);
    if (!path_exists(single) && path_exists(index))
        return open_indexed(file, index, out, err);
    if (!path_exists(single))
        return err_set(err, CODE, "'%s': has no %s", file->path, SINGLE);
    file->shards = arena_new(out, SafeTensors);
    if (!st_open(file->shards, single, CODE, out, err))
        return false;
    file->n_shards = 1;
    return true;
}

void shards_close(ModelFile *file)
{
    for (size_t i = 0; i < file->n_shards; i++)
        st_close(&file->shards[i]);
    file->n_shards = 0;
}
