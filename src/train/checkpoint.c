/* checkpoint.c — writing, checking and finding checkpoint folders.
 *
 * checkpoint-N/
 *   adapter_config.json, adapter_model.safetensors    PEFT files; never read by us when resuming
 *   state.safetensors
 *     tensors (f32)  values [n_params]   parameters in the order of model/adapter.h
 *                    m, v   [n_params]   first and second moment
 *                    losses [N]          of every step
 *     __metadata__   backpropagate.checkpoint   one JSON object:
 *         schema 1 · step · epoch, microbatch (the next one) · loss_sum · tokens · halvings
 *         run_id
 *         numbers {name: scalar}   options and data that decide the run's numbers
 *         options                  the caller's options as text, or null
 *         adapter {r, alpha, targets, methods, n_params} ·
 *         base {name, n_layers, d_model, d_ff, vocab}
 *         machine {backend, activation, kernels, threads} · version
 *                    backpropagate.checksum     16 hex digits over that JSON text, then values, m,
 *                                               v, losses: finds what a disk or a copy spoiled
 *
 * A reader refuses another schema. Writers may add members; readers ignore those they do not know.
 * Machine and version are only compared with a warning: another processor continues the run, with
 * other last bits.
 */
#include "train/checkpoint.h"

#include "core/log.h"
#include "core/thread.h"
#include "format/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const meta_key = "backpropagate.checkpoint";
static const char *const checksum_key = "backpropagate.checksum";
static const char *const prefix = "checkpoint-";
enum { HASH_LANES = 4, HASH_TEXT = 17, PREFIX_LEN = 11 };

/* ---- checksum: four interleaved FNV-1a streams over 64-bit words ------------------------ */

typedef struct Checksum {
    uint64_t lane[HASH_LANES];
} Checksum;

static Checksum checksum_start(void)
{
    Checksum sum;
    for (uint64_t i = 0; i < HASH_LANES; i++)
        sum.lane[i] = UINT64_C(0xcbf29ce484222325) + i;
    return sum;
}

static void checksum_add(Checksum *sum, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    const uint64_t prime = UINT64_C(0x100000001b3);
    size_t word = 0;
    for (; bytes >= sizeof(uint64_t); bytes -= sizeof(uint64_t), at += sizeof(uint64_t), word++) {
        uint64_t value;
        memcpy(&value, at, sizeof value);
        uint64_t *lane = &sum->lane[word % HASH_LANES];
        /* The rotation carries high bits down, where the product alone would lose them. */
        const uint64_t mixed = (*lane ^ value) * prime;
        *lane = mixed << 29 | mixed >> 35;
    }
    for (; bytes > 0; bytes--, at++)
        sum->lane[0] = (sum->lane[0] ^ *at) * prime;
}

static void checksum_text(const Checksum *sum, char text[HASH_TEXT])
{
    Checksum all = checksum_start();
    checksum_add(&all, sum->lane, sizeof sum->lane);
    uint64_t value = 0;
    for (int i = 0; i < HASH_LANES; i++)
        value = value * 31 + all.lane[i];
    snprintf(text, HASH_TEXT, "%016" PRIx64, value);
}

/* The four tensors of a state file, in their order. */
enum { PART_VALUES, PART_M, PART_V, PART_LOSSES, PART_COUNT };
static const char *const part_names[PART_COUNT] = {"values", "m", "v", "losses"};

typedef struct StateParts {
    const void *data[PART_COUNT];
    int64_t n[PART_COUNT];
} StateParts;

static void state_checksum(Str json, const StateParts *parts, char text[HASH_TEXT])
{
    Checksum sum = checksum_start();
    checksum_add(&sum, json.data, json.len);
    for (int i = 0; i < PART_COUNT; i++)
        checksum_add(&sum, parts->data[i], (size_t)parts->n[i] * sizeof(float));
    checksum_text(&sum, text);
}

/* ---- metadata --------------------------------------------------------------------------- */

static Json *adapter_json(const Adapter *adapter)
{
    Json *json = json_new_object();
    json_put(json, "r", json_new_int(adapter->config.r));
    json_put(json, "alpha", json_new_double(adapter->config.alpha));
    json_put(json, "targets", json_new_int((int64_t)adapter->config.targets));
    json_put(json, "pattern", json_new_text(adapter->config.pattern));
    json_put(json, "methods", json_new_int((int64_t)adapter->config.methods));
    json_put(json, "n_params", json_new_int(adapter->n_params));
    return json;
}

static Json *base_json(const Model *model)
{
    const ModelConfig *config = &model->config;
    Json *json = json_new_object();
    json_put(json, "name", json_new_text(config->name));
    json_put(json, "n_layers", json_new_int(config->n_layers));
    json_put(json, "d_model", json_new_int(config->d_model));
    json_put(json, "d_ff", json_new_int(config->d_ff));
    json_put(json, "vocab", json_new_int(config->vocab));
    return json;
}

static Json *machine_json(const Backend *backend)
{
    Json *json = json_new_object();
    if (backend != NULL) {
        json_put(json, "backend", json_new_text(backend->traits.name));
        json_put(json, "activation", json_new_text(dtype_info(backend->traits.activation)->name));
    }
    json_put(json, "kernels", json_new_text(cpu_kernel_name()));
    json_put(json, "threads", json_new_int(threads_count()));
    return json;
}

static void metadata_text(const CheckpointOwner *owner, const CheckpointState *state, Buf *text)
{
    Json *json = json_new_object();
    json_put(json, "schema", json_new_int(CHECKPOINT_SCHEMA));
    json_put(json, "step", json_new_int(state->step));
    json_put(json, "epoch", json_new_int(state->cursor.epoch));
    json_put(json, "microbatch", json_new_int(state->cursor.microbatch));
    json_put(json, "loss_sum", json_new_double(state->loss_sum));
    json_put(json, "tokens", json_new_int(state->tokens));
    json_put(json, "halvings", json_new_int(state->halvings));
    json_put(json, "run_id", json_new_text(state->run_id));
    json_put(json, "numbers", json_clone(state->numbers));
    json_put(json, "options", json_new_text(state->options_json));
    json_put(json, "adapter", adapter_json(owner->adapter));
    json_put(json, "base", base_json(owner->model));
    json_put(json, "machine", machine_json(owner->backend));
    json_put(json, "version", json_new_text(BP_VERSION));
    json_write(json, (JsonStyle){0}, text);
    json_free(json);
}

/* ---- writing ---------------------------------------------------------------------------- */

const char *checkpoint_path(const char *output, int64_t step, Arena *out)
{
    return path_join(out, output, arena_printf(out, "%s%lld", prefix, (long long)step));
}

static bool write_state(const char *folder, const CheckpointOwner *owner,
                        const CheckpointState *state, const StateParts *parts, Arena *scratch,
                        Err *err)
{
    Buf json = {0};
    metadata_text(owner, state, &json);
    must(!json.failed);
    char checksum[HASH_TEXT];
    state_checksum(buf_view(&json), parts, checksum);
    const char *const keys[] = {meta_key, checksum_key};
    const char *const values[] = {json.data, checksum};
    StEntry entries[PART_COUNT];
    for (int i = 0; i < PART_COUNT; i++)
        entries[i] = (StEntry){.name = part_names[i], .dtype = DTYPE_F32, .n_dims = 1,
                               .shape = {parts->n[i]}, .data = parts->data[i]};
    const bool ok = st_write(path_join(scratch, folder, "state.safetensors"), entries, PART_COUNT,
                             keys, values, COUNT_OF(keys), ERR_STATE_CHECKPOINT_INVALID, err);
    buf_free(&json);
    return ok;
}

bool checkpoint_save(const char *output, const CheckpointOwner *owner, const CheckpointState *state,
                     const TrainVectors *vectors, Arena *scratch, Err *err)
{
    must(state->step > 0 && state->run_id != NULL && json_is_object(state->numbers));
    const ErrCode code = ERR_STATE_CHECKPOINT_INVALID;
    const int64_t n = owner->adapter->n_params;
    const StateParts parts = {{vectors->values, vectors->m, vectors->v, state->losses},
                              {n, n, n, state->step}};
    const size_t mark = arena_mark(scratch);
    const char *path = checkpoint_path(output, state->step, scratch);
    Err why = {0};
    const char *partial = folder_begin(path, scratch, code, &why);
    const bool full = adapter_has(owner->adapter, ADAPTER_FULL); /* the state holds all there is */
    bool ok = partial != NULL &&
              (full || adapter_save_peft(owner->adapter, owner->model, vectors->values,
                                         owner->base_name, partial, &why)) &&
              write_state(partial, owner, state, &parts, scratch, &why) &&
              folder_commit(path, code, &why);
    if (!ok) {
        if (partial != NULL)
            folder_abandon(path);
        err_set(err, code, "cannot write checkpoint '%s': %s", path, why.message);
    }
    arena_rewind(scratch, mark);
    return ok;
}

/* ---- reading ---------------------------------------------------------------------------- */

/* An open state file and its parsed metadata. */
typedef struct StateFile {
    SafeTensors st;
    Json *json;
    const char *text;
} StateFile;

static void state_close(StateFile *file)
{
    json_free(file->json);
    st_close(&file->st);
}

static bool invalid(const char *folder, const char *what, Err *err)
{
    return err_set(err, ERR_STATE_CHECKPOINT_INVALID, "checkpoint '%s' %s", folder, what);
}

static bool parse_metadata(StateFile *file, const char *folder, Err *err)
{
    file->text = st_meta(&file->st, meta_key);
    if (file->text == NULL || st_meta(&file->st, checksum_key) == NULL)
        return invalid(folder, "was not written by this program (no metadata)", err);
    file->json = json_parse(str_of(file->text), folder, ERR_STATE_CHECKPOINT_INVALID, err);
    if (file->json == NULL)
        return false;
    const int64_t schema = json_int(json_get(file->json, "schema"), -1);
    if (schema != CHECKPOINT_SCHEMA)
        return err_set(err, ERR_STATE_CHECKPOINT_INVALID,
                       "checkpoint '%s' has schema %lld; this program reads schema %d", folder,
                       (long long)schema, CHECKPOINT_SCHEMA);
    return true;
}

/* On failure nothing is left open. */
static bool state_open(StateFile *file, const char *folder, Arena *out, Err *err)
{
    *file = (StateFile){0};
    folder_recover(folder);
    if (!path_is_folder(folder))
        return invalid(folder, "does not exist", err);
    const char *path = path_join(out, folder, "state.safetensors");
    if (!path_exists(path))
        return invalid(folder, "has no state.safetensors", err);
    if (!st_open(&file->st, path, ERR_STATE_CHECKPOINT_INVALID, out, err))
        return false;
    if (!parse_metadata(file, folder, err)) {
        state_close(file);
        return false;
    }
    return true;
}

/* The tensors where they lie in the file. */
static bool find_parts(const StateFile *file, const char *folder, StateParts *parts, Err *err)
{
    for (int i = 0; i < PART_COUNT; i++) {
        const StTensor *tensor = st_find(&file->st, part_names[i]);
        if (tensor == NULL || !tensor->known || tensor->dtype != DTYPE_F32 || tensor->n_dims != 1)
            return err_set(err, ERR_STATE_CHECKPOINT_INVALID,
                           "checkpoint '%s' has no f32 vector '%s'", folder, part_names[i]);
        parts->data[i] = tensor->data;
        parts->n[i] = tensor->shape[0];
    }
    return true;
}

/* Fields and tensors, as they lie in the file; sizes agree and the checksum matches. */
static bool read_state(const StateFile *file, const char *folder, CheckpointState *state,
                       StateParts *parts, Err *err)
{
    const Json *json = file->json;
    *state = (CheckpointState){
        .step = json_int(json_get(json, "step"), -1),
        .cursor = {json_int(json_get(json, "epoch"), -1),
                   json_int(json_get(json, "microbatch"), -1)},
        .loss_sum = json_double(json_get(json, "loss_sum"), 0),
        .tokens = json_int(json_get(json, "tokens"), -1),
        .halvings = (int32_t)json_int(json_get(json, "halvings"), 0),
        .run_id = json_text(json_get(json, "run_id")),
        .options_json = json_text(json_get(json, "options")),
        .numbers = json_get(json, "numbers"),
    };
    if (state->step < 1 || state->cursor.epoch < 0 || state->cursor.microbatch < 0 ||
        state->tokens < 0 || state->halvings < 0 || state->halvings > CHECKPOINT_MAX_HALVINGS ||
         state->run_id == NULL || !json_is_object(state->numbers))
        return invalid(folder, "has incomplete metadata", err);
    if (!find_parts(file, folder, parts, err))
        return false;
    const int64_t n_params = json_int(json_get(json_get(json, "adapter"), "n_params"), -1);
    if (parts->n[PART_VALUES] != n_params || parts->n[PART_M] != n_params ||
        parts->n[PART_V] != n_params || parts->n[PART_LOSSES] != state->step)
        return invalid(folder, "has a tensor of the wrong size", err);
    char checksum[HASH_TEXT];
    state_checksum(str_of(file->text), parts, checksum);
    if (strcmp(checksum, st_meta(&file->st, checksum_key)) != 0)
        return invalid(folder, "is damaged: its checksum does not match", err);
    state->losses = parts->data[PART_LOSSES];
    return true;
}

/* A value for a message: doubles without the digits that only make them exact. */
static void value_text(const Json *value, Buf *text)
{
    if (value == NULL)
        buf_text(text, "nothing");
    else if (json_is_number(value) && !json_is_int(value))
        buf_printf(text, "%.10g", json_double(value, 0));
    else
        json_write(value, (JsonStyle){0}, text);
}

static bool same_value(const Json *a, const Json *b)
{
    Buf x = {0}, y = {0};
    json_write(a, (JsonStyle){0}, &x);
    json_write(b, (JsonStyle){0}, &y);
    const bool same = str_eq(buf_view(&x), buf_view(&y));
    buf_free(&x);
    buf_free(&y);
    return same;
}

bool checkpoint_compare(const char *folder, const char *what, const Json *stored, const Json *mine,
                        Err *err)
{
    const char *key;
    Json *value;
    for (void *it = NULL; (it = json_next(mine, it, &key, &value)) != NULL;) {
        const Json *other = json_get(stored, key);
        if (other != NULL && same_value(value, other))
            continue;
        Buf ours = {0}, theirs = {0};
        value_text(value, &ours);
        value_text(other, &theirs);
        err_set(err, ERR_STATE_CHECKPOINT_INVALID,
                "checkpoint '%s' was made with %s%s %s, this run has %s", folder, what, key,
                theirs.data, ours.data);
        buf_free(&ours);
        buf_free(&theirs);
        return err_hint(err, "Resume with the options, data and model that the run was started "
                             "with, or start a new run without --resume");
    }
    return true;
}

static bool check_owner(const Json *json, const char *folder, const CheckpointOwner *owner,
                        Err *err)
{
    Json *adapter = adapter_json(owner->adapter), *base = base_json(owner->model);
    const bool ok =
        checkpoint_compare(folder, "base model ", json_get(json, "base"), base, err) &&
        checkpoint_compare(folder, "adapter ", json_get(json, "adapter"), adapter, err);
    json_free(adapter);
    json_free(base);
    if (!ok)
        return false;
    Json *machine = machine_json(owner->backend);
    json_del(machine, "threads"); /* never decides bits */
    Err other = {0};
    if (!checkpoint_compare(folder, "", json_get(json, "machine"), machine, &other))
        log_warn("resumed_on_another_machine", "difference=\"%s\"", other.message);
    json_free(machine);
    return true;
}

bool checkpoint_load(const char *folder, const CheckpointOwner *owner, CheckpointState *state,
                     const TrainVectors *vectors, Arena *out, Err *err)
{
    StateFile file;
    StateParts parts;
    if (!state_open(&file, folder, out, err))
        return false;
    const bool ok = read_state(&file, folder, state, &parts, err) &&
                    check_owner(file.json, folder, owner, err);
    if (ok) {
        must(parts.n[PART_VALUES] == owner->adapter->n_params);
        const size_t bytes = (size_t)owner->adapter->n_params * sizeof(float);
        memcpy(vectors->values, parts.data[PART_VALUES], bytes);
        memcpy(vectors->m, parts.data[PART_M], bytes);
        memcpy(vectors->v, parts.data[PART_V], bytes);
        float *losses = arena_array(out, float, state->step);
        memcpy(losses, parts.data[PART_LOSSES], (size_t)state->step * sizeof(float));
        state->losses = losses;
        state->run_id = arena_strdup(out, state->run_id);
        if (state->options_json != NULL)
            state->options_json = arena_strdup(out, state->options_json);
        state->numbers = json_clone(state->numbers);
    }
    state_close(&file);
    return ok;
}

/* N of "checkpoint-N", also with ".old" or ".partial" behind it (what a crash inside a commit
 * leaves); -1 for any other name. */
static int64_t folder_number(const char *name)
{
    enum { MAX_DIGITS = 18 };
    if (strncmp(name, prefix, PREFIX_LEN) != 0)
        return -1;
    int64_t number = 0;
    int digits = 0;
    for (name += PREFIX_LEN; *name >= '0' && *name <= '9' && digits < MAX_DIGITS; name++, digits++)
        number = number * 10 + (*name - '0');
    const bool ours = *name == '\0' || strcmp(name, ".old") == 0 || strcmp(name, ".partial") == 0;
    return digits > 0 && ours ? number : -1;
}

int64_t checkpoint_number(const char *name)
{
    return strchr(name, '.') == NULL ? folder_number(name) : -1;
}

const char *checkpoint_run_id(const char *folder, Arena *out)
{
    StateFile file;
    Err err = {0};
    if (!state_open(&file, folder, out, &err))
        return NULL;
    const char *run_id = json_text(json_get(file.json, "run_id"));
    if (run_id != NULL)
        run_id = arena_strdup(out, run_id);
    state_close(&file);
    return run_id;
}

void checkpoint_recover(const char *output, Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    const char **names;
    size_t count;
    if (folder_list(output, scratch, &names, &count)) {
        for (size_t i = 0; i < count; i++) {
            const int64_t number = folder_number(names[i]);
            if (number < 0 || strchr(names[i], '.') == NULL)
                continue;
            const char *folder = checkpoint_path(output, number, scratch);
            folder_recover(folder);
            folder_abandon(folder);
        }
    }
    arena_rewind(scratch, mark);
}

bool checkpoint_check(const char *folder, Arena *scratch, Err *err)
{
    StateFile file;
    StateParts parts;
    CheckpointState state;
    if (!state_open(&file, folder, scratch, err))
        return false;
    const bool ok = read_state(&file, folder, &state, &parts, err);
    state_close(&file);
    return ok;
}

static bool usable(const char *folder, const char *run_id, Arena *scratch)
{
    StateFile file;
    StateParts parts;
    CheckpointState state;
    Err err = {0};
    if (!state_open(&file, folder, scratch, &err)) {
        log_warn("checkpoint_skipped", "reason=\"%s\"", err.message);
        return false;
    }
    bool ok = read_state(&file, folder, &state, &parts, &err);
    if (!ok)
        log_warn("checkpoint_skipped", "reason=\"%s\"", err.message);
    if (ok && run_id != NULL && strcmp(run_id, state.run_id) != 0) {
        log_debug("checkpoint_skipped", "path=\"%s\" reason=\"of another run\"", folder);
        ok = false;
    }
    state_close(&file);
    return ok;
}

const char *checkpoint_latest(const char *output, const char *run_id, Arena *out)
{
    const char **names;
    size_t count;
    if (!folder_list(output, out, &names, &count))
        return NULL;
    int64_t below = INT64_MAX;
    for (;;) { /* the highest number not yet tried; folders are few */
        int64_t best = -1;
        for (size_t i = 0; i < count; i++) {
            const int64_t number = folder_number(names[i]);
            if (number > best && number < below)
                best = number;
        }
        if (best < 0)
            return NULL;
        const char *folder = checkpoint_path(output, best, out);
        const size_t mark = arena_mark(out);
        folder_recover(folder); /* its name may be that of a leftover */
        const bool ok = path_is_folder(folder) && usable(folder, run_id, out);
        arena_rewind(out, mark);
        if (ok)
            return folder;
        below = best;
    }
}
