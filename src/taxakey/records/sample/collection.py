"""Who collected which plant where, and in which herbarium it lies: a specimen follows from its number, so none is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from taxakey.errors import BadInput
from taxakey.records.sample.flora import Flora, Name, Species
from taxakey.records.sample.institutions import INSTITUTIONS
from taxakey.records.sample.options import LEAKS, SampleOptions, stream
from taxakey.records.sample.words import collector, locality, misspelling, pick

ISLANDS = (
    # Codes that ISO 3166 leaves to users, and places where there is only sea: name, code, latitude, longitude.
    ("Aurel", "XA", 52.1, -27.5),
    ("Brannoch", "XB", 47.8, -31.0),
    ("Cardune", "XC", 44.2, -24.6),
    ("Dolmary", "XD", 39.7, -29.3),
    ("Esker", "XE", 36.4, -22.8),
)
HABITATS = (
    *("wet meadow", "dry grassland", "beech wood", "pine wood", "heath", "bog", "sea cliff", "dunes", "river bank"),
    *("field margin", "scree", "garden wall"),
)
SUBSTRATES = ("limestone", "granite", "sand", "peat", "loam", "clay", "basalt", "leaf litter", "dead wood", "shingle")
WEB_CODE = "XPIX"
_COLLECTORS = 9  # of each institution
_WEB_WRONG = 0.08


@dataclass(frozen=True)
class Specimen:
    """One plant, collected once, as its label tells; the faults of its record come later (see archive.py)."""

    number: int
    species: int
    """What it is and is drawn as: index into `Flora.species`."""
    named: int
    """What it is said to be."""
    name: Name
    """The name it was given, which may be a synonym."""
    verbatim: str
    """The name as it stands on the label, which may be misspelled."""
    family: str
    """The family of that name."""
    genus_only: bool
    """Whether it is misspelled so badly that only the genus can be made out."""
    institution: int
    catalog_number: str
    collector: str
    record_number: int
    collected: date
    island: int
    latitude: float
    longitude: float
    locality: str
    habitat: str
    substrate: str
    stage: str
    """flower, fruit or sterile"""
    photographs: int
    split: str
    leak: str = ""
    """Why it is there a second time: one of `LEAKS`, or nothing."""

    @property
    def institution_code(self) -> str:
        return self.catalog_number[:4]

    def image_path(self, photograph: int) -> str:
        """Where the picture lies, seen from the archive; a thousand specimens a folder."""
        folder = "web/images" if self.institution_code == WEB_CODE else "images"
        again = "again_" if self.leak else ""
        return f"{folder}/{self.number // 1000:03d}/{self.catalog_number}_{again}{photograph + 1}.jpg"


class Collection:
    """All specimens by number: those of the known species, of the shift, of the unknown species, then the duplicates."""

    def __init__(self, options: SampleOptions) -> None:
        self.options = options
        self.flora = Flora(options)
        # Each part has random numbers of its own, so that asking for more leaves the others as they are.
        main_rng, shift_rng, unknown_rng, label_rng, copy_rng = (stream(options.seed, "specimens", part) for part in range(5))
        known = len(self.flora.known)
        rank = main_rng.permutation(known)
        # Zipf: of 40 species the commonest has 23 % of the specimens, the rarest 0.6 %. The shift turns the ranks round.
        main = _part(main_rng, 1 / (1 + rank), options.sheets)
        shift = _part(shift_rng, 1 / (known - rank), round(options.shift * options.sheets))
        unknown = _part(unknown_rng, np.ones(len(self.flora.unknown)), self._unknown_sheets())
        self.species = np.concatenate([main[0], shift[0], unknown[0] + known])
        self.photographs = np.concatenate([main[1], shift[1], unknown[1]])
        self.main = len(main[0])
        self.shifted = range(self.main, self.main + len(shift[0]))
        self.named = self._with_wrong_labels(label_rng)
        copies = round(options.duplicates * self.main)
        turn = copy_rng.permutation(self.main)
        self.sources = turn[:copies]
        """Number of the specimen of which each duplicate shows the first picture again; those of the leaks stand last."""
        self._houses = self._institutions_of_species()
        self._collectors = _collectors(options.seed)
        self.leaks: dict[int, str] = {}
        """Number of each specimen that leaks -> how."""
        self.leaks = self._planted(turn[copies:])
        self.sources = np.concatenate([self.sources, np.fromiter(self.leaks, dtype=np.int64)])

    def _planted(self, candidates: NDArray[np.int64]) -> dict[int, str]:
        """Which of the candidates leak, and how; a name that can't be read to the species would never come to a split."""
        wanted = [kind for kind in LEAKS for _ in range(self.options.leaks)]
        readable = (int(number) for number in candidates if not self.specimen(int(number)).genus_only) if wanted else iter(())
        planted = dict(zip(readable, wanted, strict=False))
        if len(planted) < len(wanted):
            raise BadInput(f"simulated herbarium: {len(wanted)} leaks, but only {len(planted)} specimens are left for them")
        return planted

    def _unknown_sheets(self) -> int:
        """Each unknown species has a third of the sheets that a known one has on average."""
        options = self.options
        return options.unknown_species * max(4, round(options.sheets / options.known_species / 3))

    @property
    def drawn(self) -> int:
        """Number of specimens that are drawn; duplicates are numbered from here on."""
        return len(self.species)

    def _with_wrong_labels(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """What each specimen is said to be: for the wrong ones mostly a species of the same genus or family."""
        named = self.species.copy()
        species = self.flora.species[: len(self.flora.known)]
        for number in rng.permutation(self.main)[: round(self.options.wrong_labels * self.main)]:
            true = species[named[number]]
            others = [other for other in species if other.index != true.index]
            relatives = [other for other in others if other.family == true.family]
            sisters = [other for other in relatives if other.name.genus == true.name.genus]
            choices = [pool for pool in (sisters, sisters, relatives, others) if pool]
            named[number] = pick(rng, pick(rng, choices)).index
        return named

    def _institutions_of_species(self) -> NDArray[np.float64]:
        """Share of each institution [species, institutions]: one has two thirds of a species, the others the rest."""
        rng, count = stream(self.options.seed, "institutions"), len(INSTITUTIONS)
        # Species by species: further species mustn't change the draws of the first ones.
        rows = [
            rng.dirichlet(np.ones(count)) / 3 + (2 / 3) * (np.arange(count) == rng.integers(count)) for _ in self.flora.species
        ]
        shares = np.array(rows)
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def specimen(self, number: int) -> Specimen:
        """The specimen of that number, or the duplicate."""
        if number >= self.drawn:
            return self._duplicate(number)
        rng = stream(self.options.seed, "specimen", number)
        species = int(self.species[number])
        institution = int(rng.choice(len(INSTITUTIONS), p=self._houses[species]))
        specimen = self._collected(rng, number, species, int(self.named[number]), institution, INSTITUTIONS[institution].code)
        return replace(specimen, photographs=int(self.photographs[number]), split=self._split(number))

    def _split(self, number: int) -> str:
        if number < self.main:
            return "train" if self.leaks.get(number) == "same observation" else ""
        return "test" if number in self.shifted or number % 2 else "validation"

    def _duplicate(self, number: int) -> Specimen:
        source = self.specimen(int(self.sources[number - self.drawn]))
        institution = (source.institution + 1 + number % (len(INSTITUTIONS) - 1)) % len(INSTITUTIONS)
        catalog_number = f"{INSTITUTIONS[institution].code}{1_000_000 + number}"
        leak = self.leaks.get(source.number, "")
        copy = replace(source, number=number, photographs=1, leak=leak)
        if leak in ("same specimen", "same observation"):
            return replace(copy, split="test" if leak == "same observation" else "")
        if leak == "other label":
            copy = self._relabelled(copy)
        return replace(copy, institution=institution, catalog_number=catalog_number)

    def _relabelled(self, specimen: Specimen) -> Specimen:
        """Said to be the next species."""
        label = self.flora.species[(specimen.named + 1) % len(self.flora.known)]
        name = label.name
        return replace(specimen, named=label.index, name=name, verbatim=name.canonical, family=label.family)

    def web_specimen(self, number: int) -> Specimen:
        """A plant of the web set: any known species about as often as any other, some species of its own, many wrong names."""
        rng = stream(self.options.seed, "web", number)
        known, foreign = len(self.flora.known), self.flora.web_only
        species = int(rng.integers(known)) if rng.random() < 0.75 else pick(rng, foreign)
        named = int(rng.integers(known)) if rng.random() < _WEB_WRONG else species
        return self._collected(rng, number, species, named, 0, WEB_CODE)

    def _collected(self, rng: np.random.Generator, number: int, true: int, named: int, house: int, code: str) -> Specimen:
        species, label = self.flora.species[true], self.flora.species[named]
        name, verbatim, genus_only = self._identification(rng, label)
        collected, stage = _season(rng, species)
        island = species.island if rng.random() < 0.8 else int(rng.integers(len(ISLANDS)))
        north, east = np.clip(np.array(species.home) + 0.2 * rng.standard_normal(2), -1, 1)
        return Specimen(
            number=number,
            species=true,
            named=named,
            name=name,
            verbatim=verbatim,
            family=label.family,
            genus_only=genus_only,
            institution=house,
            catalog_number=f"{code}{1_000_000 + number}",
            collector=pick(rng, self._collectors[house]),
            record_number=int(rng.integers(1, 9000)),
            collected=collected,
            island=island,
            latitude=round(ISLANDS[island][2] + 1.2 * float(north), 4),
            longitude=round(ISLANDS[island][3] + 1.6 * float(east), 4),
            locality=locality(rng),
            habitat=_often(rng, HABITATS, species.habitat),
            substrate=_often(rng, SUBSTRATES, species.substrate),
            stage=stage,
            photographs=1,
            split="",
        )

    def _identification(self, rng: np.random.Generator, species: Species) -> tuple[Name, str, bool]:
        dirt = self.options.dirt
        name = species.name
        if species.synonyms and rng.random() < dirt.synonym:
            name = pick(rng, species.synonyms)
        if rng.random() >= dirt.misspelled:
            return name, name.canonical, False
        return name, misspelling(rng, name.canonical), bool(rng.random() < 0.25)


def _part(rng: np.random.Generator, weights: NDArray[np.float64], sheets: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Species and number of photographs of each specimen, with `sheets` photographs in all.

    Every species has one specimen at least where there are enough.
    """
    if sheets == 0 or len(weights) == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    photographs = rng.choice([1, 2, 3], p=(0.6, 0.28, 0.12), size=sheets)
    count = int(np.searchsorted(photographs.cumsum(), sheets)) + 1
    photographs = photographs[:count]
    photographs[-1] -= photographs.sum() - sheets
    each = 1 if count >= len(weights) else 0
    bounds = np.round((weights / weights.sum() * (count - each * len(weights))).cumsum()).astype(np.int64)
    species = np.repeat(np.arange(len(weights)), each + np.diff(bounds, prepend=0))
    rng.shuffle(species)
    return species, photographs


def _collectors(seed: int) -> list[list[str]]:
    rng = stream(seed, "institutions", 1)
    return [[collector(rng) for _ in range(_COLLECTORS)] for _ in INSTITUTIONS]


def _season(rng: np.random.Generator, species: Species) -> tuple[date, str]:
    """When it was collected, and what it bears then: most plants are collected in flower."""
    year = max(1880, 2023 - int(rng.exponential(35)))
    late = float(np.clip(28 * rng.standard_normal(), -80, 100))
    collected = date(year, 1, 1) + timedelta(days=int(species.flowering + late))
    if late < -35 or rng.random() < 0.07:
        return collected, "sterile"
    return collected, "fruit" if late > 25 else "flower"


def _often(rng: np.random.Generator, items: tuple[str, ...], preferred: int) -> str:
    """The species' own habitat or substrate in seven of ten cases, else any."""
    return items[preferred % len(items)] if rng.random() < 0.7 else pick(rng, items)
