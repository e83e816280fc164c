/* cmd_config.c — `backprop config`: settings in force, and the user's own defaults. Owns nothing;
 * the work is bp_config_*.
 */
#include "cli/cli.h"

#include <string.h>

static void print_settings(const Json *all)
{
    const Json *settings = json_get(all, "settings");
    const char *file = json_text(json_get(all, "file"));
    printf("%-26s %-28s %s\n", "SETTING", "VALUE", "FROM");
    for (size_t i = 0; i < json_len(settings); i++) {
        const Json *one = json_at(settings, i);
        const char *value = json_text(json_get(one, "value"));
        printf("%-26s %-28s %s\n", json_text(json_get(one, "name")), value,
               json_text(json_get(one, "source")));
    }
    fprintf(stderr, "kept settings: %s\n", file != NULL ? file : "(no home folder)");
}

int cmd_config(bp_trainer *t, const char *const *positionals, int n)
{
    (void)positionals;
    (void)n;
    const char *assignments = bp_get(t, "set");
    assert(assignments != NULL);
    if (flag_is_set(t, "reset") && !bp_config_reset(t))
        return 0;
    if (*assignments != '\0' && !bp_config_set(t, assignments))
        return 0;
    if (flag_is_set(t, "reset") || *assignments != '\0') {
        term_phase(*assignments != '\0' ? "Kept for later commands" : "All settings forgotten");
        if (!flag_is_set(t, "show"))
            return 0;
    }
    const char *text = bp_config_json(t);
    if (text == NULL)
        return 0;
    if (flag_is_set(t, "json")) {
        puts(text);
        return 0;
    }
    Json *all = json_parse((Str){text, strlen(text)}, "config", ERR_INTERNAL_ERROR, NULL);
    print_settings(all);
    json_free(all);
    return 0;
}
