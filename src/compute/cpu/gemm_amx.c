/* gemm_amx.c — bf16 products on the tile unit of Intel processors (AMX): 32 x 32 sums in four
 * tiles, fed by two tiles of each factor. On other kinds of processor this file holds a function
 * that says so.
 *
 * A tile of the left factor is 16 rows of 32 elements as they lie in memory; one of the right
 * factor is 16 pairs of rows, (2p, 2p + 1) side by side for each of 16 columns. So the right factor
 * is packed, DEPTH x STRIP of it at a time, and the left one only where it is stored transposed or
 * where it ends inside a tile. Depths add up in order, so the bits depend on the call alone.
 */
#include "compute/cpu/gemm.h"

#if defined(__AMX_BF16__) && defined(__AVX512BW__)
#include <immintrin.h>
#include <string.h>

enum {
    TILE = 16,             /* rows of a tile, columns of a tile of sums */
    TILE_DEPTH = 32,       /* elements of a factor that a tile is deep */
    BLOCK = 2 * TILE,      /* rows and columns of the four tiles of sums */
    STRIP = 2 * BLOCK,     /* columns of the right factor packed at a time */
    DEPTH = 640,           /* … and their depth, at most */
    ROWS = 128             /* rows of a left factor that is packed */
};

typedef struct TileConfig {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} TileConfig;
static_assert(sizeof(TileConfig) == 64, "as the processor reads it");

static void tiles_configure(void)
{
    TileConfig config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = TILE;
    }
    _tile_loadconfig(&config);
}

/* ==== Packing ==== */

/* 16 x 16 words: out[j][i] = in[i][j]. */
static inline void transpose_words(__m512i r[TILE])
{
    __m512i t[TILE];
    for (int i = 0; i < TILE; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < TILE; i += 4) { /* r[i + c]: column c of each 128-bit lane, rows i..i+3 */
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int c = 0; c < 4; c++) {
        const __m512i low0 = _mm512_shuffle_i32x4(r[c], r[c + 4], 0x88);
        const __m512i low1 = _mm512_shuffle_i32x4(r[c + 8], r[c + 12], 0x88);
        const __m512i high0 = _mm512_shuffle_i32x4(r[c], r[c + 4], 0xdd);
        const __m512i high1 = _mm512_shuffle_i32x4(r[c + 8], r[c + 12], 0xdd);
        t[c] = _mm512_shuffle_i32x4(low0, low1, 0x88);      /* lane 0 */
        t[c + 8] = _mm512_shuffle_i32x4(low0, low1, 0xdd);  /* lane 2 */
        t[c + 4] = _mm512_shuffle_i32x4(high0, high1, 0x88); /* lane 1 */
        t[c + 12] = _mm512_shuffle_i32x4(high0, high1, 0xdd);
    }
    memcpy(r, t, sizeof t);
}

/* The first n of 32 elements at p, the rest zero. */
static inline __m512i load_row(const uint16_t *p, int64_t n)
{
    if (n >= TILE_DEPTH)
        return _mm512_loadu_si512(p);
    return _mm512_maskz_loadu_epi16(n <= 0 ? 0 : ((__mmask32)1 << n) - 1, p);
}

static inline __m512i load_words(const uint16_t *p, int64_t n)
{
    const __mmask16 mask = n >= TILE ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1);
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p));
}

/* Rows 0..31 (at most `depth`) of a matrix stored row by row, pairs side by side: out[p][j] holds
 * x[2p][j] and x[2p + 1][j], for 16 columns (at most `cols`). */
static inline void interleave(const uint16_t *x, int64_t ld, int64_t depth, int64_t cols,
                              __m512i out[TILE])
{
    for (int p = 0; p < TILE; p++) {
        const __m512i even = 2 * p < depth ? load_words(x + 2 * p * ld, cols)
                                           : _mm512_setzero_si512();
        const __m512i odd = 2 * p + 1 < depth ? load_words(x + (2 * p + 1) * ld, cols)
                                              : _mm512_setzero_si512();
        out[p] = _mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
    }
}

static inline void rows_of(const uint16_t *x, int64_t ld, int64_t rows, int64_t cols,
                           __m512i out[TILE])
{
    for (int i = 0; i < TILE; i++)
        out[i] = i < rows ? load_row(x + i * ld, cols) : _mm512_setzero_si512();
}

/* One packed tile of 16 lines x 32 deep of a left factor, or 32 deep x 16 lines of a right one:
 * both begin from lines of pairs. `stored_deep`: a line's depth is contiguous in memory. */
static inline void left_tile(const uint16_t *x, int64_t ld, bool stored_deep, int64_t lines,
                             int64_t depth, __m512i out[TILE])
{
    if (stored_deep) {
        rows_of(x, ld, lines, depth, out);
    } else {
        interleave(x, ld, depth, lines, out);
        transpose_words(out);
    }
}

static inline void right_tile(const uint16_t *x, int64_t ld, bool stored_deep, int64_t lines,
                              int64_t depth, __m512i out[TILE])
{
    if (stored_deep) {
        rows_of(x, ld, lines, depth, out);
        transpose_words(out);
    } else {
        interleave(x, ld, depth, lines, out);
    }
}

/* Where (line, deep) lies. */
static inline const uint16_t *element(const void *x, int64_t ld, bool stored_deep, int64_t line,
                                      int64_t deep)
{
    return (const uint16_t *)x + (stored_deep ? line * ld + deep : deep * ld + line);
}

/* ==== Products ==== */

/* The call, and what of it is being worked on. */
typedef struct Part {
    const Gemm *g;
    bool a_deep, b_deep;    /* stored with the depth contiguous */
    int64_t row, rows;
    int64_t col, cols;
    int64_t deep, depth;
    __m512i *left, *right;  /* packed: tiles of TILE lines, one depth after the other */
    bool packed;            /* left is */
} Part;

static inline int64_t depth_tiles(const Part *p) { return ceil_div(p->depth, TILE_DEPTH); }

static void pack_right(const Part *p)
{
    for (int64_t j = 0; j < p->cols; j += TILE)
        for (int64_t k = 0; k < p->depth; k += TILE_DEPTH)
            right_tile(element(p->g->b, p->g->ldb, p->b_deep, p->col + j, p->deep + k), p->g->ldb,
                       p->b_deep, p->cols - j, p->depth - k,
                       p->right + (j / TILE * depth_tiles(p) + k / TILE_DEPTH) * TILE);
    if (ceil_div(p->cols, TILE) % 2 != 0) /* blocks are two tiles wide */
        memset(p->right + ceil_div(p->cols, TILE) * depth_tiles(p) * TILE, 0,
               (size_t)(depth_tiles(p) * TILE) * sizeof *p->right);
}

static void pack_left(const Part *p)
{
    for (int64_t i = 0; i < round_up(p->rows, BLOCK); i += TILE)
        for (int64_t k = 0; k < p->depth; k += TILE_DEPTH) {
            __m512i *to = p->left + (i / TILE * depth_tiles(p) + k / TILE_DEPTH) * TILE;
            if (i < p->rows)
                left_tile(element(p->g->a, p->g->lda, p->a_deep, p->row + i, p->deep + k),
                          p->g->lda, p->a_deep, p->rows - i, p->depth - k, to);
            else
                memset(to, 0, TILE * sizeof *to);
        }
}

/* Adds the products of one 32 x 32 block to tiles 0..3. */
static inline void block_sum(const Part *p, int64_t i, int64_t j)
{
    const int64_t tiles = depth_tiles(p);
    const __m512i *right = p->right + j / TILE * tiles * TILE;
    const uint16_t *left = p->packed
                               ? (const uint16_t *)(p->left + i / TILE * tiles * TILE)
                               : element(p->g->a, p->g->lda, true, p->row + i, p->deep);
    const int64_t line = p->packed ? TILE_DEPTH : p->g->lda;
    const int64_t next = p->packed ? TILE * TILE_DEPTH : TILE_DEPTH; /* one tile deeper */
    const int64_t down = p->packed ? tiles * TILE * TILE_DEPTH : TILE * line;
    for (int64_t k = 0; k < tiles; k++) {
        _tile_loadd(4, left + k * next, (size_t)line * 2);
        _tile_loadd(6, right + k * TILE, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, right + (tiles + k) * TILE, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, left + down + k * next, (size_t)line * 2);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}

/* c = alpha sums + beta c on what of the block is inside. */
static void block_end(const Gemm *g, const float *sums, float *c, int64_t rows, int64_t cols,
                      float beta)
{
    for (int64_t i = 0; i < min_i64(rows, BLOCK); i++)
        for (int64_t j = 0; j < min_i64(cols, BLOCK); j++) {
            const float sum = g->alpha * sums[i * BLOCK + j];
            c[i * g->ldc + j] = beta == 0 ? sum : sum + beta * c[i * g->ldc + j];
        }
}

static void block_run(const Part *p, int64_t i, int64_t j, float beta)
{
    const Gemm *g = p->g;
    float *c = g->c + (p->row + i) * g->ldc + p->col + j;
    const bool whole = p->rows - i >= BLOCK && p->cols - j >= BLOCK && g->alpha == 1;
    if (whole && beta == 1) {
        _tile_loadd(0, c, (size_t)g->ldc * 4);
        _tile_loadd(1, c + TILE, (size_t)g->ldc * 4);
        _tile_loadd(2, c + TILE * g->ldc, (size_t)g->ldc * 4);
        _tile_loadd(3, c + TILE * g->ldc + TILE, (size_t)g->ldc * 4);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    block_sum(p, i, j);
    float sums[BLOCK * BLOCK];
    const bool direct = whole && (beta == 0 || beta == 1);
    float *to = direct ? c : sums;
    const int64_t ld = direct ? g->ldc : BLOCK;
    _tile_stored(0, to, (size_t)ld * 4);
    _tile_stored(1, to + TILE, (size_t)ld * 4);
    _tile_stored(2, to + TILE * ld, (size_t)ld * 4);
    _tile_stored(3, to + TILE * ld + TILE, (size_t)ld * 4);
    if (!direct)
        block_end(g, sums, c, p->rows - i, p->cols - j, beta);
}

/* The rows of one strip at one depth: whole blocks from where they lie, the rest packed. */
static void strip_rows(Part p, float beta)
{
    const Gemm *g = p.g;
    const bool lies_well = p.a_deep && p.depth % TILE_DEPTH == 0;
    for (p.row = 0; p.row < g->m; p.row += p.rows) {
        const int64_t left = g->m - p.row;
        p.packed = !lies_well || left < BLOCK;
        p.rows = p.packed ? min_i64(left, ROWS) : left / BLOCK * BLOCK;
        if (p.packed)
            pack_left(&p);
        for (int64_t i = 0; i < p.rows; i += BLOCK)
            for (int64_t j = 0; j < p.cols; j += BLOCK)
                block_run(&p, i, j, beta);
    }
}

bool gemm_amx(char trans_a, char trans_b, const Gemm *g)
{
    _Alignas(64) __m512i left[ROWS / TILE * (DEPTH / TILE_DEPTH) * TILE];
    _Alignas(64) __m512i right[STRIP / TILE * (DEPTH / TILE_DEPTH) * TILE];
    Part p = {.g = g, .a_deep = trans_a == 'N', .b_deep = trans_b == 'T', .left = left,
              .right = right};
    const int64_t deep = round_up(ceil_div(g->k, ceil_div(g->k, DEPTH)), TILE_DEPTH);
    assert(deep <= DEPTH);
    tiles_configure();
    for (p.col = 0; p.col < g->n; p.col += STRIP) {
        p.cols = min_i64(STRIP, g->n - p.col);
        for (p.deep = 0; p.deep < g->k; p.deep += deep) {
            p.depth = min_i64(deep, g->k - p.deep);
            pack_right(&p);
            strip_rows(p, p.deep == 0 ? g->beta : 1);
        }
    }
    _tile_release();
    return true;
}
#else
bool gemm_amx(char trans_a, char trans_b, const Gemm *g)
{
    (void)trans_a;
    (void)trans_b;
    (void)g;
    return false;
}
#endif
