/* args.c — the command line and its help, both from the option table and verbs.def.
 *
 * Options come before or after the verb, as --flag VALUE, --flag=VALUE or -f VALUE; "--" ends them.
 */
#include "cli/cli.h"

#include <stdarg.h>
#include <string.h>

#include "core/str.h"

static bool usage_error(const Verb *verb, const char *format, ...) PRINTF_LIKE(2, 3);

static bool usage_error(const Verb *verb, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    term_paint(stderr, COLOUR_RED, "[USAGE] ");
    vfprintf(stderr, format, list);
    va_end(list);
    fprintf(stderr, "\n  See: backprop %s%s--help\n", verb != NULL ? verb->name : "",
            verb != NULL ? " " : "");
    return false;
}

bool verb_takes(const Verb *verb, const bp_option *option)
{
    assert(verb != NULL && option != NULL);
    char word[64];
    int len = snprintf(word, sizeof word, " %s ", verb->name);
    for (int i = 1; i + 1 < len; i++) /* "data report" is data-report in the table */
        word[i] = word[i] == ' ' ? '-' : word[i];
    return strcmp(option->verbs, "*") == 0 || strstr(option->verbs, word) != NULL;
}

/* A word that only stands before an action: "data" of "data report". */
static bool is_group(const char *name)
{
    const size_t len = strlen(name);
    for (size_t i = 0; i < verb_count; i++) {
        if (strncmp(verbs[i].name, name, len) == 0 && verbs[i].name[len] == ' ')
            return true;
    }
    return false;
}

static const Verb *find_verb(const char *name)
{
    assert(name != NULL);
    for (size_t i = 0; i < verb_count; i++) {
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    }
    return NULL;
}

static bool unknown_verb(const char *name)
{
    const char *nearest = NULL;
    int best = 4;
    for (size_t i = 0; i < verb_count; i++) {
        int distance = str_distance(name, verbs[i].name);
        if (distance < best) {
            best = distance;
            nearest = verbs[i].name;
        }
    }
    if (nearest != NULL)
        return usage_error(NULL, "there is no verb '%s'; did you mean '%s'?", name, nearest);
    return usage_error(NULL, "there is no verb '%s'", name);
}

/* The option of `verb` (any verb when NULL) with that flag text (len bytes) or letter. */
static const bp_option *find_option(const Verb *verb, const char *flag, size_t len, char letter)
{
    size_t count = 0;
    const bp_option *options = bp_options(&count);
    for (size_t i = 0; i < count; i++) {
        const bp_option *o = &options[i];
        bool same = letter != 0 ? o->letter == letter
                                : strlen(o->flag) == len && memcmp(o->flag, flag, len) == 0;
        if (same && (verb == NULL || verb_takes(verb, o)))
            return o;
    }
    return NULL;
}

bool verb_has_flag(const Verb *verb, const char *flag)
{
    return find_option(verb, flag, strlen(flag), 0) != NULL;
}

static bool unknown_flag(const Verb *verb, const char *text)
{
    size_t count = 0;
    const bp_option *options = bp_options(&count);
    const char *nearest = NULL;
    int best = 5;
    const char *word = text + strspn(text, "-");
    for (size_t i = 0; i < count; i++) {
        int distance = str_distance(word, options[i].flag);
        if (distance < best && (verb == NULL || verb_takes(verb, &options[i]))) {
            best = distance;
            nearest = options[i].flag;
        }
    }
    if (nearest != NULL)
        return usage_error(verb, "unknown flag '%s'; did you mean '--%s'?", text, nearest);
    return usage_error(verb, "unknown flag '%s'", text);
}

/* The verb is the first word (from argv[*index] on) that is neither a flag nor the value of one. */
static const char *verb_word(int argc, char **argv, int *index)
{
    assert(*index > 0);
    for (int i = *index; i < argc; i++) {
        const char *text = argv[i];
        if (text[0] != '-' || text[1] == '\0') {
            *index = i;
            return text;
        }
        bool is_long = text[1] == '-';
        const bp_option *o =
            find_option(NULL, text + 2, is_long ? strlen(text + 2) : 0, is_long ? 0 : text[1]);
        if (o != NULL && strcmp(o->kind, "flag") != 0)
            i++;
    }
    *index = 0;
    return NULL;
}

/* Takes the flag at argv[*i] and, when it has one, its value. */
static bool take_flag(Args *args, int argc, char **argv, int *i)
{
    const char *text = argv[*i];
    const char *value = NULL;
    const bp_option *option = NULL;
    if (text[1] == '-') {
        size_t len = strcspn(text + 2, "=");
        value = text[2 + len] == '=' ? text + 2 + len + 1 : NULL;
        option = find_option(args->verb, text + 2, len, 0);
    } else if (text[2] == '\0') {
        option = find_option(args->verb, "", 0, text[1]);
    }
    if (option == NULL)
        return unknown_flag(args->verb, text);
    bool is_flag = strcmp(option->kind, "flag") == 0;
    if (value == NULL && is_flag)
        value = "true";
    if (value == NULL) {
        if (*i + 1 >= argc)
            return usage_error(args->verb, "--%s needs a value (%s)", option->flag, option->meta);
        value = argv[++*i];
    }
    if (args->n_given == ARGS_MAX)
        return usage_error(args->verb, "too many flags");
    args->given[args->n_given++] = (Given){option, value};
    return true;
}

static bool check_positionals(const Args *args)
{
    const Verb *verb = args->verb;
    assert(args->n_positionals <= POSITIONALS_MAX);
    if (args->n_positionals < verb->least)
        return usage_error(verb, "'%s' needs: %s", verb->name, verb->arguments);
    return true;
}

/* Finds the verb's one or two words; their places go to index (0 = none). */
static bool take_verb(Args *args, int argc, char **argv, int index[2])
{
    index[0] = 1;
    index[1] = 0;
    const char *name = verb_word(argc, argv, &index[0]);
    if (args->version)
        return true;
    if (name == NULL && !args->help && argc > 1)
        return find_option(NULL, argv[1] + 2, strlen(argv[1]) > 2 ? strlen(argv[1] + 2) : 0, 0) !=
                       NULL
                   ? usage_error(NULL, "a verb is missing")
                   : unknown_flag(NULL, argv[1]);
    if (name == NULL)
        return true;
    char both[64];
    snprintf(both, sizeof both, "%s", name);
    if (is_group(name)) {
        args->group = name;
        index[1] = index[0] + 1;
        const char *action = verb_word(argc, argv, &index[1]);
        if (action == NULL)
            return true;
        snprintf(both, sizeof both, "%s %s", name, action);
    }
    args->verb = find_verb(both);
    return args->verb != NULL || unknown_verb(both);
}

bool args_parse(Args *args, int argc, char **argv)
{
    assert(argc > 0 && argv[argc] == NULL);
    *args = (Args){0};
    int verb_index[2];
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        args->help |= strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
        args->version |= strcmp(argv[i], "--version") == 0 || strcmp(argv[i], "-V") == 0;
    }
    if (!take_verb(args, argc, argv, verb_index))
        return false;
    if (args->verb == NULL)
        return true;
    bool flags_end = false;
    for (int i = 1; i < argc && !args->help; i++) {
        const char *text = argv[i];
        if (i == verb_index[0] || i == verb_index[1])
            continue;
        if (!flags_end && strcmp(text, "--") == 0) {
            flags_end = true;
        } else if (!flags_end && text[0] == '-' && text[1] != '\0') {
            if (!take_flag(args, argc, argv, &i))
                return false;
        } else if (args->n_positionals == args->verb->most) {
            return usage_error(args->verb, "'%s' is one argument too many", text);
        } else {
            args->positionals[args->n_positionals++] = text;
        }
    }
    return args->help || check_positionals(args);
}

void help_program(FILE *out)
{
    fprintf(out, "backprop %s: fine-tune a language model and ship it\n\n", bp_version());
    fputs("Examples:\n"
          "  backprop train -m model.gguf -d chat.jsonl --steps 60\n"
          "  backprop generate ./output \"What did you learn?\"\n"
          "  backprop export ./output --format gguf -q q8_0\n\nVerbs:\n",
          out);
    for (size_t i = 0; i < verb_count; i++)
        fprintf(out, "  %-13s %s\n", verbs[i].name, verbs[i].summary);
    fputs("\nbackprop VERB --help shows a verb's flags; --version prints the version.\n", out);
}

void help_group(FILE *out, const char *group)
{
    const size_t len = strlen(group);
    fprintf(out, "backprop %s: one of\n\n", group);
    for (size_t i = 0; i < verb_count; i++) {
        if (strncmp(verbs[i].name, group, len) == 0 && verbs[i].name[len] == ' ')
            fprintf(out, "  %-13s %s\n", verbs[i].name, verbs[i].summary);
    }
    fprintf(out, "\nbackprop %s ACTION --help shows its flags.\n", group);
}

void help_verb(FILE *out, const Verb *verb)
{
    size_t count = 0;
    const bp_option *options = bp_options(&count);
    fprintf(out, "backprop %s: %s\n\nExamples:\n%s\nUsage: backprop %s%s%s [flags]\n\nFlags:\n",
            verb->name, verb->summary, verb->examples, verb->name, *verb->arguments ? " " : "",
            verb->arguments);
    for (size_t i = 0; i < count; i++) {
        const bp_option *o = &options[i];
        if (!verb_takes(verb, o))
            continue;
        char left[64], letter[8] = "    ";
        if (o->letter != 0)
            snprintf(letter, sizeof letter, "-%c, ", o->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, o->flag, *o->meta ? " " : "", o->meta);
        fprintf(out, "  %-34s %s", left, o->help);
        if (strcmp(o->kind, "choice") == 0)
            fprintf(out, " [%s]", o->values);
        if (strcmp(o->kind, "flag") != 0 && *o->fallback != '\0')
            fprintf(out, " (default %s)", o->fallback);
        if (*o->variable != '\0')
            fprintf(out, "\n%39s%s", "", o->variable);
        fputc('\n', out);
    }
}
