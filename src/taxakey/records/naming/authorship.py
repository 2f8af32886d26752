"""Authors of names compared: the same people under abbreviations, initials, ex, in, brackets and diacritics, or others.

Only for homonyms does this decide which taxon is meant, so it says "unknown" rather than guess. Abbreviations follow the habit
of Brummitt and Powell (Authors of Plant Names, 1992): a surname cut or contracted before a full stop, "f." for a son.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Literal

from rapidfuzz.distance import OSA

from taxakey.records.naming.scientific_name import LETTERS

Agreement = Literal["equal", "compatible", "unknown", "differs"]

_FULL = {"l": "linnaeus", "linn": "linnaeus", "dc": "candolle", "hbk": "kunth", "decandolle": "candolle", "linne": "linnaeus"}
_PARTICLES = (
    "de", "da", "do", "dos", "del", "der", "den", "di", "du", "d", "la", "le", "van", "von", "vom", "zu",
    "zur", "ten", "ter", "y", "e", "st", "and",
)  # fmt: skip
_NOT_PEOPLE = re.compile(r"\bhort\.?|\bet al\.?|\bauctt?\.?|\bined\.?|\bnom\. \w+\.?|\bcomb\. \w+\.?|\bal\.|\bemend\.? .*$")
_LOST = "\ufffd"
"""What stands in the place of a letter that a program couldn't decode."""
_YEAR = re.compile(r"\b(1[5-9]\d\d|20\d\d)\b")


@dataclass(frozen=True)
class _Person:
    """`surname`: letters only; `cut`: an abbreviation; `initials`: the first letters of what stands before it; `son`: "f."."""

    surname: str
    cut: bool
    initials: str
    son: bool


@dataclass(frozen=True)
class _Authorship:
    """`final`: who made the combination or the name; `suggested`: who stands before "ex"; `first`: those in brackets."""

    final: tuple[_Person, ...]
    suggested: tuple[_Person, ...]
    first: tuple[_Person, ...]
    year: int | None


def compare_authors(one: str | None, other: str | None) -> Agreement:
    """Whether two authorships name the same people.

    >>> compare_authors("(Tomm. ex Freyn) Rouy", "(Freyn) Rouy"), compare_authors("Boiteau", "Boit.")
    ('compatible', 'compatible')
    >>> compare_authors("Hook.", "Hook.f."), compare_authors("D.Don", "G.Don"), compare_authors("Mill.", None)
    ('differs', 'differs', 'unknown')
    """
    if not one or not other:
        return "unknown"
    if one == other or _letters(one) == _letters(other):
        return "equal"
    first, second = _understand(one), _understand(other)
    if not (first.final or first.first) or not (second.final or second.first):
        return "unknown"
    return "compatible" if _agree(first, second) else "differs"


def _agree(one: _Authorship, other: _Authorship) -> bool:
    if one.year and other.year and abs(one.year - other.year) > 1:
        return False
    if one.first and other.first and not _same(one.first, other.first):
        return False
    if _same(one.final, other.final):
        return True
    # "Tomm. ex Freyn" is also cited as Tomm. alone; "(Linnaeus, 1758)" has nobody outside its brackets.
    if _same(one.suggested, other.final) or _same(one.final, other.suggested):
        return True
    if not (one.final and other.final):
        return _same(one.final or one.first, other.final or other.first)
    return False


def _same(some: tuple[_Person, ...], others: tuple[_Person, ...]) -> bool:
    """Everyone of the shorter list is in the longer one: "& al." leaves authors out."""
    fewer, more = sorted((some, others), key=len)
    return bool(fewer) and all(any(_same_person(person, other) for other in more) for person in fewer)


def _same_person(one: _Person, other: _Person) -> bool:
    if one.son != other.son or not _same_initials(one.initials, other.initials):
        return False
    if one.surname == other.surname or _lost_letters_apart(one.surname, other.surname):
        return True
    short, long = sorted((one, other), key=lambda person: len(person.surname))
    if short.cut and short.surname[0] == long.surname[0] and _contracts(short.surname, long.surname):
        return True
    return min(len(short.surname), len(long.surname)) > 4 and OSA.normalized_similarity(short.surname, long.surname) >= 0.8


def _lost_letters_apart(one: str, other: str) -> bool:
    """Whether two surnames differ only in letters that a wrong encoding destroyed."""
    if _LOST not in one + other or len(one) != len(other):
        return False
    return all(mine == yours or _LOST in (mine, yours) for mine, yours in zip(one, other, strict=True))


def _same_initials(one: str, other: str) -> bool:
    """Those that are given: "Don" may be D.Don, "H.Don" may be "H.G.Don"."""
    return not one or not other or one[0] == other[0]


def _contracts(short: str, long: str) -> bool:
    """All letters of `short` stand in `long` in the same order: Rchb. for Reichenbach, Schltdl. for Schlechtendal."""
    letters = iter(long)
    return all(letter in letters for letter in short)


@cache
def _letters(author: str) -> str:
    """What must be equal for equal authors, without regard to spaces, stops and the ways to write "and"."""
    text = re.sub(r"&amp;|\bet\b|\band\b|,", "&", _folded(author))
    return re.sub(r"[^\w&()]", "", text)


@cache
def _understand(author: str) -> _Authorship:
    text = _folded(author).replace("&amp;", "&")
    found = _YEAR.search(text)
    text = _NOT_PEOPLE.sub(" ", _YEAR.sub(" ", text))
    text = re.sub(r"\bin\b.*$|:.*$", "", text)
    inside, outside = re.match(r"^\s*(?:[(\[](.*?)[)\]])?(.*)$", text, re.DOTALL).groups()  # type: ignore[union-attr]
    suggested, _, final = outside.rpartition(" ex ")
    first = _people((inside or "").replace(" ex ", "&"))
    return _Authorship(_people(final), _people(suggested), first, int(found[0]) if found else None)


def _people(text: str) -> tuple[_Person, ...]:
    parts = re.split(r"&|,|;|\bet\b|\band\b|\bund\b", text)
    return tuple(person for person in map(_person, parts) if person)


def _person(text: str) -> _Person | None:
    words = re.findall(rf"(?:[^\W\d_]|{_LOST})+[.]?", text.replace("'", ""))
    words = [word for word in words if word not in _PARTICLES]
    son = len(words) > 1 and words[-1] in ("f.", "f", "fil.", "filius")
    words = words[:-1] if son else words
    if not words:
        return None
    surname = words[-1].rstrip(".")
    full = _FULL.get(surname)
    return _Person(full or surname, words[-1].endswith(".") and not full, "".join(word[0] for word in words[:-1]), son)


@cache
def _folded(author: str) -> str:
    """Lower case without diacritics, as `scientific_name.fold` does it for columns."""
    text = author.lower()
    if text.isascii():
        return text
    for letter, letters in LETTERS.items():
        text = text.replace(letter, letters)
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
