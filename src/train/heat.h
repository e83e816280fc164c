/* heat.h — a GPU's temperature, through NVML, and when to wait for it to fall. Owns the library
 * while it is open; knows nothing of runs.
 */
#ifndef TRAIN_HEAT_H
#define TRAIN_HEAT_H

#include "core/base.h"

enum { HEAT_UNKNOWN = -1000 };

typedef struct HeatLimits {
    double critical;     /* degrees Celsius from which a run waits; 0 = never look */
    double resume;       /* … until it is below this */
    double max_pause;    /* seconds; 0 = for ever */
    double poll_seconds; /* between two looks while it is cool */
} HeatLimits;
/* A run does not wait above this: it saves and ends. */
static const double heat_emergency = 95;

typedef struct Heat {
    void *library, *device; /* NULL: nothing can be known */
    double next_look;       /* os_now */
} Heat;

/* The card that CUDA calls `index`. Without NVML every look is HEAT_UNKNOWN. BACKPROPAGATE_NVML
 * names another library, for tests. */
void heat_open(Heat *heat, int index);
void heat_close(Heat *heat);
/* Whether a library was named, so that even a run without a card looks. */
bool heat_is_forced(void);

/* Degrees now, or HEAT_UNKNOWN. */
int heat_look(const Heat *heat);

#endif
