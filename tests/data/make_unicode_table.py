"""Prints the table of core/text/tokenizer_unicode.c: characters younger than PCRE2's own tables.

Hugging Face tokenizers classifies characters by Oniguruma's Unicode tables (16.0 in tokenizers
0.23.3), PCRE2 10.40 to 10.42 by Unicode 14, which is also what CPython 3.11's unicodedata holds.
The table lists the characters whose general category differs.

    python3.11 tests/data/make_unicode_table.py
"""

import unicodedata

from tokenizers import Regex, pre_tokenizers

CATEGORIES = [
    *["Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe"],
    *["Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cf", "Co"],
]
CHARACTERS = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def members(category: str) -> set[str]:
    """The characters that tokenizers finds in a general category."""
    splitter = pre_tokenizers.Split(Regex(rf"\p{{{category}}}"), "removed")
    text = "".join(CHARACTERS)
    others = {c for piece, _ in splitter.pre_tokenize_str(text) for c in piece}
    return set(CHARACTERS) - others


def main() -> None:
    assert unicodedata.unidata_version == "14.0.0"
    ranges: list[list] = []
    category = {c: name for name in CATEGORIES for c in members(name)}
    for character in sorted(category):
        if category[character] == unicodedata.category(character):
            continue
        code, name = ord(character), category[character]
        if ranges and ranges[-1][1] == code - 1 and ranges[-1][2] == name:
            ranges[-1][1] = code
        else:
            ranges.append([code, code, name])
    for first, last, name in ranges:
        print(f"{{0x{first:05X}, 0x{last:05X}, {name.upper()}}},")


if __name__ == "__main__":
    main()
