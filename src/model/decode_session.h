/* decode_session.h — a model placed for reading text: one sequence, a key/value cache, memory of
 * its
 * own that is planned before it is taken. Used by generate.c and evaluate.c only.
 */
#ifndef MODEL_DECODE_SESSION_H
#define MODEL_DECODE_SESSION_H

#include "model/adapter.h"

/* Tokens of one pass while a prompt or text is read. */
enum { DECODE_CHUNK = 512 };

typedef enum DecodeOutput {
    DECODE_LOGITS, /* of the last token of a pass */
    DECODE_NLL,    /* of every token's given target */
    DECODE_NOTHING,
} DecodeOutput;

typedef struct DecodeSession {
    Model *model;
    Backend *backend;
    Arena host;               /* tape records and the arrays below */
    Arena weights, run, step; /* slabs */
    Tape *tape;
    int64_t n_positions;      /* tokens the cache holds */
    int64_t chunk;            /* most tokens of a pass */
    KvCache cache;
    int32_t *tokens, *positions, *kv_begin, *kv_end, *rows, *targets; /* device [chunk] */
    StepState *state;         /* device */
    Tensor nll;               /* device [chunk, 1] */
    Tensor logits;            /* device [1, V] f32 */
    int32_t *host_ints;       /* [chunk] */
    float *host_floats;       /* [max(chunk, V)]: logits, or nll of the tokens of the last pass */
} DecodeSession;

/* The pass lengths that will be used, each with what it will be asked for; memory is planned for
 * exactly these. */
typedef struct DecodePass {
    int64_t n_tokens;
    DecodeOutput output;
} DecodePass;

/* Plans, takes memory, places model and adapter. model->adapter is used if adapter_values is not
 * NULL (else the base alone). */
bool decode_open(DecodeSession *session, Model *model, Backend *backend, int64_t n_positions,
                 const DecodePass *passes, size_t n_passes, const float *adapter_values, Err *err);
void decode_close(DecodeSession *session); /* safe on {0} */
/* Runs tokens [start, start + pass.n_tokens) of the sequence; everything before must have been run.
 * targets: for DECODE_NLL, one a token. Results in host_floats. */
bool decode_run(DecodeSession *session, DecodePass pass, const int32_t *ids, int64_t start,
                const int32_t *targets, Err *err);

#endif
