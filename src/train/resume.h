/* resume.h — what decides the numbers of a run, as one flat JSON object that goes into every
 * checkpoint and must be the same when a run goes on. Owns no state.
 */
#ifndef TRAIN_RESUME_H
#define TRAIN_RESUME_H

#include "train/train.h"

/* Options with steps and batch size decided, and the data as it was tokenized. Owned by the caller.
 * Everything that a loss or an update depends on is in it; what changes no bit (threads, segments,
 * save interval, paths) is not. */
Json *resume_numbers(const TrainOptions *options, int64_t steps, int32_t batch_size,
                     const Dataset *dataset, const Model *model);
/* The batch size of the checkpoint's run. */
int32_t resume_batch_size(const Json *numbers);

#endif
