/* adapter.h — low-rank adapters: made, initialised, read and written in PEFT layout, attached to a
 * model. Knows no families and no backends beyond memory.
 *
 * LoRA (Hu et al. 2021) adds s B A to a matrix W, with s = alpha / r; rsLoRA (Kalajdzievski 2023)
 * takes alpha / sqrt(r). DoRA (Liu et al. 2024, equations 5 and 11) then gives each row of the sum
 * a trained length: m (W + s B A) / |W + s B A|, the norm constant in backward.
 *
 * All parameters are one flat f32 vector (values, gradients, moments are four such vectors), in the
 * order: layer, role, A then B then m; so the optimiser is one call and a checkpoint one block.
 * Rows of B and m are in the order of the base file (see model.h on rope); PEFT files hold
 * ROPE_HALVES order.
 */
#ifndef MODEL_ADAPTER_H
#define MODEL_ADAPTER_H

#include "model/model.h"

typedef struct AdapterConfig {
    int64_t r;
    double alpha;
    unsigned targets; /* bit per Role < ROLE_LINEAR_COUNT */
    unsigned methods; /* ADAPTER_* */
    const char *pattern; /* NULL, or what module paths must match beside */
} AdapterConfig;

enum { ADAPTER_RSLORA = 1, ADAPTER_DORA = 2, ADAPTER_FULL = 4 /* full.h */ };

enum { ADAPTER_ALL_LINEAR = (1u << ROLE_LINEAR_COUNT) - 1 };

typedef struct AdapterPair { /* one target */
    bool present;
    int64_t in, out;
    int64_t a_offset, b_offset, m_offset; /* elements in the flat vector; m with DoRA */
    int64_t norm_offset;                  /* elements in norms */
} AdapterPair;

struct Adapter {
    AdapterConfig config;
    int64_t n_layers;
    AdapterPair *pairs;  /* [n_layers * ROLE_LINEAR_COUNT] */
    struct FullParam *weights; /* with ADAPTER_FULL, in place of pairs */
    int64_t n_weights;
    int64_t n_params;
    int64_t n_decayed;   /* the first of them: weight decay is for these */
    float *values;       /* device, f32 [n_params]; NULL until adapter_place */
    float *grads;        /* NULL when not trained */
    float *m, *v;
    int64_t n_norms;
    float *norms;        /* DoRA: device, f32 |W + s B A| of rows, by linear_refresh_all */
};

/* s, what B A is multiplied with. */
double adapter_scale(const AdapterConfig *config);
static inline bool adapter_has(const Adapter *adapter, unsigned method)
{
    return (adapter->config.methods & method) != 0;
}

/* "q_proj,v_proj", "all-linear" → targets. CONFIG_INVALID_SETTING naming what matches nothing. */
bool adapter_parse_targets(const char *text, unsigned *targets, Err *err);
const char *adapter_target_name(Role role); /* "q_proj" */
/* Whether a text of targets is a regular expression. */
bool adapter_is_pattern(const char *text);
/* matches: [n_layers * ROLE_LINEAR_COUNT], the linears whose module path the pattern matches whole.
 * CONFIG_INVALID_SETTING when it is none, or matches nothing. */
bool adapter_match(const Model *model, const char *pattern, bool *matches, Err *err);

/* The linears that models of this family have, a bit per Role. */
unsigned adapter_targets_of(const Family *family);
/* Shapes only. r > min(in, out) of a target is an error naming it, and so is a target that the
 * model lacks, unless all are named. */
Adapter *adapter_make(const Model *model, const AdapterConfig *config, Arena *out, Err *err);
/* Memory from the run slab, same amounts on the plan. trained: gradients and moments too. */
typedef enum AdapterUse { ADAPTER_FROZEN, ADAPTER_TRAINED } AdapterUse;
void adapter_place(Adapter *adapter, Backend *backend, AdapterUse use, Arena *slab);
/* PEFT's default: A uniform(-1/sqrt(in), 1/sqrt(in)), B zero, from the seed. Host vector
 * [n_params] → device. m is left alone. */
void adapter_init_values(const Adapter *adapter, uint64_t seed, float *host_values);
/* DoRA: m = |W + s B A| of the other host values, which is where training starts. Else nothing. */
void adapter_init_magnitudes(const Adapter *adapter, const Model *model, float *host_values);
/* False (CONFIG_INVALID_SETTING) when the backend lacks what the adapter's method needs. */
bool adapter_fits_backend(const Adapter *adapter, const Backend *backend, Err *err);

/* Where a run leaves its adapter, inside its output folder. */
#define ADAPTER_FOLDER "lora"
/* A PEFT folder: adapter_config.json + adapter_model.safetensors. Host vectors are in the order of
 * this header. base_name: base_model_name_or_path. RUNTIME_LORA_EXPORT_FAILED / a foreign adapter:
 * the tensor and both shapes are named. */
bool adapter_save_peft(const Adapter *adapter, const Model *model, const float *host_values,
                       const char *base_name, const char *folder, Err *err);
/* Makes an adapter of the folder's configuration for this model and fills *host_values (in out). */
Adapter *adapter_load_peft(const Model *model, const char *folder, float **host_values, Arena *out,
                           Err *err);
/* base_model_name_or_path of a PEFT folder, NULL (err set) when it is not one. */
const char *adapter_base_name(const char *folder, Arena *out, Err *err);

/* linear.c: the group of base weights and their adapter parts as the tape takes them. */
void linear_group(const Model *model, int64_t layer, const Role *roles, int n, LinearSpec *specs);
/* The groups of a block, by which backends keep weights; together they hold every linear role.
 * A family has some of them: 0 roles when it lacks this one. */
int linear_group_count(void);
int linear_group_roles(const Family *family, int group, const Role **roles);
int64_t linear_rank(const Model *model, int64_t layer, const Role *roles, int n);
/* Brings backend copies up to date after the masters changed. */
void linear_refresh_all(const Model *model, Tape *tape);

#endif
