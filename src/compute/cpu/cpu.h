/* cpu.h — what the files of the CPU backend share: the backend's state, piece sizes, scratch
 * layout.
 *
 * Work is cut into pieces of fixed size, whatever the number of threads; threads take pieces in any
 * order and each piece is computed by one of them, so results never depend on their number.
 */
#ifndef COMPUTE_CPU_CPU_H
#define COMPUTE_CPU_CPU_H

#include "compute/compute.h"
#include "compute/cpu/kernels.h"

enum {
    PIECE_ROWS = 256,    /* tokens in a piece; sums over tokens add one partial a piece */
    TALL_ROWS = 512,     /* … where nothing is summed over tokens and factors are bf16: these are
                            packed once a piece */
    PIECE_COLS = 256,    /* outputs in a piece of a product, at most */
    ROW_BATCH = 16,      /* tokens that a thread takes at a time where rows are independent */
    ELEMENT_PIECE = 4096, /* elements in a piece of a flat array */
    PANEL_FLOATS = 4 << 20, /* 16 MiB: stays in a last-level cache */
    HEAD_FLOATS = 32 << 20  /* 128 MiB: a vocabulary of 49152 x 576 fits whole */
};

typedef struct CpuState {
    const CpuKernels *kernels;
    int threads;           /* of the pool when the backend opened; sizes per-thread scratch */
    int64_t panel_floats;  /* dequantised at a time by linear */
    int64_t head_floats;   /* … by cross_entropy */
    Dtype type;            /* of activations, and of the factors of every product: f32 or bf16 */
} CpuState;

static inline const CpuState *cpu_state(const Backend *backend)
{
    return (const CpuState *)backend->state;
}

/* Scratch is laid out by the same function for the planner and for the op: offsets from its start,
 * each aligned for vectors. */
static inline size_t layout_take(size_t *used, int64_t count, size_t element)
{
    assert(count >= 0);
    const size_t at = *used;
    *used += (size_t)round_up(count * (int64_t)element, ARENA_ALIGN);
    return at;
}
static inline float *layout_f32(const OpCall *call, size_t at)
{
    assert(((uintptr_t)call->scratch + at) % sizeof(float) == 0);
    return (float *)(void *)((uint8_t *)call->scratch + at);
}

static inline float *tensor_row(const Tensor *t, int64_t row)
{
    assert(row >= 0 && row < t->rows);
    return tensor_f32(t) + row * t->stride;
}

/* Element (row, column) of a matrix of plain elements. */
static inline void *tensor_at(const Tensor *t, int64_t row, int64_t column)
{
    assert(row >= 0 && row < t->rows);
    const int64_t element = t->dtype == DTYPE_F32 ? 4 : 2;
    return (uint8_t *)t->data + (row * t->stride + column) * element;
}

static inline bool tensor_is_f32(const Tensor *t) { return t->dtype == DTYPE_F32; }

/* f32 rows to the elements of x that begin at (row, column). */
static inline void store_rows(const CpuKernels *kernels, const float *from, int64_t stride,
                              const Tensor *x, int64_t row, int64_t column, int64_t rows,
                              int64_t cols)
{
    assert(x->dtype == DTYPE_BF16);
    for (int64_t r = 0; r < rows; r++)
        kernels->to_bf16(from + r * stride, tensor_at(x, row + r, column), cols);
}

static inline const uint8_t *weight_row(const Weight *w, int64_t row)
{
    assert(row >= 0 && row < w->rows);
    return (const uint8_t *)w->data + (size_t)row * dtype_row_bytes(w->dtype, w->cols);
}

/* A frozen matrix as f32 or bf16, some rows at a time. What a product can read where it lies is
 * read there; the rest goes through a panel in scratch. The matrix library is a third slower at f32
 * x W (not at x W^T) when the rows of W are a multiple of 1 KiB apart, so a panel's never are. */
typedef enum PanelUse { PANEL_ROWS_ARE_OUTPUTS, PANEL_ROWS_ARE_INPUTS } PanelUse; /* x W^T, x W */
typedef struct Panel {
    const void *rows;
    Dtype type;
    int64_t stride;
    int64_t begin, end;
} Panel;
typedef struct PanelPlan {
    Dtype type;
    int64_t rows;   /* at a time */
    int64_t stride;
    int64_t floats; /* of memory that panel_load needs; 0 = none */
} PanelPlan;
/* Panels of at most `budget` floats, but at least one piece. */
PanelPlan panel_plan(const Backend *backend, const Weight *w, PanelUse use, int64_t budget);
/* Rows begin .. begin + plan->rows (or the last), dequantised into `memory` by all threads. */
Panel panel_load(const Backend *backend, const Weight *w, const PanelPlan *plan, int64_t begin,
                 void *memory);
/* Elements of a panel from (row, column) on; row counts from the matrix's first. */
static inline const void *panel_at(const Panel *panel, int64_t row, int64_t column)
{
    assert(row >= panel->begin && row < panel->end);
    const int64_t element = panel->type == DTYPE_F32 ? 4 : 2;
    return (const uint8_t *)panel->rows + ((row - panel->begin) * panel->stride + column) * element;
}

/* n split in even pieces of at most `most`, each a multiple of 16 but the last. */
int64_t even_piece(int64_t n, int64_t most);

/* One pair an op, and its scratch where it has any; contracts are in compute.h. */
OpFn cpu_embed_fwd, cpu_embed_bwd, cpu_rmsnorm_fwd, cpu_rmsnorm_bwd, cpu_linear_fwd,
    cpu_linear_bwd, cpu_rope_fwd, cpu_rope_bwd, cpu_attention_fwd, cpu_attention_bwd, cpu_glu_fwd,
    cpu_glu_bwd, cpu_cross_entropy_fwd, cpu_copy_rows_fwd, cpu_sum_squares_fwd, cpu_adamw_fwd,
    cpu_window_spans_fwd, cpu_rope_rows_fwd, cpu_row_norms_fwd;
ScratchFn cpu_linear_scratch, cpu_attention_scratch, cpu_cross_entropy_scratch,
    cpu_rmsnorm_scratch, cpu_sum_squares_scratch, cpu_row_norms_scratch;

/* For tests: the backend with the kernels of that name; false when this machine lacks them. */
bool cpu_backend_open_as(Backend *backend, const char *kernels, Dtype activation);

#endif
