/* compute.h — what the engine asks of a machine: tensors, weights, ops, backends. Knows nothing of
 * models, adapters or files.
 *
 * Dimensions, everywhere:
 *   T tokens in flight   C model width   H query heads   G key/value heads   D head size
 *   F feed-forward width V vocabulary    r rank          S keys in a cache
 *
 * The contract of an op
 *   - Ops never fail: shapes are `must`, memory was planned, a device error sticks to the backend
 *     and is read once a step (Backend.finish).
 *   - One OpCall holds forward and backward arguments. fwd reads and writes the forward fields; bwd
 *     reads what forward saved and writes the gradients. A gradient whose data is NULL is not
 *     wanted and must cost nothing.
 *   - Gradients of activations (dx, dq, …) are overwritten: a value has one consumer. The residual
 *     stream is the exception (RmsnormArgs.dx_beta). Gradients of parameters are accumulated, f32.
 *   - An op does not write its inputs, except rope (invertible) and where an Args struct says so.
 *   - Nothing depends on the number of threads: sums over tokens add partials of fixed 256-row
 *     pieces in order.
 *   - `scratch` is ARENA_ALIGN-aligned memory of at least Backend.scratch bytes, contents
 * undefined.
 *   - Accumulation is in f32 (or better) whatever the dtypes.
 */
#ifndef COMPUTE_COMPUTE_H
#define COMPUTE_COMPUTE_H

#include "core/arena.h"
#include "core/err.h"
#include "core/tensor.h"

/* A frozen or trained matrix as it lies in its file: row = one output. Only a backend reads
 * `packed`; `data` is where the backend keeps the bytes (the CPU: the mapped file itself). */
typedef struct Weight {
    const void *source; /* host bytes, rows x dtype_row_bytes(dtype, cols) */
    const void *data;   /* set by Backend.weight_open */
    void *packed;       /* backend-private layout, or NULL */
    Dtype dtype;        /* storage */
    int64_t rows, cols; /* out, in */
} Weight;

/* What changes from step to step; lives in device memory so that recorded calls stay the same. */
typedef struct StepState {
    float lr;
    float inv_loss_tokens; /* 1 / loss tokens of the whole optimiser step */
    int32_t step;          /* from 1; Adam's bias correction */
    int32_t n_loss;        /* loss rows of the current microbatch */
} StepState;

/* y[t] = scale * table[tokens[t]]. bwd: dtable[tokens[t]] += scale * dy[t], in token order. */
typedef struct EmbedArgs {
    const Weight *table;   /* [V, C], any dtype */
    const int32_t *tokens; /* [T] */
    float scale;
    Tensor y;              /* [T, C] */
    Tensor dy;             /* [T, C] */
    Tensor dtable;         /* [V, C] f32 */
} EmbedArgs;

/* s = x + delta; y = s * rstd(s) * w, rstd = 1/sqrt(mean(s^2) + eps) (Zhang & Sennrich 2019).
 * A row may hold several heads, C = heads * D with w [1, D]: each is normalised by itself, and
 * delta is then empty.
 * delta empty: s = x and sum is not written. sum may be x itself. Saved for bwd: s (in `sum`, or x
 * when delta is empty) and rstd.
 * bwd: dx = dx_beta * dx + d(s);  ddelta (if given) = the same values in its own dtype; dw += … */
typedef struct RmsnormArgs {
    Tensor x, delta, sum; /* [T, C] */
    Tensor w;             /* [1, D] f32; D = C without heads */
    float eps;
    Tensor y;             /* [T, C], may have a row tail (stride > cols) */
    Tensor rstd;          /* [T, heads] f32, or empty when nothing will run backward */
    Tensor dy;            /* [T, C] */
    Tensor dx, ddelta;    /* [T, C] */
    float dx_beta;        /* 0 overwrites dx, 1 adds to it (the residual stream's gradient) */
    Tensor dw;            /* [1, D] f32 */
} RmsnormArgs;

/* Products that share an input: y_i = g_i * (x W_i^T + scale_i * (x A_i^T) B_i^T) + bias_i.
 * g_i = magnitude_i / norm_i, an output at a time, where they are given, else 1: with norm_i the
 * length of every row of W_i + scale_i B_i A_i (row_norms), that is weight normalisation
 * (Salimans & Kingma 2016) with the norm held constant backward.
 * The parts' y are column ranges, in order, of one [T, sum out] matrix; so are their dy. h holds
 * scale_i * x A_i^T side by side, [T, sum r]; where the backend asked for a row tail, h is the tail
 * of x and dh the tail of dy. Saved for bwd: x, h, and what g multiplies in `product` where
 * dmagnitude is wanted. A single part without y data makes only what is saved.
 * bwd: dbias_i += colsum(dy_i);  dmagnitude_i += colsum(dy_i * product_i) / norm_i; then, with
 *      dy_i := g_i dy_i: dx = sum_i (dy_i W_i + scale_i dy_i B_i A_i);  dW_i += dy_i^T x;
 *      dB_i += dy_i^T h_i;  dA_i += (scale_i dy_i B_i)^T x. */
enum { LINEAR_MAX_PARTS = 3 };
typedef struct LinearPart {
    const Weight *w;          /* [out, in], any dtype */
    Tensor bias;              /* [1, out] f32, or empty */
    Tensor a, b;              /* [r, in], [out, r] f32 masters, or empty */
    float scale;
    Tensor magnitude, norm;   /* [1, out] f32, or empty */
    Tensor product;           /* [T, out], or empty */
    Tensor y, dy;             /* [T, out]; y may be f32 where activations are 16-bit */
    Tensor dw, dbias, da, db, dmagnitude; /* f32, shapes of their parameter */
} LinearPart;
typedef struct LinearArgs {
    Tensor x;  /* [T, in] */
    Tensor h;  /* [T, sum r], or empty without low-rank parts */
    Tensor dx; /* [T, in] */
    int n_parts;
    LinearPart part[LINEAR_MAX_PARTS];
} LinearArgs;

/* Rotary position embedding (Su et al. 2021), in place on q and k (either may be empty), on the
 * first `rot` elements of every head: pairs (i, i + rot/2) or (2i, 2i + 1).
 * table: row p holds cos(p f_i) for i < rot/2, then sin(p f_i). bwd: the inverse rotation, in place
 * on dq and dk. */
typedef enum RopePairing { ROPE_HALVES, ROPE_INTERLEAVED } RopePairing;
typedef struct RopeArgs {
    Tensor q, k;              /* [T, H*D], [T, G*D] */
    Tensor dq, dk;
    Tensor table;             /* [positions, rot] f32 */
    const int32_t *positions; /* [T] rows of the table */
    int head_dim, rot;
    RopePairing pairing;
} RopeArgs;

/* Spans cut to a sliding window: token t sees the last `window` of the keys that its span has.
 * begin[t] = max(kv_begin[t], kv_end[t] - window); end[s] = min(q_end[s], s + window) where q_end
 * is given (training: key s and query s are the same token). Never recorded for backward. */
typedef struct WindowSpansArgs {
    const int32_t *kv_begin, *kv_end, *q_end; /* [n]; q_end may be NULL */
    int64_t n;
    int window;
    int32_t *begin, *end; /* [n]; end NULL without q_end */
} WindowSpansArgs;

/* Rows of a rope table that has a second half for long sequences: rows[t] = positions[t], and
 * `offset` more where the sequence of t, q_end[t] - kv_begin[t] tokens, is longer than `longest`.
 * Without q_end all tokens are of one sequence of `length` tokens. Never recorded for backward. */
typedef struct RopeRowsArgs {
    const int32_t *positions, *kv_begin, *q_end; /* [n]; q_end may be NULL */
    int64_t n, length;
    int longest, offset;
    int32_t *rows; /* [n] */
} RopeRowsArgs;

/* Softmax attention over spans: query t sees keys kv_begin[t] .. kv_end[t]-1; both never decrease
 * with t. Packed sequences, causality and windows are all in the spans; an empty span gives zeros.
 * Query head h uses key head h / (H/G). Saved for bwd: q, k, v, y, lse.
 * bwd (training only: key s and query s are the same token) additionally reads q_end: key s is seen
 * by queries t with s <= t < q_end[s]. */
typedef struct AttentionArgs {
    Tensor q;    /* [T, H*D] */
    Tensor k, v; /* [S, G*D] */
    Tensor y;    /* [T, H*D], may have a row tail */
    Tensor lse;  /* [H, T] f32: log of the sum of exp(scale * q.k); empty when not saved */
    const int32_t *kv_begin, *kv_end; /* [T] */
    const int32_t *q_end;             /* [S] */
    int n_heads, n_kv_heads, head_dim;
    float scale;
    Tensor dy;         /* [T, H*D] */
    Tensor dq, dk, dv; /* any may be empty */
} AttentionArgs;

/* y = act(gate) * up (Shazeer 2020). dgate may be gate, dup may be up. Saved: gate, up. */
typedef enum Activation { ACT_SILU, ACT_GELU_TANH } Activation;
typedef struct GluArgs {
    Activation act;
    Tensor gate, up; /* [T, F] */
    Tensor y;        /* [T, F], may have a row tail */
    Tensor dy;
    Tensor dgate, dup;
} GluArgs;

/* Chunked linear cross-entropy over the rows that carry loss only: logits live a chunk at a time.
 * For i < step->n_loss: nll[i] = logsumexp(x[rows[i]] W^T) - (x[rows[i]] W^T)[targets[i]].
 * fwd also computes the gradient when dx or dw is wanted, with dlogits = (softmax - onehot) *
 * step->inv_loss_tokens: dx (all T rows; rows without loss get 0), dw += …. bwd does nothing.
 * nll entries from n_loss on are set to 0. */
typedef struct CrossEntropyArgs {
    Tensor x;               /* [T, C] */
    const Weight *w;        /* [V, C], any dtype */
    const int32_t *rows;    /* [max_rows] */
    const int32_t *targets; /* [max_rows] */
    const StepState *step;
    Tensor nll;             /* [max_rows, 1] f32 */
    Tensor dx;              /* [T, C] */
    Tensor dw;              /* [V, C] f32 */
} CrossEntropyArgs;

/* dst[index[t]] = src[t] (key/value cache). Never recorded for backward. */
typedef struct CopyRowsArgs {
    Tensor src;           /* [T, C] */
    Tensor dst;           /* [S, C] */
    const int32_t *index; /* [T] */
} CopyRowsArgs;

/* *out = sum of x^2 in double, fixed order. */
typedef struct SumSquaresArgs {
    const float *x;
    int64_t n;
    double *out;
} SumSquaresArgs;

/* AdamW (Loshchilov & Hutter 2019), PyTorch's order: p *= 1 - lr*decay; m, v; p -= lr * mhat /
 * (sqrt(vhat) + eps). The gradient is first multiplied by min(1, max_norm / (sqrt(*sum_squares) +
 * 1e-6)) (max_norm 0 = no clipping) and is zero afterwards. */
typedef struct AdamwArgs {
    float *p, *g, *m, *v;
    int64_t n;
    const StepState *step;
    const double *sum_squares;
    float max_norm, beta1, beta2, eps, decay;
} AdamwArgs;

/* norm[j] = |row j of W + scale B A|, summed in double; a, b may be empty. Never recorded for
 * backward. A backend without this op has no linear with magnitudes either. */
typedef struct RowNormsArgs {
    const Weight *w; /* [out, in], any dtype */
    Tensor a, b;     /* [r, in], [out, r] f32 */
    float scale;
    Tensor norm;     /* [1, out] f32 */
} RowNormsArgs;

/* After an update of the f32 masters: bring backend-private copies of a and b up to date. */
typedef struct LowrankRefreshArgs {
    int n_parts;
    LinearPart part[LINEAR_MAX_PARTS];
} LowrankRefreshArgs;

#define COMPUTE_ARG_STRUCTS \
    EmbedArgs embed; RmsnormArgs rmsnorm; LinearArgs linear; RopeArgs rope; \
    AttentionArgs attention; GluArgs glu; CrossEntropyArgs cross_entropy; CopyRowsArgs copy_rows; \
    SumSquaresArgs sum_squares; AdamwArgs adamw; LowrankRefreshArgs lowrank_refresh; \
    WindowSpansArgs window_spans; RopeRowsArgs rope_rows; RowNormsArgs row_norms;

typedef enum OpId {
#define X(name) OP_##name,
#include "compute/ops.def"
#undef X
    OP_COUNT
} OpId;
const char *op_name(OpId op);

typedef struct OpCall {
    OpId op;
    void *scratch;
    union { COMPUTE_ARG_STRUCTS };
} OpCall;

typedef enum Pass { PASS_FWD, PASS_BWD, PASS_COUNT } Pass;

typedef struct Backend Backend;
typedef void OpFn(Backend *backend, const OpCall *call);
/* Scratch bytes of a call; pure, so that the plan can ask without the device. Shapes are set in the
 * call, data pointers may be imaginary (NULL still means "not wanted"). */
typedef size_t ScratchFn(const Backend *backend, const OpCall *call, Pass pass);

/* Where slabs lie: in ordinary memory, which the host may read in place, or on a device. */
typedef enum BackendMemory { MEMORY_HOST, MEMORY_DEVICE } BackendMemory;

/* How weights of packed types (those of GGUF files) lie on a device: made wide once, when they are
 * opened, or packed and made wide at every use. The values are the same. */
typedef enum WeightStorage { WEIGHTS_WIDENED, WEIGHTS_PACKED } WeightStorage;

/* What the plan must know of a machine to predict its memory without having it. */
typedef struct BackendTraits {
    const char *name;       /* "cpu", "cuda" */
    BackendMemory memory;
    int row_tail_multiple;  /* low-rank tails are rounded up to this; 0 = no tails */
    size_t fixed_bytes;     /* workspace taken once at open */
    size_t context_bytes;   /* what the driver takes before anything is asked for */
    Dtype activation;       /* policy: dtype of activations */
    Dtype residual;         /* dtype of the residual stream and its gradient */
    WeightStorage weights;  /* policy, of a device; set before weights are opened */
} BackendTraits;

/* What a model asks of a backend beyond having the ops; found out before anything runs. */
typedef struct ComputeNeeds {
    int head_dim;         /* of attention */
    int64_t widest_norm;  /* columns */
} ComputeNeeds;

enum { COPY_SLOTS = 2 };

struct Backend {
    BackendTraits traits;
    void *state;
    OpFn *run[PASS_COUNT][OP_COUNT]; /* NULL: the backend lacks it; found out at open */
    ScratchFn *scratch;

    /* Large memory: a range of exactly `bytes` behind `slab`. RUNTIME_OUT_OF_MEMORY on failure. */
    bool (*slab_open)(Backend *backend, Arena *slab, size_t bytes, Err *err);
    void (*slab_close)(Backend *backend, Arena *slab);
    /* Host memory that ops may read in place and copies reach at full speed. NULL: every slab of
     * this backend is host memory. */
    bool (*host_slab_open)(Backend *backend, Arena *slab, size_t bytes, Err *err);
    void (*host_slab_close)(Backend *backend, Arena *slab);
    /* A copy between a slab and a host slab, beside the ops: it begins when every op given so far
     * is done, and ops given after copy_wait begin when the slot's last copy is done. Copies of all
     * slots are done in order. NULL with host_slab_open. */
    void (*copy_begin)(Backend *backend, int slot, void *dst, const void *src, size_t bytes);
    void (*copy_wait)(Backend *backend, int slot);
    /* Later ops see the bytes; src may be reused at once. */
    void (*upload)(Backend *backend, void *dst, const void *src, size_t bytes);
    void (*download)(Backend *backend, void *dst, const void *src, size_t bytes); /* waits */
    void (*zero)(Backend *backend, void *dst, size_t bytes);
    /* Puts a weight where the ops read it, taking what it needs from `slab` (the CPU: nothing). */
    void (*weight_open)(Backend *backend, Weight *weight, Arena *slab);
    /* The same for all weights of one linear group (the parts of one LinearArgs, in order), with
     * room for low-rank parts of total rank `rank`. NULL: this backend keeps weights one by one.
     * group_bytes is what group_open (and, with n = 1 and rank 0, weight_open) takes from the slab;
     * pure, so that the plan can ask without the device. Callers use backend_open_group. */
    size_t (*group_bytes)(const Backend *backend, Weight *const *weights, int n, int64_t rank);
    void (*group_open)(Backend *backend, Weight *const *weights, int n, int64_t rank, Arena *slab);
    /* Waits for all work. NULL, or the text of the first device error. */
    const char *(*finish)(Backend *backend);
    void (*close)(Backend *backend);
    /* What weight_open takes from its slab (a multiple of ARENA_ALIGN); pure, so that the plan can
     * ask. NULL: nothing. */
    size_t (*weight_bytes)(const Backend *backend, const Weight *weight);
    /* False with an error when the backend cannot run such a model; NULL: it runs all. */
    bool (*supports)(const Backend *backend, const ComputeNeeds *needs, Err *err);
    /* Recordings, so that a step costs the host one call: what ops and zero would do between
     * record_begin and record_end is noted instead of done, and replay does all of it again, as
     * often as wanted, on the same addresses; what differs between replays lies in device memory.
     * Every call must have run once before it is recorded. Nothing else is called in between.
     * record_end gives NULL after a device error (finish has its text); a recording lives as long
     * as the backend. NULL functions: this backend has no recordings. */
    void (*record_begin)(Backend *backend);
    void *(*record_end)(Backend *backend);
    void (*replay)(Backend *backend, void *recording);
    /* Bytes of device memory in use now, by everybody; *total: all there are. NULL: the backend's
     * memory is the process's. */
    size_t (*memory_used)(Backend *backend, size_t *total);
    /* Rate of a large product in this machine's fastest training dtype, FLOP/s, measured at the
     * first call; 0 = not known. Takes memory for a moment. */
    double (*peak_flops)(Backend *backend);
};

/* Tail columns for a low-rank group of total rank r on this backend. */
static inline int backend_row_tail(const Backend *backend, int64_t r)
{
    int m = backend->traits.row_tail_multiple;
    return m == 0 ? 0 : (int)round_up(r, m);
}

/* Places the weights of one linear group; every linear weight is opened this way, once. */
static inline void backend_open_group(Backend *backend, Weight *const *weights, int n,
                                      int64_t rank, Arena *slab)
{
    if (backend->group_open != NULL) {
        backend->group_open(backend, weights, n, rank, slab);
        return;
    }
    for (int i = 0; i < n; i++)
        backend->weight_open(backend, weights[i], slab);
}

/* The CPU backend: all storage dtypes, f32 activations. */
bool backend_open_cpu(Backend *backend, Err *err);
/* The same with f32 or bf16 activations. With bf16 the factors of every product are bf16 too; sums,
 * norms, softmax, loss, the residual stream and the adapter's masters stay f32. */
bool backend_open_cpu_as(Backend *backend, Dtype activation, Err *err);
/* bf16 where the processor multiplies it faster than f32 (AVX512-BF16, AMX), else f32. */
Dtype cpu_best_activation(void);
/* The plan: `model_of`, which must outlive it, gives traits, scratch and weight sizes; every op
 * does
 * nothing, every slab is imaginary (addresses nobody may read), upload and download do nothing.
 * slab_open with PLAN_SLAB_BYTES gives a slab that never fills: its arena's peak is the answer. */
#define PLAN_SLAB_BYTES (SIZE_MAX / 16)
void backend_open_plan(Backend *plan, const Backend *model_of);
/* "avx512", "avx2", "generic": the kernels that the CPU backend chose. */
const char *cpu_kernel_name(void);
/* Measured once and cached: f32 product speed of this machine in GFLOP/s (for "share of peak"). */
double cpu_peak_gflops(void);

#endif
