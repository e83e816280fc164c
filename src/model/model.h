/* model.h — a base model: configuration, weights as they lie in their file, and its forward pass.
 *
 * A Family supplies only: the config keys, one name table with a row per weight, and the block's
 * forward as straight-line tape calls. Everything else here is common to all families.
 *
 * Weights stay where and as they are in the mapped file, quantised ones too. A GGUF of a family
 * whose attention rows are stored for interleaved rope is run with interleaved rope; rows are
 * permuted only where an adapter or a tensor crosses between file formats (layout.c).
 */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "compute/tape.h"
#include "format/gguf.h"
#include "format/safetensors.h"

typedef struct Family Family;
typedef struct Adapter Adapter; /* adapter.h */

/* What a weight is for; layer weights first. The roles that adapters can target are one range. */
typedef enum Role {
    ROLE_Q, ROLE_K, ROLE_V, ROLE_O, ROLE_GATE, ROLE_UP, ROLE_DOWN, /* linears */
    ROLE_QKV, ROLE_GATE_UP, /* one matrix where other families have three, or two */
    ROLE_LINEAR_COUNT,
    /* Norms, in the order of Layer.norm: before and after each half, then over the heads. */
    ROLE_ATTN_NORM = ROLE_LINEAR_COUNT, ROLE_FFN_NORM, ROLE_ATTN_POST_NORM, ROLE_FFN_POST_NORM,
    ROLE_Q_NORM, ROLE_K_NORM,
    ROLE_Q_BIAS, ROLE_K_BIAS, ROLE_V_BIAS,
    ROLE_LAYER_COUNT,
    ROLE_EMBED = ROLE_LAYER_COUNT, ROLE_FINAL_NORM, ROLE_HEAD,
    ROLE_ROPE_FACTORS, ROLE_ROPE_FACTORS_LONG,
    ROLE_COUNT
} Role;

/* Where a layer differs from its neighbours. */
enum { LAYER_NO_ROPE = 1, LAYER_LOCAL = 2 /* sees only the last `window` tokens */ };

typedef struct ModelConfig {
    int64_t n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, vocab, max_positions;
    int64_t rope_dim;
    double rope_theta, rope_theta_local; /* all layers; local ones */
    double rope_linear;    /* divides every frequency of rope_theta ("linear" scaling); 1 = none */
    float rope_scale;      /* multiplies cosines and sines */
    float rms_eps;
    float norm_offset;     /* added to every norm weight of the file */
    float embed_scale;     /* of the embedding's rows */
    float attention_scale; /* of q.k */
    int64_t window;        /* tokens that a local layer sees, itself included; 0 = not said */
    uint8_t *layer_flags;  /* [n_layers] LAYER_*, or NULL: all alike */
    bool tied;
    bool head_dim_given;   /* the file says it, it does not follow from d_model */
    RopePairing pairing;   /* how q and k rows of this file are arranged */
    float *rope_factors;   /* [rope_dim/2] divisors of the frequencies, or NULL */
    /* Those for sequences of more than rope_switch tokens, or NULL. */
    float *rope_factors_long;
    int64_t rope_switch;
    char name[96];         /* general.name or the folder's name */
} ModelConfig;

static inline unsigned layer_flags(const ModelConfig *config, int64_t layer)
{
    assert(layer >= 0 && layer < config->n_layers);
    return config->layer_flags == NULL ? 0 : config->layer_flags[layer];
}

typedef enum ModelFormat { MODEL_GGUF, MODEL_FOLDER } ModelFormat;

/* The file behind a model: kept open as long as the model. */
typedef struct ModelFile {
    ModelFormat format;
    const char *path; /* as given */
    Gguf gguf;
    SafeTensors *shards; /* of a folder */
    size_t n_shards;
    Json *config; /* config.json of a folder */
} ModelFile;

enum { NORM_ATTENTION, NORM_FFN, NORM_ATTENTION_POST, NORM_FFN_POST, NORM_Q, NORM_K, NORM_COUNT };
/* Biases are those of q, k and v: bias i belongs to linear role i. */
enum { BIAS_COUNT = ROLE_V + 1 };

/* What a family does not have is empty: rows 0. */
typedef struct Layer {
    Weight linear[ROLE_LINEAR_COUNT];
    Weight norm_file[NORM_COUNT]; /* 1 x C, or 1 x D over heads, as in the file */
    Tensor norm[NORM_COUNT];      /* the same, f32, device, norm_offset added */
    Weight bias_file[BIAS_COUNT]; /* 1 x out, as in the file */
    Tensor bias[BIAS_COUNT];      /* [1, out] f32, device */
} Layer;

/* Gradients of base weights, device f32, for training them in full; an empty tensor = frozen. */
typedef struct LayerGrads {
    Tensor linear[ROLE_LINEAR_COUNT], norm[NORM_COUNT], bias[BIAS_COUNT];
} LayerGrads;
typedef struct ModelGrads {
    LayerGrads *layers;
    Tensor embed, final_norm; /* a tied head adds to embed */
    Tensor head;
} ModelGrads;

typedef struct Model {
    const Family *family;
    ModelConfig config;
    ModelFile file;
    Layer *layers;
    Weight embed, head; /* head is a copy of embed when tied */
    Weight final_norm_file;
    Tensor final_norm;  /* [1, C] f32, device */
    /* [positions of this run, rope_dim] f32, device; where sequences may pass rope_switch, the rows
     * for long ones come behind: n_positions more. */
    Tensor rope_table;
    Tensor rope_table_local; /* of rope_theta_local; empty without local layers */
    int64_t n_positions;
    Backend *backend;
    Arena *weights;    /* slab */
    Adapter *adapter;  /* NULL = none */
    ModelGrads *grads; /* NULL = the base is frozen */
} Model;

/* Opens and checks files, config and tensor shapes; touches no device. Errors DEP_MODEL_LOAD_FAILED
 * name the file, the key or tensor, and what was expected. Lives in `out`. */
bool model_open(Model *model, const char *path, Arena *out, Err *err);
void model_close(Model *model); /* files only; safe on {0} */
/* Whether the backend can run this model, with its adapter, at all; ask before planning. */
bool model_fits_backend(const Model *model, const Backend *backend, Err *err);
/* Puts weights and tables on the backend: slab usage is the same on the plan backend, so the caller
 * runs it once with the plan to size `slab`. host_slab: takes an embedding table that is no head
 * too (a step reads a row of it a token); NULL = it goes to `slab`. n_positions: longest sequence
 * of the run. */
void model_place(Model *model, Backend *backend, Arena *slab, Arena *host_slab,
                 int64_t n_positions);

/* Decoder over one flat stream. Everything is device memory. With a cache, token t is stored at row
 * positions[t] of it and the spans are in rows of the cache. */
typedef struct DecoderInput {
    const int32_t *tokens, *positions; /* [T] */
    int64_t n_tokens;
    AttentionSpans spans;
    /* Made by decoder_forward, callers leave them empty: */
    AttentionSpans local;      /* the spans that local layers see */
    const int32_t *rope_rows;  /* row of the rope table per token */
} DecoderInput;
typedef struct KvCache { /* one sequence */
    Tensor *k, *v; /* [n_layers], each [S, G*D] in the activation dtype */
} KvCache;
/* Final normed hidden states [T, C]. cache NULL in training. */
Value *decoder_forward(const Model *model, Tape *tape, const DecoderInput *input, KvCache *cache);

/* Training floating-point operations a token (forward + backward, nothing counted twice for
 * recomputation), counted from the shapes; for the share-of-peak figure. mean_context: keys that a
 * token sees on average; loss_share: loss tokens / tokens. */
double model_train_flops(const Model *model, double mean_context, double loss_share);
int64_t model_parameter_count(const Model *model); /* base weights, a tied head once */

/* What a family is; the rows are in family/families.def. */
typedef struct WeightName {
    Role role;
    const char *hf;   /* "model.layers.%d.self_attn.q_proj.weight" */
    const char *gguf; /* "blk.%d.attn_q.weight" */
    unsigned flags;   /* WEIGHT_* */
} WeightName;
enum { WEIGHT_OPTIONAL = 1, WEIGHT_ROPE_ROWS_Q = 2, WEIGHT_ROPE_ROWS_K = 4 };

struct Family {
    const char *name;          /* GGUF architecture */
    const char *hf_model_type; /* config.json model_type */
    const char *hf_class;      /* architectures[0] */
    RopePairing gguf_pairing;  /* what GGUF files of this family hold; folders hold ROPE_HALVES */
    const WeightName *names;
    size_t n_names;
    bool (*read_config)(const ModelFile *file, ModelConfig *config, Arena *out, Err *err);
    /* Every `<name>.*` key of a GGUF file (config.h has the common ones); not general.*. */
    void (*write_gguf_keys)(const ModelConfig *config, GgufWriter *writer);
    /* False (RUNTIME_GGUF_EXPORT_FAILED) when such a model has no GGUF form. NULL: all have. */
    bool (*can_write_gguf)(const ModelConfig *config, Err *err);
    /* Adds to a config.json what config_write_folder cannot know, for a model that came from a GGUF
     * file. False (RUNTIME_EXPORT_FAILED) when config.json cannot say it. NULL: nothing to add. */
    bool (*write_config)(const ModelConfig *config, Json *json, Err *err);
    float folder_norm_offset; /* folders hold norm weights less this; GGUF files hold them whole */
    void (*block)(const Model *model, Tape *tape, int64_t layer, const DecoderInput *input,
                  KvCache *cache);
};
const Family *family_find(const char *gguf_or_hf_name); /* NULL when unknown */
const WeightName *family_weight(const Family *family, Role role); /* NULL when it has none */
bool family_has(const Family *family, Role role);
/* The families by config.json's model_type, "llama, …", for error messages. */
const char *family_list(void);

/* The name of a weight in a file: `pattern` with its %d, if any, replaced by the layer. */
enum { WEIGHT_NAME_MAX = 128 };
const char *weight_name(const char *pattern, int64_t layer, char out[WEIGHT_NAME_MAX]);
/* The shape that the configuration asks of a weight; vectors have rows 1. */
typedef struct WeightShape { int64_t rows, cols; } WeightShape;
WeightShape weight_shape(const ModelConfig *config, Role role);

/* Row order of q/k rows between pairings; layout.c. heads rows blocks of head_dim (rot first).
 * src, dst: rows x row_bytes; halves → interleaved or back. */
void rope_rows_convert(const void *src, void *dst, int64_t heads, int64_t head_dim,
                       int64_t rope_dim, size_t row_bytes, RopePairing from, RopePairing to);

#endif
