/* main.c — the program `backprop`: parses, opens a handle, dispatches, maps errors to exit codes.
 *
 * Ctrl-C asks the library to stop at the end of the step; a second
 * one ends the process at once.
 */
#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "core/err.h"
#include "core/log.h"
#include "core/os.h"

const Verb verbs[] = {
#define V(id, name, tier, arguments, least, most, summary, examples)                               \
    {name, tier, arguments, least, most, summary, examples, cmd_##id},
#include "cli/verbs.def"
#undef V
};
const size_t verb_count = COUNT_OF(verbs);

/* The tier of a verb that has a better one, which follows. */
static const char *const deprecated = "deprecated-prefer-";

static bp_trainer *running;

static void on_interrupt(int signal_number)
{
    bp_stop(running);
    signal(signal_number, SIG_DFL); /* the next one ends the process */
}

void finish_step_on_interrupt(void)
{
    assert(running != NULL);
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
}

static bool open_log(bp_trainer *t)
{
    static const char *const names[] = {"DEBUG", "INFO", "WARNING", "ERROR"};
    LogOptions options = {.level = LOG_INFO, .format = LOG_CONSOLE};
    const char *level = bp_get(t, "log-level"), *format = bp_get(t, "log-format");
    assert(level != NULL && format != NULL);
    const char *file = bp_get(t, "log-file");
    for (int i = 0; i < 4; i++) {
        if (strcmp(names[i], level) == 0)
            options.level = (LogLevel)i;
    }
    if (flag_is_set(t, "verbose"))
        options.level = LOG_DEBUG;
    if (strcmp(format, "json") == 0 || (strcmp(format, "auto") == 0 && !os_stderr_is_terminal()))
        options.format = LOG_JSON;
    options.quiet = flag_is_set(t, "quiet");
    if (options.quiet)
        term_quiet();
    options.file = *file != '\0' ? file : NULL;
    Err err = {0};
    if (log_open(&options, &err))
        return true;
    term_error(&(bp_error){err_info(err.code)->name, err.message, err_hint_text(&err),
                           err_info(err.code)->exit_code});
    return false;
}

/* The positional PATH of a verb is the handle's model. */
static const char *model_of(const Args *args)
{
    if (strncmp(args->verb->arguments, "PATH", 4) == 0)
        return args->positionals[0];
    return NULL;
}

/* Unheard events: registering a listener tells the library that somebody prints its errors. */
static void ignore_event(void *context, const bp_event *event)
{
    (void)context;
    (void)event;
}

/* Sets the i-th flag; a list that is given several times has a line a time, set with the first. */
static bool set_given(bp_trainer *t, const Args *args, int i)
{
    const bp_option *option = args->given[i].option;
    if (strcmp(option->kind, "list") != 0)
        return bp_set(t, option->name, args->given[i].value);
    Buf lines = {0};
    for (int k = 0; k < args->n_given; k++) {
        if (args->given[k].option != option)
            continue;
        if (k < i) {
            buf_free(&lines);
            return true;
        }
        buf_printf(&lines, "%s%s", lines.len > 0 ? "\n" : "", args->given[k].value);
    }
    const bool ok = bp_set(t, option->name, lines.data);
    buf_free(&lines);
    return ok;
}

static int run_verb(const Args *args)
{
    assert(args->verb != NULL);
    if (strncmp(args->verb->tier, deprecated, strlen(deprecated)) == 0)
        term_hint("'%s' will go; use '%s'", args->verb->name,
                  args->verb->tier + strlen(deprecated));
    bp_trainer *t = bp_open(NULL, NULL);
    bp_on_event(t, ignore_event, NULL);
    for (int i = 0; i < args->n_given && bp_last_error(t) == NULL; i++) {
        if (!set_given(t, args, i))
            break;
    }
    int code = bp_last_error(t) != NULL ? EXIT_USAGE : 0;
    if (code == 0 && !open_log(t))
        code = 2;
    if (code == 0) {
        if (model_of(args) != NULL)
            bp_set(t, "model", model_of(args));
        running = t;
        code = args->verb->run(t, args->positionals, args->n_positionals);
    }
    if (bp_last_error(t) != NULL) {
        if (flag_is_set(t, "json")) /* verbs print what succeeded */
            puts(bp_result_json(t));
        term_error(bp_last_error(t));
        code = code != 0 ? code : bp_last_error(t)->exit_code;
    }
    signal(SIGINT, SIG_DFL);
    running = NULL;
    bp_close(t);
    log_close();
    return code;
}

/* The OpenMP library reads its settings when it is loaded. Its default lets a thread that waits
 * spin for milliseconds: on a machine with anything else to do, generation is then up to ten times
 * slower. A few microseconds bridge most gaps between products as well (bench/README.md). */
static void let_threads_sleep(char **argv)
{
    if (os_env("OMP_WAIT_POLICY") == NULL)
        os_restart_with("GOMP_SPINCOUNT", "300", argv);
}

/* A result that did not reach its reader is a failure, unless the reader went away (a pipe). */
static int flush_results(int code)
{
    if ((fflush(stdout) == 0 && !ferror(stdout)) || errno == EPIPE)
        return code;
    Err err = {0};
    err_set(&err, ERR_RUNTIME_IO_FAILED, "cannot write the result to standard output: %s",
            strerror(errno));
    const ErrInfo *info = err_info(err.code);
    term_error(&(bp_error){info->name, err.message, err_hint_text(&err), info->exit_code});
    return code != 0 ? code : info->exit_code;
}

static int run_program(int argc, char **argv)
{
    Args args;
    if (!args_parse(&args, argc, argv))
        return EXIT_USAGE;
    if (args.version) {
        printf("backprop %s\n", bp_version());
        return 0;
    }
    if (args.verb == NULL && args.group != NULL) {
        help_group(args.help ? stdout : stderr, args.group);
        return args.help ? 0 : 1;
    }
    if (args.verb == NULL) {
        help_program(args.help ? stdout : stderr);
        return args.help ? 0 : 1;
    }
    if (args.help) {
        help_verb(stdout, args.verb);
        return 0;
    }
    if (verb_has_flag(args.verb, "threads"))
        let_threads_sleep(argv);
    return run_verb(&args);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    return flush_results(run_program(argc, argv));
}
