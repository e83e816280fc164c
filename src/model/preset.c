/* preset.c — the table of presets and look-ups in it. To add one: a row in family/presets.def.
 * Names are compared without regard to case, as people type them.
 */
#include "model/preset.h"

#include <strings.h>

static const ModelPreset PRESETS[] = {
#define X(name, source, licence, rank, length, config) \
    {name, source, licence, rank, length, config},
#include "model/family/presets.def"
#undef X
};

const ModelPreset *model_preset_at(size_t i)
{
    return i < COUNT_OF(PRESETS) ? &PRESETS[i] : NULL;
}

const ModelPreset *model_preset(const char *name_or_source)
{
    assert(name_or_source != NULL);
    for (size_t i = 0; i < COUNT_OF(PRESETS); i++)
        if (strcasecmp(PRESETS[i].name, name_or_source) == 0 ||
            strcasecmp(PRESETS[i].source, name_or_source) == 0)
            return &PRESETS[i];
    return NULL;
}
