/* kernel_trace.c — see kernel_trace.h. Activity records are summed by kernel name as they arrive;
 * names are shortened to what tells kernels apart.
 */
#include "kernel_trace.h"

#include <stdio.h>

#ifdef BENCH_CUPTI

#include <cupti.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_KERNELS = 512, NAME_CHARS = 88, BUFFER_BYTES = 8 << 20, MAX_SPANS = 1 << 20 };

typedef struct KernelSum {
    char name[NAME_CHARS];
    double us;
    long calls;
} KernelSum;

typedef struct Span {
    uint64_t start, end;
} Span;

static struct {
    CUptiResult (*enable)(CUpti_ActivityKind);
    CUptiResult (*callbacks)(CUpti_BuffersCallbackRequestFunc, CUpti_BuffersCallbackCompleteFunc);
    CUptiResult (*flush)(uint32_t);
    CUptiResult (*next)(uint8_t *, size_t, CUpti_Activity **);
    KernelSum kernels[MAX_KERNELS];
    int n_kernels;
    Span *spans;
    int n_spans;
} trace;

static void add(const char *name, uint64_t start, uint64_t end)
{
    char text[NAME_CHARS];
    snprintf(text, sizeof text, "%s", name);
    int i = 0;
    while (i < trace.n_kernels && strcmp(trace.kernels[i].name, text) != 0)
        i++;
    if (i == trace.n_kernels) {
        if (i == MAX_KERNELS)
            return;
        memcpy(trace.kernels[trace.n_kernels++].name, text, sizeof text);
    }
    trace.kernels[i].us += (double)(end - start) * 1e-3;
    trace.kernels[i].calls++;
    if (trace.n_spans < MAX_SPANS && start > 0)
        trace.spans[trace.n_spans++] = (Span){start, end};
}

static void CUPTIAPI give_buffer(uint8_t **buffer, size_t *size, size_t *max_records)
{
    *buffer = aligned_alloc(64, BUFFER_BYTES);
    *size = *buffer == NULL ? 0 : BUFFER_BYTES;
    *max_records = 0;
}

static void CUPTIAPI take_buffer(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size,
                                 size_t valid)
{
    (void)context;
    (void)stream;
    (void)size;
    CUpti_Activity *record = NULL;
    while (trace.next(buffer, valid, &record) == CUPTI_SUCCESS) {
        if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
            const CUpti_ActivityKernel10 *kernel = (const CUpti_ActivityKernel10 *)(void *)record;
            add(kernel->name, kernel->start, kernel->end);
        } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
            const CUpti_ActivityMemset4 *set = (const CUpti_ActivityMemset4 *)(void *)record;
            add("(memset)", set->start, set->end);
        } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
            const CUpti_ActivityMemcpy6 *copy = (const CUpti_ActivityMemcpy6 *)(void *)record;
            add("(memcpy)", copy->start, copy->end);
        }
    }
    free(buffer);
}

bool kernel_trace_open(void)
{
    void *library = dlopen("libcupti.so.13", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        library = dlopen("libcupti.so", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "no kernel table: %s\n", dlerror());
        return false;
    }
    *(void **)&trace.enable = dlsym(library, "cuptiActivityEnable");
    *(void **)&trace.callbacks = dlsym(library, "cuptiActivityRegisterCallbacks");
    *(void **)&trace.flush = dlsym(library, "cuptiActivityFlushAll");
    *(void **)&trace.next = dlsym(library, "cuptiActivityGetNextRecord");
    trace.spans = malloc(MAX_SPANS * sizeof(Span));
    return trace.spans != NULL && trace.enable != NULL && trace.callbacks != NULL &&
           trace.flush != NULL && trace.next != NULL &&
           trace.callbacks(give_buffer, take_buffer) == CUPTI_SUCCESS;
}

void kernel_trace_start(void)
{
    static const CUpti_ActivityKind kinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                               CUPTI_ACTIVITY_KIND_MEMSET,
                                               CUPTI_ACTIVITY_KIND_MEMCPY};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (trace.enable(kinds[i]) != CUPTI_SUCCESS)
            fprintf(stderr, "CUPTI does not trace activity %d\n", (int)kinds[i]);
}

static int by_time(const void *a, const void *b)
{
    const double x = ((const KernelSum *)a)->us, y = ((const KernelSum *)b)->us;
    return x < y ? 1 : x > y ? -1 : 0;
}

static int by_start(const void *a, const void *b)
{
    const uint64_t x = ((const Span *)a)->start, y = ((const Span *)b)->start;
    return x < y ? -1 : x > y;
}

void kernel_trace_print(int steps)
{
    trace.flush(1);
    double sum = 0, busy = 0;
    uint64_t end = 0;
    qsort(trace.kernels, (size_t)trace.n_kernels, sizeof(KernelSum), by_time);
    qsort(trace.spans, (size_t)trace.n_spans, sizeof(Span), by_start);
    for (int i = 0; i < trace.n_spans; i++) {
        const Span *s = &trace.spans[i];
        const uint64_t from = s->start > end ? s->start : end;
        if (s->end > from) {
            busy += (double)(s->end - from) * 1e-3;
            end = s->end;
        }
    }
    for (int i = 0; i < trace.n_kernels; i++) {
        const KernelSum *k = &trace.kernels[i];
        sum += k->us;
        fprintf(stderr, "%10.1f us %7.1f calls %8.2f us each  %s\n", k->us / steps,
                (double)k->calls / steps, k->us / (double)k->calls, k->name);
    }
    if (trace.n_spans == 0)
        return;
    const double whole = (double)(end - trace.spans[0].start) * 1e-3;
    fprintf(stderr, "a step: kernels %.1f us, card busy %.1f, idle %.1f, from first to last %.1f\n",
            sum / steps, busy / steps, (whole - busy) / steps, whole / steps);
}

#else

bool kernel_trace_open(void)
{
    fprintf(stderr, "no kernel table: built without CUPTI's header\n");
    return false;
}

void kernel_trace_start(void)
{
}

void kernel_trace_print(int steps)
{
    (void)steps;
}

#endif
