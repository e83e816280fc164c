// layer: core
/* fuzz_redact.c — any bytes as text of a log line: log_redact reads within bounds, and what it
 * leaves standing stands in the same order.
 *
 * The output without its marks must be a subsequence of the input.
 */
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_subsequence(Str part, Str whole)
{
    size_t at = 0;
    for (size_t i = 0; i < part.len;) {
        if (part.len - i >= 10 && memcmp(part.data + i, "<REDACTED>", 10) == 0) {
            i += 10;
            continue;
        }
        while (at < whole.len && whole.data[at] != part.data[i])
            at++;
        if (at++ >= whole.len)
            return false;
        i++;
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Str text = {(const char *)data, size};
    Buf once = {0};
    log_redact(text, &once);
    if (!is_subsequence(buf_view(&once), text))
        abort();
    buf_free(&once);
    return 0;
}
