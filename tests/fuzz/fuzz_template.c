// layer: text
/* fuzz_template.c — any bytes as a chat template, rendered over one conversation.
 *
 * Whatever the source says, parsing and rendering must end within their limits with a text or an
 * error.
 */
#include "text/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Arena arena, scratch;
    static Json *messages;
    if (messages == NULL) {
        must(arena_open(&arena, 0, NULL) && arena_open(&scratch, 0, NULL));
        messages = json_parse(STR("[{\"role\":\"system\",\"content\":\"S\"},"
                                  "{\"role\":\"user\",\"content\":\" u \xC3\xA9 \"},"
                                  "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\","
                                  "\"text\":\"x\"}],\"n\":1.5,\"z\":null,\"b\":true}]"),
                              "messages", ERR_INTERNAL_ERROR, NULL);
        must(messages != NULL);
    }
    Err err = {0};
    Buf out = {0};
    Template *template = template_parse((Str){(const char *)data, size}, "fuzz", &arena, &err);
    TemplateOptions options = {.bos_token = "<s>", .add_generation_prompt = true};
    if (template != NULL && template_render(template, messages, &options, &scratch, &out, &err))
        must(!err_is_set(&err));
    else
        must(err_is_set(&err));
    buf_free(&out);
    arena_rewind(&arena, 0);
    return 0;
}
