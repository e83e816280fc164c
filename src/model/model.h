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
    ROLE_LINEAR_COUNT,
    ROLE_ATTN_NORM = ROLE_LINEAR_COUNT, ROLE_FFN_NORM,
    ROLE_LAYER_COUNT,
    ROLE_EMBED = ROLE_LAYER_COUNT, ROLE_FINAL_NORM, ROLE_HEAD, ROLE_ROPE_FACTORS,
    ROLE_COUNT
} Role;

typedef struct ModelConfig {
    int64_t n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, vocab, max_positions;
    int64_t rope_dim;
    double rope_theta;
    float rms_eps;
    bool tied;
    RopePairing pairing;   /* how q and k rows of this file are arranged */
    float *rope_factors;   /* [rope_dim/2] divisors of the frequencies, or NULL */
    char name[96];         /* general.name or the folder's name */
} ModelConfig;

typedef enum ModelFormat { MODEL_GGUF, MODEL_FOLDER } ModelFormat;

/* The file behind a model: kept open as long as the model. */
typedef struct ModelFile {
    ModelFormat format;
    const char *path; /* as given */
    Gguf gguf;
    SafeTensors tensors;
    Json *config; /* config.json of a folder */
} ModelFile;

enum { NORM_ATTENTION, NORM_FFN, NORM_COUNT };

typedef struct Layer {
    Weight linear[ROLE_LINEAR_COUNT];
    Weight norm_file[NORM_COUNT]; /* 1 x C, as in the file */
    Tensor norm[NORM_COUNT];      /* [1, C] f32, device */
} Layer;

/* Gradients of base weights, device f32, for training them in full; an empty tensor = frozen. */
typedef struct LayerGrads {
    Tensor linear[ROLE_LINEAR_COUNT], norm[NORM_COUNT];
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
    Tensor rope_table; /* [max positions of this run, rope_dim] f32, device */
    Backend *backend;
    Arena *weights;    /* slab */
    Adapter *adapter;  /* NULL = none */
    ModelGrads *grads; /* NULL = the base is frozen */
} Model;

/* Opens and checks files, config and tensor shapes; touches no device. Errors DEP_MODEL_LOAD_FAILED
 * name the file, the key or tensor, and what was expected. Lives in `out`. */
bool model_open(Model *model, const char *path, Arena *out, Err *err);
void model_close(Model *model); /* files only; safe on {0} */
/* Puts weights and tables on the backend: slab usage is the same on the plan backend, so the caller
 * runs it once with the plan to size `slab`. n_positions: longest sequence of the run. */
void model_place(Model *model, Backend *backend, Arena *slab, int64_t n_positions);

/* Decoder over one flat stream. Everything is device memory. With a cache, token t is stored at row
 * positions[t] of it and the spans are in rows of the cache. */
typedef struct DecoderInput {
    const int32_t *tokens, *positions; /* [T] */
    int64_t n_tokens;
    AttentionSpans spans;
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
    void (*block)(const Model *model, Tape *tape, int64_t layer, const DecoderInput *input,
                  KvCache *cache);
};
const Family *family_find(const char *gguf_or_hf_name); /* NULL when unknown */
const WeightName *family_weight(const Family *family, Role role); /* NULL when it has none */
/* "llama, …" for error messages. */
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
