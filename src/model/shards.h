/* shards.h — the weight files of a Hugging Face folder: model.safetensors, or several files and
 * model.safetensors.index.json, which says what lies where. Private to model/.
 */
#ifndef MODEL_SHARDS_H
#define MODEL_SHARDS_H

#include "model/model.h"

/* Opens what the folder file->path holds into file->shards (in out). A shard that is not there,
 * ends early, lacks what the index says of it or has a tensor of another one is named. */
bool shards_open(ModelFile *file, Arena *out, Err *err);
void shards_close(ModelFile *file); /* safe when nothing was opened */

#endif
