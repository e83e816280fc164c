/* plan_backend.c — the backend on which a program runs to learn what memory it will need: ops do
 * nothing and arenas count.
 *
 * It asks the backend that it stands for about traits, scratch and weight sizes, so that every push
 * on every slab has the same size in the same order as in the real run; the peaks are then equal
 * by construction. Addresses it hands out are never NULL and never readable.
 */
#include "compute/compute.h"

/* Above the user half of the address space of every machine we run on: a mistaken access traps. */
static const uintptr_t IMAGINARY_BASE = (uintptr_t)1 << 62;

static const Backend *model_of(const Backend *plan)
{
    must(plan->state != NULL);
    return plan->state;
}

static void op_nothing(Backend *plan, const OpCall *call)
{
    (void)plan;
    must(call != NULL && (unsigned)call->op < OP_COUNT);
}

static size_t scratch_bytes(const Backend *plan, const OpCall *call, Pass pass)
{
    const Backend *model = model_of(plan);
    return model->scratch(model, call, pass);
}

static bool slab_open(Backend *plan, Arena *slab, size_t bytes, Err *err)
{
    (void)plan;
    (void)err;
    must(bytes <= PLAN_SLAB_BYTES);
    arena_over(slab, (void *)IMAGINARY_BASE, bytes);
    return true;
}

static void slab_close(Backend *plan, Arena *slab)
{
    (void)plan;
    *slab = (Arena){0};
}

static void copy_begin(Backend *plan, int slot, void *dst, const void *src, size_t bytes)
{
    (void)plan;
    must((unsigned)slot < COPY_SLOTS && dst != NULL && src != NULL && bytes > 0);
}

static void copy_wait(Backend *plan, int slot)
{
    (void)plan;
    must((unsigned)slot < COPY_SLOTS);
}

static void upload(Backend *plan, void *dst, const void *src, size_t bytes)
{
    (void)plan;
    must((dst != NULL && src != NULL) || bytes == 0);
}

static void download(Backend *plan, void *dst, const void *src, size_t bytes)
{
    (void)plan;
    must((dst != NULL && src != NULL) || bytes == 0);
}

static void zero(Backend *plan, void *dst, size_t bytes)
{
    (void)plan;
    must(dst != NULL || bytes == 0);
}

static size_t weight_bytes(const Backend *plan, const Weight *weight)
{
    const Backend *model = model_of(plan);
    return model->weight_bytes == NULL ? 0 : model->weight_bytes(model, weight);
}

static void weight_open(Backend *plan, Weight *weight, Arena *slab)
{
    size_t bytes = weight_bytes(plan, weight);
    must(bytes % ARENA_ALIGN == 0);
    weight->data = bytes == 0 ? weight->source : arena_push(slab, bytes);
    weight->packed = NULL;
}

static size_t group_bytes(const Backend *plan, Weight *const *weights, int n, int64_t rank)
{
    const Backend *model = model_of(plan);
    return model->group_bytes(model, weights, n, rank);
}

static void group_open(Backend *plan, Weight *const *weights, int n, int64_t rank, Arena *slab)
{
    size_t bytes = group_bytes(plan, weights, n, rank);
    must(bytes % ARENA_ALIGN == 0);
    void *data = arena_push(slab, bytes);
    for (int i = 0; i < n; i++) {
        weights[i]->data = data;
        weights[i]->packed = NULL;
    }
}

static bool supports(const Backend *plan, const ComputeNeeds *needs, Err *err)
{
    const Backend *model = model_of(plan);
    return model->supports == NULL || model->supports(model, needs, err);
}

static const char *finish(Backend *plan)
{
    (void)plan;
    return NULL;
}

static void close(Backend *plan)
{
    *plan = (Backend){0};
}

void backend_open_plan(Backend *plan, const Backend *model_of_plan)
{
    must(plan != NULL && model_of_plan != NULL && model_of_plan->scratch != NULL);
    *plan = (Backend){
        .traits = model_of_plan->traits,
        /* Only read back through model_of, as const. */
        .state = (void *)(uintptr_t)model_of_plan,
        .scratch = scratch_bytes,
        .slab_open = slab_open,
        .slab_close = slab_close,
        .upload = upload,
        .download = download,
        .zero = zero,
        .weight_open = weight_open,
        .finish = finish,
        .close = close,
        .weight_bytes = weight_bytes,
        .supports = supports,
    };
    if (model_of_plan->traits.memory == MEMORY_DEVICE) {
        plan->host_slab_open = slab_open;
        plan->host_slab_close = slab_close;
        plan->copy_begin = copy_begin;
        plan->copy_wait = copy_wait;
    }
    if (model_of_plan->group_bytes != NULL) {
        plan->group_bytes = group_bytes;
        plan->group_open = group_open;
    }
    for (int pass = 0; pass < PASS_COUNT; pass++)
        for (int op = 0; op < OP_COUNT; op++)
            if (model_of_plan->run[pass][op] != NULL)
                plan->run[pass][op] = op_nothing;
}
