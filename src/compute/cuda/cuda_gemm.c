/* cuda_gemm.c — cuBLASLt behind one call: opened at run time, descriptors made once a shape.
 *
 * cuBLAS is column-major. A row-major c[m,n] is a column-major [n,m], so our b is its first operand
 * and our a its second. Split-K may only reduce in f32 (mask NONE | COMPUTE_TYPE): reducing in the
 * output's bf16 loses bits, and all reductions it then uses have a fixed order.
 */
#include "compute/cuda/cuda_gemm.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <glob.h>
#include <string.h>

#define LT_FUNCTIONS(X) \
    X(Create) X(Destroy) X(Matmul) X(MatmulDescCreate) X(MatmulDescSetAttribute) \
    X(MatrixLayoutCreate) X(MatmulPreferenceCreate) X(MatmulPreferenceSetAttribute) \
    X(MatmulPreferenceDestroy) X(MatmulAlgoGetHeuristic) X(MatmulAlgoConfigGetAttribute) \
    X(MatrixLayoutDestroy) X(MatmulDescDestroy)

typedef struct LtApi {
#define X(name) __typeof__(&cublasLt##name) name;
    LT_FUNCTIONS(X)
#undef X
    __typeof__(&cublasLtGetVersion) GetVersion;
} LtApi;

/* All that selects an algorithm. Compared as bytes, so it is zeroed before it is filled. */
typedef struct PlanKey {
    int64_t m, n, k, lda, ldb, ldc;
    int32_t form, out, bias, alignment[3];
} PlanKey;

typedef struct GemmPlan {
    PlanKey key;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, c; /* in the library's order */
    cublasLtMatmulAlgo_t algo;
} GemmPlan;

enum { MAX_PLANS = 1024, PLAN_SLOTS = 2048, MAX_CHOICES = 16 };

struct Gemm {
    LtApi api;
    void *library;
    cublasLtHandle_t handle;
    void *workspace;
    size_t workspace_bytes;
    bool hopper; /* compute capability 9.0 */
    char path[512];
    int n_plans;
    GemmPlan plans[MAX_PLANS];
    uint16_t slots[PLAN_SLOTS]; /* 1 + index of a plan, open addressing */
};

/* ---- opening ---- */

static bool load_functions(LtApi *api, void *library)
{
#define X(name) \
    *(void **)&api->name = dlsym(library, "cublasLt" #name); \
    if (api->name == NULL) \
        return false;
    LT_FUNCTIONS(X)
#undef X
    *(void **)&api->GetVersion = dlsym(library, "cublasLtGetVersion");
    return api->GetVersion != NULL;
}

/* A plain name goes to the system's search; a pattern to the files it matches. */
static bool open_candidate(Gemm *gemm, const char *pattern)
{
    glob_t found = {0};
    const char *path = pattern;
    if (strchr(pattern, '/') != NULL) {
        if (glob(pattern, 0, NULL, &found) != 0) {
            globfree(&found);
            return false;
        }
        path = found.gl_pathv[0];
    }
    gemm->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    bool ok = gemm->library != NULL && load_functions(&gemm->api, gemm->library);
    if (ok) {
        size_t length = strlen(path);
        length = length < sizeof gemm->path ? length : sizeof gemm->path - 1;
        memcpy(gemm->path, path, length);
    } else if (gemm->library != NULL) {
        dlclose(gemm->library);
    }
    globfree(&found);
    return ok;
}

Gemm *gemm_open_cuda(const char *const *candidates, Arena *arena, void *workspace,
                     size_t workspace_bytes, int capability, Err *err)
{
    must(candidates != NULL && workspace != NULL);
    Gemm *gemm = arena_new(arena, Gemm);
    gemm->workspace = workspace;
    gemm->workspace_bytes = workspace_bytes;
    gemm->hopper = capability == 90;
    bool found = false;
    for (int i = 0; candidates[i] != NULL && !found; i++)
        found = open_candidate(gemm, candidates[i]);
    if (!found) {
        err_set(err, ERR_DEP_GPU_NOT_AVAILABLE, "cannot open cuBLASLt ('%s')", candidates[0]);
        err_hint(err, "Install it: `pip install nvidia-cublas`, or the CUDA toolkit");
        return NULL;
    }
    cublasStatus_t status = gemm->api.Create(&gemm->handle);
    if (status != CUBLAS_STATUS_SUCCESS) {
        err_set(err, ERR_DEP_GPU_NOT_AVAILABLE, "cuBLASLt of '%s' does not start (status %d)",
                gemm->path, (int)status);
        return NULL;
    }
    return gemm;
}

void gemm_close_cuda(Gemm *gemm)
{
    for (int i = 0; i < gemm->n_plans; i++) {
        GemmPlan *plan = &gemm->plans[i];
        gemm->api.MatrixLayoutDestroy(plan->a);
        gemm->api.MatrixLayoutDestroy(plan->b);
        gemm->api.MatrixLayoutDestroy(plan->c);
        gemm->api.MatmulDescDestroy(plan->desc);
    }
    gemm->api.Destroy(gemm->handle);
}

const char *gemm_library(const Gemm *gemm)
{
    return gemm->path;
}

size_t gemm_library_version(const Gemm *gemm)
{
    return gemm->api.GetVersion();
}

/* ---- plans ---- */

/* Largest power of two that divides the address, at most 256: kernels are chosen by it. */
static int32_t alignment_of(const void *p)
{
    uintptr_t at = (uintptr_t)p | 256;
    return (int32_t)(at & (~at + 1));
}

static PlanKey key_of(const GemmCall *call)
{
    PlanKey key;
    memset(&key, 0, sizeof key);
    key.m = call->m, key.n = call->n, key.k = call->k;
    key.lda = call->lda, key.ldb = call->ldb, key.ldc = call->ldc;
    key.form = (int32_t)call->form;
    key.out = (int32_t)call->out;
    key.bias = call->bias != NULL;
    key.alignment[0] = alignment_of(call->b); /* the library's A */
    key.alignment[1] = alignment_of(call->a);
    key.alignment[2] = alignment_of(call->c);
    return key;
}

static uint64_t hash_of(const PlanKey *key)
{
    const uint8_t *bytes = (const uint8_t *)key;
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < sizeof *key; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash ^ hash >> 32;
}

static bool make_layouts(Gemm *gemm, GemmPlan *plan)
{
    const LtApi *api = &gemm->api;
    const PlanKey *key = &plan->key;
    const bool b_by_k = key->form == GEMM_NT, a_by_m = key->form == GEMM_TN;
    const cublasOperation_t first = b_by_k ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second = a_by_m ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cudaDataType_t out = key->out == GEMM_STORE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    const uint64_t m = (uint64_t)key->m, n = (uint64_t)key->n, k = (uint64_t)key->k;
    bool ok = api->MatmulDescCreate(&plan->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F) == 0 &&
              api->MatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_TRANSA, &first,
                                          sizeof first) == 0 &&
              api->MatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_TRANSB, &second,
                                          sizeof second) == 0;
    if (ok && key->bias) {
        const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        ok = api->MatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                         sizeof epilogue) == 0;
    }
    return ok &&
           api->MatrixLayoutCreate(&plan->a, CUDA_R_16BF, b_by_k ? k : n, b_by_k ? n : k,
                                   key->ldb) == 0 &&
           api->MatrixLayoutCreate(&plan->b, CUDA_R_16BF, a_by_m ? m : k, a_by_m ? k : m,
                                   key->lda) == 0 &&
           api->MatrixLayoutCreate(&plan->c, out, n, m, key->ldc) == 0;
}

/* Classes of shapes for which another tile than the heuristic's first was measured to be faster on
 * an H100 (NOTES.md has the times). A row says: products of this form with n and k in these ranges
 * take the first of the heuristic's choices that has this tile and no split of k, if there is one.
 */
typedef struct TileRule {
    GemmForm form;
    int64_t n_least, n_most, k_least, k_most;
    cublasLtMatmulTile_t tile;
} TileRule;

static const TileRule HOPPER_TILES[] = {
    {GEMM_NT, 8192, 32768, 0, 1000, CUBLASLT_MATMUL_TILE_128x160},       /* gate up, 0.5B */
    {GEMM_NT, 8192, INT64_MAX, 0, 8192, CUBLASLT_MATMUL_TILE_176x128},   /* gate up; head */
    {GEMM_NT, 640, 1024, 0, 8192, CUBLASLT_MATMUL_TILE_128x160},         /* o, down, 0.5B */
    {GEMM_NN, 4096, INT64_MAX, 0, 2304, CUBLASLT_MATMUL_TILE_128x160},   /* down, to 1B */
    {GEMM_NN, 640, 1024, 1024, 16384, CUBLASLT_MATMUL_TILE_128x160},     /* q k v, gate up, 0.5B */
    {GEMM_NN, 2560, 3840, 8192, 65536, CUBLASLT_MATMUL_TILE_128x160},    /* gate up, 3B and 7B */
    {GEMM_NN, 2560, 3840, 65536, INT64_MAX, CUBLASLT_MATMUL_TILE_256x96} /* head, 3B and 7B */
};

static uint32_t config_of(const Gemm *gemm, const cublasLtMatmulAlgo_t *algo,
                          cublasLtMatmulAlgoConfigAttributes_t which)
{
    uint32_t value = 0;
    size_t written = 0;
    if (gemm->api.MatmulAlgoConfigGetAttribute(algo, which, &value, sizeof value, &written) != 0)
        return 0;
    return value;
}

/* Index of the choice to take. */
static int preferred(const Gemm *gemm, const PlanKey *key,
                     const cublasLtMatmulHeuristicResult_t *choices, int n)
{
    if (!gemm->hopper || key->out != GEMM_STORE_BF16 || key->m < 1024)
        return 0;
    for (size_t r = 0; r < COUNT_OF(HOPPER_TILES); r++) {
        const TileRule *rule = &HOPPER_TILES[r];
        if ((int32_t)rule->form != key->form || key->n < rule->n_least || key->n > rule->n_most ||
            key->k < rule->k_least || key->k > rule->k_most)
            continue;
        for (int i = 0; i < n; i++) {
            const cublasLtMatmulAlgo_t *algo = &choices[i].algo;
            if (config_of(gemm, algo, CUBLASLT_ALGO_CONFIG_TILE_ID) == (uint32_t)rule->tile &&
                config_of(gemm, algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM) <= 1)
                return i;
        }
        return 0;
    }
    return 0;
}

static bool choose_algorithm(Gemm *gemm, GemmPlan *plan)
{
    const LtApi *api = &gemm->api;
    cublasLtMatmulPreference_t preference;
    if (api->MatmulPreferenceCreate(&preference) != 0)
        return false;
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_NONE |
                                CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    static const cublasLtMatmulPreferenceAttributes_t attributes[4] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    bool ok = api->MatmulPreferenceSetAttribute(preference,
                                                CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                &gemm->workspace_bytes,
                                                sizeof gemm->workspace_bytes) == 0 &&
              api->MatmulPreferenceSetAttribute(preference,
                                                CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                &reductions, sizeof reductions) == 0;
    for (int i = 0; i < 4 && ok; i++) {
        const uint32_t alignment = (uint32_t)plan->key.alignment[i < 2 ? i : 2];
        ok = api->MatmulPreferenceSetAttribute(preference, attributes[i], &alignment,
                                               sizeof alignment) == 0;
    }
    cublasLtMatmulHeuristicResult_t choices[MAX_CHOICES];
    int found = 0;
    ok = ok && api->MatmulAlgoGetHeuristic(gemm->handle, plan->desc, plan->a, plan->b, plan->c,
                                           plan->c, preference, MAX_CHOICES, choices, &found) == 0;
    api->MatmulPreferenceDestroy(preference);
    if (!ok || found == 0)
        return false;
    plan->algo = choices[preferred(gemm, &plan->key, choices, found)].algo;
    return true;
}

static GemmPlan *plan_for(Gemm *gemm, const GemmCall *call)
{
    const PlanKey key = key_of(call);
    uint64_t slot = hash_of(&key) % PLAN_SLOTS;
    for (; gemm->slots[slot] != 0; slot = (slot + 1) % PLAN_SLOTS) {
        GemmPlan *plan = &gemm->plans[gemm->slots[slot] - 1];
        if (memcmp(&plan->key, &key, sizeof key) == 0)
            return plan;
    }
    must(gemm->n_plans < MAX_PLANS);
    GemmPlan *plan = &gemm->plans[gemm->n_plans];
    plan->key = key;
    if (!make_layouts(gemm, plan) || !choose_algorithm(gemm, plan))
        return NULL;
    gemm->n_plans++;
    gemm->slots[slot] = (uint16_t)gemm->n_plans;
    return plan;
}

const char *gemm_run_cuda(Gemm *gemm, cudaStream_t stream, const GemmCall *call)
{
    assert(call->m > 0 && call->n > 0 && call->k > 0);
    assert(call->a != NULL && call->b != NULL && call->c != NULL);
    GemmPlan *plan = plan_for(gemm, call);
    if (plan == NULL)
        return "cuBLASLt has no algorithm for a product";
    if (call->bias != NULL &&
        gemm->api.MatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &call->bias,
                                         sizeof call->bias) != 0)
        return "cuBLASLt does not take a bias";
    const float alpha = 1, beta = call->out == GEMM_ADD_F32 ? 1 : 0;
    cublasStatus_t status = gemm->api.Matmul(
        gemm->handle, plan->desc, &alpha, call->b, plan->a, call->a, plan->b, &beta, call->c,
        plan->c, call->c, plan->c, &plan->algo, gemm->workspace, gemm->workspace_bytes, stream);
    return status == CUBLAS_STATUS_SUCCESS ? NULL : "cuBLASLt refused a product";
}
