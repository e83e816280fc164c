/* tape.h — op calls recorded as they run; backward walks them in reverse.
 *
 * A family's forward is straight-line code over this header and never says "gradient". The model is
 * one residual stream and segments that read and add to it:
 *
 *     tape_stream_begin   x_0 = embedding                               (stream)
 *     n = tape_segment    s = x + pending delta; n = rmsnorm(s)         opens a segment
 *     … ops on values …
 *     tape_add_linear     pending delta = linear(value)                 closes the segment
 *
 * Memory is the step arena, used as a stack. Per segment the plan says how much of it stays until
 * backward (SegmentMode). Addresses are the same every step. A value has one consumer; the stream's
 * gradient is one buffer for the whole model.
 *
 * Without training (TAPE_INFER) nothing is recorded or saved and each segment reuses the memory of
 * the one before.
 */
#ifndef COMPUTE_TAPE_H
#define COMPUTE_TAPE_H

#include "compute/compute.h"

typedef enum TapeMode { TAPE_INFER, TAPE_TRAIN } TapeMode;
/* What stays of a segment between forward and backward, from the fastest to the smallest:
 *
 *   keep       all its values
 *   remake     without those that one pass over others gives back (outputs of the norm and of the
 *              gated product): they share one buffer, and are made again for the linear that reads
 *              them
 *   recompute  only s, the stream at its beginning; the segment's calls run again
 *   offload    the same, and s waits in host memory; where the backend has none beside its own,
 *              recompute
 *
 * One number for a model: stage * SEGMENT_STAGE + n says that the first n segments are one stage
 * further than `stage`, all others at it. The first ones, because when backward reaches them the
 * others' memory is free. A model has fewer than SEGMENT_STAGE segments. */
typedef int32_t SegmentMode;
enum { SEGMENT_STAGE = 1 << 16 };
enum {
    SEGMENT_KEEP = 0,
    SEGMENT_REMAKE = SEGMENT_STAGE,
    SEGMENT_RECOMPUTE = 2 * SEGMENT_STAGE,
    SEGMENT_OFFLOAD = 3 * SEGMENT_STAGE
};

/* One activation: [rows, cols], with its gradient once backward has made it. */
typedef struct Value {
    Tensor x;
    Tensor dx;
    struct GradGroup *group; /* siblings from one linear group share one gradient matrix */
    int64_t column;          /* of this value inside the group */
    struct Record *remaker;  /* x shares its memory with others and this call makes it again */
    bool wants_grad;
} Value;

/* A parameter vector or matrix that may be trained: grad empty = frozen. */
typedef struct ParamRef {
    Tensor value; /* f32 */
    Tensor grad;  /* f32, accumulated, or empty */
} ParamRef;

/* One part of a linear group as the tape takes it (model/linear.c fills it). */
typedef struct LinearSpec {
    const Weight *w;
    Tensor dw;         /* empty = frozen */
    ParamRef bias;     /* value empty = none */
    ParamRef a, b;     /* value empty = none */
    float scale;
    ParamRef magnitude; /* value empty = none; else norm is given, too */
    Tensor norm;
} LinearSpec;

typedef struct AttentionSpans {
    const int32_t *kv_begin, *kv_end, *q_end;
} AttentionSpans;

typedef struct Tape Tape;

/* What is derived from a pass's arrays before its first segment; it lives as long as the pass.
 * The spans of a sliding window, and rows of a rope table with a second half (RopeRowsArgs). */
AttentionSpans tape_window_spans(Tape *tape, AttentionSpans spans, int window);
const int32_t *tape_rope_rows(Tape *tape, const RopeRowsArgs *args);

/* host: the tape and its records; step: the device slab. Both outlive the tape. */
Tape *tape_make(Backend *backend, Arena *host, Arena *step);
/* Where offloaded segments keep their stream: a host slab of the backend, which outlives the
 * tape. Without one, and where the backend cannot copy beside its ops, they are recomputed only. */
void tape_offload_to(Tape *tape, Arena *host_slab);
/* Starts a pass: rewinds the arenas to where they stood when the tape got them, so nobody else
 * may keep anything pushed on them later. segment_mode: for TAPE_TRAIN. */
void tape_begin(Tape *tape, TapeMode mode, SegmentMode segment_mode);
Backend *tape_backend(Tape *tape);
/* Of the pass so far, the final norm not counted. */
int32_t tape_segments(const Tape *tape);

/* What tape_stream_begin must know of the model beside its tokens. */
typedef struct StreamSpec {
    const Weight *table; /* of the embedding */
    Tensor dtable;       /* empty = frozen */
    float scale;
    int64_t rank;        /* largest total rank of the linears that close segments (the stream's
                            gradient, which is their dy, leaves that row tail) */
    int64_t widest;      /* most columns, row tail included, of a value that a linear reads */
} StreamSpec;
/* The first call of a pass. */
void tape_stream_begin(Tape *tape, const StreamSpec *spec, const int32_t *tokens, int64_t n_tokens);
/* Opens a segment (or the final norm). rank: total rank of the linear group that reads the result
 * (the producer leaves its row tail). */
Value *tape_segment(Tape *tape, ParamRef norm, float eps, int64_t rank);
/* Over every head of x by itself where the norm is as wide as a head. */
Value *tape_rmsnorm(Tape *tape, Value *x, ParamRef norm, float eps);
/* out: n_parts values. */
void tape_linear(Tape *tape, Value *x, const LinearSpec *parts, int n_parts, Value **out);
/* Columns of x as n values of these widths, which are consumed in its place. x is all of its
 * group. */
void tape_split(Tape *tape, Value *x, const int64_t *widths, int n, Value **out);
void tape_rope(Tape *tape, Value *q, Value *k, Tensor table, const int32_t *positions, int head_dim,
               RopePairing pairing);
typedef struct AttentionShape {
    int n_heads, n_kv_heads, head_dim;
    float scale;
} AttentionShape;
/* k, v may live in a cache (TAPE_INFER): then k_cache/v_cache are given instead of the values. */
Value *tape_attention(Tape *tape, Value *q, Value *k, Value *v, AttentionShape shape,
                      AttentionSpans spans, int64_t rank);
Value *tape_attention_cached(Tape *tape, Value *q, Tensor k_cache, Tensor v_cache,
                             AttentionShape shape, AttentionSpans spans, int64_t rank);
void tape_copy_rows(Tape *tape, Value *src, Tensor dst, const int32_t *index);
Value *tape_glu(Tape *tape, Value *gate, Value *up, Activation act, int64_t rank);
/* Close a segment: the result is what the next segment adds to the stream. */
void tape_add_linear(Tape *tape, Value *x, const LinearSpec *part);
void tape_add_rmsnorm(Tape *tape, Value *x, ParamRef norm, float eps);

/* Loss over rows of the last segment's value; nll: [max_rows, 1] f32 device memory of the
 * caller. */
typedef struct LossRows {
    const int32_t *rows, *targets; /* [max_rows] */
    int64_t max_rows;
    const StepState *step;
    Tensor nll;
} LossRows;
void tape_cross_entropy(Tape *tape, Value *x, const Weight *head, Tensor dhead, LossRows loss);
/* Walks back. TAPE_TRAIN only, once, after tape_cross_entropy. All values are dead afterwards. */
void tape_backward(Tape *tape);
/* Runs one unrecorded op (optimiser, refresh, logits); sets call->scratch, from the step arena
 * above
 * everything that is alive there. */
void tape_run(Tape *tape, OpCall *call, Pass pass);

/* Seconds and calls per op and pass since tape_make, when profiling was switched on. */
typedef struct OpTime { double seconds; int64_t calls; } OpTime;
void tape_profile(Tape *tape, bool on);
/* Called after every op, before its scratch is given back; the tensors of the call are whole. For
 * statistics on activations. NULL ends it. */
typedef void TapeWatch(void *context, const OpCall *call, Pass pass);
void tape_watch(Tape *tape, TapeWatch *watch, void *context);
const OpTime *tape_times(const Tape *tape, Pass pass); /* [OP_COUNT] */

#endif
