/* term.c — what people see: colours, phases, errors, sizes, the progress bar.
 *
 * Results go to stdout, everything here to stderr. The bar is drawn only on a terminal.
 */
#include "cli/cli.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "core/os.h"

enum { BAR_WIDTH = 24 };

static bool bar_open; /* the cursor stands at the end of a bar */
static bool is_quiet; /* only errors and results */

void term_quiet(void)
{
    is_quiet = true;
}

static bool wants_colour(FILE *out)
{
    if (os_env("NO_COLOR") != NULL)
        return false;
    if (os_env("FORCE_COLOR") != NULL)
        return true;
    return isatty(fileno(out)) != 0;
}

void term_paint(FILE *out, Colour colour, const char *text)
{
    static const char *const codes[] = {"",         "\033[31m", "\033[32m",
                                        "\033[33m", "\033[34m", "\033[2m"};
    if (colour == COLOUR_NONE || !wants_colour(out))
        fputs(text, out);
    else
        fprintf(out, "%s%s\033[0m", codes[colour], text);
}

void term_paint_or_mark(FILE *out, Colour colour, const char *text, const char *open,
                        const char *close)
{
    const bool painted = wants_colour(out);
    fputs(painted ? "" : open, out);
    term_paint(out, colour, text);
    fputs(painted ? "" : close, out);
}

void term_progress_end(void)
{
    if (bar_open)
        fputc('\n', stderr);
    bar_open = false;
}

void term_error(const bp_error *error)
{
    Buf message = {0};
    term_progress_end();
    log_redact(str_of(error->message), &message);
    term_paint(stderr, COLOUR_RED, "[");
    term_paint(stderr, COLOUR_RED, error->code);
    term_paint(stderr, COLOUR_RED, "] ");
    fprintf(stderr, "%s\n", message.data != NULL ? message.data : "");
    if (*error->hint != '\0')
        fprintf(stderr, "  %s\n", error->hint);
    buf_free(&message);
}

void term_hint(const char *format, ...)
{
    if (is_quiet)
        return;
    va_list list;
    va_start(list, format);
    term_paint(stderr, COLOUR_BLUE, "next: ");
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
}

void term_phase(const char *text)
{
    if (is_quiet)
        return;
    term_progress_end();
    term_paint(stderr, COLOUR_BLUE, "==> ");
    fprintf(stderr, "%s\n", text);
}

const char *term_bytes(double bytes, char out[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int unit = 0;
    while (bytes >= 1024 && unit < 4) {
        bytes /= 1024;
        unit++;
    }
    snprintf(out, 32, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
    return out;
}

const char *term_seconds(double seconds, char out[32])
{
    long s = lround(seconds < 0 ? 0 : seconds);
    if (seconds < 10)
        snprintf(out, 32, "%.1f s", seconds < 0 ? 0 : seconds);
    else if (s < 60)
        snprintf(out, 32, "%ld s", s);
    else if (s < 3600)
        snprintf(out, 32, "%ld m %02ld s", s / 60, s % 60);
    else
        snprintf(out, 32, "%ld h %02ld m", s / 3600, s / 60 % 60);
    return out;
}

static void draw_bar(const bp_event *e)
{
    char left[32], memory[32], bar[BAR_WIDTH + 1];
    int filled = e->steps > 0 ? (int)(e->step * BAR_WIDTH / e->steps) : 0;
    assert(filled >= 0 && filled <= BAR_WIDTH);
    memset(bar, '-', BAR_WIDTH);
    memset(bar, '#', (size_t)filled);
    bar[BAR_WIDTH] = '\0';
    fprintf(stderr, "\r[%s] %lld/%lld loss=%.4f lr=%.2e %.0f tok/s", bar, (long long)e->step,
            (long long)e->steps, e->loss, e->lr, e->tokens_per_second);
    if (e->peak_share > 0)
        fprintf(stderr, " (%.0f%% of peak)", 100 * e->peak_share);
    fprintf(stderr, " %s left %s \033[K", term_bytes((double)e->memory_bytes, memory),
            term_seconds(e->seconds_left, left));
    bar_open = true;
}

void term_progress(const bp_event *e, int64_t every)
{
    assert(every > 0);
    if (is_quiet)
        return;
    if (os_stderr_is_terminal()) {
        draw_bar(e);
        return;
    }
    if (e->step % every != 0 && e->step != e->steps && e->step != 1)
        return;
    char left[32];
    fprintf(stderr, "step %lld/%lld loss=%.4f lr=%.2e tok/s=%.0f peak=%.0f%% left=%s\n",
            (long long)e->step, (long long)e->steps, e->loss, e->lr, e->tokens_per_second,
            100 * e->peak_share, term_seconds(e->seconds_left, left));
}

void print_json(const Json *json)
{
    Buf text = {0};
    json_write(json, (JsonStyle){.indent = 2}, &text);
    must(!text.failed);
    puts(text.data);
    buf_free(&text);
}

bool flag_is_set(bp_trainer *t, const char *name)
{
    const char *value = bp_get(t, name);
    return value != NULL && strcmp(value, "true") == 0;
}
