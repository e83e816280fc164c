/* quant_block.h — one block of every packed type to f32, and the 16-bit floats both ways.
 *
 * Plain functions, inline for host and device: every backend and every codec decodes with these,
 * so that a weight has one value everywhere. Each decoder takes a whole block as bytes (no
 * alignment asked) and writes its elements; loops have fixed counts and no branches, so they
 * vectorise. Products of scales and levels are exact in f32 (at most 11 + 6 + 7 significant bits),
 * hence contraction to a fused multiply-add changes no result.
 *
 * Block layouts (GGML's, little-endian; d and m are IEEE f16, qs start at the least element):
 *   Q4_0    18 B  d, qs[16]          y[j] = d * ((qs[j] & 15) - 8),  y[j + 16] with qs[j] >> 4
 *   Q4_1    20 B  d, m, qs[16]       y[j] = d * (qs[j] & 15) + m, likewise
 *   Q5_0    22 B  d, qh u32, qs[16]  as Q4_0 with a fifth bit, bit e of qh for element e; - 16
 *   Q5_1    24 B  d, m, qh u32, qs[16]
 *   Q8_0    34 B  d, qs[32] i8       y[j] = d * qs[j]
 *   IQ4_NL  18 B  d, qs[16]          y[j] = d * value[qs[j] & 15] (16 fixed values), as Q4_0
 * Super-blocks of 256 elements in sub-blocks s of 16 or 32, each with its scale (and minimum):
 *   Q2_K    84 B  sc[16] (scale low nibble, minimum high), qs[64], d, m
 *                 y = d * scale * q - m * min; 2-bit q of element e: byte 32 (e / 128) + e % 32,
 *                 shift 2 (e / 32 % 4)
 *   Q3_K   110 B  hmask[32], qs[64], sc[12], d    y = d * (scale - 32) * (q + 4 h - 4)
 *                 q as in Q2_K; h: bit e / 32 of hmask[e % 32]; 6-bit scales, see qb_scale_q3_k
 *   Q4_K   144 B  d, m, sc[12], qs[128]           y = d * scale * q - m * min
 *                 8 sub-blocks; 32 bytes of qs hold sub-blocks 2 k (low nibbles) and 2 k + 1
 *   Q5_K   176 B  d, m, sc[12], qh[32], qs[128]   as Q4_K; fifth bit: bit s of qh[e % 32]
 *   Q6_K   210 B  ql[128], qh[64], sc[16] i8, d   y = d * scale * (q - 32)
 *                 quarter k of half h, byte l < 32: ql[64 h + 32 (k % 2) + l], nibble k / 2;
 *                 upper bits qh[32 h + l], shift 2 k
 *   IQ4_XS 136 B  d, sh u16, sl[4], qs[128]       y = d * (scale - 32) * value[q]
 *                 scale of s: nibble of sl, upper bits (sh >> 2 s) & 3; qs 16 bytes a sub-block
 */
#ifndef CORE_QUANT_BLOCK_H
#define CORE_QUANT_BLOCK_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__)
#define QB_FN static __host__ __device__ __forceinline__
#else
#define QB_FN static inline
#endif
#define QB_RESTRICT __restrict__

enum {
    QB_BLOCK = 32, QB_SUPER = 256, /* elements */
    QB_Q4_0_BYTES = 18, QB_Q4_1_BYTES = 20, QB_Q5_0_BYTES = 22, QB_Q5_1_BYTES = 24,
    QB_Q8_0_BYTES = 34, QB_IQ4_NL_BYTES = 18,
    QB_Q2_K_BYTES = 84, QB_Q3_K_BYTES = 110, QB_Q4_K_BYTES = 144, QB_Q5_K_BYTES = 176,
    QB_Q6_K_BYTES = 210, QB_IQ4_XS_BYTES = 136
};

/* The levels of IQ4_NL and IQ4_XS: X(value), ascending. */
#define QB_IQ4_VALUES(X) \
    X(-127) X(-104) X(-83) X(-65) X(-49) X(-35) X(-22) X(-10) \
    X(1) X(13) X(25) X(38) X(53) X(69) X(89) X(113)

QB_FN float qb_float(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

QB_FN uint32_t qb_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* yes where `condition` holds, else no. With masks, because compilers move the computation of a
 * ternary's arm into a branch and then cannot vectorise a loop over it. */
QB_FN uint32_t qb_select(int condition, uint32_t yes, uint32_t no)
{
    const uint32_t mask = 0u - (uint32_t)condition;
    return (yes & mask) | (no & ~mask);
}

/* Two bytes as they lie in a file. */
QB_FN uint16_t qb_load16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | (uint32_t)bytes[1] << 8);
}

/* IEEE half to f32, exact. NaNs come out quiet with their payload, as processors convert them.
 * All three cases are computed and one is selected, so that loops over it vectorise. */
QB_FN float qb_from_f16(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t magnitude = (uint32_t)(half & 0x7fffu) << 13; /* as f32 fields, bias still 15 */
    const uint32_t normal = magnitude + (112u << 23);
    /* A subnormal is mantissa * 2^-24: give it the exponent of 2^-14 and take 2^-14 off again. */
    const uint32_t subnormal = qb_bits(qb_float(magnitude + (113u << 23)) - qb_float(113u << 23));
    const uint32_t quiet = (uint32_t)(magnitude > (31u << 23)) << 22;
    const uint32_t infinite = (magnitude + (224u << 23)) | quiet;
    uint32_t bits = qb_select(magnitude < (1u << 23), subnormal, normal);
    bits = qb_select(magnitude >= (31u << 23), infinite, bits);
    return qb_float(bits | sign);
}

/* f32 to IEEE half, round to nearest even; beyond 65520 infinite; NaNs quiet, payload truncated. */
QB_FN uint16_t qb_to_f16(float value)
{
    const uint32_t all = qb_bits(value);
    const uint32_t sign = (all >> 16) & 0x8000u;
    const uint32_t bits = all & 0x7fffffffu;
    /* The carry of the rounding may run into the exponent, up to infinity: that is right. */
    const uint32_t normal = (bits - (112u << 23) + 0xfffu + ((bits >> 13) & 1u)) >> 13;
    /* One unit of 0.5f's last place is 2^-24, the step of half subnormals: adding 0.5 rounds. */
    const uint32_t subnormal = qb_bits(qb_float(bits) + 0.5f) - qb_bits(0.5f);
    const uint32_t nan = 0x7e00u | ((bits >> 13) & 0x3ffu);
    uint32_t half = qb_select(bits < (113u << 23), subnormal, normal);
    half = qb_select(bits >= (143u << 23), 0x7c00u, half);
    half = qb_select(bits > (255u << 23), nan, half);
    return (uint16_t)(half | sign);
}

/* bfloat16 is the upper half of an f32. */
QB_FN float qb_from_bf16(uint16_t upper)
{
    return qb_float((uint32_t)upper << 16);
}

/* Round to nearest even; NaNs quiet, payload truncated. */
QB_FN uint16_t qb_to_bf16(float value)
{
    const uint32_t bits = qb_bits(value);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const uint32_t nan = (bits >> 16) | 0x40u;
    return (uint16_t)((bits & 0x7fffffffu) > (255u << 23) ? nan : rounded);
}

QB_FN void qb_decode_q4_0(const uint8_t *QB_RESTRICT block, float *QB_RESTRICT out)
{
    const float d = qb_from_f16(qb_load16(block));
    const uint8_t *qs = block + 2;
    for (int j = 0; j < QB_BLOCK / 2; j++) {
        out[j] = (float)((qs[j] & 15) - 8) * d;
        out[j + QB_BLOCK / 2] = (float)((qs[j] >> 4) - 8) * d;
    }
}

QB_FN void qb_decode_q4_1(const uint8_t *QB_RESTRICT block, float *QB_RESTRICT out)
{
    const float d = qb_from_f16(qb_load16(block));
    const float m = qb_from_f16(qb_load16(block + 2));
    const uint8_t *qs = block + 4;
    for (int j = 0; j < QB_BLOCK / 2; j++) {
        out[j] = (float)(qs[j] & 15) * d + m;
        out[j + QB_BLOCK / 2] = (float)(qs[j] >> 4) * d + m;
    }
}

QB_FN void qb_decode_q8_0(const uint8_t *QB_RESTRICT block, float *QB_RESTRICT out)
{
    const float d = qb_from_f16(qb_load16(block));
    const uint8_t *qs = block + 2;
    for (int j = 0; j < QB_BLOCK; j++)
        out[j] = (float)(int8_t)qs[j] * d;
}

QB_FN uint32_t qb_load32(const uint8_t *bytes)
{
    return qb_load16(bytes) | (uint32_t)qb_load16(bytes + 2) << 16;
}

QB_FN void qb_decode_q5_0(const uint8_t *QB_RESTRICT block, float *QB_RESTRICT out)
{
    const float d = qb_from_f16(qb_load16(block));
    const uint32_t qh = qb_load32(block + 2);
    const uint8_t *qs = block + 6;
    for (int j = 0; j < QB_BLOCK / 2; j++) {
        out[j] = (float)((int)((qs[j] & 15) | ((qh >> j) & 1) << 4) - 16) * d;
        out[j + QB_BLOCK / 2] = (float)((int)((qs[j] >> 4) | ((qh >> (j + 16)) & 1) << 4) - 16) * d;
    }
}

QB_FN void qb_decode_q5_1(const uint8_t *QB_RESTRICT block, float *QB_RESTRICT out)
{
    const float d = qb_from_f16(qb_load16(block));
    const float m = qb_from_f16(qb_load16(block + 2));
    const uint32_t qh = qb_load32(block + 4);
    const uint8_t *qs = block + 8;
    for (int j = 0; j < QB_BLOCK / 2; j++) {
        out[j] = (float)(int)((qs[j] & 15) | ((qh >> j) & 1) << 4) * d + m;
        out[j + QB_BLOCK / 2] = (float)(int)((qs[j] >> 4) | ((qh >> (j + 16)) & 1) << 4) * d + m;
    }
}

QB_FN void qb_decode_iq4_nl(const uint8_t *QB_RESTRICT block, float *QB_RESTRICT out)
{
#define QB_ONE(value) value,
    const int8_t values[16] = {QB_IQ4_VALUES(QB_ONE)};
    const float d = qb_from_f16(qb_load16(block));
    const uint8_t *qs = block + 2;
    for (int j = 0; j < QB_BLOCK / 2; j++) {
        out[j] = (float)values[qs[j] & 15] * d;
        out[j + QB_BLOCK / 2] = (float)values[qs[j] >> 4] * d;
    }
}

/* ---- super-blocks ------------------------------------------------------------------------ */

QB_FN void qb_decode_q2_k(const uint8_t *QB_RESTRICT block, float *QB_RESTRICT out)
{
    const float d = qb_from_f16(qb_load16(block + 80));
    const float m = qb_from_f16(qb_load16(block + 82));
    for (int s = 0; s < 16; s++) {
        const float scale = d * (float)(block[s] & 15);
        const float min = m * (float)(block[s] >> 4);
        const uint8_t *qs = block + 16 + 32 * (s / 8) + 16 * (s % 2);
        const int shift = 2 * (s / 2 % 4);
        for (int j = 0; j < 16; j++)
            out[16 * s + j] = (float)((qs[j] >> shift) & 3) * scale - min;
    }
}

/* Scale s of 16 in the 12 bytes of Q3_K: low nibbles lie in bytes 0..7 (s and s + 8 share one), the
 * upper two bits of s in byte 8 + s % 4 at shift 2 (s / 4). 0..63, 32 is zero. */
QB_FN int qb_scale_q3_k(const uint8_t *sc, int s)
{
    return ((sc[s % 8] >> (4 * (s / 8))) & 15) | ((sc[8 + s % 4] >> (2 * (s / 4))) & 3) << 4;
}

QB_FN void qb_decode_q3_k(const uint8_t *QB_RESTRICT block, float *QB_RESTRICT out)
{
    const float d = qb_from_f16(qb_load16(block + 108));
    for (int s = 0; s < 16; s++) {
        const float scale = d * (float)(qb_scale_q3_k(block + 96, s) - 32);
        const uint8_t *hmask = block + 16 * (s % 2);
        const uint8_t *qs = block + 32 + 32 * (s / 8) + 16 * (s % 2);
        const int shift = 2 * (s / 2 % 4), bit = s / 2;
        for (int j = 0; j < 16; j++) {
            const int q = ((qs[j] >> shift) & 3) + 4 * ((hmask[j] >> bit) & 1) - 4;
            out[16 * s + j] = (float)q * scale;
        }
    }
}

/* Scale s of 8 in the 12 bytes of Q4_K and Q5_K (minima: qb_min_k4). Sub-blocks 0..3 have the low
 * six bits of bytes 0..3 (4..7 their minima); of 4..7 the low nibbles are in bytes 8..11, the upper
 * two bits in the top of bytes 0..7. */
QB_FN int qb_scale_k4(const uint8_t *sc, int s)
{
    return s < 4 ? sc[s] & 63 : (sc[s + 4] & 15) | (sc[s - 4] >> 6) << 4;
}

QB_FN int qb_min_k4(const uint8_t *sc, int s)
{
    return s < 4 ? sc[s + 4] & 63 : (sc[s + 4] >> 4) | (sc[s] >> 6) << 4;
}

QB_FN void qb_decode_q4_k(const uint8_t *QB_RESTRICT block, float *QB_RESTRICT out)
{
    const float d = qb_from_f16(qb_load16(block));
    const float m = qb_from_f16(qb_load16(block + 2));
    for (int s = 0; s < 8; s++) {
        const float scale = d * (float)qb_scale_k4(block + 4, s);
        const float min = m * (float)qb_min_k4(block + 4, s);
        const uint8_t *qs = block + 16 + 32 * (s / 2);
        const int shift = 4 * (s % 2);
        for (int j = 0; j < 32; j++)
            out[32 * s + j] = (float)((qs[j] >> shift) & 15) * scale - min;
    }
}

QB_FN void qb_decode_q5_k(const uint8_t *QB_RESTRICT block, float *QB_RESTRICT out)
{
    const float d = qb_from_f16(qb_load16(block));
    const float m = qb_from_f16(qb_load16(block + 2));
    const uint8_t *qh = block + 16;
    for (int s = 0; s < 8; s++) {
        const float scale = d * (float)qb_scale_k4(block + 4, s);
        const float min = m * (float)qb_min_k4(block + 4, s);
        const uint8_t *qs = block + 48 + 32 * (s / 2);
        const int shift = 4 * (s % 2);
        for (int j = 0; j < 32; j++) {
            const int q = ((qs[j] >> shift) & 15) | ((qh[j] >> s) & 1) << 4;
            out[32 * s + j] = (float)q * scale - min;
        }
    }
}

QB_FN void qb_decode_q6_k(const uint8_t *QB_RESTRICT block, float *QB_RESTRICT out)
{
    const float d = qb_from_f16(qb_load16(block + 208));
    for (int s = 0; s < 16; s++) {
        const int half = s / 8, quarter = s / 2 % 4, part = 16 * (s % 2);
        const float scale = d * (float)(int8_t)block[192 + s];
        const uint8_t *ql = block + 64 * half + 32 * (quarter % 2) + part;
        const uint8_t *qh = block + 128 + 32 * half + part;
        const int low = 4 * (quarter / 2), high = 2 * quarter;
        for (int j = 0; j < 16; j++) {
            const int q = ((ql[j] >> low) & 15) | ((qh[j] >> high) & 3) << 4;
            out[16 * s + j] = (float)(q - 32) * scale;
        }
    }
}

QB_FN void qb_decode_iq4_xs(const uint8_t *QB_RESTRICT block, float *QB_RESTRICT out)
{
    const int8_t values[16] = {QB_IQ4_VALUES(QB_ONE)};
#undef QB_ONE
    const float d = qb_from_f16(qb_load16(block));
    const uint32_t sh = qb_load16(block + 2);
    for (int s = 0; s < 8; s++) {
        const uint32_t low = (uint32_t)(block[4 + s / 2] >> (4 * (s % 2))) & 15;
        const int scale = (int)(low | ((sh >> (2 * s)) & 3) << 4) - 32;
        const float ds = d * (float)scale;
        const uint8_t *qs = block + 8 + 16 * s;
        for (int j = 0; j < 16; j++) {
            out[32 * s + j] = (float)values[qs[j] & 15] * ds;
            out[32 * s + j + 16] = (float)values[qs[j] >> 4] * ds;
        }
    }
}

#endif
