/* multi_data.c — the examples of each run of a session. See multi_data.h.
 *
 * The runs of a task take its examples window by window: run v of its runs (from 0) begins at
 * v * window, modulo their number. With --samples S a window is S less what is replayed; else it is
 * the number of examples over the number of runs, rounded up, and what is replayed comes on top, so
 * that every example is learnt.
 */
#include "runs/multi_data.h"

#include "core/rng.h"

#include <string.h>

enum { HOLD_OUT_ONE_OF = 10 };

bool replay_parse(const char *text, ReplayStrategy *strategy)
{
    static const char *const names[REPLAY_COUNT] = {"recent", "random", "all_previous"};
    assert(text != NULL && strategy != NULL);
    for (int i = 0; i < REPLAY_COUNT; i++) {
        if (strcmp(names[i], text) == 0) {
            *strategy = (ReplayStrategy)i;
            return true;
        }
    }
    return false;
}

/* How many of the last examples are kept back: a row is never parted. */
static int64_t held_out_count(const Example *examples, int64_t n)
{
    int64_t kept = max_i64(n / HOLD_OUT_ONE_OF, 1);
    while (kept < n && examples[n - kept - 1].line == examples[n - kept].line)
        kept++;
    return kept;
}

bool multi_tasks(const Dataset *dataset, const DataFile *files, size_t n_files, HoldOut hold_out,
                 MultiTask *tasks, Arena *out, Err *err)
{
    assert(n_files > 0);
    for (size_t f = 0; f < n_files; f++) {
        Example *list = arena_array(out, Example, dataset->n_examples);
        int64_t n = 0;
        for (int64_t i = 0; i < dataset->n_examples; i++) {
            if (dataset->examples[i].file == (int32_t)f)
                list[n++] = dataset->examples[i];
        }
        const int64_t kept = n > 0 && hold_out == HOLD_OUT_TENTH ? held_out_count(list, n) : 0;
        if (n - kept < 1) {
            err_set(err, ERR_CONFIG_INVALID, "'%s' has %lld examples, and %lld are held out",
                    files[f].path, (long long)n, (long long)kept);
            return err_hint(err, "Give it more rows, or pass --validation-samples 0");
        }
        tasks[f] = (MultiTask){.name = files[f].path, .examples = list, .n_examples = n - kept,
                               .held_out = list + (n - kept), .n_held_out = kept};
    }
    return true;
}

int64_t multi_task_of(const MultiPlan *plan, int64_t run)
{
    must(run >= 1 && run <= plan->runs && plan->n_tasks >= 1);
    return (run - 1) * plan->n_tasks / plan->runs;
}

/* Runs of that task, and the first of them. */
static int64_t runs_of_task(const MultiPlan *plan, int64_t task, int64_t *first)
{
    int64_t count = 0;
    *first = 0;
    for (int64_t run = 1; run <= plan->runs; run++) {
        if (multi_task_of(plan, run) != task)
            continue;
        *first = *first == 0 ? run : *first;
        count++;
    }
    return count;
}

bool multi_plan_check(const MultiPlan *plan, Err *err)
{
    for (int64_t i = 0; i < plan->n_tasks; i++) {
        if (plan->samples <= plan->tasks[i].n_examples)
            continue;
        err_set(err, ERR_CONFIG_INVALID, "a run of %lld samples is more than the %lld of '%s'",
                (long long)plan->samples, (long long)plan->tasks[i].n_examples,
                plan->tasks[i].name);
        return err_hint(err, "Lower --samples, or leave it out to share the file among its runs");
    }
    if (plan->runs >= plan->n_tasks)
        return true;
    err_set(err, ERR_CONFIG_INVALID, "%lld runs are too few for %lld data files",
            (long long)plan->runs, (long long)plan->n_tasks);
    return err_hint(err, "Pass --runs %lld or more", (long long)plan->n_tasks);
}

typedef struct Sizes {
    int64_t fresh, replayed;
} Sizes;

static Sizes sizes_of(const MultiPlan *plan, int64_t run)
{
    const int64_t task = multi_task_of(plan, run);
    const double fraction = run > 1 ? plan->replay_fraction : 0;
    if (plan->samples > 0) {
        const int64_t replayed = (int64_t)((double)plan->samples * fraction);
        return (Sizes){plan->samples - replayed, replayed};
    }
    int64_t first;
    const int64_t runs = runs_of_task(plan, task, &first);
    const int64_t fresh = ceil_div(plan->tasks[task].n_examples, runs);
    return (Sizes){fresh, (int64_t)((double)fresh * fraction / (1 - fraction))};
}

/* Appends what is new in a run. */
static void add_window(const MultiPlan *plan, int64_t run, Example *list, int64_t *n)
{
    const int64_t task = multi_task_of(plan, run);
    const MultiTask *of = &plan->tasks[task];
    int64_t first, start = 0;
    runs_of_task(plan, task, &first);
    for (int64_t i = first; i < run; i++)
        start += sizes_of(plan, i).fresh;
    const int64_t count = sizes_of(plan, run).fresh;
    for (int64_t i = 0; i < count; i++)
        list[(*n)++] = of->examples[(start + i) % of->n_examples];
}

/* `count` of pool[0..n), or all, chosen by seed, run and part. */
static int64_t draw(const MultiPlan *plan, int64_t run, uint32_t part, const Example *pool,
                    int64_t n, int64_t count, Example *list, Arena *out)
{
    const int64_t taken = min_i64(n, count);
    const size_t mark = arena_mark(out);
    int64_t *order = arena_array(out, int64_t, n);
    rng_permutation(plan->seed + (uint64_t)run, RNG_REPLAY, part, n, order);
    for (int64_t i = 0; i < taken; i++)
        list[i] = pool[order[i]];
    arena_rewind(out, mark);
    return taken;
}

static int64_t replay(const MultiPlan *plan, int64_t run, int64_t count, Example *list, Arena *out)
{
    int64_t most = 0, n = 0, taken = 0;
    if (run == 1 || count == 0)
        return 0;
    for (int64_t i = 1; i < run; i++)
        most += sizes_of(plan, i).fresh;
    Example *pool = arena_array(out, Example, most);
    const bool each = plan->replay == REPLAY_ALL_PREVIOUS;
    for (int64_t i = plan->replay == REPLAY_RECENT ? run - 1 : 1; i < run; i++) {
        add_window(plan, i, pool, &n);
        if (!each)
            continue;
        /* The shares differ by one at most and add up to count. */
        const int64_t share = count * i / (run - 1) - count * (i - 1) / (run - 1);
        taken += draw(plan, run, (uint32_t)i, pool, n, share, list + taken, out);
        n = 0;
    }
    return each ? taken : draw(plan, run, 0, pool, n, count, list, out);
}

MultiShare multi_share(const MultiPlan *plan, int64_t run, Arena *out)
{
    const Sizes sizes = sizes_of(plan, run);
    must(sizes.fresh > 0 && sizes.replayed >= 0);
    Example *list = arena_array(out, Example, sizes.fresh + sizes.replayed);
    int64_t n = 0;
    add_window(plan, run, list, &n);
    const int64_t replayed = replay(plan, run, sizes.replayed, list + n, out);
    assert(n == sizes.fresh && replayed <= sizes.replayed);
    return (MultiShare){list, n + replayed, replayed};
}
