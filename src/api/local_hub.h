/* local_hub.h — models that other programs have already downloaded from Hugging Face: where an id
 * lies in their common cache. Private to api/; nothing is fetched.
 */
#ifndef API_LOCAL_HUB_H
#define API_LOCAL_HUB_H

#include "core/arena.h"

/* The snapshot folder of "org/name" (its main branch), in `out`; NULL when the cache has none. The
 * cache is $HF_HUB_CACHE, $HF_HOME/hub or ~/.cache/huggingface/hub. */
const char *local_hub_find(const char *id, Arena *out);

#endif
