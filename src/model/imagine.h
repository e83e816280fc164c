/* imagine.h — a model of which only the configuration is known: every weight has its shape and
 * type, none has contents. Good for planning memory, and for nothing else.
 */
#ifndef MODEL_IMAGINE_H
#define MODEL_IMAGINE_H

#include "model/model.h"

/* config: that of a config.json; the model takes it over, on failure too. matrices: their
 * type; those with rows that are no whole blocks of it are bf16. DEP_MODEL_LOAD_FAILED as
 * model_open. Lives in `out`; close it with model_close. */
bool model_imagine(Model *model, const char *name, Json *config, Dtype matrices, Arena *out,
                   Err *err);

#endif
