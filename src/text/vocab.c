/* vocab.c — see vocab.h. Owns the hash from text to row, the byte alphabet and byte pieces.
 *
 * The hash multiplies 8 bytes at a time, with open addressing at half load; it never grows after
 * it is made, because the number of rows is known.
 */
#include "text/vocab.h"

#include <string.h>

static uint32_t hash_bytes(Str text)
{
    const uint64_t prime = 0x9E3779B97F4A7C15u;
    uint64_t h = text.len * prime;
    size_t i = 0;
    for (; i + 8 <= text.len; i += 8) {
        uint64_t word;
        memcpy(&word, text.data + i, 8);
        h = (h ^ word) * prime;
        h ^= h >> 29;
    }
    uint64_t tail = 0;
    for (; i < text.len; i++)
        tail = tail << 8 | (uint8_t)text.data[i];
    h = (h ^ tail) * prime;
    return (uint32_t)(h >> 32);
}

void str_map_init(StrMap *map, const Str *keys, int32_t capacity, Arena *out)
{
    assert(capacity >= 0 && capacity <= VOCAB_MAX_SIZE);
    uint32_t slots = 16;
    while (slots < (uint32_t)capacity * 2)
        slots *= 2;
    map->keys = keys;
    map->mask = slots - 1;
    map->slots = arena_push(out, slots * sizeof(*map->slots));
    memset(map->slots, 0xFF, slots * sizeof(*map->slots));
    static_assert(TOKEN_NONE == -1, "memset above writes TOKEN_NONE");
}

/* The slot of the text, or the free one where it belongs. */
static StrSlot *find_slot(const StrMap *map, Str text, uint32_t hash)
{
    assert(map->slots != NULL && (map->mask & (map->mask + 1)) == 0);
    for (uint32_t i = hash & map->mask;; i = (i + 1) & map->mask) {
        StrSlot *slot = &map->slots[i];
        if (slot->row == TOKEN_NONE)
            return slot;
        if (slot->hash == hash && str_eq(map->keys[slot->row], text))
            return slot;
    }
}

bool str_map_add(StrMap *map, int32_t row)
{
    assert(row >= 0 && map->keys != NULL);
    uint32_t hash = hash_bytes(map->keys[row]);
    StrSlot *slot = find_slot(map, map->keys[row], hash);
    if (slot->row != TOKEN_NONE)
        return false;
    *slot = (StrSlot){row, hash};
    return true;
}

int32_t str_map_find(const StrMap *map, Str text)
{
    return find_slot(map, text, hash_bytes(text))->row;
}

enum { FIND_BLOCK = 64, ADD_AHEAD = 16 };

/* Gets the slot that a row will go to, so that adding it does not wait for memory. */
static void prefetch_slot(const StrMap *map, int32_t row, int32_t n)
{
    if (row < n)
        __builtin_prefetch(&map->slots[hash_bytes(map->keys[row]) & map->mask], 1);
}

static void find_block(const StrMap *map, const Str *texts, size_t n, int32_t *rows)
{
    uint32_t hashes[FIND_BLOCK];
    assert(n <= FIND_BLOCK);
    for (size_t i = 0; i < n; i++) {
        hashes[i] = hash_bytes(texts[i]);
        __builtin_prefetch(&map->slots[hashes[i] & map->mask]);
    }
    for (size_t i = 0; i < n; i++) {
        rows[i] = map->slots[hashes[i] & map->mask].row;
        if (rows[i] != TOKEN_NONE)
            __builtin_prefetch(&map->keys[rows[i]]);
    }
    for (size_t i = 0; i < n; i++)
        if (rows[i] != TOKEN_NONE)
            __builtin_prefetch(map->keys[rows[i]].data);
    for (size_t i = 0; i < n; i++)
        rows[i] = find_slot(map, texts[i], hashes[i])->row;
}

void str_map_find_all(const StrMap *map, const Str *texts, size_t n, int32_t *rows)
{
    assert(map->slots != NULL);
    for (size_t i = 0; i < n; i += FIND_BLOCK)
        find_block(map, texts + i, n - i < FIND_BLOCK ? n - i : FIND_BLOCK, rows + i);
}

uint32_t byte_alphabet_char(uint8_t byte)
{
    if (byte <= 0x20)
        return 0x100u + byte;
    if (byte >= 0x7F && byte <= 0xA0)
        return 0x121u + (byte - 0x7Fu);
    return byte == 0xAD ? 0x143u : byte;
}

int byte_alphabet_byte(uint32_t c)
{
    if (c >= 0x100 && c <= 0x120)
        return (int)(c - 0x100);
    if (c >= 0x121 && c <= 0x142)
        return (int)(c - 0x121 + 0x7F);
    if (c == 0x143)
        return 0xAD;
    bool itself = (c > 0x20 && c < 0x7F) || (c > 0xA0 && c <= 0xFF && c != 0xAD);
    return itself ? (int)c : -1;
}

void vocab_init(Vocab *vocab, int32_t size, Arena *out)
{
    assert(size >= 0 && size <= VOCAB_MAX_SIZE);
    *vocab = (Vocab){.size = size};
    vocab->texts = arena_array(out, Str, size);
    vocab->bytes = arena_array(out, Str, size);
    vocab->kinds = arena_array(out, uint8_t, size);
    vocab->in_model = arena_array(out, bool, size);
    memset(vocab->kinds, TOKEN_UNUSED, (size_t)size);
}

/* Writes the bytes that the text spells in the byte alphabet; SIZE_MAX when it is none. */
static size_t spell_bytes(Str text, char *out)
{
    size_t pos = 0, len = 0;
    uint32_t codepoint = 0;
    while (utf8_next(text, &pos, &codepoint)) {
        int byte = byte_alphabet_byte(codepoint);
        if (byte < 0)
            return SIZE_MAX;
        out[len++] = (char)byte;
        assert(len <= pos);
    }
    return len;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int byte_piece(Str text)
{
    if (text.len != 6 || !str_starts(text, "<0x") || text.data[5] != '>')
        return -1;
    int high = hex_digit(text.data[3]), low = hex_digit(text.data[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static void fill_bytes(Vocab *vocab, Arena *out)
{
    size_t total = 0;
    if (vocab->scheme == VOCAB_PIECES) {
        memcpy(vocab->bytes, vocab->texts, (size_t)vocab->size * sizeof(*vocab->bytes));
        return;
    }
    for (int32_t i = 0; i < vocab->size; i++)
        total += vocab->in_model[i] ? vocab->texts[i].len : 0;
    char *blob = arena_push(out, total + 1);
    size_t used = 0;
    for (int32_t i = 0; i < vocab->size; i++) {
        vocab->bytes[i] = vocab->texts[i];
        bool literal = !vocab->in_model[i] || vocab->kinds[i] == TOKEN_CONTROL ||
                       vocab->kinds[i] == TOKEN_USER_DEFINED;
        size_t len = literal ? SIZE_MAX : spell_bytes(vocab->texts[i], blob + used);
        if (len == SIZE_MAX)
            continue;
        vocab->bytes[i] = (Str){blob + used, len};
        used += len;
        assert(used <= total);
    }
}

static void claim(int32_t *slot, int32_t row)
{
    if (*slot == TOKEN_NONE)
        *slot = row;
}

static void add_model_row(Vocab *vocab, int32_t row)
{
    Str bytes = vocab->bytes[row];
    str_map_add(&vocab->by_bytes, row);
    vocab->longest = bytes.len > vocab->longest ? bytes.len : vocab->longest;
    assert(bytes.len > 0 && vocab->longest >= bytes.len);
    if (vocab->scheme == VOCAB_BYTES) {
        if (bytes.len == 1)
            claim(&vocab->byte_ids[(uint8_t)bytes.data[0]], row);
        return;
    }
    size_t pos = 0;
    uint32_t codepoint = 0;
    if (bytes.len <= 3 && utf8_next(bytes, &pos, &codepoint) && pos == bytes.len &&
        utf8_valid(bytes))
        claim(&vocab->char_ids[codepoint], row);
    int byte = byte_piece(bytes);
    if (byte >= 0)
        claim(&vocab->byte_ids[byte], row);
}

void vocab_finish(Vocab *vocab, Arena *out)
{
    assert(vocab->texts != NULL && vocab->longest == 0);
    fill_bytes(vocab, out);
    str_map_init(&vocab->by_text, vocab->texts, vocab->size, out);
    str_map_init(&vocab->by_bytes, vocab->bytes, vocab->size, out);
    for (int b = 0; b < 256; b++)
        vocab->byte_ids[b] = TOKEN_NONE;
    if (vocab->scheme == VOCAB_PIECES) {
        vocab->char_ids = arena_push(out, VOCAB_CHARS * sizeof(*vocab->char_ids));
        memset(vocab->char_ids, 0xFF, VOCAB_CHARS * sizeof(*vocab->char_ids));
    }
    for (int32_t i = 0; i < vocab->size; i++) {
        prefetch_slot(&vocab->by_text, i + ADD_AHEAD, vocab->size);
        prefetch_slot(&vocab->by_bytes, i + ADD_AHEAD, vocab->size);
        if (vocab->kinds[i] != TOKEN_UNUSED || vocab->texts[i].len > 0)
            vocab->n_repeated += !str_map_add(&vocab->by_text, i) && vocab->in_model[i];
        if (vocab->in_model[i] && vocab->bytes[i].len > 0)
            add_model_row(vocab, i);
    }
}
