/* local_hub.c — reading the cache of huggingface_hub: models--ORG--NAME/refs/main holds the name of
 * a folder in models--ORG--NAME/snapshots/.
 *
 * An id is used as part of a path only when it is two plain names with one slash between them.
 */
#include "api/local_hub.h"

#include <ctype.h>
#include <string.h>

#include "core/file.h"
#include "core/os.h"

enum { REF_MAX_BYTES = 128 };

static bool plain(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)text[i]) && strchr("-_.", text[i]) == NULL)
            return false;
    return len > 0 && text[0] != '.';
}

static const char *cache_folder(Arena *out)
{
    const char *cache = os_env("HF_HUB_CACHE"), *home = os_env("HF_HOME"), *user = os_env("HOME");
    if (cache != NULL)
        return cache;
    if (home != NULL)
        return path_join(out, home, "hub");
    return user == NULL ? NULL : path_join(out, user, ".cache/huggingface/hub");
}

const char *local_hub_find(const char *id, Arena *out)
{
    assert(id != NULL && out != NULL);
    const char *slash = strchr(id, '/'), *cache = cache_folder(out);
    if (cache == NULL || slash == NULL || !plain(id, (size_t)(slash - id)) ||
        !plain(slash + 1, strlen(slash + 1)))
        return NULL;
    const char *model = path_join(
        out, cache, arena_printf(out, "models--%.*s--%s", (int)(slash - id), id, slash + 1));
    Err ignored = {0};
    Str ref;
    const char *main_ref = path_join(out, model, "refs/main");
    if (!path_exists(main_ref) || !file_read(main_ref, REF_MAX_BYTES, out, &ref,
                                             ERR_DEP_MODEL_LOAD_FAILED, &ignored))
        return NULL;
    ref = str_trim(ref);
    if (!plain(ref.data, ref.len))
        return NULL;
    const char *folder = path_join(
        out, model, arena_printf(out, "snapshots/%.*s", (int)ref.len, ref.data));
    return path_is_folder(folder) ? folder : NULL;
}
