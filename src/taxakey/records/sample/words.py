"""Invented names: genera, epithets, people, places and everyday names of plants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")

_BEGINNINGS = (
    *("Bro", "Vel", "Tas", "Mir", "Zon", "Quil", "Dra", "Fen", "Lum", "Nar", "Sil", "Tor", "Vex", "Yl", "Cor", "Phel"),
    *("Gri", "Ost", "Ruv", "Ham", "Kel", "Ulm", "Jor", "Wen"),
)
_MIDDLES = ("anth", "erv", "isk", "omn", "ass", "elv", "urn", "ild", "oph", "arr", "est", "ov", "ind", "ugl", "enn", "az")
_ENDINGS = (
    ("ia", "f"),
    ("ella", "f"),
    ("ora", "f"),
    ("ina", "f"),
    ("ea", "f"),
    ("ium", "n"),
    ("um", "n"),
    ("us", "m"),
    ("ites", "m"),
)

_ADJECTIVES_US = (
    *("alb", "glauc", "hirsut", "tenuifoli", "latifoli", "angustat", "montan", "maritim", "palustr-", "rupestr-", "aquatic"),
    *("nitid", "pallid", "obscur", "rubr", "lute", "violace", "caerule", "divaricat", "erect", "prostrat", "robust", "parv"),
    *("maxim", "dentat", "crenat", "lobat", "integrifoli", "punctat", "glabr", "pubescens-", "scabr", "villos", "sericat"),
    *("paniculat", "racemos", "spicat", "umbellat", "solitari", "congest", "lax", "gracil-", "humil-", "vulgar-", "boreal-"),
    *("insular-", "litoral-", "campestr-", "virid-", "repens-", "procumbens-", "nutans-", "fragrans-", "elegans-", "simplex-"),
    *("arvens-", "pratens-", "ignot", "neglect", "confus", "mutat", "variegat", "ornat", "modest", "splendid", "torv", "decor"),
)
_AUTHORS = (
    *("Orvik", "Tallow", "Mirov", "Hendel", "Ashgrove", "Quist", "Balmeth", "Corvane", "Dunmarr", "Ekelin", "Fairn", "Gosk"),
    *("Halvard", "Ibsley", "Jorrin", "Kestrow", "Lindqvell", "Morrath", "Nesker", "Oduya-Finn", "Parrish-Low", "Rundell"),
)
_INITIALS = "ABCDEFGHIJKLMNOPRSTVW"
_FEATURES = ("Cape {}", "above Lake {}", "Vale of {}", "{} Moor", "River {}", "Mount {}", "{} Woods", "near {}", "{} Cliffs")
_PLACE_STEMS = ("Torr", "Sill", "Murn", "Brann", "Esk", "Dol", "Carv", "Auld", "Wether", "Hask", "Lorn", "Pell", "Strath", "Und")
_PLACE_ENDS = ("an", "en", "mere", "wick", "garth", "ey", "holm", "stead", "more", "in")
_VERNACULAR = (
    ("Marsh", "Rock", "Shore", "Wood", "Pale", "Dark", "Slender", "Great", "Lesser", "Hairy", "Sweet", "Creeping", "Noble"),
    ("velvet", "lantern", "thimble", "feather", "needle", "ribbon", "button", "shepherd's ", "fox", "candle", "silver", "bitter"),
    ("wort", "leaf", "bell", "weed", "bush", "crown", "grass", "root", "berry", "vine"),
)


def pick(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    """One of the items, each as likely; unlike `rng.choice` it keeps the item's type."""
    return items[int(rng.integers(len(items)))]


@dataclass(frozen=True)
class GenusName:
    """A genus with the grammatical gender that its epithets follow."""

    name: str
    gender: str
    author: str


def genus_name(rng: np.random.Generator, taken: set[str]) -> GenusName:
    """An invented genus that isn't in `taken`, and adds it there."""
    while True:
        ending, gender = pick(rng, _ENDINGS)
        middles = pick(rng, _MIDDLES) + (pick(rng, _MIDDLES) if len(taken) > 5000 else "")
        name = pick(rng, _BEGINNINGS) + middles + ending
        if name not in taken:
            taken.add(name)
            return GenusName(name, gender, author(rng))


def family_name(genus: GenusName) -> str:
    """The family of a type genus."""
    for ending, _ in _ENDINGS:
        if genus.name.endswith(ending):
            return genus.name.removesuffix(ending) + "aceae"
    raise AssertionError(genus.name)


def epithet(rng: np.random.Generator, gender: str, taken: set[str]) -> str:
    """A Latin epithet in the gender of its genus, not in `taken`, and adds it there."""
    while True:
        prefix = pick(rng, ("sub", "pseudo", "per", "neo")) if len(taken) > len(_ADJECTIVES_US) // 2 else ""
        if len(taken) > 4 * len(_ADJECTIVES_US) // 2:
            prefix += pick(rng, ("para", "micro", "macro", "hemi", "tri", "penta", "poly", "oligo"))
        word = prefix + _inflected(pick(rng, _ADJECTIVES_US), gender)
        if word not in taken:
            taken.add(word)
            return word


def _inflected(stem: str, gender: str) -> str:
    if not stem.endswith("-"):
        return stem + {"f": "a", "m": "us", "n": "um"}[gender]
    stem = stem.removesuffix("-")
    if stem.endswith(("cens", "pens", "bens", "ans", "ex")):
        return stem  # one form for all three genders: repens, elegans, simplex
    return stem + ("e" if gender == "n" else "is")


def author(rng: np.random.Generator) -> str:
    """The author of a name as botanists cite it."""
    return pick(rng, _AUTHORS) if rng.random() < 0.7 else f"{pick(rng, _INITIALS)}.{pick(rng, _AUTHORS)}"


def collector(rng: np.random.Generator) -> str:
    """A person who collects plants."""
    return f"{pick(rng, _INITIALS)}. {pick(rng, _INITIALS)}. {pick(rng, _AUTHORS)}"


def locality(rng: np.random.Generator) -> str:
    """A place as it stands on a label."""
    place = pick(rng, _FEATURES).format(pick(rng, _PLACE_STEMS) + pick(rng, _PLACE_ENDS))
    return (
        place if rng.random() < 0.5 else f"{place}, {int(rng.integers(1, 15))} km {pick(rng, ('N', 'E', 'S', 'W', 'NE', 'SW'))}"
    )


def vernacular_name(rng: np.random.Generator) -> str:
    """An everyday name; not always unique, as in life."""
    adjective, front, back = (pick(rng, words) for words in _VERNACULAR)
    return f"{adjective} {front}{back}"


def misspelling(rng: np.random.Generator, name: str) -> str:
    """The name with one slip: a letter lost, doubled, or swapped with its neighbour; never the name itself."""
    while True:
        at = int(rng.integers(2, len(name)))
        before, letter = name[at - 1], name[at]
        if " " in (before, letter):
            continue
        slips = (name[:at] + name[at + 1 :], name[:at] + letter + name[at:], name[: at - 1] + letter + before + name[at + 1 :])
        if (slip := pick(rng, slips)) != name:
            return slip
