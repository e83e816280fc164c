/* tape_impl.h — the tape's own structures, shared by tape.c (forward, recording) and
 * tape_backward.c.
 * Nobody else includes it.
 *
 * The step arena during training, bottom to top:
 *
 *   delta | dres | shared | x_0 | inner 0 | s_1 | inner 1 | … | s_n | inner n | dx of the loss
 *
 *   delta  [T, C] activation dtype: what every closing op writes and the next segment adds. Dead
 *          once the next segment has begun; on the way back it holds the gradient of the same
 * value.
 *   dres   [T, C] residual dtype: gradient of the stream. Is delta itself when the dtypes are
 * equal.
 *   shared [T, widest] activation dtype, where segments are remade: what their next linear reads.
 *   s_k    [T, C] residual dtype: the stream at the beginning of segment k (s_0 is x_0).
 *   inner  everything else that segment k made: norm output, rstd, group matrices, …
 *
 * A recomputed segment gives inner k back as soon as segment k+1 begins (s_{k+1} then lies where
 * inner k began) and makes it again, at the same addresses, when backward gets there. Backward of
 * segment k pushes gradients above inner k and then rewinds to below s_k.
 *
 * The streams of offloaded segments, which are the first ones, lie in two buffers in place of x_0:
 * s_k in buffer k mod 2. Each is copied to the host as soon as it is whole, which must be over when
 * s_(k+2) is written; on the way back s_(k-2) is fetched as soon as s_k is dead.
 */
#ifndef COMPUTE_TAPE_IMPL_H
#define COMPUTE_TAPE_IMPL_H

#include "compute/tape.h"

/* The outputs of one linear group: one matrix forward, one backward, parts side by side. */
typedef struct GradGroup {
    Tensor y;    /* [T, sum out], stride has room for the row tail */
    Tensor dy;   /* the same shape; empty until backward needs it */
    int n_parts;
} GradGroup;

typedef struct Record {
    OpCall call;
    Value *in[3];
    Value *out[LINEAR_MAX_PARTS];
    struct Record *prev, *next; /* inside the segment */
    bool wants;                 /* has something to do backward */
} Record;

typedef struct TapeSegment {
    struct TapeSegment *prev;
    Tensor s;            /* stream at its beginning */
    size_t s_mark;       /* step arena below s */
    size_t inner_mark;   /* step arena above s */
    size_t inner_bytes;  /* known once it is closed */
    Record *first, *last;
    SegmentMode stage;
    int32_t slot;        /* of its stream among the offloaded ones' buffers */
    void *stashed;       /* host memory of s; NULL = s stays where it is */
    bool stream_wants;   /* the stream below it wants a gradient */
    bool closed;
} TapeSegment;

enum { STREAM_SLOTS = COPY_SLOTS };

struct Tape {
    Backend *backend;
    Arena *host, *step;
    Arena *host_slab;         /* NULL = nothing is offloaded */
    size_t host_mark, step_mark, host_slab_mark;
    TapeMode mode;
    SegmentMode segment_mode;
    int32_t n_segments;       /* entered so far */
    int64_t n_tokens, n_cols; /* T, C */
    Tensor stream;            /* x_0, then the latest s */
    Tensor delta, dres;
    Tensor shared;                    /* empty = no segment is remade */
    Tensor slot_stream[STREAM_SLOTS]; /* empty = no segment is offloaded */
    bool slot_busy[STREAM_SLOTS];     /* a copy was begun and nobody waited for it yet */
    bool delta_pending;       /* delta holds what the next segment adds */
    bool stream_wants;
    TapeSegment *segment;     /* latest */
    Record *embed;
    bool loss_done;
    TapeWatch *watch; /* NULL = nobody */
    void *watch_context;
    bool profile;
    OpTime times[PASS_COUNT][OP_COUNT];
};

/* A matrix on the step arena: rows x cols, each row followed by `tail` unused columns. */
Tensor tape_push(Tape *tape, Dtype dtype, int64_t rows, int64_t cols, int64_t tail);
Tensor tensor_columns(Tensor matrix, int64_t first, int64_t count);
/* One of the copies of a slot's stream, and its end. */
void slot_copy(Tape *tape, int slot, void *dst, const void *src);
void slot_wait(Tape *tape, int slot);

#endif
