/* api_info.c — what this machine has and which settings are in force, as JSON.
 * Nothing here opens a model.
 */
#include "api/handle.h"

#include <string.h>

#include "compute/cuda_loader.h"
#include "core/log.h"
#include "core/os.h"
#include "core/thread.h"

static Json *cpu_json(void)
{
    const CpuFeatures *f = os_cpu_features();
    const struct {
        const char *name;
        bool on;
    } features[] = {
        {"avx2", f->avx2},
        {"fma", f->fma},
        {"f16c", f->f16c},
        {"avx512", f->avx512},
        {"avx512_bf16", f->avx512_bf16},
        {"avx512_vnni", f->avx512_vnni},
        {"amx_bf16", f->amx_bf16},
        {"neon", f->neon},
    };
    Json *list = json_new_array();
    for (size_t i = 0; i < COUNT_OF(features); i++) {
        if (features[i].on)
            json_add(list, json_new_text(features[i].name));
    }
    Json *cpu = json_new_object();
    json_put(cpu, "name", json_new_text(os_cpu_name()));
    json_put(cpu, "cores", json_new_int(os_core_count()));
    json_put(cpu, "threads", json_new_int(threads_count()));
    json_put(cpu, "features", list);
    json_put(cpu, "kernels", json_new_text(cpu_kernel_name()));
    return cpu;
}

static Json *gpu_json(void)
{
    Backend backend = {0};
    Err err = {0};
    Json *gpu = json_new_object();
    bool usable = backend_open_cuda(&backend, 0, &err);
    json_put(gpu, "usable", json_new_bool(usable));
    json_put(gpu, "name", json_new_text(usable ? backend.traits.name : NULL));
    json_put(gpu, "reason", json_new_text(usable ? NULL : err.message));
    if (usable)
        backend.close(&backend);
    return gpu;
}

static Json *config_json(const Settings *s)
{
    static const OptionId shown[] = {OPTION_MODEL, OPTION_MAX_SEQ_LENGTH, OPTION_LORA_PRESET,
                                     OPTION_LR,    OPTION_OUTPUT,         OPTION_DEVICE};
    Json *config = json_new_object();
    for (size_t i = 0; i < COUNT_OF(shown); i++)
        json_put(config, option_rows[shown[i]].name, json_new_text(settings_text(s, shown[i])));
    return config;
}

const char *bp_info_json(bp_trainer *t)
{
    if (!handle_ok(t))
        return NULL;
    Json *info = json_new_object();
    json_put(info, "schema_version", json_new_text("1"));
    json_put(info, "backpropagate_version", json_new_text(BP_VERSION));
    json_put(info, "cpu", cpu_json());
    Json *memory = json_new_object();
    json_put(memory, "total_bytes", json_new_int((int64_t)os_memory_total()));
    json_put(memory, "available_bytes", json_new_int((int64_t)os_memory_available()));
    json_put(info, "memory", memory);
    json_put(info, "gpu", gpu_json());
    json_put(info, "config", config_json(&t->settings));
    return handle_json(t, info);
}
