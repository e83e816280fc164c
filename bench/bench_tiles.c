/* bench_tiles.c — whether this process may use the tile registers of Intel processors (AMX), and
 * how fast bf16 products are with them, one thread: our own tiles (gemm_amx.c), the library's bf16
 * function, and its matmul primitive, which packs the right factor beforehand and says by its name
 * which instructions it took. CSV on stdout after lines of '#'.
 *
 * Build and run: cmake --build build --target bench_tiles && taskset -c 0 build/bench_tiles
 */
#include "compute/cpu/gemm.h"

#include "core/arena.h"
#include "core/os.h"

#include <dnnl.h>
#include <omp.h>
#include <stdio.h>

enum { ROUNDS = 5, REPEATS = 4, ONE_BF16 = 0x3f80 };

extern dnnl_status_t dnnl_gemm_bf16bf16f32(char trans_a, char trans_b, dnnl_dim_t m, dnnl_dim_t n,
                                           dnnl_dim_t k, float alpha, const uint16_t *a,
                                           dnnl_dim_t lda, const uint16_t *b, dnnl_dim_t ldb,
                                           float beta, float *c, dnnl_dim_t ldc)
    __attribute__((weak));

/* A product of ones, so that every element of the result is k. */
typedef struct Case {
    Gemm g;
    dnnl_primitive_t matmul;
    dnnl_stream_t stream;
    dnnl_exec_arg_t args[3];
    const char *library_name;
} Case;

typedef bool MultiplyFn(const Case *c);

static bool by_tiles(const Case *c) { return gemm_amx('N', 'T', &c->g); }

static bool by_library(const Case *c)
{
    const Gemm *g = &c->g;
    return dnnl_gemm_bf16bf16f32 != NULL &&
           dnnl_gemm_bf16bf16f32('N', 'T', g->m, g->n, g->k, 1, g->a, g->lda, g->b, g->ldb, 0,
                                 g->c, g->ldc) == dnnl_success;
}

static bool by_primitive(const Case *c)
{
    return c->matmul != NULL &&
           dnnl_primitive_execute(c->matmul, c->stream, 3, c->args) == dnnl_success &&
           dnnl_stream_wait(c->stream) == dnnl_success;
}

static dnnl_status_t describe(dnnl_primitive_desc_t *made, dnnl_engine_t engine, const Gemm *g,
                              bool may_pack)
{
    const dnnl_dims_t x = {g->m, g->k}, w = {g->k, g->n}, y = {g->m, g->n};
#if DNNL_VERSION_MAJOR >= 3
    dnnl_memory_desc_t src, weights, dst;
    dnnl_memory_desc_create_with_tag(&src, 2, x, dnnl_bf16, dnnl_ab);
    dnnl_memory_desc_create_with_tag(&weights, 2, w, dnnl_bf16,
                                     may_pack ? dnnl_format_tag_any : dnnl_ba);
    dnnl_memory_desc_create_with_tag(&dst, 2, y, dnnl_f32, dnnl_ab);
    return dnnl_matmul_primitive_desc_create(made, engine, src, weights, NULL, dst, NULL);
#else
    dnnl_memory_desc_t src, weights, dst;
    dnnl_matmul_desc_t matmul;
    dnnl_memory_desc_init_by_tag(&src, 2, x, dnnl_bf16, dnnl_ab);
    dnnl_memory_desc_init_by_tag(&weights, 2, w, dnnl_bf16,
                                 may_pack ? dnnl_format_tag_any : dnnl_ba);
    dnnl_memory_desc_init_by_tag(&dst, 2, y, dnnl_f32, dnnl_ab);
    const dnnl_status_t status = dnnl_matmul_desc_init(&matmul, &src, &weights, NULL, &dst);
    if (status != dnnl_success)
        return status;
    return dnnl_primitive_desc_create(made, &matmul, NULL, engine, NULL);
#endif
}

/* The primitive for the case, over memory of its own that holds ones (in any layout they do). */
static bool primitive_open(Case *c, dnnl_engine_t engine, bool may_pack)
{
    static const dnnl_query_t which[3] = {dnnl_query_src_md, dnnl_query_weights_md,
                                          dnnl_query_dst_md};
    static const int arg[3] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST};
    dnnl_primitive_desc_t described = NULL;
    c->matmul = NULL;
    if (describe(&described, engine, &c->g, may_pack) != dnnl_success)
        return false;
    dnnl_primitive_desc_query(described, dnnl_query_impl_info_str, 0, &c->library_name);
    for (int i = 0; i < 3; i++) {
#if DNNL_VERSION_MAJOR >= 3
        const_dnnl_memory_desc_t md = dnnl_primitive_desc_query_md(described, which[i], 0);
#else
        const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(described, which[i], 0);
#endif
        c->args[i].arg = arg[i];
        void *data = NULL;
        if (dnnl_memory_create(&c->args[i].memory, md, engine, DNNL_MEMORY_ALLOCATE) !=
                dnnl_success ||
            dnnl_memory_get_data_handle(c->args[i].memory, &data) != dnnl_success)
            return false;
        const size_t n = dnnl_memory_desc_get_size(md) / sizeof(uint16_t);
        for (size_t j = 0; i < 2 && j < n; j++)
            ((uint16_t *)data)[j] = ONE_BF16;
    }
    return dnnl_primitive_create(&c->matmul, described) == dnnl_success &&
           dnnl_stream_create(&c->stream, engine, dnnl_stream_default_flags) == dnnl_success;
}

static void measure(const Case *c, const char *engine, const char *detail, MultiplyFn *multiply,
                    const float *result)
{
    const Gemm *g = &c->g;
    double best = 1e9;
    bool works = true;
    for (int round = 0; works && round < ROUNDS; round++) {
        const double start = os_now();
        for (int i = 0; works && i < REPEATS; i++)
            works = multiply(c);
        const double seconds = (os_now() - start) / REPEATS;
        best = seconds < best ? seconds : best;
    }
    const bool right = works && (result == NULL || (result[0] == (float)g->k &&
                                                    result[g->m * g->n - 1] == (float)g->k));
    printf("%lld x %lld x %lld,%s,%.0f,%s,%s\n", (long long)g->m, (long long)g->n,
           (long long)g->k, engine, works ? 2e-9 * (double)(g->m * g->n * g->k) / best : 0.0,
           !works ? "not to be had" : right ? "right" : "WRONG", detail);
}

static void measure_shape(Arena *arena, dnnl_engine_t engine, bool tiles, Gemm g)
{
    uint16_t *a = arena_array(arena, uint16_t, g.m * g.k);
    uint16_t *b = arena_array(arena, uint16_t, g.n * g.k);
    float *result = arena_array(arena, float, g.m * g.n);
    for (int64_t i = 0; i < g.m * g.k; i++)
        a[i] = ONE_BF16;
    for (int64_t i = 0; i < g.n * g.k; i++)
        b[i] = ONE_BF16;
    g.alpha = 1, g.type = DTYPE_BF16, g.a = a, g.b = b, g.c = result;
    g.lda = g.ldb = g.k, g.ldc = g.n;
    Case c = {.g = g};
    if (tiles)
        measure(&c, "gemm_amx", "", by_tiles, result);
    measure(&c, "library bf16 gemm", "", by_library, result);
    for (int pack = 0; pack < 2; pack++)
        if (primitive_open(&c, engine, pack == 1))
            measure(&c, pack == 1 ? "matmul primitive packed" : "matmul primitive",
                    c.library_name, by_primitive, NULL);
}

int main(void)
{
    static const Gemm shapes[] = {{256, 256, 576}, {1024, 1536, 576}, {1024, 576, 1536},
                                  {1024, 4864, 896}, {512, 512, 64}, {1024, 16, 576},
                                  {1024, 1536, 16}};
    Arena arena;
    Err err = {0};
    dnnl_engine_t engine = NULL;
    if (!arena_open(&arena, 0, &err) ||
        dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success)
        return 1;
    omp_set_num_threads(1);
    const CpuFeatures *features = os_cpu_features();
    const bool tiles = features->amx_bf16 && os_amx_allow();
    printf("# %s: avx512 %d, avx512_bf16 %d, amx_bf16 %d\n", os_cpu_name(), features->avx512,
           features->avx512_bf16, features->amx_bf16);
    printf("# the kernel lets this process have tiles: %s\n", tiles ? "yes" : "no");
    printf("# oneDNN %d.%d.%d, isa %#x\nm x n x k,engine,GFLOP/s,result,detail\n",
           dnnl_version()->major, dnnl_version()->minor, dnnl_version()->patch,
           (unsigned)dnnl_get_effective_cpu_isa());
    for (size_t i = 0; i < COUNT_OF(shapes); i++)
        measure_shape(&arena, engine, tiles, shapes[i]);
    arena_close(&arena);
    return 0;
}
