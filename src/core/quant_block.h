/* quant_block.h — one block of every packed type to f32, and the 16-bit floats both ways.
 *
 * Plain functions, inline for host and device: every backend and every codec decodes with these,
 * so that a weight has one value everywhere. Each decoder takes a whole block as bytes (no
 * alignment asked) and writes its QB_BLOCK elements; loops have fixed counts and no branches, so
 * they vectorise. q * d is exact in f32 (at most 8 + 11 significant bits), hence contraction to a
 * fused multiply-add changes no result.
 *
 * Block layouts (GGML's, little-endian; d and m are IEEE f16, qs start at the least element):
 *   Q4_0  18 B  d, qs[16]     y[j] = d * ((qs[j] & 15) - 8),  y[j + 16] = d * ((qs[j] >> 4) - 8)
 *   Q4_1  20 B  d, m, qs[16]  y[j] = d * (qs[j] & 15) + m,    y[j + 16] = d * (qs[j] >> 4) + m
 *   Q8_0  34 B  d, qs[32] i8  y[j] = d * qs[j]
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

enum { QB_BLOCK = 32, QB_Q4_0_BYTES = 18, QB_Q4_1_BYTES = 20, QB_Q8_0_BYTES = 34 };

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

#endif
