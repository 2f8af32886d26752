"""Licences as records give them -> short codes. Records write one licence in a dozen ways; only Creative Commons is told apart.

Codes are SPDX's without their version (https://spdx.org/licenses/): CC0, CC-BY, CC-BY-SA, CC-BY-NC, CC-BY-NC-SA, CC-BY-ND,
CC-BY-NC-ND, PDM (public domain mark); "other" where something else is said, "none" where nothing is.
"""

from __future__ import annotations

import re

CODES = ("CC0", "PDM", "CC-BY", "CC-BY-SA", "CC-BY-NC", "CC-BY-NC-SA", "CC-BY-ND", "CC-BY-NC-ND", "other", "none")

_WORDS = (("attribution", "by"), ("non commercial", "nc"), ("noncommercial", "nc"), ("share alike", "sa"), ("sharealike", "sa"))
_MORE_WORDS = (("no derivatives", "nd"), ("noderivatives", "nd"), ("no derivs", "nd"), ("noderivs", "nd"))


def licence_code(text: str | None) -> str:
    """The code of a licence's URL, abbreviation or name.

    >>> licence_code("http://creativecommons.org/licenses/by-nc/4.0/legalcode")
    'CC-BY-NC'
    >>> licence_code("CC BY-SA 3.0"), licence_code("CC0_1_0"), licence_code("© Royal Garden"), licence_code(None)
    ('CC-BY-SA', 'CC0', 'other', 'none')
    """
    if not text or not text.strip():
        return "none"
    words = re.sub(r"[^a-z0-9]+", " ", text.lower())
    if re.search(r"\bcc ?0\b|publicdomain zero|\bcc zero\b", words):
        return "CC0"
    if re.search(r"publicdomain mark|public domain mark", words):
        return "PDM"
    if not re.search(r"\bcc\b|creative ?commons", words):
        return "other"
    for long, short in (*_WORDS, *_MORE_WORDS):
        words = words.replace(long, f" {short} ")
    parts = set(words.split())
    if "by" not in parts or {"sa", "nd"} <= parts:
        return "other"
    return "-".join(["CC-BY", *(part.upper() for part in ("nc", "nd", "sa") if part in parts)])
