/* plain.h — what the families that only vary the plain transformer block share: grouped-query
 * attention with rope and a gated feed-forward half, each behind a norm (Touvron et al. 2023).
 * A family lists these rows and adds its own; private to family/.
 */
#ifndef MODEL_FAMILY_PLAIN_H
#define MODEL_FAMILY_PLAIN_H

#include "model/config.h"
#include "model/decoder.h"

/* Rows of a name table. q_flags, k_flags: WEIGHT_ROPE_ROWS_Q and _K, or 0 where the family's GGUF
 * files keep the order of Hugging Face. */
#define PLAIN_ATTENTION(q_flags, k_flags) \
    {ROLE_Q, "model.layers.%d.self_attn.q_proj.weight", "blk.%d.attn_q.weight", q_flags}, \
    {ROLE_K, "model.layers.%d.self_attn.k_proj.weight", "blk.%d.attn_k.weight", k_flags}, \
    {ROLE_V, "model.layers.%d.self_attn.v_proj.weight", "blk.%d.attn_v.weight", 0}, \
    {ROLE_O, "model.layers.%d.self_attn.o_proj.weight", "blk.%d.attn_output.weight", 0}
#define PLAIN_FEED_FORWARD \
    {ROLE_GATE, "model.layers.%d.mlp.gate_proj.weight", "blk.%d.ffn_gate.weight", 0}, \
    {ROLE_UP, "model.layers.%d.mlp.up_proj.weight", "blk.%d.ffn_up.weight", 0}, \
    {ROLE_DOWN, "model.layers.%d.mlp.down_proj.weight", "blk.%d.ffn_down.weight", 0}
#define PLAIN_NORMS \
    {ROLE_ATTN_NORM, "model.layers.%d.input_layernorm.weight", "blk.%d.attn_norm.weight", 0}, \
    {ROLE_FFN_NORM, "model.layers.%d.post_attention_layernorm.weight", "blk.%d.ffn_norm.weight", 0}
#define PLAIN_GLOBALS \
    {ROLE_EMBED, "model.embed_tokens.weight", "token_embd.weight", 0}, \
    {ROLE_FINAL_NORM, "model.norm.weight", "output_norm.weight", 0}, \
    {ROLE_HEAD, "lm_head.weight", "output.weight", WEIGHT_OPTIONAL}
#define PLAIN_BIASES \
    {ROLE_Q_BIAS, "model.layers.%d.self_attn.q_proj.bias", "blk.%d.attn_q.bias", 0}, \
    {ROLE_K_BIAS, "model.layers.%d.self_attn.k_proj.bias", "blk.%d.attn_k.bias", 0}, \
    {ROLE_V_BIAS, "model.layers.%d.self_attn.v_proj.bias", "blk.%d.attn_v.bias", 0}
#define PLAIN_HEAD_NORMS \
    {ROLE_Q_NORM, "model.layers.%d.self_attn.q_norm.weight", "blk.%d.attn_q_norm.weight", 0}, \
    {ROLE_K_NORM, "model.layers.%d.self_attn.k_norm.weight", "blk.%d.attn_k_norm.weight", 0}

#endif
