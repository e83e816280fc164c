/* tokenizer_decode.c — ids back to text.
 *
 * tokenizer_decode gives the bytes of one token, for text that appears while a model speaks.
 * tokenizer_decode_all does to a list of ids what Hugging Face's tokenizers does: the decoder sees
 * the first token differently, and bytes that are no UTF-8 become U+FFFD.
 */
#include <string.h>

#include "text/tokenizer_internal.h"

#define REPLACEMENT "\xEF\xBF\xBD"

/* ---- tokenizer.json --------------------------------------------------------------------- */

static bool unsupported(Err *err, Str type)
{
    return err_set(err, ERR_DEP_MODEL_LOAD_FAILED,
                   "decoder '%.*s' of the tokenizer is not supported",
                   (int)min_i64((int64_t)type.len, 100), type.data);
}

static Str copy_str(Arena *out, Str text)
{
    return (Str){arena_strndup(out, text.data == NULL ? "" : text.data, text.len), text.len};
}

static bool read_replace(Decoder *decoder, const Json *json, Arena *out, Err *err)
{
    const Json *pattern = json_get(json_get(json, "pattern"), "String");
    if (!json_is_string(pattern) || decoder->mark.len > 0)
        return unsupported(err, STR("Replace"));
    decoder->mark = copy_str(out, json_str(pattern));
    decoder->mark_content = copy_str(out, json_str(json_get(json, "content")));
    return true;
}

/* "Fuse" joins the tokens, so that a later "Strip" sees the whole text. */
static bool read_step(Decoder *decoder, const Json *json, bool *fused, int depth, Arena *out,
                      Err *err)
{
    Str type = json_str(json_get(json, "type"));
    if (str_eq_text(type, "Sequence") && depth < 4) {
        const Json *list = json_get(json, "decoders");
        for (size_t i = 0; i < json_len(list); i++)
            if (!read_step(decoder, json_at(list, i), fused, depth + 1, out, err))
                return false;
        return true;
    }
    if (str_eq_text(type, "ByteLevel"))
        decoder->bytes = true;
    else if (str_eq_text(type, "ByteFallback"))
        decoder->byte_pieces = true;
    else if (str_eq_text(type, "Fuse"))
        *fused = true;
    else if (str_eq_text(type, "Replace"))
        return read_replace(decoder, json, out, err);
    else if (str_eq_text(type, "Strip") && *fused && json_int(json_get(json, "stop"), 0) == 0) {
        decoder->strip = copy_str(out, json_str(json_get(json, "content")));
        decoder->strip_left = (int)min_i64(max_i64(json_int(json_get(json, "start"), 0), 0), 1000);
    } else if (str_eq_text(type, "Metaspace") && decoder->mark.len == 0) {
        Str mark = json_str(json_get(json, "replacement"));
        decoder->mark = copy_str(out, mark.len > 0 ? mark : STR(PRETOKENIZE_MARK));
        decoder->mark_content = STR(" ");
        decoder->drops_first =
            !str_eq_text(json_str(json_get(json, "prepend_scheme")), "never") &&
            json_bool(json_get(json, "add_prefix_space"), true);
    } else {
        return unsupported(err, type);
    }
    return true;
}

bool decoder_from_json(Decoder *decoder, const Json *json, Arena *out, Err *err)
{
    bool fused = false;
    *decoder = (Decoder){.parts = json_is_null(json)};
    return json_is_null(json) || read_step(decoder, json, &fused, 0, out, err);
}

static Json *step_json(const char *type)
{
    Json *json = json_new_object();
    json_put(json, "type", json_new_text(type));
    return json;
}

Json *decoder_to_json(const Decoder *decoder)
{
    if (decoder->bytes) {
        Json *json = step_json("ByteLevel");
        json_put(json, "add_prefix_space", json_new_bool(false));
        json_put(json, "trim_offsets", json_new_bool(false));
        json_put(json, "use_regex", json_new_bool(false));
        return json;
    }
    Json *list = json_new_array(), *json = step_json("Sequence");
    if (decoder->mark.len > 0) {
        Json *replace = step_json("Replace"), *pattern = json_new_object();
        json_put(pattern, "String", json_new_str(decoder->mark));
        json_put(replace, "pattern", pattern);
        json_put(replace, "content", json_new_str(decoder->mark_content));
        json_add(list, replace);
    }
    if (decoder->byte_pieces)
        json_add(list, step_json("ByteFallback"));
    json_add(list, step_json("Fuse"));
    if (decoder->strip_left > 0) {
        Json *strip = step_json("Strip");
        json_put(strip, "content", json_new_str(decoder->strip));
        json_put(strip, "start", json_new_int(decoder->strip_left));
        json_put(strip, "stop", json_new_int(0));
        json_add(list, strip);
    }
    json_put(json, "decoders", list);
    return json;
}

/* ---- decoding --------------------------------------------------------------------------- */

/* Appends the text with every `mark` replaced by `content`. */
static void append_replaced(Str text, Str mark, Str content, Buf *out)
{
    for (size_t i = 0; i < text.len;) {
        bool hit = mark.len > 0 && text.len - i >= mark.len &&
                   memcmp(text.data + i, mark.data, mark.len) == 0;
        buf_str(out, hit ? content : str_sub(text, i, i + 1));
        i += hit ? mark.len : 1;
    }
}

void tokenizer_decode(const Tokenizer *tokenizer, int32_t id, SpecialOutput special, Buf *out)
{
    const Vocab *vocab = &tokenizer->vocab;
    if (id < 0 || id >= vocab->size)
        return;
    bool control = vocab->kinds[id] == TOKEN_CONTROL;
    if (control && special == SPECIAL_HIDDEN)
        return;
    int byte = vocab->scheme == VOCAB_PIECES ? byte_piece(vocab->texts[id]) : -1;
    if (byte >= 0 && tokenizer->decoder.byte_pieces)
        buf_char(out, (char)byte);
    else if (vocab->scheme == VOCAB_PIECES && !control)
        append_replaced(vocab->texts[id], tokenizer->decoder.mark, tokenizer->decoder.mark_content,
                        out);
    else
        buf_str(out, vocab->bytes[id]);
}

/* Appends bytes as UTF-8: each maximal start of a broken sequence becomes one U+FFFD. */
static void append_lossy(Str bytes, Buf *out)
{
    for (size_t pos = 0; pos < bytes.len;) {
        Str rest = str_sub(bytes, pos, bytes.len);
        size_t valid = unicode_valid_prefix(rest);
        buf_append(out, rest.data, valid);
        pos += valid;
        if (pos == bytes.len)
            break;
        buf_text(out, REPLACEMENT);
        pos += unicode_broken_bytes(str_sub(bytes, pos, bytes.len));
    }
}

/* The byte alphabet spelled back, the text itself where a character is not of it. */
static void append_spelled(Str text, Buf *out)
{
    uint32_t codepoint = 0;
    for (size_t pos = 0; utf8_next(text, &pos, &codepoint);) {
        if (byte_alphabet_byte(codepoint) < 0) {
            buf_str(out, text);
            return;
        }
    }
    for (size_t pos = 0; utf8_next(text, &pos, &codepoint);)
        buf_char(out, (char)byte_alphabet_byte(codepoint));
}

/* A run of byte tokens: their UTF-8, or one U+FFFD for each when it is none. */
static void flush_run(Buf *run, Buf *out)
{
    Str bytes = {run->data == NULL ? "" : run->data, run->len};
    if (unicode_valid_prefix(bytes) == bytes.len)
        buf_str(out, bytes);
    else
        for (size_t i = 0; i < bytes.len; i++)
            buf_text(out, REPLACEMENT);
    buf_clear(run);
}

static void strip_start(const Decoder *decoder, size_t from, Buf *out)
{
    for (int i = 0; i < decoder->strip_left && out->len - from >= decoder->strip.len; i++) {
        if (decoder->strip.len == 0 ||
            memcmp(out->data + from, decoder->strip.data, decoder->strip.len) != 0)
            break;
        out->len -= decoder->strip.len;
        memmove(out->data + from, out->data + from + decoder->strip.len, out->len - from);
        out->data[out->len] = 0;
    }
}

void tokenizer_decode_all(const Tokenizer *tokenizer, const int32_t *ids, size_t n,
                          SpecialOutput special, Buf *out)
{
    const Vocab *vocab = &tokenizer->vocab;
    const Decoder *decoder = &tokenizer->decoder;
    Buf bytes = {0}, run = {0};
    size_t from = out->len;
    bool first = true;
    for (size_t i = 0; i < n; i++) {
        bool known = ids[i] >= 0 && ids[i] < vocab->size;
        if (!known || (vocab->kinds[ids[i]] == TOKEN_CONTROL && special == SPECIAL_HIDDEN))
            continue;
        Str text = vocab->texts[ids[i]];
        if (decoder->bytes) {
            append_spelled(text, &bytes);
            continue;
        }
        int byte = decoder->byte_pieces ? byte_piece(text) : -1;
        if (byte >= 0) {
            buf_char(&run, (char)byte);
        } else {
            flush_run(&run, out);
            if (decoder->parts && !first)
                buf_char(out, ' ');
            Str content = decoder->drops_first && first ? STR("") : decoder->mark_content;
            append_replaced(text, decoder->mark, content, out);
        }
        first = false;
    }
    flush_run(&run, out);
    append_lossy((Str){bytes.data == NULL ? "" : bytes.data, bytes.len}, out);
    buf_text(out, ""); /* never NULL */
    strip_start(decoder, from, out);
    buf_free(&bytes);
    buf_free(&run);
}
