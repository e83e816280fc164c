/* schedule.c — the learning rate of a step: linear warm-up, then cosine, linear or constant.
 *
 * The formulas are those of transformers' get_scheduler ("cosine", "linear" and
 * "constant_with_warmup"), which sets the rate of the next step after each step. So our step s,
 * counted from 1, has the factor of their current_step = s - 1: with a warm-up the first step has
 * rate 0, and the rate 0 at the far end belongs to a step that is never taken.
 * tests/golden/train compares every value.
 */
#include "train/train.h"

#include <math.h>
#include <string.h>

static const char *const names[SCHEDULE_COUNT] = {"cosine", "linear", "constant"};

const char *schedule_name(Schedule schedule)
{
    must((int)schedule >= 0 && schedule < SCHEDULE_COUNT);
    return names[schedule];
}

bool schedule_parse(const char *text, Schedule *schedule)
{
    assert(text != NULL && schedule != NULL);
    for (int i = 0; i < SCHEDULE_COUNT; i++) {
        if (strcmp(text, names[i]) == 0) {
            *schedule = (Schedule)i;
            return true;
        }
    }
    return false;
}

/* The factor after warm-up: `done` of `all` steps lie between its end and the step. */
static double decay_factor(Schedule schedule, int64_t done, int64_t all)
{
    static const double pi = 3.14159265358979323846;
    switch (schedule) {
    case SCHEDULE_COSINE: return fmax(0.0, 0.5 * (1.0 + cos(pi * ((double)done / (double)all))));
    case SCHEDULE_LINEAR: return fmax(0.0, (double)(all - done) / (double)all);
    case SCHEDULE_CONSTANT: return 1.0;
    case SCHEDULE_COUNT: break;
    }
    must(false && "a schedule");
    return 0.0;
}

double schedule_lr(Schedule schedule, double lr, int64_t step, int64_t warmup, int64_t steps)
{
    must(step >= 1 && warmup >= 0 && steps >= 1);
    const int64_t before = step - 1;
    if (before < warmup)
        return lr * ((double)before / (double)warmup);
    return lr * decay_factor(schedule, before - warmup, max_i64(1, steps - warmup));
}
