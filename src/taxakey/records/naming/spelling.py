"""One key for the spellings of a name that the botanical Code counts as one: gender, i and ii, hyphens, y and i, ae and e.

Art. 60 and 61 of the Code (Shenzhen, 2018) correct them; Rees (Taxamatch, PLoS ONE, 2014) compares names by such keys. Genitives
keep their gender: smithii and smithiae honour two people.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

# In this order, on folded words. The digits stand for endings that letters can't be confused with.
_RULES = (
    (r"['.-]", ""),
    (r"([a-z]{3}i?)ae\b", r"\g1"),
    (r"i?orum\b", "2"),
    (r"i?arum\b", "3"),
    (r"([a-z]{2})i?i\b", r"\g4"),
    (r"([a-z]{2})(?:er|era|erum|erus)\b", r"\gr"),
    (r"([a-z]{3})(?:us|um|is|os|on|a|e)\b", r"\g"),
    ("ae|oe", "e"),
    ("[yj]", "i"),
    ("k", "c"),
    ("w", "v"),
    ("ph", "f"),
    ("th", "t"),
    ("rh", "r"),
)
_TWICE = "abcdefgilmnoprstu"


def spelling_key(words: pa.ChunkedArray) -> pa.ChunkedArray:
    """Folded words [N] -> keys [N], equal for spellings of one name.

    >>> spelling_key(pa.chunked_array([["rufo-fulva", "rufofulvum", "nigra", "niger", "clayii", "clayi", "clayae"]])).to_pylist()
    ['rufofulv', 'rufofulv', 'nigr', 'nigr', 'clai4', 'clai4', 'clai1']
    """
    text = words
    for pattern, meant in _RULES:
        text = pc.replace_substring_regex(text, pattern, meant.replace(r"\g", r"\1"))
    for letter in _TWICE:
        text = pc.replace_substring(text, letter * 2, letter)
    return text
