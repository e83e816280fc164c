/* nvml.h — what the card says of itself while something runs on it: memory in use by everybody, and
 * the clock. Opened at run time; every figure is 0 where the library is missing.
 */
#ifndef BENCH_GPU_NVML_H
#define BENCH_GPU_NVML_H

#include <stdint.h>

typedef struct CardReading {
    uint64_t used_bytes; /* by all processes and the driver */
    unsigned sm_mhz;
} CardReading;

/* Of the first card. */
CardReading card_read(void);
/* "NVIDIA H100 80GB HBM3", or "" */
const char *card_name(void);

#endif
