/* generate.h — text from a model: prompt pass, then one token at a time over a key/value cache; and
 * the loss of a model on a text. Both place the model themselves and give its memory back.
 */
#ifndef MODEL_GENERATE_H
#define MODEL_GENERATE_H

#include "model/model.h"
#include "text/tokenizer.h"

typedef struct GenerateOptions {
    int32_t max_new_tokens;
    float temperature; /* 0 = greedy */
    float top_p;       /* 1 = all */
    uint64_t seed;
} GenerateOptions;

typedef enum GenerateStop {
    GENERATE_END_OF_TURN,
    GENERATE_LENGTH,
    GENERATE_CANCELLED
} GenerateStop;

typedef struct GenerateResult {
    TokenList ids; /* new tokens, end-of-turn token not included; free with token_list_free */
    GenerateStop stop;
    double prompt_seconds, token_seconds;
    int64_t prompt_tokens;
} GenerateResult;

/* Called with each new piece of whole UTF-8 text; false stops. May be NULL. */
typedef bool GenerateSink(void *context, Str piece);

/* The model must have been opened (model_open) and not placed; generate places it on `backend`
 * with memory of its own and gives it back. adapter values: host vector or NULL. */
bool generate(Model *model, Backend *backend, const Tokenizer *tokenizer, const int32_t *prompt,
              int64_t n_prompt, const float *adapter_values, const GenerateOptions *options,
              GenerateSink *sink, void *context, GenerateResult *result, Err *err);

/* Mean negative log-likelihood (nats a token) of ids[1..n) given what stands before them. */
bool evaluate_nll(Model *model, Backend *backend, const int32_t *ids, int64_t n,
                  const float *adapter_values, double *mean_nll, Err *err);

/* A sequence of which the tokens t >= 1 with loss[t] are scored. */
typedef struct MarkedSequence {
    const int32_t *ids;
    const uint8_t *loss;
    int64_t len; /* at most the model's positions */
} MarkedSequence;
/* Mean negative log-likelihood (nats a token) of the marked tokens of n sequences, at least one
 * token in all. Model and adapter as for evaluate_nll. */
bool evaluate_marked(Model *model, Backend *backend, const MarkedSequence *sequences, int64_t n,
                     const float *adapter_values, double *mean_nll, Err *err);

#endif
