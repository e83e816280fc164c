/* tokenizer.c — encoding, and what a tokenizer knows of its tokens; owns no file format.
 *
 * The order of work is that of Hugging Face's tokenizers: (1) added tokens are cut out of the text,
 * (2) what remains is normalised, (3) added tokens that live in normalised text are cut out, (4)
 * the rest is split into words, (5) each word is merged. Bytes that are no UTF-8 stand between such
 * stretches and become the token of that byte each (none, where the vocabulary has none).
 *
 * Offsets: every stage works on a range of a text that knows its way back to the source. A text
 * that no normalizer touched is the source itself.
 */
#include "text/tokenizer.h"

#include <string.h>

#include "text/tokenizer_internal.h"

const RoleInfo role_infos[ROLE_COUNT] = {
    [ROLE_BOS] = {"bos", "bos"},         [ROLE_EOS] = {"eos", "eos"},
    [ROLE_UNKNOWN] = {"unk", "unknown"}, [ROLE_SEP] = {"sep", "seperator"},
    [ROLE_PAD] = {"pad", "padding"},     [ROLE_CLS] = {"cls", "cls"},
    [ROLE_MASK] = {"mask", "mask"},
};

/* Texts that end a generation in whatever model has them (as llama.cpp's end-of-generation set). */
static const char *const end_texts[] = {
    "<|eot_id|>",  "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>",
    "<|eom_id|>",  "<EOT>",      "</s>",    "<eos>",         "<|return|>",    "<|call|>",
    "<turn|>",     "<|eot|>",
};

void token_list_push(TokenList *list, int32_t id)
{
    if (list->len == list->capacity) {
        list->capacity = list->capacity * 2 + 64;
        list->ids = heap_resize(list->ids, list->capacity * sizeof(*list->ids));
    }
    list->ids[list->len++] = id;
}

void token_list_free(TokenList *list)
{
    heap_free(list->ids);
    *list = (TokenList){0};
}

/* ---- encoding --------------------------------------------------------------------------- */

typedef struct Encoder {
    const Tokenizer *tokenizer;
    SpecialParsing special;
    TokenList *ids, *ends;
    BpeScratch bpe;
    RegexScratch *regex;
    NormScratch norm;
    MappedText prefixed;
    /* The way back from the text in work: */
    const uint32_t *map; /* ends per byte, NULL = the text is the source from `base` on */
    size_t base;         /* source offset of the stretch */
} Encoder;

static void emit(Encoder *e, int32_t id, size_t end)
{
    assert(id >= 0 && id < e->tokenizer->vocab.size);
    token_list_push(e->ids, id);
    if (e->ends != NULL)
        token_list_push(e->ends, (int32_t)end);
}

/* Source offset that is consumed once the first `end` bytes of the text in work are. */
static size_t source_end(const Encoder *e, size_t end)
{
    assert(end <= INT32_MAX);
    if (e->map == NULL || end == 0)
        return e->base + end;
    return e->base + e->map[end - 1];
}

static void encode_word(void *context, Str word, size_t offset)
{
    Encoder *e = context;
    const Bpe *bpe = &e->tokenizer->bpe;
    while (word.len > 0) {
        size_t len = bpe_stretch(bpe, word);
        assert(len > 0 && len <= word.len);
        bpe_encode(bpe, (Str){word.data, len}, &e->bpe);
        for (size_t i = 0; i < e->bpe.n; i++)
            emit(e, e->bpe.tokens[i].id, source_end(e, offset + e->bpe.tokens[i].end));
        word = str_sub(word, len, word.len);
        offset += len;
    }
}

/* text[start, end) with the pre-tokenizer's marks and prefix, in e->prefixed. False: as it is. */
static bool add_prefix(Encoder *e, Str text, size_t start, size_t end)
{
    const PreTokenizer *pre = &e->tokenizer->pre;
    Str piece = str_sub(text, start, end), mark = pre->mark, prefix = pre->prefix;
    bool begins = prefix.len == 0 || (piece.len >= prefix.len &&
                                      memcmp(piece.data, prefix.data, prefix.len) == 0);
    bool adds = pre->prefix_rule == PREFIX_ALWAYS ||
                (pre->prefix_rule == PREFIX_FIRST && source_end(e, start) == 0);
    adds = adds && !begins && !(mark.len > 0 && piece.len > 0 && piece.data[0] == ' ');
    if (!adds && (mark.len == 0 || memchr(piece.data, ' ', piece.len) == NULL))
        return false;
    size_t base = e->base;
    e->prefixed.len = 0;
    if (adds)
        mapped_text_append(&e->prefixed, prefix.data, prefix.len, source_end(e, start) - base);
    for (size_t i = start; i < end; i++) {
        bool marked = mark.len > 0 && text.data[i] == ' ';
        mapped_text_append(&e->prefixed, marked ? mark.data : text.data + i, marked ? mark.len : 1,
                           source_end(e, i + 1) - base);
    }
    return true;
}

/* Words of text[start, end), which holds no added token. */
static void encode_words(Encoder *e, Str text, size_t start, size_t end)
{
    assert(start <= end && end <= text.len);
    if (start == end)
        return;
    Str piece = str_sub(text, start, end);
    const uint32_t *map = e->map;
    size_t base = e->base;
    if (add_prefix(e, text, start, end)) {
        piece = (Str){e->prefixed.data, e->prefixed.len};
        e->map = e->prefixed.ends;
    } else if (map != NULL) {
        e->map = map + start;
    } else {
        e->base = base + start;
    }
    pretokenize(&e->tokenizer->pre, e->regex, piece, encode_word, e);
    e->map = map;
    e->base = base;
}

/* Text between added tokens: normalises it and cuts out the tokens of the normalised text. */
static void encode_fragment(Encoder *e, Str text, size_t offset)
{
    assert(e->map == NULL);
    if (text.len == 0)
        return;
    size_t base = e->base;
    e->base = base + offset;
    Str work = text;
    const MappedText *mapped = normalize(&e->tokenizer->norm, e->regex, text, &e->norm);
    if (mapped != NULL) {
        work = (Str){mapped->data == NULL ? "" : mapped->data, mapped->len};
        e->map = mapped->ends;
    }
    AddedMatch match;
    size_t pos = 0;
    while (added_find(&e->tokenizer->normalized, work, pos, e->special, &match)) {
        encode_words(e, work, pos, match.start);
        emit(e, match.token->id, source_end(e, match.end));
        pos = match.end;
    }
    encode_words(e, work, pos, work.len);
    e->map = NULL;
    e->base = base;
}

static void encode_valid(Encoder *e, Str text)
{
    AddedMatch match;
    size_t pos = 0;
    while (added_find(&e->tokenizer->raw, text, pos, e->special, &match)) {
        encode_fragment(e, str_sub(text, pos, match.start), pos);
        emit(e, match.token->id, e->base + match.end);
        pos = match.end;
    }
    encode_fragment(e, str_sub(text, pos, text.len), pos);
}

void tokenizer_encode(const Tokenizer *tokenizer, Str text, SpecialParsing special, TokenList *ids,
                      TokenList *ends)
{
    must(text.len <= INT32_MAX); /* `ends` are 32 bits */
    assert(tokenizer != NULL && ids != NULL && ids != ends);
    Encoder e = {.tokenizer = tokenizer, .special = special, .ids = ids, .ends = ends};
    e.regex = regex_scratch_new();
    for (size_t pos = 0; pos < text.len;) {
        Str rest = str_sub(text, pos, text.len);
        size_t valid = unicode_valid_prefix(rest);
        e.base = pos;
        encode_valid(&e, str_sub(rest, 0, valid));
        pos += valid;
        if (pos == text.len)
            break;
        int32_t id = tokenizer->vocab.byte_ids[(uint8_t)text.data[pos++]];
        id = id == TOKEN_NONE ? tokenizer->bpe.unknown : id;
        if (id != TOKEN_NONE)
            emit(&e, id, pos);
    }
    bpe_scratch_free(&e.bpe);
    regex_scratch_free(e.regex);
    norm_scratch_free(&e.norm);
    mapped_text_free(&e.prefixed);
}

/* ---- making ----------------------------------------------------------------------------- */

bool token_looks_special(Str text)
{
    if (str_eq_text(text, "<pad>") || str_eq_text(text, "<mask>") || str_eq_text(text, "<2mass>") ||
        str_eq_text(text, "[@BOS@]"))
        return true;
    return (str_starts(text, "<|") && str_ends(text, "|>")) ||
           (str_starts(text, "<\xEF\xBD\x9C") && str_ends(text, "\xEF\xBD\x9C>")) ||
           (str_starts(text, "<unused") && str_ends(text, ">"));
}

/* One matcher over the raw text, one over the normal form of those that ask for it. */
static void build_matchers(Tokenizer *t, Arena *out)
{
    size_t mark_count = (size_t)t->n_added + 1;
    Str *keys = arena_array(out, Str, mark_count);
    int32_t *use = arena_array(out, int32_t, mark_count);
    int32_t n = 0;
    for (int32_t i = 0; i < t->n_added; i++) {
        if (!t->added[i].normalized) {
            keys[n] = t->added[i].content;
            use[n++] = i;
        }
    }
    added_build(&t->raw, t->added, keys, use, n, out);
    NormScratch scratch = {0};
    RegexScratch *regex = regex_scratch_new();
    n = 0;
    for (int32_t i = 0; i < t->n_added; i++) {
        if (!t->added[i].normalized)
            continue;
        keys[n] = t->added[i].content;
        bool valid = unicode_valid_prefix(keys[n]) == keys[n].len;
        const MappedText *mapped = valid ? normalize(&t->norm, regex, keys[n], &scratch) : NULL;
        if (mapped != NULL && mapped->len > 0)
            keys[n] = (Str){arena_strndup(out, mapped->data, mapped->len), mapped->len};
        use[n++] = i;
    }
    added_build(&t->normalized, t->added, keys, use, n, out);
    norm_scratch_free(&scratch);
    regex_scratch_free(regex);
}

void tokenizer_finish(Tokenizer *t, Arena *out)
{
    assert(t->vocab.by_text.slots != NULL && t->bpe.slots != NULL);
    build_matchers(t, out);
    t->is_end = arena_array(out, bool, t->vocab.size + 1);
    for (size_t i = 0; i < COUNT_OF(end_texts); i++) {
        int32_t id = str_map_find(&t->vocab.by_text, str_of(end_texts[i]));
        if (id != TOKEN_NONE && t->vocab.kinds[id] != TOKEN_NORMAL)
            t->is_end[id] = true;
    }
    if (t->special[ROLE_EOS] != TOKEN_NONE)
        t->is_end[t->special[ROLE_EOS]] = true;
    for (int role = 0; role < ROLE_COUNT; role++)
        must(t->special[role] >= TOKEN_NONE && t->special[role] < t->vocab.size);
}

void tokenizer_close(Tokenizer *tokenizer)
{
    if (tokenizer == NULL)
        return;
    pretokenizer_close(&tokenizer->pre);
    normalizer_close(&tokenizer->norm);
}

/* ---- questions -------------------------------------------------------------------------- */

int32_t tokenizer_size(const Tokenizer *tokenizer)
{
    return tokenizer->vocab.size;
}

int32_t tokenizer_find(const Tokenizer *tokenizer, Str text)
{
    return str_map_find(&tokenizer->vocab.by_text, text);
}

TokenKind tokenizer_kind(const Tokenizer *tokenizer, int32_t id)
{
    must(id >= 0 && id < tokenizer->vocab.size);
    return (TokenKind)tokenizer->vocab.kinds[id];
}

Str tokenizer_text(const Tokenizer *tokenizer, int32_t id)
{
    must(id >= 0 && id < tokenizer->vocab.size);
    return tokenizer->vocab.texts[id];
}

int32_t tokenizer_bos(const Tokenizer *tokenizer)
{
    return tokenizer->special[ROLE_BOS];
}

int32_t tokenizer_eos(const Tokenizer *tokenizer)
{
    return tokenizer->special[ROLE_EOS];
}

int32_t tokenizer_pad(const Tokenizer *tokenizer)
{
    return tokenizer->special[ROLE_PAD];
}

bool tokenizer_adds_bos(const Tokenizer *tokenizer)
{
    return tokenizer->adds_bos == CHOICE_YES && tokenizer->special[ROLE_BOS] != TOKEN_NONE;
}

int32_t tokenizer_around(const Tokenizer *tokenizer, TextSide side, const int32_t **ids)
{
    *ids = side == TEXT_FRONT ? tokenizer->prefix : tokenizer->suffix;
    return side == TEXT_FRONT ? tokenizer->n_prefix : tokenizer->n_suffix;
}

bool tokenizer_is_end(const Tokenizer *tokenizer, int32_t id)
{
    return id >= 0 && id < tokenizer->vocab.size && tokenizer->is_end[id];
}

Str tokenizer_chat_template(const Tokenizer *tokenizer)
{
    return tokenizer->chat_template;
}
