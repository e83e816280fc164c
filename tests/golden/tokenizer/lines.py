"""Deterministic test texts for tokenizers: scripts, code, emoji, white space, control tokens.

`texts(count, seed)` gives valid Unicode, `broken(count, seed)` gives bytes that are no UTF-8.
"""

import random

WORDS = {
    "latin": "the of and naïve café façade Straße Œuvre ﬁne İstanbul ŁÓDŹ don't I'VE we'll it's "
             "They'd 'twas rock'n'roll O’Reilly e-mail co-operate".split(),
    "vietnamese": "Tiếng Việt được nói ở đâu trường học nghĩa".split(),
    "cyrillic": "быстрая коричневая лиса МоскваГород ёлка їжак".split(),
    "greek": "γρήγορη ἄνθρωπος ΛΌΓΟΣ ς σ".split(),
    "hebrew": "שלום עולם בְּרֵאשִׁית".split(),
    "arabic": "مرحبا بالعالم السَّلامُ ١٢٣ ۴۵۶".split(),
    "devanagari": "नमस्ते दुनिया हिन्दी १२३ क्षत्रिय".split(),
    "bengali": "বাংলা কো কৌ ১২৩".split(),
    "tamil": "தமிழ் கொ கௌ".split(),
    "thai": "สวัสดีชาวโลก กำลัง ๑๒๓".split(),
    "khmer": "កាន់តែពិសេសអាច".split(),
    "tibetan": "བོད་སྐད་ ༡༢༣".split(),
    "korean": "안녕하세요 세계 한국어 ㅋㅋㅋ 각".split(),
    "japanese": "こんにちは世界 カタカナ ｶﾞｷﾞ が は゛ 令和".split(),
    "chinese": "你好世界 我想在apple工作1314151天～ 中文，标点。 𠮷野家".split(),
    "georgian": "გამარჯობა მსოფლიო ᲡᲐᲥᲐᲠᲗᲕᲔᲚᲝ".split(),
    "armenian": "Բարեւ աշխարհ և".split(),
    "ethiopic": "ሰላም ልዑል ፩፪፫".split(),
    "cherokee": "ᏣᎳᎩ ꭰꭱ".split(),
    "mongolian": "ᠮᠣᠩᠭᠣᠯ\u180eᠤᠨ".split(),
    "math": "∑ ∫ 𝒳 𝟙𝟚𝟛 ½ ⅷ ² ₃ ① ㊿ 𐄇 ∞≠≤".split(),
    "symbols": "€ £ ¥ © ® ™ § ¶ † • … — – “ ” « » ← ⇒ ✓ ✗ ★ ░▒▓ ┌─┐".split(),
}
EMOJI = "😀 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ❤️ ☠︎ 1️⃣ 🧑🏿‍🚀 😶‍🌫️ 🫠 🦙🦙".split(" ")
MARKS = ["\u0301", "\u0308", "\u0327", "\u0323", "\u20dd", "\u3099", "\u05b0", "\u0651", "\u0f71"]
SPACES = [" ", "  ", "    ", "\t", "\n", "\r\n", "\r", "\n\n", "\u00a0", "\u2003", "\u3000",
          "\u2028", "\u200b", "\u200d", "\u180e", "\x0b", "\x0c", "\x85", "\ufeff", "\u1680"]
SPECIALS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<repo_name>", "<|im_start|", "<|im_",
            "|im_end|>", "<file_sep>", "<|eot_id|>", "<think>", "</think>", "<tool_call>",
            "<|begin_of_text|>", "<|start_header_id|>", "<|vision_start|>", "<s>", "</s>"]
CODE = [
    "def f(x: int) -> int:\n    return x ** 2  # squared",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * c[i]; }",
    "if (p && !q || r->next == NULL) goto out;",
    "\tprintf(\"%08x\\n\", value);\r\n",
    "SELECT * FROM t WHERE id IN (1, 22, 333) -- comment",
    "<div class=\"a b\"><p>x</p></div>",
    "{\"key\": [1, 2.5e-3, null, true], \"s\": \"\\u00e9\"}",
    "let v: Vec<&'a str> = x.iter().map(|s| &**s).collect();",
    "https://example.org/a_b/c-d?e=f&g=%20#h",
    "$ git commit -m 'x' && make -j8 2>&1 | tee log.txt",
    "x_{i+1} = \\frac{a}{b} + \\sum_{k=0}^{n} k^2",
    "camelCaseName snake_case_name SCREAMING_CASE PascalCase HTTPServer2",
    "#!/bin/sh\nset -eu\n\n\nexit 0\n", "a=b=c;;;;;;", "''''''''\"\"\"\"\"\"``````", "////////****////",
]


def word(r):
    return r.choice(WORDS[r.choice(sorted(WORDS))])


def number(r):
    digits = "".join(r.choice("0123456789") for _ in range(r.choice([1, 2, 3, 4, 5, 9, 17, 40])))
    return r.choice(["%s", "%s.5", "-%s", "0x%s", "%s,000", "$%s", "%s%%", " %s", "v%s"]) % digits


def marked(r):
    base = word(r)
    at = r.randrange(len(base) + 1)
    return base[:at] + "".join(r.choice(MARKS) for _ in range(r.randrange(1, 4))) + base[at:]


def control(r):
    return "".join(chr(r.randrange(0x20)) for _ in range(r.randrange(1, 4))) + r.choice(["", "\x7f"])


def anything(r):
    while True:
        c = r.choice([r.randrange(0x80), r.randrange(0x3000), r.randrange(0x10000),
                      r.randrange(0x110000)])
        if not 0xD800 <= c <= 0xDFFF and not 0xFDD0 <= c <= 0xFDEF and c & 0xFFFE != 0xFFFE:
            return chr(c)


def ascii_noise(r):
    return "".join(chr(r.randrange(0x20, 0x7F)) for _ in range(r.randrange(1, 12)))


PARTS = [(word, 10), (number, 3), (marked, 2), (ascii_noise, 2), (control, 1),
         (lambda r: r.choice(EMOJI), 2), (lambda r: r.choice(CODE), 2),
         (lambda r: r.choice(SPECIALS), 2), (lambda r: r.choice(SPACES) * r.randrange(1, 9), 4),
         (lambda r: "".join(anything(r) for _ in range(r.randrange(1, 4))), 1)]

FIXED = ["", " ", "\n", "a", " a", "  a", "a ", "Hello, world!", "\u0000", "\x00a\x00", "1234567890",
         "12 345  678   9", " 1  2   3", "'s 't 're 've 'm 'll 'd 'S 'RE 'ſ ’s", "it's 9's a's ' s",
         "a\u0301 e\u0301\u0323 \u1e69 \u212b \u2126 \uac00\u11a8 \u1100\u1161\u11a8",
         "\u0344 \u0f43 \u0958 \ufb1d \U0001d15e \u0958\u093c", "x" * 300, " " * 300, "1" * 100,
         "ab" * 400, "你" * 200, "\n" * 50, "🙂" * 40, "<|im_start|>user\nHi<|im_end|>\n",
         "<|im_start|><|im_start|>", " <|im_end|> ", "<|im_end|>\n\n<|im_end|>", "[PAD0] [PAD49151]"]


def texts(count, seed):
    r = random.Random(seed)
    result = list(FIXED)
    makers, weights = zip(*PARTS)
    while len(result) < count:
        parts = r.choices(makers, weights, k=r.randrange(1, 9))
        result.append("".join(p(r) + r.choice(["", " ", " "]) for p in parts))
    return result[:count]


def broken(count, seed):
    r = random.Random(seed)
    result = [b"\xff", b"a\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80\xbf",
              b"ok \xe4\xbd good", b"<|im_start|>\xfe<|im_end|>", b"\xf0\x9f\x98", b"\xe0\x9f\xbf"]
    while len(result) < count:
        text = bytearray("".join(texts(len(FIXED) + 1, r.random())[-1]).encode())
        for _ in range(r.randrange(1, 4)):
            text.insert(r.randrange(len(text) + 1), r.randrange(0x80, 0x100))
        result.append(bytes(text))
    return result[:count]
