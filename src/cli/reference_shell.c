/* reference_shell.c — completion for bash, zsh and fish, printed from the tables of verbs and
 * options: verbs, their flags, the words that a flag takes, and files. Owns nothing.
 */
#include "cli/cli.h"

#include <string.h>

/* The words before a range: "auto|1..4096" gives "auto"; sep between them. */
static void print_words(const char *values, const char *sep)
{
    bool first = true;
    for (const char *at = values; *at != '\0';) {
        const size_t n = strcspn(at, "|");
        bool word = n > 0;
        for (size_t i = 0; i + 1 < n; i++)
            word &= !(at[i] == '.' && at[i + 1] == '.');
        if (word)
            printf("%s%.*s", first ? "" : sep, (int)n, at);
        first &= !word;
        at += n + (at[n] == '|');
    }
}

static void print_flags(const Verb *verb)
{
    size_t count = 0;
    const bp_option *options = bp_options(&count);
    for (size_t i = 0; i < count; i++) {
        if (verb_takes(verb, &options[i]))
            printf(" --%s", options[i].flag);
    }
}

/* Inside single quotes of a shell. */
static void print_quoted(const char *text, const char *quote)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            fputs(quote, stdout);
        else
            putchar(*text);
    }
}

/* The first words of verbs, each once: of "data report" and "data split" only "data". */
static bool starts_group(size_t i)
{
    const size_t len = strcspn(verbs[i].name, " ");
    for (size_t k = 0; k < i; k++) {
        if (strncmp(verbs[k].name, verbs[i].name, len + 1) == 0 ||
            (strncmp(verbs[k].name, verbs[i].name, len) == 0 && verbs[k].name[len] == '\0'))
            return false;
    }
    return true;
}

/* The case labels that bash and zsh share: verb to flags, flag to words. */
static void print_cases(void)
{
    size_t count = 0;
    const bp_option *options = bp_options(&count);
    printf("    case \"$prev\" in\n");
    for (size_t i = 0; i < count; i++) {
        const bool taken = strcmp(options[i].kind, "choice") != 0;
        bool seen = false;
        for (size_t k = 0; k < i; k++)
            seen |= strcmp(options[k].flag, options[i].flag) == 0 &&
                    strcmp(options[k].kind, "choice") == 0;
        if (taken || seen)
            continue;
        printf("    --%s) choices=\"", options[i].flag);
        print_words(options[i].values, " ");
        printf("\" ;;\n");
    }
    printf("    esac\n    local files=1\n    [ -z \"$choices\" ] || files=\n"
           "    [ -n \"$choices\" ] || case \"$verb\" in\n    \"\") choices=\"");
    for (size_t i = 0; i < verb_count; i++) {
        if (starts_group(i))
            printf("%.*s ", (int)strcspn(verbs[i].name, " "), verbs[i].name);
    }
    printf("--help --version\" ;;\n");
    for (size_t i = 0; i < verb_count; i++) {
        printf("    \"%s\") choices=\"", verbs[i].name);
        print_flags(&verbs[i]);
        printf(" --help\" ;;\n");
    }
    for (size_t i = 0; i < verb_count; i++) {
        const size_t len = strcspn(verbs[i].name, " ");
        if (verbs[i].name[len] == '\0' || !starts_group(i))
            continue;
        printf("    \"%.*s\") choices=\"", (int)len, verbs[i].name);
        for (size_t k = 0; k < verb_count; k++) {
            if (strncmp(verbs[k].name, verbs[i].name, len + 1) == 0)
                printf(" %s", verbs[k].name + len + 1);
        }
        printf("\" ;;\n");
    }
    printf("    esac\n");
}

void shell_bash(void)
{
    printf("# bash completion for backprop, made by `backprop reference bash`\n"
           "_backprop() {\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
           "    local choices= verb=\n"
           "    [ \"$COMP_CWORD\" -gt 1 ] && verb=${COMP_WORDS[1]}\n"
           "    case \"$verb\" in\n");
    for (size_t i = 0; i < verb_count; i++) {
        const size_t len = strcspn(verbs[i].name, " ");
        if (verbs[i].name[len] == ' ' && starts_group(i))
            printf("    %.*s) [ \"$COMP_CWORD\" -gt 2 ] && verb=\"$verb ${COMP_WORDS[2]}\" ;;\n",
                   (int)len, verbs[i].name);
    }
    printf("    esac\n");
    print_cases();
    printf("    COMPREPLY=($(compgen -W \"$choices\" -- \"$cur\"))\n"
           "    case \"$cur$files\" in -*|\"$cur\") ;;\n"
           "    *) COMPREPLY+=($(compgen -f -- \"$cur\")) ;; esac\n"
           "}\ncomplete -o filenames -F _backprop backprop\n");
}

void shell_zsh(void)
{
    printf("#compdef backprop\n# zsh completion for backprop, made by `backprop reference zsh`\n"
           "_backprop() {\n"
           "    local cur=${words[CURRENT]} prev=${words[CURRENT-1]} verb= all=(\"${words[@]}\")\n"
           "    (( CURRENT > 2 )) && verb=${all[2]}\n"
           "    case \"$verb\" in\n");
    for (size_t i = 0; i < verb_count; i++) {
        const size_t len = strcspn(verbs[i].name, " ");
        if (verbs[i].name[len] == ' ' && starts_group(i))
            printf("    %.*s) (( CURRENT > 3 )) && verb=\"$verb ${all[3]}\" ;;\n", (int)len,
                   verbs[i].name);
    }
    printf("    esac\n    local choices=\n");
    print_cases();
    printf("    compadd -- ${=choices}\n    [[ -z $files || $cur == -* ]] || _files\n}\n"
           "compdef _backprop backprop\n");
}

static void fish_flag(const Verb *verb, const bp_option *o)
{
    const size_t len = strcspn(verb->name, " ");
    printf("complete -c backprop -n '__fish_seen_subcommand_from %.*s", (int)len, verb->name);
    if (verb->name[len] == ' ')
        printf("; and __fish_seen_subcommand_from %s", verb->name + len + 1);
    printf("' -l %s", o->flag);
    if (o->letter != 0)
        printf(" -s %c", o->letter);
    if (strcmp(o->kind, "choice") == 0) {
        printf(" -xa '");
        print_words(o->values, " ");
        printf("'");
    } else if (strcmp(o->kind, "flag") != 0) {
        printf(" -r");
    }
    printf(" -d '");
    print_quoted(o->help, "\\'");
    printf("'\n");
}

void shell_fish(void)
{
    size_t count = 0;
    const bp_option *options = bp_options(&count);
    printf("# fish completion for backprop, made by `backprop reference fish`\n");
    for (size_t i = 0; i < verb_count; i++) {
        const size_t len = strcspn(verbs[i].name, " ");
        const char *first = starts_group(i) ? "__fish_use_subcommand" : NULL;
        if (first != NULL) {
            printf("complete -c backprop -n %s -a %.*s -d '", first, (int)len, verbs[i].name);
            print_quoted(verbs[i].summary, "\\'");
            printf("'\n");
        }
        if (verbs[i].name[len] == ' ')
            printf("complete -c backprop -n '__fish_seen_subcommand_from %.*s' -a %s\n", (int)len,
                   verbs[i].name, verbs[i].name + len + 1);
        for (size_t k = 0; k < count; k++) {
            if (verb_takes(&verbs[i], &options[k]))
                fish_flag(&verbs[i], &options[k]);
        }
    }
}
