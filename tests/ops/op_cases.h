/* op_cases.h — one list of cases that every backend must pass, whatever it runs on.
 *
 * A case is built once on the host: inputs drawn and rounded to the dtypes of the backend's traits,
 * outputs filled with NaN (accumulated ones with numbers), gaps between rows and every input marked
 * "must keep its bits". The reference (op_reference.c: loops in double, nothing clever) says what
 * should come out; backward formulas are themselves checked against central differences of the
 * forward ones. op_run uploads, runs with exactly the scratch asked for and guards behind it,
 * and downloads; op_check compares every element of every buffer.
 */
#ifndef TESTS_OPS_OP_CASES_H
#define TESTS_OPS_OP_CASES_H

#include "compute/compute.h"

enum {
    OP_MAX_BLOCKS = 48,
    OP_MAX_SLOTS = 56,
    OP_MAX_INTS = 6,
    OP_SLAB_BYTES = 192 << 20, /* more than any case needs */
};

enum { /* flags of a case */
    WANT_DX = 1,       /* every activation gradient */
    WANT_DW = 2,       /* weight or table */
    WANT_LOWRANK = 4,  /* da, db */
    WANT_DBIAS = 8,
    STRIDED = 16,      /* rows are longer than their tensors */
    WITH_BIAS = 32,
    WITH_DELTA = 64,
    IN_PLACE = 128,    /* the in-place form that the op allows */
    FORWARD_ONLY = 256,
    SLOPES = 512,      /* small enough for central differences */
    BARE_PART = 1024,  /* the second part of a linear group has no low-rank part */
    NO_RSTD = 2048,
    EVEN_PARTS = 8192, /* linear parts of the widths and ranks that models have */
    WITH_MAGNITUDE = 16384, /* linear: rows scaled by magnitude / norm, trained with WANT_LOWRANK */
    SMALL_LOGITS = 32768, /* near 1, so that exp does not enlarge what 16 bits round off them */
    ONLY_HALF = 4096,  /* rope without k; attention gradients of k alone; glu without dup */
};

typedef enum Spans {
    SPANS_CAUSAL,
    SPANS_PACKED,     /* several causal sequences, then padding singletons */
    SPANS_WINDOW,     /* packed and a sliding window of 20 */
    SPANS_EMPTY_TAIL, /* one sequence, then rows that see nothing */
    SPANS_FULL,       /* everybody sees everything (forward only) */
    SPANS_CACHE,      /* N keys, the queries are the last T of them (forward only) */
} Spans;

typedef struct OpCase {
    const char *name;
    OpId op;
    int T, C;    /* tokens; width in */
    int N;       /* outputs, vocabulary, keys, elements of a flat array */
    int parts, rank;
    int heads, kv_heads, head_dim, rot; /* heads of a norm: the row holds as many, C wide each */
    Dtype dtype; /* of stored weights */
    int variant; /* Spans, RopePairing or Activation */
    unsigned flags;
} OpCase;
extern const OpCase op_cases[];
extern const int op_case_count;

/* One allocation on the device. */
typedef struct OpBlock {
    Dtype dtype;
    int64_t rows, stride;
    float *image;   /* before the run, exact in dtype */
    int16_t *owner; /* per element: slot that writes it, or one of these */
    float *got;     /* after the run */
    void *device;
} OpBlock;
enum { OWNER_FIXED = -1, OWNER_FREE = -2 };

/* A tensor of the call: a column range of a block, or a stored weight (block < 0). */
typedef struct OpSlot {
    char name[16];
    int block;
    int64_t column, rows, cols;
    double *val;      /* before the run; NULL for pure outputs */
    double *want;     /* after the run; NULL for inputs */
    bool accumulates; /* want = val + … */
    int64_t terms;    /* longest sum behind an element */
    Tensor *field;
    float **raw;      /* instead of field: flat arrays */
} OpSlot;

typedef struct OpWeight {
    Weight weight;
    uint8_t *bytes;
    const Weight **field;
} OpWeight;

typedef struct OpInts {
    int32_t *host;         /* before the run */
    int64_t n;
    const int32_t **field;
    int32_t *want, *got;   /* of an output; NULL for inputs */
} OpInts;

typedef struct OpTest {
    const OpCase *c;
    Arena *arena;
    BackendTraits traits;
    OpCall call;
    OpBlock block[OP_MAX_BLOCKS];
    OpSlot slot[OP_MAX_SLOTS];
    OpWeight weight[LINEAR_MAX_PARTS];
    OpInts ints[OP_MAX_INTS];
    int n_blocks, n_slots, n_weights, n_ints;
    StepState step;
    const StepState **step_field;
    double scalar, scalar_want, scalar_got; /* a double on the device */
    const double **scalar_in;
    double **scalar_out;
    uint64_t draws; /* of the random stream */
} OpTest;

/* Builds the case for a backend of these traits, reference included. */
OpTest *op_make(Arena *arena, const OpCase *c, const BackendTraits *traits);
/* Runs forward and (unless FORWARD_ONLY) backward; false when something behind the scratch was
 * written. */
bool op_run(OpTest *test, Backend *backend, Arena *slab);
/* Elements that are wrong; the first few are printed with `label`. */
int op_check(const OpTest *test, const char *label);
/* A hash of all that came back. */
uint64_t op_bits(const OpTest *test);
/* Largest error / tolerance seen by op_check since the start. */
double op_worst(void);

/* For op_build.c and op_reference.c. */
OpSlot *op_slot(OpTest *test, const char *name); /* NULL when the case has none */
OpSlot *op_slot_i(OpTest *test, const char *name, int i);
/* Fills `want` of every output; returns what belongs to the loss beside sum(dy * y). */
double op_reference(OpTest *test);
/* Largest |analytic - central difference| / scale over sampled elements of all gradients. */
double op_slope_error(OpTest *test);

/* Relative error allowed for sums of `terms` products: one place for all ops. */
double op_tolerance(Dtype activation, int64_t terms);

#endif
