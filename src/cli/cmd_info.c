/* cmd_info.c — `backprop info`: machine, kernels, settings; the error and variable tables.
 * Owns nothing; what it shows comes from the library's tables and bp_info_json.
 */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

static void print_errors(bool json)
{
    size_t count = 0;
    const bp_error_row *rows = bp_errors(&count);
    Json *list = json_new_array();
    for (size_t i = 0; i < count; i++) {
        const bp_error_row *r = &rows[i];
        if (!json)
            printf("%s\t%s\t%s\n\t%s\n", r->code, r->retryable, r->when, r->hint);
        Json *row = json_new_object();
        json_put(row, "code", json_new_text(r->code));
        json_put(row, "retryable", json_new_text(r->retryable));
        json_put(row, "description", json_new_text(r->when));
        json_put(row, "hint", json_new_text(r->hint));
        json_put(row, "exit_code", json_new_int(r->exit_code));
        json_put(row, "schema_version", json_new_text("1"));
        json_add(list, row);
    }
    if (json)
        print_json(list);
    json_free(list);
}

static void print_variables(bool json)
{
    size_t count = 0;
    const bp_option *options = bp_options(&count);
    Json *list = json_new_array();
    for (size_t i = 0; i < count; i++) {
        const bp_option *o = &options[i];
        if (*o->variable == '\0')
            continue;
        if (!json)
            printf("%-52s %-12s %s\n", o->variable, o->fallback, o->help);
        Json *row = json_new_object();
        json_put(row, "env_var", json_new_text(o->variable));
        json_put(row, "default", json_new_text(o->fallback));
        json_put(row, "type", json_new_text(o->kind));
        json_put(row, "description", json_new_text(o->help));
        json_put(row, "schema_version", json_new_text("1"));
        json_add(list, row);
    }
    if (json)
        print_json(list);
    json_free(list);
}

static int by_tier(const void *a, const void *b)
{
    static const char order[] = "sed"; /* stable, experimental, deprecated */
    const Verb *x = *(const Verb *const *)a, *y = *(const Verb *const *)b;
    const int tiers = (int)(strchr(order, *x->tier) - strchr(order, *y->tier));
    return tiers != 0 ? tiers : strcmp(x->name, y->name);
}

static void print_tiers(bool json)
{
    enum { VERBS_MAX = 64 };
    const Verb *sorted[VERBS_MAX];
    must(verb_count <= VERBS_MAX);
    for (size_t i = 0; i < verb_count; i++)
        sorted[i] = &verbs[i];
    qsort(sorted, verb_count, sizeof *sorted, by_tier);
    Json *tiers = json_new_object();
    for (size_t i = 0; i < verb_count; i++) {
        if (!json)
            printf("%-24s %s\n", sorted[i]->tier, sorted[i]->name);
        json_put(tiers, sorted[i]->name, json_new_text(sorted[i]->tier));
    }
    Json *all = json_new_object();
    json_put(all, "schema_version", json_new_text("1"));
    json_put(all, "subcommand_tiers", tiers);
    if (json)
        print_json(all);
    json_free(all);
}

static void print_human(const Json *info)
{
    char total[32], available[32];
    const Json *cpu = json_get(info, "cpu"), *gpu = json_get(info, "gpu");
    const Json *memory = json_get(info, "memory"), *config = json_get(info, "config");
    assert(json_is_object(cpu) && json_is_object(memory));
    const Json *features = json_get(cpu, "features");
    printf("backprop     %s\n", json_text(json_get(info, "backpropagate_version")));
    printf("processor    %s, %lld cores, %lld threads used\n", json_text(json_get(cpu, "name")),
           (long long)json_int(json_get(cpu, "cores"), 0),
           (long long)json_int(json_get(cpu, "threads"), 0));
    printf("features    ");
    for (size_t i = 0; i < json_len(features); i++)
        printf(" %s", json_text(json_at(features, i)));
    printf("\nkernels      %s\n", json_text(json_get(cpu, "kernels")));
    printf("memory       %s, %s available\n",
           term_bytes(json_double(json_get(memory, "total_bytes"), 0), total),
           term_bytes(json_double(json_get(memory, "available_bytes"), 0), available));
    bool usable = json_bool(json_get(gpu, "usable"), false);
    printf("GPU          %s\n", json_text(json_get(gpu, usable ? "name" : "reason")));
    const char *key = NULL;
    Json *value = NULL;
    for (void *it = NULL; (it = json_next(config, it, &key, &value)) != NULL;)
        printf("%-12s %s\n", key, json_text(value));
}

int cmd_info(bp_trainer *t, const char *const *positionals, int n)
{
    (void)positionals;
    (void)n;
    if (flag_is_set(t, "error-codes")) {
        print_errors(flag_is_set(t, "json"));
        return 0;
    }
    if (flag_is_set(t, "env-vars")) {
        print_variables(flag_is_set(t, "json"));
        return 0;
    }
    if (flag_is_set(t, "subcommand-tiers")) {
        print_tiers(flag_is_set(t, "json"));
        return 0;
    }
    const char *text = bp_info_json(t);
    if (text == NULL)
        return 0;
    if (flag_is_set(t, "json")) {
        puts(text);
        return 0;
    }
    Json *info = json_parse((Str){text, strlen(text)}, "info", ERR_INTERNAL_ERROR, NULL);
    print_human(info);
    json_free(info);
    return 0;
}
