/* cmd_reference.c — `backprop reference FORMAT`: what the tables say of verbs, flags, variables
 * and error codes, as a page of the handbook (markdown), a man page, or completion for a shell
 * (reference_shell.c). Owns nothing; everything printed is a row of a table.
 */
#include "cli/cli.h"

#include <string.h>

/* Verbs of two words have a '-' in their anchors. */
static void print_dashed(const char *name)
{
    for (; *name != '\0'; name++)
        putchar(*name == ' ' ? '-' : *name);
}

/* A cell of a table: '|' would end it. */
static void print_cell(const char *text)
{
    for (; *text != '\0'; text++)
        printf(*text == '|' ? "\\|" : "%c", *text);
}

/* ---- markdown --------------------------------------------------------------------------- */

static void markdown_flag(const bp_option *o)
{
    printf("| `--%s%s%s`", o->flag, *o->meta ? " " : "", o->meta);
    if (o->letter != 0)
        printf(", `-%c`", o->letter);
    printf(" | ");
    print_cell(o->help);
    if (*o->values != '\0') {
        printf(" (`");
        print_cell(o->values);
        printf("`)");
    }
    printf(" | ");
    if (*o->fallback != '\0' && strcmp(o->kind, "flag") != 0)
        printf("`%s`", o->fallback);
    printf(" |\n");
}

static void markdown_verb(const Verb *verb)
{
    size_t count = 0;
    const bp_option *options = bp_options(&count);
    printf("\n### %s\n\n%s.\n\n    backprop %s%s%s [flags]\n\n%s\n| flag | meaning | default |\n"
           "|---|---|---|\n", verb->name, verb->summary, verb->name,
           *verb->arguments ? " " : "", verb->arguments, verb->examples);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(options[i].verbs, "*") != 0 && verb_takes(verb, &options[i]))
            markdown_flag(&options[i]);
    }
}

static void markdown_tables(void)
{
    size_t count = 0;
    const bp_option *options = bp_options(&count);
    printf("\n## Flags of every verb\n\n| flag | meaning | default |\n|---|---|---|\n");
    for (size_t i = 0; i < count; i++) {
        if (strcmp(options[i].verbs, "*") == 0)
            markdown_flag(&options[i]);
    }
    printf("\n## Environment variables\n\nAlso in a file `.env` of the working folder. A flag wins "
           "over the environment, that over\n`.env`, that over `backprop config --set`.\n\n"
           "| variable | sets |\n|---|---|\n");
    for (size_t i = 0; i < count; i++) {
        if (*options[i].variable != '\0')
            printf("| `%s` | `--%s` |\n", options[i].variable, options[i].flag);
    }
    const bp_error_row *errors = bp_errors(&count);
    printf("\n## Error codes\n\n| code | exit | again? | when | what to do |\n"
           "|---|---|---|---|---|\n");
    for (size_t i = 0; i < count; i++) {
        printf("| `%s` | %d | %s | ", errors[i].code, errors[i].exit_code, errors[i].retryable);
        print_cell(errors[i].when);
        printf(" | ");
        print_cell(errors[i].hint);
        printf(" |\n");
    }
}

static void markdown(void)
{
    printf("# Reference\n\nMade by `backprop reference markdown`.\n\n## Verbs\n\n");
    for (size_t i = 0; i < verb_count; i++) {
        printf("- [%s](#", verbs[i].name);
        print_dashed(verbs[i].name);
        printf("): %s\n", verbs[i].summary);
    }
    for (size_t i = 0; i < verb_count; i++)
        markdown_verb(&verbs[i]);
    markdown_tables();
}

/* ---- man page --------------------------------------------------------------------------- */

/* A line of roff text: dashes that are not hyphens, no control characters at its beginning. */
static void print_roff(const char *text)
{
    if (*text == '.' || *text == '\'')
        printf("\\&");
    for (; *text != '\0'; text++) {
        if (*text == '-')
            printf("\\-");
        else if (*text == '\\')
            printf("\\e");
        else
            putchar(*text);
    }
}

static void man_flag(const bp_option *o)
{
    printf(".TP\n.B ");
    if (o->letter != 0)
        printf("\\-%c, ", o->letter);
    printf("\\-\\-");
    print_roff(o->flag);
    printf(" %s\n", o->meta);
    print_roff(o->help);
    if (strcmp(o->kind, "choice") == 0)
        printf(" [%s]", o->values);
    if (*o->fallback != '\0' && strcmp(o->kind, "flag") != 0) {
        printf(" (default ");
        print_roff(o->fallback);
        printf(")");
    }
    printf("\n");
}

static void man_verb(const Verb *verb)
{
    size_t count = 0;
    const bp_option *options = bp_options(&count);
    printf(".SS backprop %s %s\n", verb->name, verb->arguments);
    print_roff(verb->summary);
    printf("\n");
    for (size_t i = 0; i < count; i++) {
        if (strcmp(options[i].verbs, "*") != 0 && verb_takes(verb, &options[i]))
            man_flag(&options[i]);
    }
}

static void man(void)
{
    size_t count = 0;
    const bp_option *options = bp_options(&count);
    printf(".TH BACKPROP 1 \"\" \"backprop %s\"\n.SH NAME\nbackprop \\- fine\\-tune a language "
           "model and ship it\n.SH SYNOPSIS\n.B backprop\n.I verb\n[flags]\n.SH VERBS\n",
           bp_version());
    for (size_t i = 0; i < verb_count; i++)
        man_verb(&verbs[i]);
    printf(".SH FLAGS OF EVERY VERB\n");
    for (size_t i = 0; i < count; i++) {
        if (strcmp(options[i].verbs, "*") == 0)
            man_flag(&options[i]);
    }
    printf(".SH ENVIRONMENT\n");
    for (size_t i = 0; i < count; i++) {
        if (*options[i].variable != '\0')
            printf(".TP\n.B %s\n\\-\\-%s\n", options[i].variable, options[i].flag);
    }
    const bp_error_row *errors = bp_errors(&count);
    printf(".SH EXIT STATUS\n0 is success; a failure prints [CODE] and exits with\n");
    for (size_t i = 0; i < count; i++) {
        printf(".TP\n.B %d %s\n", errors[i].exit_code, errors[i].code);
        print_roff(errors[i].when);
        printf("\n");
    }
}

int cmd_reference(bp_trainer *t, const char *const *positionals, int n)
{
    static const struct {
        const char *name;
        void (*print)(void);
    } formats[] = {{"markdown", markdown}, {"man", man}, {"bash", shell_bash}, {"zsh", shell_zsh},
                   {"fish", shell_fish}};
    (void)t;
    must(n == 1);
    for (size_t i = 0; i < COUNT_OF(formats); i++) {
        if (strcmp(positionals[0], formats[i].name) == 0) {
            formats[i].print();
            return 0;
        }
    }
    term_error(&(bp_error){.code = "USAGE", .message = "there is no such format",
                           .hint = "Use one of markdown, man, bash, zsh, fish"});
    return EXIT_USAGE;
}
