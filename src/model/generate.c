/* generate.c — prompt in chunks, then one token at a time; sampling on the host.
 *
 * Sampling: temperature divides the logits; top-p keeps the fewest most likely tokens whose
 * probabilities reach p (Holtzman et al. 2020), ties by lower id; the draw for new token i is
 * rng_uniform53(seed, RNG_SAMPLE, 0, i). Temperature 0 takes the largest logit, the lowest id among
 * equals.
 */
#include "model/generate.h"

#include "core/os.h"
#include "core/rng.h"
#include "model/decode_session.h"

#include <math.h>
#include <stdlib.h>

typedef struct Candidate {
    float weight; /* exp((logit - largest) / temperature) */
    int32_t id;
} Candidate;

typedef struct Generation {
    DecodeSession session;
    const Tokenizer *tokenizer;
    const GenerateOptions *options;
    GenerateSink *sink;
    void *context;
    GenerateResult *result;
    Arena scratch;         /* of the sampler; the session's host arena belongs to its tape */
    Candidate *candidates; /* [V] */
    Buf text;              /* decoded and not yet given to the sink */
    int64_t length;        /* tokens in the cache */
} Generation;

static int32_t largest(const float *logits, int64_t n)
{
    assert(n > 0);
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return (int32_t)best;
}

static int more_likely(const void *a, const void *b)
{
    const Candidate *x = a, *y = b;
    if (x->weight != y->weight)
        return x->weight > y->weight ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static int32_t sample(const float *logits, int64_t n, const GenerateOptions *options,
                      uint64_t index, Candidate *candidates)
{
    assert(n > 0 && options->temperature >= 0);
    int32_t best = largest(logits, n);
    if (!(options->temperature > 0))
        return best;
    double total = 0;
    for (int64_t i = 0; i < n; i++) {
        float weight = expf((logits[i] - logits[best]) / options->temperature);
        candidates[i] = (Candidate){.weight = weight, .id = (int32_t)i};
        total += weight;
    }
    qsort(candidates, (size_t)n, sizeof *candidates, more_likely);
    int64_t kept = 0;
    double mass = 0;
    while (kept < n && (kept == 0 || mass < options->top_p * total))
        mass += candidates[kept++].weight;
    double left = rng_uniform53(options->seed, RNG_SAMPLE, 0, index) * mass;
    for (int64_t i = 0; i < kept; i++) {
        left -= candidates[i].weight;
        if (left < 0)
            return candidates[i].id;
    }
    return candidates[kept - 1].id;
}

/* Bytes of `text` that end with a whole code point. */
static size_t whole_utf8(Str text)
{
    size_t back = 1;
    while (back <= 4 && back <= text.len) {
        uint8_t byte = (uint8_t)text.data[text.len - back];
        if ((byte & 0xc0) != 0x80) {
            size_t need = byte < 0xc0 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : byte < 0xf8 ? 4 : 1;
            return need > back ? text.len - back : text.len;
        }
        back++;
    }
    return text.len;
}

/* Gives the sink what is whole (or, at the end, what is left). False: it wants no more. */
typedef enum Flush { FLUSH_WHOLE, FLUSH_ALL } Flush;
static bool flush(Generation *g, Flush how)
{
    Str text = buf_view(&g->text);
    size_t len = how == FLUSH_ALL ? text.len : whole_utf8(text);
    if (g->sink == NULL || len == 0)
        return true;
    bool go_on = g->sink(g->context, str_sub(text, 0, len));
    Buf rest = {0};
    buf_str(&rest, str_sub(text, len, text.len));
    buf_free(&g->text);
    g->text = rest;
    return go_on;
}

static bool read_prompt(Generation *g, const int32_t *prompt, int64_t n, Err *err)
{
    while (g->length < n) {
        int64_t count = min_i64(DECODE_CHUNK, n - g->length);
        bool last = g->length + count == n;
        DecodePass pass = {count, last ? DECODE_LOGITS : DECODE_NOTHING};
        if (!decode_run(&g->session, pass, prompt + g->length, g->length, NULL, err))
            return false;
        g->length += count;
    }
    return true;
}

/* New tokens until something stops them; the logits of the last token are in the session. */
static bool write_tokens(Generation *g, int64_t most, Err *err)
{
    DecodeSession *s = &g->session;
    GenerateResult *result = g->result;
    result->stop = GENERATE_LENGTH;
    for (int64_t i = 0; i < most; i++) {
        if (!isfinite(s->host_floats[0]))
            return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                           "model '%s' gives scores that are not finite: its weights are damaged",
                           s->model->config.name);
        int32_t id = sample(s->host_floats, s->model->config.vocab, g->options, (uint64_t)i,
                            g->candidates);
        if (tokenizer_is_end(g->tokenizer, id)) {
            result->stop = GENERATE_END_OF_TURN;
            return true;
        }
        token_list_push(&result->ids, id);
        tokenizer_decode(g->tokenizer, id, SPECIAL_HIDDEN, &g->text);
        if (!flush(g, FLUSH_WHOLE)) {
            result->stop = GENERATE_CANCELLED;
            return true;
        }
        if (i + 1 == most)
            return true;
        if (!decode_run(s, (DecodePass){1, DECODE_LOGITS}, &id, g->length, NULL, err))
            return false;
        g->length++;
    }
    return true;
}

static bool generation_open(Generation *g, Model *model, Backend *backend, int64_t n_prompt,
                            const float *adapter_values, int64_t *most, Err *err)
{
    int64_t room = model->config.max_positions;
    if (n_prompt < 1)
        return err_set(err, ERR_INPUT_VALIDATION_FAILED, "the prompt is empty");
    if (n_prompt >= room)
        return err_set(err, ERR_INPUT_VALIDATION_FAILED,
                       "the prompt has %lld tokens, '%s' takes %lld", (long long)n_prompt,
                       model->config.name, (long long)room);
    *most = min_i64(max_i64(g->options->max_new_tokens, 0), room - n_prompt);
    DecodePass passes[3];
    size_t n_passes = 0;
    if (n_prompt > DECODE_CHUNK)
        passes[n_passes++] = (DecodePass){DECODE_CHUNK, DECODE_NOTHING};
    int64_t last = n_prompt - (n_prompt - 1) / DECODE_CHUNK * DECODE_CHUNK;
    passes[n_passes++] = (DecodePass){last, DECODE_LOGITS};
    passes[n_passes++] = (DecodePass){1, DECODE_LOGITS};
    if (!decode_open(&g->session, model, backend, n_prompt + *most, passes, n_passes,
                     adapter_values, err))
        return false;
    if (!arena_open(&g->scratch, 0, err))
        return false;
    g->candidates = arena_array(&g->scratch, Candidate, model->config.vocab);
    return true;
}

bool generate(Model *model, Backend *backend, const Tokenizer *tokenizer, const int32_t *prompt,
              int64_t n_prompt, const float *adapter_values, const GenerateOptions *options,
              GenerateSink *sink, void *context, GenerateResult *result, Err *err)
{
    Adapter *adapter = model->adapter;
    Generation g = {.tokenizer = tokenizer, .options = options, .sink = sink, .context = context,
                    .result = result};
    *result = (GenerateResult){.prompt_tokens = n_prompt};
    int64_t most = 0;
    double start = os_now();
    bool ok = generation_open(&g, model, backend, n_prompt, adapter_values, &most, err) &&
              read_prompt(&g, prompt, n_prompt, err);
    double middle = os_now();
    ok = ok && write_tokens(&g, most, err);
    if (ok && result->stop != GENERATE_CANCELLED)
        flush(&g, FLUSH_ALL);
    result->prompt_seconds = middle - start;
    result->token_seconds = os_now() - middle;
    buf_free(&g.text);
    arena_close(&g.scratch);
    decode_close(&g.session);
    model->adapter = adapter;
    if (!ok)
        token_list_free(&result->ids);
    return ok;
}
