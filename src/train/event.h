/* event.h — the one event stream of a training run. train emits, everybody else listens.
 *
 * An event and what it points to live until the sink returns. All events come from the thread that
 * called train_run.
 */
#ifndef TRAIN_EVENT_H
#define TRAIN_EVENT_H

#include "core/err.h"
#include "core/json.h"

typedef enum EventKind {
#define X(name, json, when) EVENT_##name,
#include "train/events.def"
    EVENT_COUNT
} EventKind;

typedef enum RunStatus { RUN_COMPLETED, RUN_INTERRUPTED, RUN_FAILED, RUN_STATUS_COUNT } RunStatus;
const char *run_status_name(RunStatus status); /* "completed", "interrupted", "failed" */

typedef struct Event {
    EventKind kind;
    const char *run_id;
    int64_t step, steps;         /* done so far, planned */
    double loss;                 /* this step: token-weighted mean over its loss tokens */
    double lr, grad_norm;        /* the norm before clipping */
    double tokens_per_second;    /* this step, padding not counted */
    double peak_share;           /* model FLOP/s over the machine's measured product rate, 0..1 */
    double seconds_left;
    int64_t memory_bytes;        /* process peak, or what of the device is in use */
    int64_t step_tokens, loss_tokens;
    int64_t batch_size, accumulation; /* from now on */
    int64_t temperature;         /* of the GPU, in degrees Celsius */
    double epoch;                /* passes over the data done so far */
    const char *path;            /* checkpoint folder, or the adapter folder at the end */
    RunStatus status;            /* RUN_ENDED */
    const Err *error;            /* RUN_ENDED with RUN_FAILED */
    double seconds;              /* since the start */
    double mean_loss;            /* RUN_ENDED: mean of the step losses */
} Event;

const char *event_name(EventKind kind); /* the JSON name */
/* The event as a JSON object {"event": …, fields that this kind carries}; owned by the caller. */
Json *event_json(const Event *event);

typedef void EventSink(void *context, const Event *event);

#endif
