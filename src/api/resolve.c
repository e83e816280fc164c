/* resolve.c — what a model argument means, and loading what it names.
 *
 * A path, a preset's name, or a Hugging Face id that lies in the machine's cache. A GGUF file or a
 * model folder is a base; a folder with adapter_config.json is an adapter whose base it names; the
 * output folder of a run stands for its lora/ or model/. --base overrides the base.
 */
#include "api/handle.h"

#include <string.h>

#include "api/local_hub.h"
#include "compute/cuda_loader.h"
#include "core/file.h"
#include "core/log.h"
#include "core/os.h"
#include "core/thread.h"
#include "model/full.h"
#include "model/preset.h"

static bool holds_adapter(Arena *scratch, const char *folder)
{
    return path_exists(path_join(scratch, folder, "adapter_config.json"));
}

/* A path as it is; a preset or a Hugging Face id by what lies in the cache. NULL: none of them. */
static const char *locate(bp_trainer *t, const char *name)
{
    if (path_exists(name))
        return name;
    const ModelPreset *preset = model_preset(name);
    if (preset != NULL && *preset->licence != '\0')
        log_warn("model_licence", "model=\"%s\" licence=\"%s\"", preset->source,
                 preset->licence);
    return local_hub_find(preset != NULL ? preset->source : name, &t->arena);
}

static bool not_here(bp_trainer *t, const char *name)
{
    const ModelPreset *preset = model_preset(name);
    if (preset == NULL) {
        err_set(&t->err, ERR_DEP_MODEL_LOAD_FAILED, "model '%s' is not a local file or folder",
                name);
        return err_hint(&t->err, "Pass the path of a GGUF file or of a folder with config.json, "
                                 "tokenizer.json and model.safetensors");
    }
    err_set(&t->err, ERR_DEP_MODEL_LOAD_FAILED, "model '%s' is '%s', which is not on this machine",
            name, preset->source);
    return err_hint(&t->err, "Download it (huggingface-cli download %s), or pass a path",
                    preset->source);
}

/* The folder of a run without an adapter stands for the model of which it trained every weight. */
static bool take_run_model(bp_trainer *t, const char **source)
{
    if (!path_exists(path_join(&t->arena, *source, "run_history.json")))
        return true;
    const char *model = path_join(&t->arena, *source, MODEL_FOLDER);
    if (!path_exists(path_join(&t->arena, model, "config.json"))) {
        err_set(&t->err, ERR_DEP_MODEL_LOAD_FAILED, "'%s' holds runs but neither adapter nor model",
                *source);
        return err_hint(&t->err, "Finish a run first: backprop train --resume RUN_ID -o %s",
                        *source);
    }
    *source = model;
    return true;
}

bool resolve_model(bp_trainer *t, const char *given)
{
    if (given == NULL || *given == '\0')
        return err_set(&t->err, ERR_DEP_MODEL_LOAD_FAILED, "no model was given");
    const char *source = locate(t, given);
    if (source == NULL)
        return not_here(t, given);
    const char *run_adapter = path_join(&t->arena, source, "lora");
    const char *base = settings_text(&t->settings, OPTION_BASE);
    t->adapter_folder = holds_adapter(&t->arena, source)        ? source
                        : holds_adapter(&t->arena, run_adapter) ? run_adapter
                                                                : NULL;
    if (t->adapter_folder == NULL && !take_run_model(t, &source))
        return false;
    t->base_path = *base != '\0' ? base : source;
    if (t->adapter_folder != NULL && *base == '\0')
        t->base_path = adapter_base_name(t->adapter_folder, &t->arena, &t->err);
    if (t->base_path == NULL)
        return false;
    const char *base_here = locate(t, t->base_path);
    if (base_here != NULL) {
        t->base_path = base_here;
        /* Adapters name their base by its absolute path, so that they work from any folder. */
        t->base_path = path_absolute(&t->arena, t->base_path);
        return true;
    }
    err_set(&t->err, ERR_DEP_MODEL_LOAD_FAILED, "base model '%s' of '%s' is not there",
            t->base_path, source);
    return err_hint(&t->err, "Pass the base with --base MODEL");
}

/* The tokenizer of the texts' own GGUF file or of a folder that has one. */
static Tokenizer *open_tokenizer(bp_trainer *t, const char *path)
{
    assert(t->tokenizer == NULL);
    if (path_is_folder(path))
        return tokenizer_from_folder(path, &t->arena, &t->err);
    if (!gguf_open(&t->texts, path, &t->arena, &t->err))
        return NULL;
    return tokenizer_from_gguf(&t->texts, &t->arena, &t->err);
}

static bool open_template(bp_trainer *t, const char *path)
{
    t->chat_template = NULL;
    Str source = tokenizer_chat_template(t->tokenizer);
    if (source.len > 0) {
        t->chat_template = template_parse(source, path, &t->arena, &t->err);
        return t->chat_template != NULL;
    }
    return true;
}

bool handle_texts(bp_trainer *t, const char *source)
{
    if (t->tokenizer != NULL && t->texts_source != NULL && strcmp(t->texts_source, source) == 0)
        return true;
    tokenizer_close(t->tokenizer);
    t->tokenizer = NULL;
    gguf_close(&t->texts);
    Arena *scratch = &t->arena;
    const char *path = source;
    if (path_is_folder(source) && !path_exists(path_join(scratch, source, "tokenizer.json"))) {
        if (!resolve_model(t, source))
            return false;
        path = t->base_path;
    } else if (!path_exists(source)) { /* a preset, an id, or nothing: it says why */
        if (!resolve_model(t, source))
            return false;
        path = t->base_path;
    }
    t->tokenizer = open_tokenizer(t, path);
    if (t->tokenizer == NULL || !open_template(t, path))
        return false;
    t->texts_source = arena_strdup(&t->arena, source);
    return true;
}

bool handle_load(bp_trainer *t)
{
    if (t->loaded)
        return true;
    t->source = settings_text(&t->settings, OPTION_MODEL);
    if (!resolve_model(t, t->source))
        return false;
    handle_phase(t, "Opening model");
    if (!model_open(&t->model, t->base_path, &t->arena, &t->err) ||
        !handle_texts(t, t->base_path))
        return false;
    t->loaded = true;
    return true;
}

/* "auto", "cpu", "cuda", "cuda:N". False: not a device. index: -1 for the CPU. */
static bool parse_device(const char *text, bool *automatic, int *index)
{
    assert(text != NULL);
    *automatic = strcmp(text, "auto") == 0;
    *index = strcmp(text, "cpu") == 0 ? -1 : 0;
    if (*automatic || *index < 0 || strcmp(text, "cuda") == 0)
        return true;
    bool numbered = strncmp(text, "cuda:", 5) == 0 && text[5] >= '0' && text[5] <= '9';
    if (!numbered || strspn(text + 5, "0123456789") != strlen(text + 5) || strlen(text) > 7)
        return false;
    *index = text[5] - '0';
    if (text[6] != '\0')
        *index = *index * 10 + (text[6] - '0');
    return true;
}

Dtype handle_activation(const bp_trainer *t)
{
    const char *dtype = settings_text(&t->settings, OPTION_DTYPE);
    assert(dtype != NULL);
    if (strcmp(dtype, "auto") == 0)
        return cpu_best_activation();
    return strcmp(dtype, "bf16") == 0 ? DTYPE_BF16 : DTYPE_F32;
}

static bool open_cpu(bp_trainer *t, Dtype activation, Backend *backend)
{
    log_debug("cpu", "kernels=%s activation=%s", cpu_kernel_name(), dtype_info(activation)->name);
    return backend_open_cpu_as(backend, activation, &t->err);
}

bool handle_backend(bp_trainer *t, Dtype cpu_activation, Backend *backend)
{
    assert(backend != NULL);
    threads_set((int)settings_int(&t->settings, OPTION_THREADS, 0));
    const char *device = settings_text(&t->settings, OPTION_DEVICE);
    bool automatic = false;
    int index = 0;
    if (!parse_device(device, &automatic, &index))
        return err_set(&t->err, ERR_CONFIG_INVALID_SETTING,
                       "'%s' is not a value for --device (expected auto, cpu, cuda or cuda:N)",
                       device);
    if (index < 0)
        return open_cpu(t, cpu_activation, backend);
    if (!automatic)
        return backend_open_cuda(backend, index, &t->err);
    Err none = {0};
    if (backend_open_cuda(backend, index, &none))
        return true;
    log_debug("device_auto", "chosen=cpu reason=\"%s\"", none.message);
    return open_cpu(t, cpu_activation, backend);
}

bool handle_adapter(bp_trainer *t, Arena *arena, Adapter **adapter, float **values)
{
    assert(t->loaded);
    *adapter = NULL;
    *values = NULL;
    if (t->adapter_folder == NULL)
        return true;
    *adapter = adapter_load_peft(&t->model, t->adapter_folder, values, arena, &t->err);
    return *adapter != NULL;
}
