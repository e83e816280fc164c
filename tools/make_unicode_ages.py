"""make_unicode_ages.py: writes src/text/unicode_ages.def from the Unicode Character Database.

    pip install unicodedata2==16.0.0; apt install unicode-data (15.0: DerivedAge.txt)
    python3 tools/make_unicode_ages.py >src/text/unicode_ages.def

It needs Python 3.11, whose own unicodedata is version 14.0, the oldest that the table assumes of PCRE2.
"""
import unicodedata as old

import unicodedata2 as new

AGES = "/usr/share/unicode/DerivedAge.txt"
# What stands for a newer character: the same category, script Han or not, bytes in UTF-8; none of
# them is named by a pattern of a tokenizer.
STAND_INS = {
    ("Lu", 3): 0xA7F5, ("Ll", 3): 0xA7F6, ("Lm", 3): 0xA7F8, ("Lo", 3): 0xA840,
    ("Mn", 3): 0x1AB0, ("Mc", 3): 0x0903, ("Po", 3): 0x1B5A, ("So", 3): 0x2400,
    ("Lu", 4): 0x1D400, ("Ll", 4): 0x1D41A, ("Lm", 4): 0x16FE0, ("Lo", 4): 0x10000,
    ("Mn", 4): 0x101FD, ("Mc", 4): 0x11000, ("Nd", 4): 0x104A0, ("Nl", 4): 0x10140,
    ("No", 4): 0x10107, ("Po", 4): 0x10100, ("Pd", 4): 0x10EAD, ("Sc", 4): 0x1E2FF,
    ("So", 4): 0x10137, ("Sm", 4): 0x1D6C1, ("Sk", 4): 0x1F3FB, ("Cf", 4): 0x110BD,
    ("Han", 4): 0x20000,
}


def characters():
    return (c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF)


def stand_in(code):
    char = chr(code)
    if old.category(char) != "Cn" or new.category(char) == "Cn":
        return None
    han = new.name(char).startswith("CJK UNIFIED IDEOGRAPH")
    key = "Han" if han else new.category(char), len(char.encode())
    chosen = STAND_INS[key]
    assert len(chr(chosen).encode()) == key[1]
    assert old.category(chr(chosen)) == new.category(char)
    return chosen


def assigned_in_9():
    ages = set()
    for line in open(AGES):
        fields = line.partition("#")[0].split(";")
        if len(fields) == 2 and float(fields[1]) <= 9:
            first, _, last = fields[0].strip().partition("..")
            ages.update(range(int(first, 16), int(last or first, 16) + 1))
    return ages


def ranges(codes, value):
    rows = []
    for code in codes:
        known = value(code)
        if known is None:
            continue
        if rows and rows[-1][1] == code - 1 and rows[-1][2] == known:
            rows[-1][1] = code
        else:
            rows.append([code, code, known])
    return rows


def main():
    early = assigned_in_9()
    parts = {ord(p) for c in characters() if c not in early
             for p in new.normalize("NFD", chr(c)) if chr(c) != p}

    def moves(code):
        changes = new.combining(chr(code)) != 0 or new.decomposition(chr(code)) != "" or code in parts
        return True if code not in early and changes else None

    print("""/* unicode_ages.def — characters that versions of Unicode treat differently, in ascending order.
 *
 * Made by tools/make_unicode_ages.py from the Unicode Character Database.
 * NEWER(first, last, stand_in): assigned by Unicode 15.0 to 16.0, and a character of 14.0 that has
 *     the same category and length in UTF-8.
 * NOT_NORMALIZED(first, last): of those assigned after 9.0, what would change, move or join.
 */""")
    for first, last, value in ranges(characters(), stand_in):
        print(f"NEWER(0x{first:X}, 0x{last:X}, 0x{value:X})")
    for first, last, _ in ranges(characters(), moves):
        print(f"NOT_NORMALIZED(0x{first:X}, 0x{last:X})")


if __name__ == "__main__":
    main()
