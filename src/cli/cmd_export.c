/* cmd_export.c — `backprop export`: an adapter or model to files; prints where and how large.
 * Owns nothing; the work is bp_export.
 */
#include "cli/cli.h"

#include <string.h>

#include "core/os.h"

static void on_event(void *context, const bp_event *event)
{
    (void)context;
    if (strcmp(event->name, "phase") == 0)
        term_phase(event->text);
    else if (strcmp(event->name, "progress") == 0 && os_stderr_is_terminal())
        fprintf(stderr, "\r%lld/%lld tensors%s", (long long)event->step, (long long)event->steps,
                event->step == event->steps ? "\n" : "");
}

int cmd_export(bp_trainer *t, const char *const *positionals, int n)
{
    must(n == 1);
    bp_on_event(t, on_event, NULL);
    if (!bp_export(t, NULL, NULL))
        return 0;
    const char *text = bp_result_json(t);
    if (flag_is_set(t, "json")) {
        puts(text);
        return 0;
    }
    char size[32];
    Json *r = json_parse((Str){text, strlen(text)}, "result", ERR_INTERNAL_ERROR, NULL);
    const char *modelfile = json_text(json_get(r, "modelfile"));
    term_paint(stdout, COLOUR_GREEN, "[OK]");
    printf(" Export complete\n  Path:  %s\n  Size:  %s\n  Time:  %.2f s\n",
           json_text(json_get(r, "path")), term_bytes(json_double(json_get(r, "bytes"), 0), size),
           json_double(json_get(r, "seconds"), 0));
    fflush(stdout);
    if (modelfile != NULL)
        term_hint("ollama create my-model -f %s", modelfile);
    else
        term_hint("backprop export %s --format gguf -q q8_0", positionals[0]);
    json_free(r);
    return 0;
}
