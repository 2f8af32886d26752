"""The invented flora: a tree of families, genera and species whose traits are inherited with small changes."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxakey.records.sample.options import SampleOptions, stream
from taxakey.records.sample.words import GenusName, author, epithet, family_name, genus_name, pick, vernacular_name

FORMS: dict[str, tuple[str, ...]] = {
    "habit": ("erect", "branched", "rosette", "tuft", "erect", "branched", "vine"),
    "arrangement": ("alternate", "opposite", "whorled"),
    "leaf": ("simple", "simple", "simple", "pinnate", "palmate"),
    "margin": ("entire", "serrate", "crenate", "lobed", "palmately lobed"),
    "venation": ("pinnate", "parallel", "palmate"),
    "inflorescence": ("solitary", "raceme", "spike", "umbel", "panicle", "head", "axillary"),
    "fruit": ("berry", "capsule", "pod", "nutlet"),
}
"""The forms that a trait can take; one named twice is twice as likely."""

_CIRCULAR = ("flower_hue", "fruit_hue")


@dataclass(frozen=True)
class Traits:
    """What a plant of a species looks like. Numbers run from 0 to 1; the drawing says what they mean there."""

    habit: str
    arrangement: str
    leaf: str
    margin: str
    venation: str
    inflorescence: str
    fruit: str
    leaf_length: float
    """of 0 is as wide as long, of 1 a ribbon."""
    leaf_widest: float
    leaf_base: float
    leaf_tip: float
    leaf_size: float
    leaf_number: float
    leaf_angle: float
    leaf_hue: float
    leaf_light: float
    leaf_curl: float
    petiole: float
    teeth: float
    tooth_depth: float
    leaflets: float
    stem_width: float
    stem_hue: float
    stem_curve: float
    branching: float
    petals: float
    petal_width: float
    petal_notch: float
    flower_hue: float
    flower_light: float
    flower_size: float
    flower_number: float
    eye_hue: float
    fruit_hue: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Traits:
        """Traits of a family's common ancestor."""
        values: dict[str, Any] = {field.name: float(rng.random()) for field in fields(cls) if field.name not in FORMS}
        values |= {name: pick(rng, forms) for name, forms in FORMS.items()}
        return cls(**values)

    @classmethod
    def dealt(cls, rng: np.random.Generator, count: int) -> list[Traits]:
        """Traits of so many families; the forms are dealt like cards, so that even a few families differ in habit and leaf."""
        decks = {name: rng.permutation(forms) for name, forms in FORMS.items()}
        dealt = []
        for family in range(count):
            hand: dict[str, Any] = {name: str(deck[family % len(deck)]) for name, deck in decks.items()}
            dealt.append(replace(cls.random(rng), **hand))
        return dealt

    def mutated(self, rng: np.random.Generator, *, step: float, flip: float) -> Traits:
        """Every number moves by a normal step of that size, every form changes with the probability `flip`."""
        changes: dict[str, Any] = {}
        for field in fields(self):
            if field.name not in FORMS:
                changes[field.name] = _within(field.name, getattr(self, field.name) + step * rng.standard_normal())
            elif rng.random() < flip:
                changes[field.name] = pick(rng, FORMS[field.name])
        return replace(self, **changes)

    def with_new(self, rng: np.random.Generator, name: str) -> Traits:
        """One character changed so much that a key could ask for it."""
        if name in FORMS:
            change: dict[str, Any] = {name: pick(rng, [form for form in FORMS[name] if form != getattr(self, name)])}
            return replace(self, **change)
        now = getattr(self, name)
        if name in _CIRCULAR:
            change = {name: float((now + rng.uniform(0.2, 0.8)) % 1.0)}
        else:
            change = {name: float(rng.uniform(0, now - 0.3) if now > 0.5 else rng.uniform(now + 0.3, 1.0))}
        return replace(self, **change)

    def vector(self) -> NDArray[np.float64]:
        """All traits as one vector; a form is a one-hot group of length 1/sqrt(2), so that two forms differ by 1."""
        parts: list[float] = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in FORMS:
                parts += [(form == value) * 0.5**0.5 for form in dict.fromkeys(FORMS[field.name])]
            elif field.name in _CIRCULAR:
                parts += [0.25 * np.cos(2 * np.pi * value), 0.25 * np.sin(2 * np.pi * value)]
            else:
                parts.append(value)
        return np.array(parts)


def _within(name: str, value: float) -> float:
    if name in _CIRCULAR:
        return float(value % 1.0)
    value = abs(value) % 2.0  # reflected at both ends, so that traits don't pile up there
    return float(2.0 - value if value > 1.0 else value)


@dataclass(frozen=True)
class Name:
    """A name of a species, accepted or not."""

    genus: str
    epithet: str
    author: str
    key: int
    """Number of the name in the backbone, what GBIF calls taxonKey."""

    @property
    def canonical(self) -> str:
        return f"{self.genus} {self.epithet}"

    @property
    def full(self) -> str:
        return f"{self.genus} {self.epithet} {self.author}"


@dataclass(frozen=True)
class Genus:
    """A genus and what its species inherit."""

    name: GenusName
    family: str
    order: str
    traits: Traits
    poisonous: float
    """Share of its species that are."""
    habitat: int
    substrate: int
    epithets: set[str]


@dataclass(frozen=True)
class Species:
    """A species with everything that its specimens are drawn from."""

    index: int
    name: Name
    synonyms: tuple[Name, ...]
    genus_author: str
    family: str
    order: str
    vernacular: str
    traits: Traits
    poisonous: bool
    flowering: float
    """Day of the year at the height of its flowering."""
    island: int
    home: tuple[float, float]
    """Centre of its range, as shares of the island's extent to the north and to the east, -1 to 1."""
    habitat: int
    substrate: int


# Steps from rank to rank. Chosen so that a small network tells families at once and mixes up species of one genus.
_TO_GENUS = {"step": 0.16, "flip": 0.22}
_TO_SPECIES = {"step": 0.05, "flip": 0.02}
_LEAF_CHARACTERS = ("margin", "leaf_length", "leaf_widest", "leaf_size", "leaf_hue", "leaf_number")
_FLOWER_CHARACTERS = ("inflorescence", "flower_hue", "flower_hue", "petals", "flower_size")


class Flora:
    """All species: first the known ones, then the unknown ones, then those that only the web set has."""

    def __init__(self, options: SampleOptions) -> None:
        self._taken: set[str] = set()
        self._families: set[str] = set()
        self._next_key = 2_000_000
        known, unknown = options.known_species, options.unknown_species
        rng = stream(options.seed, "flora")
        self._genera = self._grown_genera(rng, known)
        members = _shared_out(rng, known, len(self._genera))
        parents = [genus for genus, count in zip(self._genera, members, strict=True) for _ in range(count)]
        self.species = [self._new_species(rng, index, genus) for index, genus in enumerate(parents)]
        self._require_both_kinds()
        self.known = range(known)
        self.unknown = self._add(stream(options.seed, "unknown"), unknown)
        self.web_only = self._add(stream(options.seed, "web flora"), max(2, known // 5) if options.web else 0)

    def _grown_genera(self, rng: np.random.Generator, species: int) -> list[Genus]:
        # 40 species make 5 families and 12 genera, 300 make 13 and 47: about the ratios of a regional flora.
        families = max(2, round(species**0.45)) if species > 3 else 2
        genera = max(families, round(species**0.675)) if species > 3 else 2
        grown = []
        for traits, count in zip(Traits.dealt(rng, families), _shared_out(rng, genera, families), strict=True):
            order = pick(rng, ("Velanales", "Brossales", "Quilisales", "Ostuvales"))
            names = [genus_name(rng, self._taken) for _ in range(count)]
            while (family := family_name(names[0])) in self._families:
                names[0] = genus_name(rng, self._taken)
            self._families.add(family)
            grown += [self._new_genus(rng, name, family, order, traits) for name in names]
        return grown

    def _new_genus(self, rng: np.random.Generator, name: GenusName, family: str, order: str, ancestor: Traits) -> Genus:
        traits = ancestor.mutated(rng, **_TO_GENUS)
        poisonous = 0.9 if rng.random() < 0.12 else 0.03
        return Genus(name, family, order, traits, poisonous, int(rng.integers(100)), int(rng.integers(100)), set())

    def _new_species(self, rng: np.random.Generator, index: int, genus: Genus) -> Species:
        traits = genus.traits.mutated(rng, **_TO_SPECIES)
        traits = traits.with_new(rng, pick(rng, _LEAF_CHARACTERS)).with_new(rng, pick(rng, _FLOWER_CHARACTERS))
        name = self._new_name(rng, genus.name, genus.epithets)
        return Species(
            index=index,
            name=name,
            synonyms=tuple(self._synonym(rng, genus, name) for _ in range(int(rng.choice(3, p=(0.45, 0.4, 0.15))))),
            genus_author=genus.name.author,
            family=genus.family,
            order=genus.order,
            vernacular=vernacular_name(rng),
            traits=traits,
            poisonous=bool(rng.random() < genus.poisonous),
            flowering=float(rng.uniform(95, 255)),
            island=int(rng.integers(5)),
            home=(float(rng.uniform(-1, 1)), float(rng.uniform(-1, 1))),
            habitat=genus.habitat if rng.random() < 0.5 else int(rng.integers(100)),
            substrate=genus.substrate if rng.random() < 0.5 else int(rng.integers(100)),
        )

    def _new_name(self, rng: np.random.Generator, genus: GenusName, taken: set[str], cited: str | None = None) -> Name:
        self._next_key += int(rng.integers(1, 90))
        return Name(genus.name, epithet(rng, genus.gender, taken), cited or author(rng), self._next_key)

    def _synonym(self, rng: np.random.Generator, genus: Genus, accepted: Name) -> Name:
        if rng.random() < 0.5:  # described once more under another epithet
            return self._new_name(rng, genus.name, genus.epithets)
        other = genus_name(rng, self._taken)  # described in a genus that is no longer kept up
        return self._new_name(rng, other, set(), cited=f"({accepted.author}) {author(rng)}")

    def _add(self, rng: np.random.Generator, count: int) -> range:
        first = len(self.species)
        for index in range(first, first + count):
            genus = pick(rng, self._genera)
            if rng.random() < 0.35:
                genus = self._new_genus(rng, genus_name(rng, self._taken), genus.family, genus.order, genus.traits)
            self.species.append(self._new_species(rng, index, genus))
        return range(first, first + count)

    def _require_both_kinds(self) -> None:
        marks = [species.poisonous for species in self.species]
        if all(marks) or not any(marks):
            self.species[0] = replace(self.species[0], poisonous=not marks[0])


def _shared_out(rng: np.random.Generator, items: int, owners: int) -> list[int]:
    """Give each owner one item, and the others by preference for those who have many: few large, many small taxa."""
    counts = np.ones(owners)
    for _ in range(items - owners):
        liking = counts + 2  # without it one owner would get almost all
        counts[rng.choice(owners, p=liking / liking.sum())] += 1
    return [int(count) for count in counts]
