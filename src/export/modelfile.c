/* modelfile.c — the Modelfile that `ollama create` reads: FROM, TEMPLATE, SYSTEM, stop parameters.
 *
 * Ollama renders prompts with a Go template. Where the model's own Jinja template, rendered on a
 * probe conversation, gives exactly the text of a known shape, that shape's Go template is written;
 * otherwise TEMPLATE is left out and the runner uses the template inside the GGUF. A system text
 * that the model's template puts in by itself is found by the same probe and written as SYSTEM.
 */
#include "export/export.h"

#include <string.h>

#include "text/template.h"

typedef struct ChatShape {
    const char *system_open, *system_close; /* around a system text */
    const char *user_open, *user_close;
    const char *assistant_open;
    const char *go;
    const char *stops[3];
} ChatShape;

static const ChatShape shapes[] = {
    {"<|im_start|>system\n",
     "<|im_end|>\n",
     "<|im_start|>user\n",
     "<|im_end|>\n",
     "<|im_start|>assistant\n",
     "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}"
     "<|im_start|>assistant\n",
     {"<|im_start|>", "<|im_end|>", NULL}},
};

#define PROBE "probe question"

static bool render_probe(const Tokenizer *tokenizer, Arena *scratch, Buf *text)
{
    Err ignored = {0};
    Str source = tokenizer_chat_template(tokenizer);
    Template *template =
        source.len > 0 ? template_parse(source, "chat template", scratch, &ignored) : NULL;
    if (template == NULL)
        return false;
    Json *messages = json_new_array(), *turn = json_new_object();
    json_put(turn, "role", json_new_text("user"));
    json_put(turn, "content", json_new_text(PROBE));
    json_add(messages, turn);
    TemplateOptions options = {.add_generation_prompt = true, .bos_token = "", .eos_token = ""};
    bool ok = template_render(template, messages, &options, scratch, text, &ignored);
    json_free(messages);
    return ok;
}

/* True when the probe is [system block] user turn, assistant opening; *system is its text. */
static bool matches(const ChatShape *shape, Str probe, Arena *scratch, Str *system)
{
    Str tail = str_of(arena_printf(scratch, "%s%s%s%s", shape->user_open, PROBE, shape->user_close,
                                   shape->assistant_open));
    if (probe.len < tail.len || memcmp(probe.data + probe.len - tail.len, tail.data, tail.len) != 0)
        return false;
    Str head = str_sub(probe, 0, probe.len - tail.len);
    *system = (Str){0};
    if (head.len == 0)
        return true;
    if (!str_starts(head, shape->system_open) || !str_ends(head, shape->system_close))
        return false;
    *system = str_sub(head, strlen(shape->system_open), head.len - strlen(shape->system_close));
    return true;
}

static void put_quoted(Buf *out, Str text)
{
    assert(out != NULL);
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == '"' || text.data[i] == '\\')
            buf_char(out, '\\');
        buf_char(out, text.data[i]);
    }
}

static void put_template(const Tokenizer *tokenizer, Arena *scratch, Buf *out)
{
    Buf probe = {0};
    Str system = {0};
    const ChatShape *shape = NULL;
    bool rendered = render_probe(tokenizer, scratch, &probe);
    for (size_t i = 0; rendered && shape == NULL && i < COUNT_OF(shapes); i++)
        shape = matches(&shapes[i], buf_view(&probe), scratch, &system) ? &shapes[i] : NULL;
    if (shape != NULL) {
        buf_printf(out, "TEMPLATE \"\"\"%s\"\"\"\n", shape->go);
        for (size_t i = 0; shape->stops[i] != NULL; i++)
            buf_printf(out, "PARAMETER stop \"%s\"\n", shape->stops[i]);
    } else if (tokenizer_eos(tokenizer) != TOKEN_NONE) {
        buf_text(out, "PARAMETER stop \"");
        put_quoted(out, tokenizer_text(tokenizer, tokenizer_eos(tokenizer)));
        buf_text(out, "\"\n");
    }
    if (system.len > 0) {
        buf_text(out, "SYSTEM \"\"\"");
        buf_str(out, system);
        buf_text(out, "\"\"\"\n");
    }
    buf_free(&probe);
}

bool export_modelfile(const char *gguf_path, const Tokenizer *tokenizer, const char *path, Err *err)
{
    Arena scratch = {0};
    if (!arena_open(&scratch, 0, err))
        return false;
    Buf out = {0};
    buf_text(&out, "FROM \"");
    const char *absolute = path_absolute(&scratch, gguf_path);
    put_quoted(&out, str_of(absolute));
    buf_text(&out, "\"\nPARAMETER temperature 0.7\nPARAMETER num_ctx 4096\n");
    put_template(tokenizer, &scratch, &out);
    bool ok = file_write_atomic(path, buf_view(&out), ERR_RUNTIME_GGUF_EXPORT_FAILED, err);
    buf_free(&out);
    arena_close(&scratch);
    return ok;
}
