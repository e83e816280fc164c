/* kernel_trace.h — which kernel took how long, and how long the card stood idle between them, as
 * CUPTI (found at run time) records it. Tracing slows a step by a few percent: time whole steps
 * without it.
 */
#ifndef BENCH_GPU_KERNEL_TRACE_H
#define BENCH_GPU_KERNEL_TRACE_H

#include <stdbool.h>

/* Before anything else touches the card. False (with a line on stderr): no CUPTI here. */
bool kernel_trace_open(void);
/* From now on. */
void kernel_trace_start(void);
/* Prints to stderr: kernels by total time, each per step; then busy, idle and whole time. */
void kernel_trace_print(int steps);

#endif
