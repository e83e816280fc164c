/* evaluate.c — mean negative log-likelihood of a text.
 *
 * The text is read in windows of what the model takes (at most EVALUATE_WINDOW tokens). The first
 * window scores all of its tokens but the first; each later one begins half a window before the
 * first token that it scores, so that every token is predicted from at least half a window.
 */
#include "model/generate.h"

#include <string.h>

#include "model/decode_session.h"

enum { EVALUATE_WINDOW = 8192 };

typedef struct Sum {
    double nll;
    int64_t count;
} Sum;

/* Reads ids[0..n) as one sequence and adds the nll of ids[i], i >= first. */
static bool window(DecodeSession *s, const int32_t *ids, int64_t n, int64_t first, Sum *sum,
                   Err *err)
{
    assert(first >= 1);
    for (int64_t start = 0; start + 1 < n;) {
        int64_t count = min_i64(DECODE_CHUNK, n - 1 - start);
        DecodePass pass = {count, DECODE_NLL};
        if (!decode_run(s, pass, ids + start, start, ids + start + 1, err))
            return false;
        for (int64_t t = 0; t < count; t++) {
            if (start + t + 1 < first)
                continue;
            sum->nll += s->host_floats[t];
            sum->count++;
        }
        start += count;
    }
    return true;
}

static bool windows(DecodeSession *s, const int32_t *ids, int64_t n, int64_t size, Sum *sum,
                    Err *err)
{
    if (!window(s, ids, min_i64(n, size), 1, sum, err))
        return false;
    for (int64_t scored = min_i64(n, size); scored < n;) {
        int64_t begin = scored - size / 2, end = min_i64(n, begin + size);
        if (!window(s, ids + begin, end - begin, scored - begin, sum, err))
            return false;
        scored = end;
    }
    return true;
}

bool evaluate_nll(Model *model, Backend *backend, const int32_t *ids, int64_t n,
                  const float *adapter_values, double *mean_nll, Err *err)
{
    if (n < 2)
        return err_set(err, ERR_INPUT_VALIDATION_FAILED, "a text of %lld tokens has no loss",
                       (long long)n);
    for (int64_t i = 0; i < n; i++) /* targets too */
        if (ids[i] < 0 || ids[i] >= model->config.vocab)
            return err_set(err, ERR_INPUT_VALIDATION_FAILED, "token %d is not in the vocabulary",
                           (int)ids[i]);
    int64_t size = min_i64(min_i64(model->config.max_positions, EVALUATE_WINDOW), n);
    if (size < 2)
        return err_set(err, ERR_INPUT_VALIDATION_FAILED, "'%s' takes one token at a time",
                       model->config.name);
    /* Every pass length that window() can come to: the last window may have any. */
    int64_t last = n;
    while (last > size)
        last = last - (size - size / 2);
    DecodePass passes[4];
    size_t n_passes = 0;
    const int64_t lengths[] = {size - 1, last - 1};
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        if (lengths[i] >= DECODE_CHUNK)
            passes[n_passes++] = (DecodePass){DECODE_CHUNK, DECODE_NLL};
        if (lengths[i] % DECODE_CHUNK != 0)
            passes[n_passes++] = (DecodePass){lengths[i] % DECODE_CHUNK, DECODE_NLL};
    }
    Adapter *adapter = model->adapter;
    DecodeSession session;
    Sum sum = {0};
    bool ok = decode_open(&session, model, backend, size, passes, n_passes, adapter_values, err) &&
              windows(&session, ids, n, size, &sum, err);
    decode_close(&session);
    model->adapter = adapter;
    assert(!ok || sum.count == n - 1);
    if (ok)
        *mean_nll = sum.nll / (double)sum.count;
    return ok;
}

/* Reads one sequence in passes of `pass` tokens; the last is filled up with tokens that nothing
 * sees. */
static bool score_marked(DecodeSession *s, const MarkedSequence *sequence, int64_t pass, Sum *sum,
                         Err *err)
{
    int32_t ids[DECODE_CHUNK], targets[DECODE_CHUNK];
    assert(pass <= DECODE_CHUNK);
    for (int64_t start = 0; start + 1 < sequence->len; start += pass) {
        const int64_t count = min_i64(pass, sequence->len - 1 - start);
        memset(ids, 0, sizeof ids);
        memset(targets, 0, sizeof targets);
        memcpy(ids, sequence->ids + start, (size_t)count * sizeof *ids);
        memcpy(targets, sequence->ids + start + 1, (size_t)count * sizeof *ids);
        if (!decode_run(s, (DecodePass){pass, DECODE_NLL}, ids, start, targets, err))
            return false;
        for (int64_t t = 0; t < count; t++) {
            const bool scored = sequence->loss[start + t + 1] != 0;
            sum->nll += scored ? (double)s->host_floats[t] : 0;
            sum->count += scored;
        }
    }
    return true;
}

bool evaluate_marked(Model *model, Backend *backend, const MarkedSequence *sequences, int64_t n,
                     const float *adapter_values, double *mean_nll, Err *err)
{
    int64_t longest = 2;
    for (int64_t i = 0; i < n; i++) {
        longest = max_i64(longest, sequences[i].len);
        for (int64_t t = 0; t < sequences[i].len; t++)
            if (sequences[i].ids[t] < 0 || sequences[i].ids[t] >= model->config.vocab)
                return err_set(err, ERR_INPUT_VALIDATION_FAILED,
                               "token %d is not in the vocabulary", (int)sequences[i].ids[t]);
    }
    must(n > 0 && longest <= model->config.max_positions);
    const int64_t pass = min_i64(DECODE_CHUNK, longest - 1);
    const DecodePass passes[] = {{pass, DECODE_NLL}};
    Adapter *adapter = model->adapter;
    DecodeSession session;
    Sum sum = {0};
    bool ok = decode_open(&session, model, backend, round_up(longest - 1, pass), passes, 1,
                          adapter_values, err);
    for (int64_t i = 0; i < n && ok; i++)
        ok = score_marked(&session, &sequences[i], pass, &sum, err);
    decode_close(&session);
    model->adapter = adapter;
    must(!ok || sum.count > 0);
    if (ok)
        *mean_nll = sum.nll / (double)sum.count;
    return ok;
}
