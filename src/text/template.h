/* template.h — chat templates: a bounded Jinja evaluator with a real parser.
 *
 * Renders exactly what transformers' apply_chat_template gives (trim_blocks, lstrip_blocks, keep no
 * trailing newline). An unsupported construct is an error that names it and its line; nesting,
 * steps and output are limited by name in template.c. No file, process or network access exists.
 */
#ifndef TEXT_TEMPLATE_H
#define TEXT_TEMPLATE_H

#include "core/arena.h"
#include "core/json.h"
#include "core/str.h"

typedef struct Template Template;

/* Parses; the tree lives in `out`. `subject` is named in errors (DEP_CHAT_TEMPLATE_INVALID). */
Template *template_parse(Str source, const char *subject, Arena *out, Err *err);

typedef struct TemplateOptions {
    bool add_generation_prompt;
    const char *bos_token, *eos_token; /* texts; NULL = undefined variable */
    const Json *extra;                 /* more variables (object), or NULL */
} TemplateOptions;

/* messages: array of objects {role, content, …}. Appends the text to `out`. raise_exception gives
 * INPUT_DATASET_VALIDATION_FAILED with the template's message. `scratch` is rewound on return. */
bool template_render(const Template *template, const Json *messages, const TemplateOptions *options,
                     Arena *scratch, Buf *out, Err *err);

#endif
