/* family.c — the table of families and look-ups in it. To add a family: its file, and a row in
 * families.def.
 */
#include "model/model.h"

#include <stdio.h>
#include <string.h>

#define X(object) extern const Family object;
#include "model/family/families.def"
#undef X

static const Family *const FAMILIES[] = {
#define X(object) &object,
#include "model/family/families.def"
#undef X
};

const Family *family_find(const char *gguf_or_hf_name)
{
    if (gguf_or_hf_name == NULL)
        return NULL;
    for (size_t i = 0; i < COUNT_OF(FAMILIES); i++)
        if (strcmp(FAMILIES[i]->name, gguf_or_hf_name) == 0 ||
            strcmp(FAMILIES[i]->hf_model_type, gguf_or_hf_name) == 0 ||
            strcmp(FAMILIES[i]->hf_class, gguf_or_hf_name) == 0)
            return FAMILIES[i];
    return NULL;
}

const WeightName *family_weight(const Family *family, Role role)
{
    assert((unsigned)role < ROLE_COUNT);
    for (size_t i = 0; i < family->n_names; i++)
        if (family->names[i].role == role)
            return &family->names[i];
    return NULL;
}

bool family_has(const Family *family, Role role)
{
    return family_weight(family, role) != NULL;
}

const char *family_list(void)
{
    static char text[512]; /* the same bytes whoever writes them */
    size_t len = 0;
    for (size_t i = 0; i < COUNT_OF(FAMILIES); i++) {
        int n = snprintf(text + len, sizeof text - len, "%s%s", i == 0 ? "" : ", ",
                         FAMILIES[i]->hf_model_type);
        must(n > 0 && (size_t)n < sizeof text - len);
        len += (size_t)n;
    }
    return text;
}
