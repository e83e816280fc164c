/* nvml.c — see nvml.h. The few prototypes are declared here: distributions without NVIDIA's toolkit
 * have no header for them, and their binary interface has been stable since version 5 (the `_v2`
 * names since 7).
 */
#include "nvml.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct NvmlMemory {
    unsigned long long total, free, used;
} NvmlMemory;

enum { NVML_CLOCK_SM_ID = 1, NVML_NAME_CHARS = 96 };

typedef struct Nvml {
    bool open;
    void *device;
    int (*memory)(void *device, NvmlMemory *memory);
    int (*clock)(void *device, int which, unsigned *mhz);
    char name[NVML_NAME_CHARS];
} Nvml;

static const Nvml *nvml(void)
{
    static Nvml state;
    static bool tried;
    if (tried)
        return state.open ? &state : NULL;
    tried = true;
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return NULL;
    int (*init)(void) = NULL, (*by_index)(unsigned, void **) = NULL;
    int (*name)(void *, char *, unsigned) = NULL;
    *(void **)&init = dlsym(library, "nvmlInit_v2");
    *(void **)&by_index = dlsym(library, "nvmlDeviceGetHandleByIndex_v2");
    *(void **)&name = dlsym(library, "nvmlDeviceGetName");
    *(void **)&state.memory = dlsym(library, "nvmlDeviceGetMemoryInfo");
    *(void **)&state.clock = dlsym(library, "nvmlDeviceGetClockInfo");
    state.open = init != NULL && by_index != NULL && state.memory != NULL && state.clock != NULL &&
                 init() == 0 && by_index(0, &state.device) == 0;
    if (state.open && name != NULL)
        name(state.device, state.name, sizeof state.name);
    return state.open ? &state : NULL;
}

CardReading card_read(void)
{
    const Nvml *n = nvml();
    CardReading reading = {0};
    NvmlMemory memory = {0};
    if (n == NULL)
        return reading;
    if (n->memory(n->device, &memory) == 0)
        reading.used_bytes = memory.used;
    if (n->clock(n->device, NVML_CLOCK_SM_ID, &reading.sm_mhz) != 0)
        reading.sm_mhz = 0;
    return reading;
}

const char *card_name(void)
{
    const Nvml *n = nvml();
    return n == NULL ? "" : n->name;
}
