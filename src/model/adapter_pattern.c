/* adapter_pattern.c — targets by a regular expression, as PEFT takes them when target_modules is a
 * string: the whole path of a module in the Hugging Face model ("model.layers.3.mlp.up_proj") must
 * match, so that layers can be told apart.
 */
#include "model/adapter.h"

#include "text/regex.h"

#include <string.h>

bool adapter_is_pattern(const char *text)
{
    return strpbrk(text, "\\^$.|?*+()[]{}") != NULL;
}

/* "model.layers.3.mlp.up_proj" */
static Str module_path(const Model *model, int64_t pair, char name[WEIGHT_NAME_MAX])
{
    const WeightName *row = family_weight(model->family, (Role)(pair % ROLE_LINEAR_COUNT));
    const Str whole = str_of(weight_name(row->hf, pair / ROLE_LINEAR_COUNT, name));
    must(str_ends(whole, ".weight"));
    return str_sub(whole, 0, whole.len - strlen(".weight"));
}

static void match_all(const Model *model, const Regex *regex, bool *matches, bool *any)
{
    RegexScratch *scratch = regex_scratch_new();
    *any = false;
    for (int64_t i = 0; i < model->config.n_layers * ROLE_LINEAR_COUNT; i++) {
        char name[WEIGHT_NAME_MAX];
        size_t start, end;
        matches[i] = family_has(model->family, (Role)(i % ROLE_LINEAR_COUNT)) &&
                     regex_find(regex, scratch, module_path(model, i, name), 0, &start, &end);
        *any = *any || matches[i];
    }
    regex_scratch_free(scratch);
}

bool adapter_match(const Model *model, const char *pattern, bool *matches, Err *err)
{
    Buf whole = {0};
    Err why = {0};
    bool any = false;
    buf_printf(&whole, "^(?:%s)$", pattern); /* names have no line breaks */
    Regex *regex = regex_compile(buf_view(&whole), &why);
    buf_free(&whole);
    if (regex == NULL)
        return err_set(err, ERR_CONFIG_INVALID_SETTING, "adapter targets '%.80s': %s", pattern,
                       why.message);
    match_all(model, regex, matches, &any);
    regex_free(regex);
    if (any)
        return true;
    err_set(err, ERR_CONFIG_INVALID_SETTING, "adapter targets '%.80s' match no linear of '%s'",
            pattern, model->config.name);
    return err_hint(err, "Match whole paths, such as model.layers.0.self_attn.q_proj: "
                         "'.*\\.(q|v)_proj'");
}
