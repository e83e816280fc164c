/* bench_train.c — real training steps on a card, timed: the trainer itself (data feed, forward,
 * loss, backward, clip, AdamW) on a model of real shape with random weights.
 *
 *   bench_train [--json] [--steps N] [--kernels] [--calls] NAME,BATCH,SEQ,RANK[,MEMORY] …
 *
 * One line a case: the median step after three to warm up. Seconds count from the start of the
 * case's process, less the making of random weights, which no real run does. Memory is what NVML
 * shows while the run lives, less what it showed before. --kernels adds a table of kernels and idle
 * time (its steps are slower: do not use its tokens/s); --calls runs every step call by call
 * instead of from a recording. Each case is a process of its own.
 */
#include "bench_case.h"
#include "kernel_trace.h"
#include "nvml.h"

#include "compute/cuda_loader.h"
#include "core/os.h"
#include "train/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WARM_STEPS = 3, MAX_STEPS = 1000 };

typedef struct BenchOptions {
    bool json, kernels, calls;
    int64_t steps; /* measured */
} BenchOptions;

typedef struct Measure {
    BenchOptions options;
    BenchCase bench;
    double start;  /* of the process, moved on by the making of weights */
    double begin, first, last;
    double seconds[MAX_STEPS];
    double mhz[MAX_STEPS];
    uint64_t base_bytes, peak_bytes;
    size_t planned;
    double loss;
    bool traced;
    TrainResult result;
} Measure;

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, int64_t n)
{
    qsort(values, (size_t)n, sizeof *values, by_size);
    return values[n / 2];
}

static void print_result(Measure *m)
{
    const BenchCase *b = &m->bench;
    const MemoryPlan *plan = &m->result.plan;
    const int64_t n = m->options.steps;
    const double step = median(m->seconds, n), gib = 1.0 / (1 << 30);
    const double tokens = (double)b->batch * b->seq;
    const char *format =
        m->options.json
            ? "{\"engine\": \"backpropagate\", \"case\": \"%s%s,%d,%d,%d,%s\", "
              "\"tok_s\": %.0f, "
              "\"peak_gib\": %.2f, \"planned_gib\": %.2f, \"first_step_s\": %.2f, "
              "\"begin_s\": %.2f, \"step_ms\": %.2f, "
              "\"best_ms\": %.2f, \"sm_mhz\": %.0f, \"loss\": %.4f, \"card\": \"%s\"}\n"
            : "%s%s,%d,%d,%d,%s: %.0f tokens/s, %.2f GiB (planned %.2f), "
              "first step done at %.2f s (begun %.2f), step %.2f ms (best %.2f), %.0f MHz, "
              "loss %.4f, %s\n";
    printf(format, b->model, b->dtype == DTYPE_BF16 ? "" : ":q4_k", b->batch, b->seq,
           (int)b->rank, b->memory, tokens / step,
           (double)(m->peak_bytes - m->base_bytes) * gib,
           (double)(plan->weights + plan->run + plan->step + plan->other) * gib,
           m->first - m->start,
           m->begin - m->start, step * 1e3, m->seconds[0] * 1e3, median(m->mhz, n), m->loss,
           card_name());
    fflush(stdout);
}

static void on_event(void *context, const Event *event)
{
    Measure *m = context;
    const double now = os_now();
    if (event->kind == EVENT_RUN_STARTED)
        m->begin = now;
    if (event->kind != EVENT_STEP)
        return;
    if (event->step == 1)
        m->first = now;
    const int64_t i = event->step - 1 - WARM_STEPS;
    if (i >= 0) {
        const CardReading reading = card_read();
        m->seconds[i] = now - m->last;
        m->mhz[i] = reading.sm_mhz;
        m->peak_bytes = reading.used_bytes > m->peak_bytes ? reading.used_bytes : m->peak_bytes;
    }
    m->last = now;
    m->loss = event->loss;
    if (i + 1 == 0 && m->traced)
        kernel_trace_start();
    if (i + 1 == m->options.steps) {
        /* What follows in a run is writing files: nothing to measure. */
        if (m->traced)
            kernel_trace_print((int)m->options.steps);
        print_result(m);
        _exit(0);
    }
}

static int fail(const Err *err)
{
    fprintf(stderr, "%s\n", err->message);
    return 1;
}

static SegmentMode segments_of(const char *memory)
{
    static const char *const stages[] = {"keep", "remake", "recompute", "offload"};
    for (size_t i = 0; i < COUNT_OF(stages); i++)
        if (strcmp(memory, stages[i]) == 0)
            return (SegmentMode)i * SEGMENT_STAGE;
    fprintf(stderr, "no way to keep memory is called '%s'; taking keep\n", memory);
    return SEGMENT_KEEP;
}

static int run_case(const char *text, const BenchOptions *options)
{
    static Measure m;
    m.options = *options;
    m.start = os_now();
    Err err = {0};
    Arena arena;
    Model model;
    if (!bench_case_parse(text, &m.bench) || !arena_open(&arena, 0, &err)) {
        fprintf(stderr, "not a case: '%s'\n", text);
        return 2;
    }
    const double making = os_now();
    if (!bench_model(&m.bench, &model, &arena)) {
        fprintf(stderr, "no model '%s'; there are %s\n", m.bench.model, bench_case_models());
        return 2;
    }
    const int64_t steps = options->steps + WARM_STEPS;
    Dataset dataset;
    bench_dataset(&m.bench, model.config.vocab, steps, &dataset, &arena);
    m.base_bytes = card_read().used_bytes;
    m.start += os_now() - making;
    m.traced = options->kernels && kernel_trace_open();
    Backend backend;
    if (!backend_open_cuda(&backend, 0, &err))
        return fail(&err);
    if (options->calls)
        backend.record_begin = NULL;
    const AdapterConfig config = {.r = m.bench.rank, .alpha = 2.0 * (double)m.bench.rank,
                                  .targets = ADAPTER_ALL_LINEAR};
    Adapter *adapter = adapter_make(&model, &config, &arena, &err);
    if (adapter == NULL)
        return fail(&err);
    const TrainOptions train = {
        .run_id = "00000000000000000000000000000000", .output = "/tmp/backpropagate-bench",
        .base_name = m.bench.model, .steps = steps, .batch_size = m.bench.batch, .accumulation = 1,
        .max_seq_length = m.bench.seq, .packing = true, .lr = 1e-4, .max_grad_norm = 1,
        .schedule = SCHEDULE_CONSTANT, .seed = 1, .sink = on_event, .sink_context = &m,
        .segments = segments_of(m.bench.memory),
        .weights = m.bench.dtype == DTYPE_BF16 ? WEIGHTS_WIDENED : WEIGHTS_PACKED};
    if (!train_run(&model, adapter, &dataset, &backend, &train, &arena, &m.result, &err))
        return fail(&err);
    return 3; /* on_event ends the process */
}

int main(int argc, char **argv)
{
    BenchOptions options = {.steps = 20};
    int status = 0, cases = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            options.json = true;
        } else if (strcmp(argv[i], "--kernels") == 0) {
            options.kernels = true;
        } else if (strcmp(argv[i], "--calls") == 0) {
            options.calls = true;
        } else if (strcmp(argv[i], "--steps") == 0 && i + 1 < argc) {
            options.steps = strtol(argv[++i], NULL, 10);
        } else if (options.steps >= 1 && options.steps <= MAX_STEPS - WARM_STEPS) {
            cases++;
            fflush(stdout);
            const pid_t child = fork();
            if (child == 0)
                _exit(run_case(argv[i], &options));
            int how = 1;
            waitpid(child, &how, 0);
            status = how == 0 ? status : 1;
        }
    }
    if (cases == 0)
        fprintf(stderr, "usage: bench_train [--json] [--steps N] [--kernels] [--calls] NAME,…\n"
                        "models: %s\n", bench_case_models());
    return cases == 0 ? 2 : status;
}
