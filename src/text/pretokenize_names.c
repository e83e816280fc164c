/* pretokenize_names.c — the names of pre-tokenizers in GGUF files and what they stand for.
 *
 * A row is data: the patterns are those of the models' own tokenizer.json, in the order in which
 * they run, each isolated. llama.cpp runs approximations of some (it lower-cases by hand, knows no
 * \p{Lu}); a model was trained with the pattern that stands here.
 *
 * Not here, because their split is code in llama.cpp or no byte-level BPE: afmoe, sarvam-moe,
 * whitespace, granite-embed-multi-97m, granite-embed-multi-311m.
 */
#include "text/pretokenize.h"

#include <strings.h>
#include <string.h>

#include "text/tokenizer.h"

#define SUFFIX "'s|'t|'re|'ve|'m|'ll|'d"
#define GPT2 PRETOKENIZE_GPT2
#define LINES "|\\s*[\\r\\n]+"
#define SPACES "|\\s+(?!\\S)|\\s+"
#define WORD "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define SIGNS "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define LLAMA3_OR(digits, spaces) "(?i:" SUFFIX ")|" WORD "|" digits SIGNS LINES spaces
#define LLAMA3(digits) LLAMA3_OR(digits, SPACES)
#define QWEN35 \
    "(?i:" SUFFIX ")|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}|" \
    " ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" LINES SPACES
#define HALVINGS \
    "|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)" \
    "|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED_AS(upper, lower, more, most, suffix) \
    "[^\\r\\n\\p{L}\\p{N}]?" upper more lower most suffix
#define CASED(suffix) \
    CASED_AS(UPPER, LOWER, "*", "+", suffix) "|" CASED_AS(UPPER, LOWER, "+", "*", suffix)
#define O200K_SUFFIX "(?i:" SUFFIX ")?"
#define O200K_REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" LINES SPACES
#define O200K(digits) CASED(O200K_SUFFIX) "|" digits O200K_REST
#define NOT_HAN "(?:(?!\\p{Han})"
#define KIMI \
    "[\\p{Han}]+|" CASED_AS(NOT_HAN UPPER ")", NOT_HAN LOWER ")", "*", "+", O200K_SUFFIX) "|" \
    CASED_AS(NOT_HAN UPPER ")", NOT_HAN LOWER ")", "+", "*", O200K_SUFFIX) \
    "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" LINES SPACES
#define PUNCTUATION "[\\p{P}\\$\\+<=>\\^~\\|]+"
#define PUNCTUATION_TICK "[\\p{P}\\$\\+<=>\\^~\\|`]+"
#define BLOOM " ?[^(\\s|.,!?…。，、।۔،)]+"
#define KANA "[一-龥぀-ゟ゠-ヿ]+"
#define DEEPSEEK3_WORD \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|" \
    "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+"
#define DEEPSEEK3 DEEPSEEK3_WORD "[\r\n]*" LINES_AS_IS SPACES
#define LINES_AS_IS "|\\s*[\r\n]+"
#define CJK "[一-龥ࠀ-一가-퟿]+"
#define DEEPSEEK_LETTERS \
    "[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-" \
    "ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅ" \
    "ὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-" \
    "ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-" \
    "ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ" \
    "𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"

enum { NO, YES };

/* name, patterns, ignore_merges, adds_bos, nfc, listed */
static const PreRow rows[] = {
    {"llama-bpe", {LLAMA3("\\p{N}{1,3}")}, YES, YES, NO, YES},
    {"smaug-bpe", {LLAMA3("\\p{N}{1,3}")}, NO, NO, NO, YES},
    {"qwen2", {LLAMA3("\\p{N}")}, NO, NO, YES, YES},
    {"qwen35", {QWEN35}, NO, NO, YES, YES},
    {"gpt-4o", {O200K("\\p{N}{1,3}")}, NO, NO, NO, YES},
    {"smollm", {"\\p{N}", GPT2}, NO, NO, NO, YES},
    {"gpt-2", {GPT2}, NO, NO, NO, YES},
    {"tekken", {CASED("") "|\\p{N}" O200K_REST}, YES, YES, NO, YES},
    {"deepseek-v3", {"\\p{N}{1,3}", KANA, DEEPSEEK3}, NO, NO, NO, YES},
    {"deepseek-coder", {"[\r\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK, "\\p{N}"}, NO, NO, NO, YES},
    {"deepseek-llm",
     {"[\r\n]", "\\s?" DEEPSEEK_LETTERS, "\\s?[!-/:-~！-／：-～‘-‟　-。]+", "\\s+$", CJK, "\\p{N}+"},
     NO, NO, NO, YES},
    {"falcon", {PUNCTUATION_TICK, GPT2, "[0-9][0-9][0-9]"}, NO, NO, NO, YES},
    {"bloom", {BLOOM}, NO, NO, NO, YES},
    {"viking", {BLOOM, "\\p{N}"}, NO, NO, NO, YES},
    {"jais-2", {LLAMA3_OR("\\p{N}{1,3}", HALVINGS)}, NO, NO, NO, YES},
    {"kimi-k2", {KIMI}, NO, NO, NO, YES},
    {"superbpe", {"\\p{N}+", "(?=(\\d{3})+(?!\\d))"}, NO, NO, NO, YES},
    {"bailingmoe",
     {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}|"
      " ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]" SPACES},
     NO, NO, NO, YES},
    {"seed-coder",
     {"(?i:" SUFFIX ")|[^\r\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\r\n]+|"
      "\\s*[\r\n]+" SPACES},
     NO, NO, NO, YES},
    {"ufakzeka", {WORD "|\\p{N}" SIGNS LINES SPACES}, NO, NO, NO, YES},
    {"laguna", {"[^\\n]+|[\\n]+", LLAMA3("\\p{N}")}, NO, NO, NO, YES},
    {"exaone-moe",
     {"(?i:" SUFFIX ")|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}|"
      " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]" SPACES},
     NO, NO, NO, YES},
    {"minicpm5", {"\\p{N}{1,3}", LLAMA3("\\p{N}+")}, YES, NO, NO, YES},
    {"spark2_5",
     {"\\p{N}{1,3}", KANA, DEEPSEEK3_WORD "|[\r\n]" SPACES, "\\p{N}"}, NO, NO, NO, YES},
    {"youtu",
     {"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|" KANA, O200K("\\p{N}")}, YES, NO, NO, YES},
    {"tiny_aya", {"\\d{1,3}(?=(?:\\d{3})*\\b)", O200K("\\p{N}{1,3}")}, NO, NO, NO, YES},
    {"chameleon",
     {"<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\\t\\n]|    |  )", "\\p{N}",
      "[\\p{P}!-/:-@\\[-`{-~]", GPT2},
     NO, YES, NO, YES},
    {"default", {PUNCTUATION, GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}, NO, NO, NO, NO},
};

/* Names that mean what another name means, but for the switches. */
static const struct Alias {
    const char *name, *like;
    bool ignore_merges, adds_bos, nfc;
} aliases[] = {
    {"llama3", "llama-bpe", YES, YES, NO},
    {"llama-v3", "llama-bpe", YES, YES, NO},
    {"falcon3", "llama-bpe", YES, YES, NO},
    {"falcon-h1", "llama-bpe", YES, YES, NO},
    {"pixtral", "llama-bpe", YES, YES, NO},
    {"midm-2.0", "llama-bpe", YES, YES, NO},
    {"lfm2", "llama-bpe", YES, YES, NO},
    {"jina-v5-nano", "llama-bpe", YES, YES, NO},
    {"dbrx", "smaug-bpe", NO, NO, NO},
    {"chatglm-bpe", "smaug-bpe", NO, NO, NO},
    {"glm4", "smaug-bpe", YES, NO, NO},
    {"glm5", "smaug-bpe", YES, NO, NO},
    {"deepseek-r1-qwen", "qwen2", NO, NO, YES},
    {"kormo", "qwen2", NO, NO, YES},
    {"f2llmv2", "qwen2", NO, NO, YES},
    {"megrez", "qwen2", NO, NO, NO},
    {"stablelm2", "qwen2", NO, NO, NO},
    {"hunyuan", "qwen2", NO, NO, NO},
    {"solar-open", "qwen2", NO, NO, NO},
    {"grok-2", "qwen2", NO, NO, NO},
    {"starcoder", "smollm", NO, NO, NO},
    {"command-r", "smollm", NO, NO, NO},
    {"refact", "smollm", NO, NO, NO},
    {"codeshell", "smollm", NO, NO, NO},
    {"exaone", "smollm", NO, NO, NO},
    {"minerva-7b", "smollm", NO, NO, NO},
    {"mellum2", "smollm", NO, NO, NO},
    {"mpt", "gpt-2", NO, NO, NO},
    {"phi-2", "gpt-2", NO, NO, NO},
    {"jina-es", "gpt-2", NO, NO, NO},
    {"jina-de", "gpt-2", NO, NO, NO},
    {"gigachat", "gpt-2", NO, NO, NO},
    {"jina-v2-es", "gpt-2", NO, NO, NO},
    {"jina-v2-de", "gpt-2", NO, NO, NO},
    {"a.x-4.0", "gpt-2", NO, NO, NO},
    {"mellum", "gpt-2", NO, NO, NO},
    {"modern-bert", "gpt-2", NO, NO, NO},
    {"jina-v1-en", "gpt-2", NO, NO, NO},
    {"jina-v2-code", "gpt-2", NO, NO, NO},
    {"roberta-bpe", "gpt-2", NO, NO, NO},
    {"olmo", "gpt-2", NO, NO, NO},
    {"jais", "gpt-2", NO, NO, NO},
    {"trillion", "gpt-2", NO, NO, NO},
    {"granite-docling", "gpt-2", NO, NO, NO},
    {"exaone4", "gpt-2", NO, NO, NO},
    {"llama4", "gpt-4o", NO, NO, NO},
    {"kanana2", "gpt-4o", NO, NO, NO},
    {"talkie", "gpt-4o", NO, NO, NO},
    {"minimax-m2", "gpt-4o", NO, NO, NO},
    {"hunyuan-dense", "deepseek-v3", NO, NO, NO},
    {"joyai-llm", "deepseek-v3", NO, NO, NO},
    {"hy_v4", "deepseek-v3", NO, NO, NO},
    {"poro-chat", "bloom", NO, NO, NO},
    {"gpt3-finnish", "bloom", NO, NO, NO},
    {"bailingmoe2", "bailingmoe", NO, NO, NO},
    {"llada-moe", "bailingmoe", NO, NO, NO},
    {"cohere2moe", "tiny_aya", NO, NO, NO},
};

static const PreRow *find_row(Str name)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (str_eq_text(name, rows[i].name))
            return &rows[i];
    return NULL;
}

const PreRow *pre_row_find(Str name, Arena *out)
{
    for (size_t i = 0; i < COUNT_OF(aliases); i++) {
        if (!str_eq_text(name, aliases[i].name))
            continue;
        PreRow *row = arena_new(out, PreRow);
        const PreRow *like = find_row(str_of(aliases[i].like));
        must(like != NULL);
        *row = *like;
        row->name = aliases[i].name;
        row->ignore_merges = aliases[i].ignore_merges;
        row->adds_bos = aliases[i].adds_bos;
        row->nfc = aliases[i].nfc;
        return row;
    }
    return find_row(name);
}

const PreRow *pre_row_recognise(const PreTokenizer *pre, bool ignore_merges)
{
    assert(pre->n_steps >= 0 && pre->n_steps <= PRETOKENIZE_MAX_STEPS);
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        bool same = rows[r].listed && rows[r].ignore_merges == ignore_merges;
        int n = 0;
        for (; same && n < pre->n_steps; n++) {
            const SplitStep *step = &pre->steps[n];
            same = n < (int)COUNT_OF(rows[r].patterns) && rows[r].patterns[n] != NULL &&
                   str_eq_text(step->pattern, rows[r].patterns[n]) &&
                   step->behavior == SPLIT_ISOLATED && !step->invert;
        }
        same = same && (n == (int)COUNT_OF(rows[r].patterns) || rows[r].patterns[n] == NULL);
        if (same && pre->prefix_rule == PREFIX_NEVER && pre->mark.len == 0)
            return &rows[r];
    }
    return NULL;
}

static bool contains_lower(Str text, const char *part)
{
    size_t len = strlen(part);
    for (size_t i = 0; i + len <= text.len; i++)
        if (strncasecmp(text.data + i, part, len) == 0)
            return true;
    return false;
}

bool pre_strips_right(Str model_name, Str token, uint8_t kind)
{
    if (!contains_lower(model_name, "phi-3") && !contains_lower(model_name, "phi3"))
        return false;
    assert(kind >= TOKEN_NORMAL && kind <= TOKEN_BYTE);
    if (str_eq_text(token, "<unk>") || str_eq_text(token, "<s>") ||
        str_eq_text(token, "<|endoftext|>"))
        return false;
    return kind == TOKEN_CONTROL || kind == TOKEN_UNKNOWN || str_eq_text(token, "</s>");
}
