/* plan.h — what plan.c and trainer.c must agree on: how options and data become packs and
 * positions. A difference here would make the plan a guess. Owns no state.
 */
#ifndef TRAIN_PLAN_H
#define TRAIN_PLAN_H

#include "train/train.h"

/* Tokens of the longest example: no position is larger. */
int64_t plan_positions(const Dataset *dataset);
PackOptions plan_pack_options(const TrainOptions *options, int32_t batch_size);

#endif
