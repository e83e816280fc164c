/* cli.h — what the files of the program share. The program is a client of backprop.h and core/.
 *
 * Files: main.c (dispatch, signals, exit codes), args.c (command line, help), term.c (colours,
 * progress, sizes), cmd_<verb>.c (one verb each).
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <backprop.h>
#include <stdio.h>

#include "core/json.h"

enum { EXIT_USAGE = 64, EXIT_BAD_DATA = 65, ARGS_MAX = 128, POSITIONALS_MAX = 4 };

typedef struct Verb {
    const char *name, *tier, *arguments;
    int least, most;
    const char *summary, *examples;
    /* Runs the verb; returns the exit code when it is not the handle's error. */
    int (*run)(bp_trainer *t, const char *const *positionals, int n);
} Verb;
extern const Verb verbs[];
extern const size_t verb_count;

typedef struct Given { /* one flag of the command line */
    const bp_option *option;
    const char *value;
} Given;

typedef struct Args {
    const Verb *verb;
    const char *group; /* "data": its action is missing when verb is NULL */
    Given given[ARGS_MAX];
    int n_given;
    const char *positionals[POSITIONALS_MAX];
    int n_positionals;
    bool help, version;
} Args;

/* False: a usage error was printed. */
bool args_parse(Args *args, int argc, char **argv);
bool verb_takes(const Verb *verb, const bp_option *option);
bool verb_has_flag(const Verb *verb, const char *flag);
void help_program(FILE *out);
void help_group(FILE *out, const char *group);
void help_verb(FILE *out, const Verb *verb);

typedef enum Colour {
    COLOUR_NONE,
    COLOUR_RED,
    COLOUR_GREEN,
    COLOUR_YELLOW,
    COLOUR_BLUE,
    COLOUR_DIM
} Colour;
/* Prints text in a colour where the stream is a terminal (NO_COLOR, FORCE_COLOR obeyed). */
void term_paint(FILE *out, Colour colour, const char *text);
/* The same, but between two marks where there is no colour. */
void term_paint_or_mark(FILE *out, Colour colour, const char *text, const char *open,
                        const char *close);
/* From here on phases, progress and hints are not shown. */
void term_quiet(void);
void term_error(const bp_error *error);
void term_hint(const char *format, ...) PRINTF_LIKE(1, 2); /* "next:" line on stderr */
void term_phase(const char *text);                         /* "==> …" on stderr */
/* "1.2 GiB", "45 s", "3 m 10 s"; the buffers are the caller's. */
const char *term_bytes(double bytes, char out[32]);
const char *term_seconds(double seconds, char out[32]);
/* Step events as a bar on a terminal, as lines or log events elsewhere. */
void term_progress(const bp_event *event, int64_t every);
void term_progress_end(void);
/* From here on the first Ctrl-C finishes the step and saves; before, it ends the process. */
void finish_step_on_interrupt(void);
bool flag_is_set(bp_trainer *t, const char *name);
void print_json(const Json *json); /* to stdout, indented */

/* Runs work(t, what), which trains, with progress on stderr and the result on stdout. */
int show_training(bp_trainer *t, bool (*work)(bp_trainer *t, const void *what), const void *what);
void print_session(const Json *result); /* of bp_multi_run */
int cmd_multi_run(bp_trainer *t, const char *const *positionals, int n);
int cmd_train(bp_trainer *t, const char *const *positionals, int n);
int cmd_export(bp_trainer *t, const char *const *positionals, int n);
int cmd_generate(bp_trainer *t, const char *const *positionals, int n);
int cmd_info(bp_trainer *t, const char *const *positionals, int n);
int cmd_resume(bp_trainer *t, const char *const *positionals, int n);
int cmd_replay(bp_trainer *t, const char *const *positionals, int n);
int cmd_config(bp_trainer *t, const char *const *positionals, int n);
/* reference_shell.c: completion scripts on stdout. */
void shell_bash(void);
void shell_zsh(void);
void shell_fish(void);
int cmd_reference(bp_trainer *t, const char *const *positionals, int n);
int cmd_check(bp_trainer *t, const char *const *positionals, int n);
int cmd_runs(bp_trainer *t, const char *const *positionals, int n);
int cmd_diff_runs(bp_trainer *t, const char *const *positionals, int n);
int cmd_export_runs(bp_trainer *t, const char *const *positionals, int n);
int cmd_list_runs(bp_trainer *t, const char *const *positionals, int n);
int cmd_selftest(bp_trainer *t, const char *const *positionals, int n);
int cmd_estimate_vram(bp_trainer *t, const char *const *positionals, int n);
int cmd_validate(bp_trainer *t, const char *const *positionals, int n);
int cmd_data_report(bp_trainer *t, const char *const *positionals, int n);
int cmd_data_split(bp_trainer *t, const char *const *positionals, int n);
int cmd_data_preview(bp_trainer *t, const char *const *positionals, int n);
int cmd_data_render(bp_trainer *t, const char *const *positionals, int n);
int cmd_tokenize(bp_trainer *t, const char *const *positionals, int n);
int cmd_show_run(bp_trainer *t, const char *const *positionals, int n);

#endif
