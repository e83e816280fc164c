/* decoder.h — the pieces from which a family writes its block's forward: straight-line calls, a
 * segment for attention and one for the feed-forward half. Only families and decoder.c include it.
 */
#ifndef MODEL_DECODER_H
#define MODEL_DECODER_H

#include "model/model.h"

/* Opens a segment: the norm of the stream, read by the linears `roles`. */
Value *block_norm(const Model *model, Tape *tape, int64_t layer, int which_norm, const Role *roles,
                  int n_roles);
/* A group of linears over x. out: n_roles values. */
void block_linears(const Model *model, Tape *tape, int64_t layer, Value *x, const Role *roles,
                   int n_roles, Value **out);
/* Columns of one linear's result as n values of these widths. */
void block_split(Tape *tape, Value *x, const int64_t *widths, int n, Value **out);
/* A norm over every head of x. */
Value *block_head_norm(const Model *model, Tape *tape, int64_t layer, int which_norm, Value *x);
/* Rope where this layer has it, then attention over the spans that it sees or over the cache; read
 * by linear `reader`. */
Value *block_attention(const Model *model, Tape *tape, int64_t layer, Value *const qkv[3],
                       const DecoderInput *input, KvCache *cache, Role reader);
/* act(gate) * up, read by linear `reader`. */
Value *block_glu(const Model *model, Tape *tape, int64_t layer, Value *const gate_up[2],
                 Activation act, Role reader);
/* Closes the segment: linear `role` of x joins the stream. */
void block_add(const Model *model, Tape *tape, int64_t layer, Value *x, Role role);
/* The same with a norm between the linear and the stream. */
void block_add_normed(const Model *model, Tape *tape, int64_t layer, Value *x, Role role,
                      int which_norm);
/* The feed-forward half of the plain block: norm, gate and up, SwiGLU, down. */
void block_swiglu(const Model *model, Tape *tape, int64_t layer);
/* A whole block: attention half (norm, q k v, rope, attention, o), then SwiGLU half. Families that
 * differ from it in tensors alone use it as theirs. */
void block_prenorm_swiglu(const Model *model, Tape *tape, int64_t layer, const DecoderInput *input,
                          KvCache *cache);

#endif
