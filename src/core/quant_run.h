/* quant_run.h — sixteen elements in a row of a packed block to f32: the `run`-th sixteen.
 *
 * What a thread of a device takes: in every type these share one scale and lie in at most sixteen
 * bytes at one shift. The values are those of quant_block.h's whole blocks, which loops over runs
 * would make at two fifths of the speed on a processor (the reason for two spellings); a test holds
 * the two equal bit for bit.
 */
#ifndef CORE_QUANT_RUN_H
#define CORE_QUANT_RUN_H

#include "core/quant_block.h"

enum { QB_RUN = 16 };

#define QB_ONE(value) value,

QB_FN void qb_run_q4_0(const uint8_t *QB_RESTRICT block, int run, float *QB_RESTRICT out)
{
    const float d = qb_from_f16(qb_load16(block));
    const uint8_t *qs = block + 2;
    for (int j = 0; j < QB_RUN; j++)
        out[j] = (float)(((qs[j] >> (4 * run)) & 15) - 8) * d;
}

QB_FN void qb_run_q4_1(const uint8_t *QB_RESTRICT block, int run, float *QB_RESTRICT out)
{
    const float d = qb_from_f16(qb_load16(block));
    const float m = qb_from_f16(qb_load16(block + 2));
    const uint8_t *qs = block + 4;
    for (int j = 0; j < QB_RUN; j++)
        out[j] = (float)((qs[j] >> (4 * run)) & 15) * d + m;
}

QB_FN void qb_run_q8_0(const uint8_t *QB_RESTRICT block, int run, float *QB_RESTRICT out)
{
    const float d = qb_from_f16(qb_load16(block));
    const uint8_t *qs = block + 2 + QB_RUN * run;
    for (int j = 0; j < QB_RUN; j++)
        out[j] = (float)(int8_t)qs[j] * d;
}

QB_FN void qb_run_q5_0(const uint8_t *QB_RESTRICT block, int run, float *QB_RESTRICT out)
{
    const float d = qb_from_f16(qb_load16(block));
    const uint32_t qh = qb_load32(block + 2) >> (QB_RUN * run);
    const uint8_t *qs = block + 6;
    for (int j = 0; j < QB_RUN; j++) {
        const int q = ((qs[j] >> (4 * run)) & 15) | (int)((qh >> j) & 1) << 4;
        out[j] = (float)(q - 16) * d;
    }
}

QB_FN void qb_run_q5_1(const uint8_t *QB_RESTRICT block, int run, float *QB_RESTRICT out)
{
    const float d = qb_from_f16(qb_load16(block));
    const float m = qb_from_f16(qb_load16(block + 2));
    const uint32_t qh = qb_load32(block + 4) >> (QB_RUN * run);
    const uint8_t *qs = block + 8;
    for (int j = 0; j < QB_RUN; j++) {
        const int q = ((qs[j] >> (4 * run)) & 15) | (int)((qh >> j) & 1) << 4;
        out[j] = (float)q * d + m;
    }
}

QB_FN void qb_run_iq4_nl(const uint8_t *QB_RESTRICT block, int run, float *QB_RESTRICT out)
{
    const int8_t values[16] = {QB_IQ4_VALUES(QB_ONE)};
    const float d = qb_from_f16(qb_load16(block));
    const uint8_t *qs = block + 2;
    for (int j = 0; j < QB_RUN; j++)
        out[j] = (float)values[(qs[j] >> (4 * run)) & 15] * d;
}

QB_FN void qb_run_q2_k(const uint8_t *QB_RESTRICT block, int run, float *QB_RESTRICT out)
{
    const float scale = qb_from_f16(qb_load16(block + 80)) * (float)(block[run] & 15);
    const float min = qb_from_f16(qb_load16(block + 82)) * (float)(block[run] >> 4);
    const uint8_t *qs = block + 16 + 32 * (run / 8) + 16 * (run % 2);
    const int shift = 2 * (run / 2 % 4);
    for (int j = 0; j < QB_RUN; j++)
        out[j] = (float)((qs[j] >> shift) & 3) * scale - min;
}

QB_FN void qb_run_q3_k(const uint8_t *QB_RESTRICT block, int run, float *QB_RESTRICT out)
{
    const float d = qb_from_f16(qb_load16(block + 108));
    const float scale = d * (float)(qb_scale_q3_k(block + 96, run) - 32);
    const uint8_t *hmask = block + 16 * (run % 2);
    const uint8_t *qs = block + 32 + 32 * (run / 8) + 16 * (run % 2);
    const int shift = 2 * (run / 2 % 4), bit = run / 2;
    for (int j = 0; j < QB_RUN; j++) {
        const int q = ((qs[j] >> shift) & 3) + 4 * ((hmask[j] >> bit) & 1) - 4;
        out[j] = (float)q * scale;
    }
}

QB_FN void qb_run_q4_k(const uint8_t *QB_RESTRICT block, int run, float *QB_RESTRICT out)
{
    const int s = run / 2;
    const float scale = qb_from_f16(qb_load16(block)) * (float)qb_scale_k4(block + 4, s);
    const float min = qb_from_f16(qb_load16(block + 2)) * (float)qb_min_k4(block + 4, s);
    const uint8_t *qs = block + 16 + 32 * (s / 2) + 16 * (run % 2);
    const int shift = 4 * (s % 2);
    for (int j = 0; j < QB_RUN; j++)
        out[j] = (float)((qs[j] >> shift) & 15) * scale - min;
}

QB_FN void qb_run_q5_k(const uint8_t *QB_RESTRICT block, int run, float *QB_RESTRICT out)
{
    const int s = run / 2;
    const float scale = qb_from_f16(qb_load16(block)) * (float)qb_scale_k4(block + 4, s);
    const float min = qb_from_f16(qb_load16(block + 2)) * (float)qb_min_k4(block + 4, s);
    const uint8_t *qh = block + 16 + 16 * (run % 2);
    const uint8_t *qs = block + 48 + 32 * (s / 2) + 16 * (run % 2);
    const int shift = 4 * (s % 2);
    for (int j = 0; j < QB_RUN; j++) {
        const int q = ((qs[j] >> shift) & 15) | ((qh[j] >> s) & 1) << 4;
        out[j] = (float)q * scale - min;
    }
}

QB_FN void qb_run_q6_k(const uint8_t *QB_RESTRICT block, int run, float *QB_RESTRICT out)
{
    const int half = run / 8, quarter = run / 2 % 4, part = 16 * (run % 2);
    const float scale = qb_from_f16(qb_load16(block + 208)) * (float)(int8_t)block[192 + run];
    const uint8_t *ql = block + 64 * half + 32 * (quarter % 2) + part;
    const uint8_t *qh = block + 128 + 32 * half + part;
    const int low = 4 * (quarter / 2), high = 2 * quarter;
    for (int j = 0; j < QB_RUN; j++) {
        const int q = ((ql[j] >> low) & 15) | ((qh[j] >> high) & 3) << 4;
        out[j] = (float)(q - 32) * scale;
    }
}

QB_FN void qb_run_iq4_xs(const uint8_t *QB_RESTRICT block, int run, float *QB_RESTRICT out)
{
    const int8_t values[16] = {QB_IQ4_VALUES(QB_ONE)};
    const int s = run / 2;
    const uint32_t low = (uint32_t)(block[4 + s / 2] >> (4 * (s % 2))) & 15;
    const uint32_t high = ((uint32_t)qb_load16(block + 2) >> (2 * s)) & 3;
    const float scale = qb_from_f16(qb_load16(block)) * (float)((int)(low | high << 4) - 32);
    const uint8_t *qs = block + 8 + 16 * s;
    for (int j = 0; j < QB_RUN; j++)
        out[j] = (float)values[(qs[j] >> (4 * (run % 2))) & 15] * scale;
}

#undef QB_ONE

#endif
