/* log_redact.c — replaces secrets in text by <REDACTED>, before the text leaves the process.
 *
 * Owns the patterns. When in doubt it redacts: a lost word in a log line costs less than a leaked
 * key. What counts as a secret:
 *   tokens known by their prefix   sk-… (dashes too), hf_…, gh[psour]_…, github_pat_…, glpat-…,
 *                                  xox?-…, AIza…, AKIA…/ASIA… and JWTs (eyJ….….…)
 *   AWS secret keys                a run of exactly 40 base64 characters of all three classes
 *   scheme://user:pass@host        the part before the @ (a lone token too)
 *   Bearer X, Basic X              X
 *   KEY = value, "KEY": "value"    when KEY ends in one of SECRET_WORDS; KEY stays readable.
 *                                  Vocabulary names (eos_token …) are not secrets
 */
#include "core/log.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static const char MARK[] = "<REDACTED>";

static bool is_alnum(char c) { return isalnum((unsigned char)c) != 0; }
static bool is_word(char c) { return is_alnum(c) || c == '_' || c == '-'; }
static bool is_base64(char c) { return is_alnum(c) || c == '/' || c == '+'; }
static bool is_blank(char c) { return c == ' ' || c == '\t'; }

typedef bool CharClass(char c);

static size_t run_length(Str s, size_t from, CharClass *belongs)
{
    size_t i = from;
    while (i < s.len && belongs(s.data[i]))
        i++;
    return i - from;
}

static bool starts_at(Str s, size_t at, const char *prefix)
{
    size_t len = strlen(prefix);
    return at + len <= s.len && memcmp(s.data + at, prefix, len) == 0;
}

/* prefix, then at least `rest` characters of the class */
typedef struct TokenShape {
    const char *prefix;
    size_t rest;
    CharClass *belongs;
} TokenShape;

static const TokenShape SHAPES[] = {
    {"sk-", 8, is_word},    {"hf_", 8, is_alnum},    {"ghp_", 20, is_alnum},
    {"ghs_", 20, is_alnum}, {"gho_", 20, is_alnum},  {"ghu_", 20, is_alnum},
    {"ghr_", 20, is_alnum}, {"github_pat_", 20, is_word}, {"glpat-", 20, is_word},
    {"AKIA", 16, is_alnum}, {"ASIA", 16, is_alnum},  {"AIza", 35, is_word},
    {"xoxb-", 10, is_word}, {"xoxp-", 10, is_word},  {"xoxa-", 10, is_word},
    {"xoxs-", 10, is_word}, {"xoxr-", 10, is_word},
};

/* Each matcher returns how many bytes at `at` are secret, 0 when none are. */
static size_t match_token(Str s, size_t at)
{
    if (at > 0 && is_alnum(s.data[at - 1]))
        return 0;
    for (size_t i = 0; i < COUNT_OF(SHAPES); i++) {
        if (!starts_at(s, at, SHAPES[i].prefix))
            continue;
        size_t len = strlen(SHAPES[i].prefix);
        size_t rest = run_length(s, at + len, SHAPES[i].belongs);
        if (rest >= SHAPES[i].rest)
            return len + rest;
    }
    return 0;
}

static size_t match_jwt(Str s, size_t at)
{
    if (!starts_at(s, at, "eyJ") || (at > 0 && is_word(s.data[at - 1])))
        return 0;
    size_t len = run_length(s, at, is_word);
    for (int part = 1; part < 3; part++) {
        if (at + len >= s.len || s.data[at + len] != '.')
            return 0;
        size_t more = run_length(s, at + len + 1, is_word);
        if (more == 0)
            return 0;
        len += 1 + more;
    }
    return len;
}

static size_t match_aws_secret(Str s, size_t at)
{
    enum { AWS_SECRET_LEN = 40 };
    if (at > 0 && (is_base64(s.data[at - 1]) || strchr("._-", s.data[at - 1]) != NULL))
        return 0;
    if (run_length(s, at, is_base64) != AWS_SECRET_LEN)
        return 0;
    size_t end = at + AWS_SECRET_LEN;
    if (end < s.len && (s.data[end] == '_' || s.data[end] == '-')) /* part of a file's name */
        return 0;
    bool upper = false, lower = false, digit = false;
    for (size_t i = at; i < end; i++) {
        unsigned char c = (unsigned char)s.data[i];
        upper = upper || isupper(c);
        lower = lower || islower(c);
        digit = digit || isdigit(c);
    }
    return upper && lower && digit ? AWS_SECRET_LEN : 0;
}

static bool is_userinfo(char c) { return c > ' ' && c != 0x7F && strchr("/?#@\"'<>", c) == NULL; }

/* At "://": the user part up to the '@'. */
static size_t match_userinfo(Str s, size_t at)
{
    if (at < 4 || !starts_at(s, at - 3, "://") || !is_alnum(s.data[at - 4]))
        return 0;
    size_t len = run_length(s, at, is_userinfo);
    return len > 0 && at + len < s.len && s.data[at + len] == '@' ? len : 0;
}

static bool is_value(char c)
{
    return c > ' ' && c != 0x7F && strchr(",;&\"'<>)}]", c) == NULL;
}

static size_t match_scheme(Str s, size_t at)
{
    if (at == 0 || !is_blank(s.data[at - 1]) || is_blank(s.data[at]))
        return 0;
    size_t word = at;
    while (word > 0 && is_blank(s.data[word - 1]))
        word--;
    static const char *const SCHEMES[] = {"bearer", "basic"};
    for (size_t i = 0; i < COUNT_OF(SCHEMES); i++) {
        size_t len = strlen(SCHEMES[i]);
        bool here = word >= len && strncasecmp(s.data + word - len, SCHEMES[i], len) == 0 &&
                    (word == len || !is_word(s.data[word - len - 1]));
        size_t value = here ? run_length(s, at, is_value) : 0;
        if (value >= (i == 0 ? 1 : 8)) /* "basic training" is English, "Basic dXNlcjo…" is not */
            return value;
    }
    return 0;
}

typedef struct SecretWord {
    const char *word;
    size_t shortest; /* value of fewer characters is no secret */
} SecretWord;

static const SecretWord SECRET_WORDS[] = {
    {"password", 1}, {"passwd", 1},     {"pwd", 1},         {"passphrase", 1}, {"secret", 1},
    {"token", 4},    {"api_key", 1},    {"api-key", 1},     {"apikey", 1},     {"secret_key", 1},
    {"secretkey", 1}, {"access_key", 1}, {"private_key", 1}, {"credential", 1}, {"credentials", 1},
    {"authorization", 4},
};
static const char *const VOCABULARY[] = {"bos_token", "eos_token",  "pad_token",  "unk_token",
                                         "sep_token", "cls_token",  "mask_token", "stop_token",
                                         "eot_token", "image_token"};

static bool ends_in(Str key, const char *word)
{
    size_t len = strlen(word);
    return key.len >= len && strncasecmp(key.data + key.len - len, word, len) == 0;
}

static const SecretWord *secret_word(Str key)
{
    for (size_t i = 0; i < COUNT_OF(VOCABULARY); i++)
        if (ends_in(key, VOCABULARY[i]))
            return NULL;
    for (size_t i = 0; i < COUNT_OF(SECRET_WORDS); i++)
        if (ends_in(key, SECRET_WORDS[i].word))
            return &SECRET_WORDS[i];
    return NULL;
}

static bool all_digits(Str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!isdigit((unsigned char)s.data[i]))
            return false;
    return true;
}

/* The end of a quoted value (index of the closing quote, or the end of the text). */
static size_t quoted_end(Str s, size_t from, char quote)
{
    size_t i = from;
    while (i < s.len && s.data[i] != quote)
        i += s.data[i] == '\\' ? 2 : 1;
    return i < s.len ? i : s.len;
}

/* When an identifier that names a secret ends just before `at`, finds the value behind "=" or ":";
 * returns its length and sets *from to its start. */
static size_t match_assignment(Str s, size_t at, size_t *from)
{
    if (at == 0 || !is_word(s.data[at - 1]) || is_word(s.data[at]))
        return 0;
    size_t start = at;
    while (start > 0 && is_word(s.data[start - 1]))
        start--;
    const SecretWord *word = secret_word(str_sub(s, start, at));
    if (word == NULL)
        return 0;
    size_t i = at;
    if (i < s.len && (s.data[i] == '"' || s.data[i] == '\''))
        i++;
    i += run_length(s, i, is_blank);
    if (i >= s.len || (s.data[i] != '=' && s.data[i] != ':') || starts_at(s, i, "://"))
        return 0;
    i++;
    i += run_length(s, i, is_blank);
    bool quoted = i < s.len && (s.data[i] == '"' || s.data[i] == '\'');
    *from = quoted ? i + 1 : i;
    size_t end = quoted ? quoted_end(s, *from, s.data[i]) : i + run_length(s, i, is_value);
    Str value = str_sub(s, *from, end);
    bool scheme = strncasecmp(value.data, "bearer", value.len) == 0 ||
                  strncasecmp(value.data, "basic", value.len) == 0;
    if (!quoted && value.len >= 5 && scheme) { /* Authorization: Bearer X */
        size_t gap = run_length(s, end, is_blank);
        *from = end + gap;
        value = str_sub(s, *from, *from + run_length(s, *from, is_value));
    }
    bool number = word->shortest > 1 && all_digits(value) && value.len < 8;
    return value.len >= word->shortest && !number ? value.len : 0;
}

void log_redact(Str text, Buf *out)
{
    assert(out != NULL && (text.data != NULL || text.len == 0));
    for (size_t i = 0; i < text.len;) {
        size_t from = i;
        size_t secret = match_assignment(text, i, &from);
        if (secret == 0) {
            from = i;
            secret = match_userinfo(text, i);
        }
        if (secret == 0)
            secret = match_scheme(text, i);
        if (secret == 0)
            secret = match_jwt(text, i);
        if (secret == 0)
            secret = match_token(text, i);
        if (secret == 0)
            secret = match_aws_secret(text, i);
        if (secret == 0) {
            buf_char(out, text.data[i++]);
            continue;
        }
        assert(from >= i && from + secret <= text.len);
        buf_str(out, str_sub(text, i, from));
        buf_text(out, MARK);
        i = from + secret;
    }
}
