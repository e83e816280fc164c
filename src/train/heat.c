/* heat.c — NVML, opened at run time, and the four of its functions that we call. See heat.h.
 *
 * The functions are declared here by NVML's documented interface (nvml.h, version 2 entry points);
 * return value 0 is success, sensor 0 is the GPU die. NVML counts all cards, CUDA those that
 * CUDA_VISIBLE_DEVICES lets it see, so an index goes through that list when it holds numbers.
 */
#include "train/heat.h"

#include "core/log.h"
#include "core/os.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef int NvmlInit(void);
typedef int NvmlHandle(unsigned index, void **device);
typedef int NvmlTemperature(void *device, int sensor, unsigned *degrees);
enum { SENSOR_GPU = 0, DEGREES_MAX = 200 };

bool heat_is_forced(void)
{
    return os_env("BACKPROPAGATE_NVML") != NULL;
}

/* ISO C forbids the cast from an object pointer; POSIX gives dlsym's result that meaning. */
#define SYMBOL(type, library, name)                                                                \
    (((union {                                                                                     \
        void *object;                                                                              \
        type *function;                                                                            \
    }){dlsym((library), (name))})                                                                  \
         .function)

static int visible_index(int index)
{
    const char *at = os_env("CUDA_VISIBLE_DEVICES");
    for (int i = 0; at != NULL && i < index; i++) {
        at = strchr(at, ',');
        at += at != NULL;
    }
    return at != NULL && *at >= '0' && *at <= '9' ? (int)strtol(at, NULL, 10) : index;
}

void heat_open(Heat *heat, int index)
{
    must(heat != NULL && index >= 0);
    *heat = (Heat){0};
    const char *name = heat_is_forced() ? os_env("BACKPROPAGATE_NVML") : "libnvidia-ml.so.1";
    heat->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (heat->library == NULL) {
        log_debug("heat_unknown", "reason=\"%s\"", dlerror());
        return;
    }
    NvmlInit *init = SYMBOL(NvmlInit, heat->library, "nvmlInit_v2");
    NvmlHandle *handle = SYMBOL(NvmlHandle, heat->library, "nvmlDeviceGetHandleByIndex_v2");
    const bool known = init != NULL && handle != NULL && init() == 0 &&
                       handle((unsigned)visible_index(index), &heat->device) == 0;
    if (!known)
        heat->device = NULL;
}

void heat_close(Heat *heat)
{
    if (heat->library == NULL)
        return;
    NvmlInit *shutdown = SYMBOL(NvmlInit, heat->library, "nvmlShutdown");
    if (shutdown != NULL)
        shutdown();
    dlclose(heat->library);
    *heat = (Heat){0};
}

int heat_look(const Heat *heat)
{
    unsigned degrees = 0;
    if (heat->library == NULL || heat->device == NULL)
        return HEAT_UNKNOWN;
    NvmlTemperature *look =
        SYMBOL(NvmlTemperature, heat->library, "nvmlDeviceGetTemperature");
    const bool ok = look != NULL && look(heat->device, SENSOR_GPU, &degrees) == 0;
    return ok && degrees < DEGREES_MAX ? (int)degrees : HEAT_UNKNOWN;
}
