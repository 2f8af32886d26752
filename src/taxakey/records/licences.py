"""Licences as records spell them -> identifiers of the SPDX list (https://spdx.org/licenses/).

Only Creative Commons is told apart; records hold hardly anything else that has a name. A text that names one of its licences
without a version, or a national version that the list doesn't have, becomes a `LicenseRef-…`, which is SPDX's way of naming what
the list lacks: nobody's terms are made looser or tighter by guessing.
"""

from __future__ import annotations

import re
from functools import lru_cache

_VERSIONS = ("1.0", "2.0", "2.5", "3.0", "4.0")
_KINDS = ("BY", "BY-NC", "BY-ND", "BY-SA", "BY-NC-ND", "BY-NC-SA")
_NATIONAL = (
    "CC-BY-2.5-AU", "CC-BY-3.0-AT", "CC-BY-3.0-AU", "CC-BY-3.0-DE", "CC-BY-3.0-IGO", "CC-BY-3.0-NL", "CC-BY-3.0-US",
    "CC-BY-NC-3.0-DE", "CC-BY-NC-ND-3.0-DE", "CC-BY-NC-ND-3.0-IGO", "CC-BY-NC-SA-2.0-DE", "CC-BY-NC-SA-2.0-FR",
    "CC-BY-NC-SA-2.0-UK", "CC-BY-NC-SA-3.0-DE", "CC-BY-NC-SA-3.0-IGO", "CC-BY-ND-3.0-DE", "CC-BY-SA-2.0-UK", "CC-BY-SA-2.1-JP",
    "CC-BY-SA-3.0-AT", "CC-BY-SA-3.0-DE", "CC-BY-SA-3.0-IGO",
)  # fmt: skip
LISTED = frozenset({"CC0-1.0", "CC-PDM-1.0", *(f"CC-{kind}-{number}" for kind in _KINDS for number in _VERSIONS), *_NATIONAL})
"""The identifiers of the SPDX list that `spdx` can answer with."""

CODES = ("CC0", "CC-PDM", *(f"CC-{kind}" for kind in _KINDS), "other", "none")
"""What a selection may allow: a licence whatever its version, something else that is said, nothing said."""

_WORDS = {
    "by": r"(\bcc |\bcreative ?commons(\.org licenses)? |^)by\b|attribution",
    "nc": r"\bnc\b|non ?commercial",
    "nd": r"\bnd\b|no ?deriv\w*",
    "sa": r"\bsa\b|share ?alike",
}
_COUNTRIES = r"\b(at|au|de|fr|igo|jp|nl|uk|us)\b"


@lru_cache(maxsize=10_000)
def spdx(text: str | None) -> str | None:
    """The identifier of a licence given by its URL, abbreviation or name; None where it isn't one of Creative Commons.

    >>> spdx("http://creativecommons.org/licenses/by-nc/4.0/legalcode"), spdx("CC_BY_4_0"), spdx("CC0 1.0 Universal")
    ('CC-BY-NC-4.0', 'CC-BY-4.0', 'CC0-1.0')
    >>> spdx("CC BY-SA"), spdx("© the garden, all rights reserved")
    ('LicenseRef-CC-BY-SA', None)
    """
    words = " ".join(re.sub(r"[^a-z0-9.]+", " ", (text or "").lower()).split())
    if re.search(r"\bcc ?0\b|\bcc ?zero\b|publicdomain zero|public domain dedication", words):
        return "CC0-1.0"
    if re.search(r"publicdomain mark|public domain mark|\bpdm\b", words):
        return "CC-PDM-1.0"
    if not re.search(r"\bcc\b|creative ?commons|^by( n[cd])*( sa)?( [1-4][. ]\d)?$", words):
        return None
    found = [part.upper() for part, pattern in _WORDS.items() if re.search(pattern, words)]
    kind = "-".join(part for part in ("BY", "NC", "ND", "SA") if part in found)
    if kind not in _KINDS:
        return None
    version = re.search(r"\b([1-4])[. ]([0-9])\b", words)
    if version is None:
        return f"LicenseRef-CC-{kind}"
    name = f"CC-{kind}-{version[1]}.{version[2]}"
    country = re.search(_COUNTRIES, words[version.end() :])
    if country is not None:
        name += f"-{country[1].upper()}"
    return name if name in LISTED else f"LicenseRef-{name}"


def licence_code(text: str | None) -> str:
    """One of `CODES`: the licence without its version.

    >>> licence_code("http://creativecommons.org/licenses/by-nc/4.0/legalcode"), licence_code("CC BY"), licence_code("CC0_1_0")
    ('CC-BY-NC', 'CC-BY', 'CC0')
    >>> licence_code("© Royal Garden"), licence_code(None)
    ('other', 'none')
    """
    if not (text or "").strip():
        return "none"
    name = spdx(text)
    return "other" if name is None else re.sub(r"^LicenseRef-|-\d\..*$", "", name)


def url_of(identifier: str | None) -> str | None:
    """The address of a licence of Creative Commons; None for what isn't on the list.

    >>> url_of("CC-BY-NC-4.0"), url_of("CC-BY-3.0-DE")
    ('https://creativecommons.org/licenses/by-nc/4.0/', 'https://creativecommons.org/licenses/by/3.0/de/')
    """
    if identifier not in LISTED:
        return None
    if identifier in ("CC0-1.0", "CC-PDM-1.0"):
        return f"https://creativecommons.org/publicdomain/{'zero' if identifier == 'CC0-1.0' else 'mark'}/1.0/"
    kind, version, *country = re.fullmatch(r"CC-([A-Z-]+)-(\d\.\d)(?:-([A-Z]+))?", identifier or "").groups("")  # type: ignore[union-attr]
    return f"https://creativecommons.org/licenses/{kind.lower()}/{version}/{country[0].lower() + '/' if country[0] else ''}"
