/* handle.h — what a bp_trainer is, and the steps that several verbs share. Private to api/.
 *
 * Files: api.c (open, close, errors, options, events), resolve.c (what a model path means, loading
 * it), api_dataset.c (options of a dataset), api_train.c, api_export.c, api_generate.c, api_data.c
 * (datasets without a run), api_text.c (texts alone),
 * api_info.c (the machine), api_runs.c (history),
 * api_resume.c, api_replay.c, run_options.c (what a run is made again from).
 */
#ifndef API_HANDLE_H
#define API_HANDLE_H

#include <backprop.h>

#include "api/settings.h"
#include "core/json.h"
#include "data/dataset.h"
#include "model/adapter.h"
#include "text/template.h"
#include "text/tokenizer.h"

struct bp_trainer {
    Arena arena; /* process lifetime of the handle */
    Settings settings;
    Err err;
    bp_error public_error;

    /* Set by handle_load. */
    bool loaded;
    const char *source;         /* the option "model" when it was loaded */
    const char *base_path;      /* the base model */
    const char *adapter_folder; /* PEFT folder or NULL */
    bool adapter_is_own;        /* made by bp_train on this handle */
    Model model;

    /* Set by handle_texts. */
    const char *texts_source;
    Gguf texts; /* behind the tokenizer, when it is of a GGUF file */
    Tokenizer *tokenizer;
    Template *chat_template; /* NULL: the model has none */

    bp_event_fn *on_event;
    void *on_event_context;
    volatile int stop;
    Buf text;     /* what the last bp_*_json call returned */
    Buf answer;   /* what the last bp_generate returned */
    Json *result; /* of the last verb */
};

/* True when no error is set; every public call starts with it. */
static inline bool handle_ok(const bp_trainer *t)
{
    return t != NULL && !err_is_set(&t->err);
}
/* After a failure: publishes the error once (log, stderr) and returns false. */
bool handle_fail(bp_trainer *t);
/* Tells listeners that a part of the work begins: "Loading model", …. */
void handle_phase(bp_trainer *t, const char *text);
/* Finds base and adapter of `source`, opens model, tokenizer and chat template. Idempotent. */
bool handle_load(bp_trainer *t);
/* Opens tokenizer and chat template of `source` (a GGUF file or a folder) and no weights. */
bool handle_texts(bp_trainer *t, const char *source);
/* Only the paths: base_path and adapter_folder of a model argument. */
bool resolve_model(bp_trainer *t, const char *source);
/* The options of a dataset, as they are set; the number of threads is set, too. */
bool handle_dataset_options(bp_trainer *t, DatasetOptions *options);
DataTexts handle_data_texts(const bp_trainer *t);
/* Type of activations that the option "dtype" asks for on the CPU. */
Dtype handle_activation(const bp_trainer *t);
/* Opens the backend that the option "device" asks for; a CPU with activations of that type. */
bool handle_backend(bp_trainer *t, Dtype cpu_activation, Backend *backend);
/* Loads the handle's adapter, NULL adapter when there is none. */
bool handle_adapter(bp_trainer *t, Arena *arena, Adapter **adapter, float **values);
/* JSON text that lives until the next one. Takes json over. */
const char *handle_json(bp_trainer *t, Json *json);

#endif
