/* make_tiny_model.c — writes a whole tiny GGUF model for the command-line tests: llama, 2 layers,
 * width 64, byte vocabulary plus three ChatML tokens, a chat template, random weights.
 *
 * Usage: make_tiny_model FILE [SEED]. Everything in it comes from the seed.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "format/gguf.h"

enum { C = 64, F = 96, H = 4, G = 2, D = 16, LAYERS = 2, SPECIALS = 3, V = 256 + SPECIALS };

static uint32_t next_tensor;

static void write_random(GgufWriter *w, uint64_t seed, int64_t n, float scale, float offset)
{
    uint32_t tensor = ++next_tensor;
    for (int64_t i = 0; i < n; i++) {
        float u = rng_uniform(seed, RNG_TEST, tensor, (uint64_t)i);
        float x = offset + scale * (2 * u - 1);
        gguf_write_data(w, &x, sizeof x);
    }
}

static void add(GgufWriter *w, const char *name, int64_t rows, int64_t cols)
{
    if (rows == 1)
        gguf_add_tensor(w, name, DTYPE_F32, 1, (int64_t[]){cols});
    else
        gguf_add_tensor(w, name, DTYPE_F32, 2, (int64_t[]){cols, rows});
}

static const struct { const char *name; int64_t rows, cols; } block[] = {
    {"attn_norm.weight", 1, C},   {"attn_q.weight", H * D, C}, {"attn_k.weight", G * D, C},
    {"attn_v.weight", G * D, C},  {"attn_output.weight", C, H * D}, {"ffn_norm.weight", 1, C},
    {"ffn_gate.weight", F, C},    {"ffn_up.weight", F, C},     {"ffn_down.weight", C, F},
};

/* GPT-2's printable alphabet for the 256 bytes. */
static void byte_token(int byte, Buf *out)
{
    bool own = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    int rank = 0;
    for (int b = 0; b < byte; b++)
        rank += !((b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae);
    buf_codepoint(out, own ? (uint32_t)byte : (uint32_t)(256 + rank));
}

static void write_tokenizer(GgufWriter *w, Arena *arena)
{
    static const char *const specials[SPECIALS] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    static const char template[] =
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
        "message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
    Str *tokens = arena_array(arena, Str, V);
    int32_t *types = arena_array(arena, int32_t, V);
    for (int i = 0; i < V; i++) {
        Buf text = {0};
        if (i < SPECIALS)
            buf_text(&text, specials[i]);
        else
            byte_token(i - SPECIALS, &text);
        tokens[i] = str_of(arena_strndup(arena, text.data, text.len));
        types[i] = i < SPECIALS ? 3 : 1;
        buf_free(&text);
    }
    gguf_put_str(w, "tokenizer.ggml.model", STR("gpt2"));
    gguf_put_str(w, "tokenizer.ggml.pre", STR("smollm"));
    gguf_put_strs(w, "tokenizer.ggml.tokens", tokens, V);
    gguf_put_i32s(w, "tokenizer.ggml.token_type", types, V);
    Str merge = str_of(arena_printf(arena, "%s %s", "a", "b"));
    gguf_put_strs(w, "tokenizer.ggml.merges", &merge, 0);
    gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 1);
    gguf_put_u32(w, "tokenizer.ggml.eos_token_id", 2);
    gguf_put_bool(w, "tokenizer.ggml.add_bos_token", false);
    gguf_put_str(w, "tokenizer.chat_template", STR(template));
}

static void write_config(GgufWriter *w)
{
    gguf_put_str(w, "general.architecture", STR("llama"));
    gguf_put_str(w, "general.name", STR("tiny"));
    gguf_put_u32(w, "llama.block_count", LAYERS);
    gguf_put_u32(w, "llama.context_length", 512);
    gguf_put_u32(w, "llama.embedding_length", C);
    gguf_put_u32(w, "llama.feed_forward_length", F);
    gguf_put_u32(w, "llama.attention.head_count", H);
    gguf_put_u32(w, "llama.attention.head_count_kv", G);
    gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_put_f32(w, "llama.rope.freq_base", 10000.0f);
    gguf_put_u32(w, "llama.rope.dimension_count", D);
    gguf_put_u32(w, "general.file_type", 0);
}

int main(int argc, char **argv)
{
    Arena arena = {0};
    Err err = {0};
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 7;
    if (argc < 2 || !arena_open(&arena, 0, &err))
        return 1;
    GgufWriter *w = gguf_writer_open(argv[1], &err);
    if (w == NULL) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    write_config(w);
    write_tokenizer(w, &arena);
    add(w, "token_embd.weight", V, C);
    for (int layer = 0; layer < LAYERS; layer++) {
        for (size_t i = 0; i < COUNT_OF(block); i++)
            add(w, arena_printf(&arena, "blk.%d.%s", layer, block[i].name), block[i].rows,
                block[i].cols);
    }
    add(w, "output_norm.weight", 1, C);
    gguf_writer_begin_data(w);
    write_random(w, seed, (int64_t)V * C, 0.2f, 0);
    for (int layer = 0; layer < LAYERS; layer++) {
        for (size_t i = 0; i < COUNT_OF(block); i++) {
            bool norm = block[i].rows == 1;
            write_random(w, seed, block[i].rows * block[i].cols,
                         norm ? 0.1f : sqrtf(3.0f / (float)block[i].cols), norm ? 1.0f : 0.0f);
        }
    }
    write_random(w, seed, C, 0.1f, 1.0f);
    bool ok = gguf_writer_commit(w, &err);
    if (!ok)
        fprintf(stderr, "%s\n", err.message);
    arena_close(&arena);
    return ok ? 0 : 1;
}
