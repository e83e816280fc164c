"""Writes a GGUF file with random bf16 weights of a given shape and the tokenizer of another GGUF file, its vocabulary
filled up with unused tokens: a base model for bench/cpu where the real one is not at hand. Needs: gguf, numpy.

    random_model.py --tokenizer-from SmolLM2.gguf --shape qwen2.5-0.5b --out model.gguf
"""
import argparse

import gguf
import numpy as np

# width, layers, heads, key/value heads, feed-forward, vocabulary
SHAPES = {"smollm2-135m": (576, 30, 9, 3, 1536, 49152), "qwen2.5-0.5b": (896, 24, 14, 2, 4864, 151936)}


def copy_tokenizer(reader, writer, vocab):
    for key, field in reader.fields.items():
        if not key.startswith("tokenizer."):
            continue
        value = field.contents()
        if key == "tokenizer.ggml.tokens":
            value = value + [f"<|unused_{i}|>" for i in range(vocab - len(value))]
        if key == "tokenizer.ggml.token_type":
            value = value + [int(gguf.TokenType.UNUSED)] * (vocab - len(value))
        kind = field.types[0]
        if kind == gguf.GGUFValueType.ARRAY:
            writer.add_array(key, value)
        else:
            writer.add_key_value(key, value, kind)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer-from", required=True)
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    width, layers, heads, kv_heads, wide, vocab = SHAPES[args.shape]
    kv_width = width // heads * kv_heads
    writer = gguf.GGUFWriter(args.out, "llama")
    writer.add_name(args.shape + " shape, random")
    writer.add_context_length(8192)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(wide)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(width // heads)
    writer.add_vocab_size(vocab)
    copy_tokenizer(gguf.GGUFReader(args.tokenizer_from), writer, vocab)
    rng = np.random.default_rng(0)

    def matrix(name, rows, cols):
        x = (rng.standard_normal((rows, cols), np.float32) * 0.02).view(np.uint32)
        half = (x >> 16).astype(np.uint16)
        writer.add_tensor(name, half.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)

    matrix("token_embd.weight", vocab, width)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for i in range(layers):
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{i}.{name}.weight", np.ones(width, np.float32))
        for name, rows, cols in (("attn_q", width, width), ("attn_k", kv_width, width), ("attn_v", kv_width, width),
                                 ("attn_output", width, width), ("ffn_gate", wide, width), ("ffn_up", wide, width),
                                 ("ffn_down", width, wide)):
            matrix(f"blk.{i}.{name}.weight", rows, cols)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
