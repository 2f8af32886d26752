"""The invented flora and its specimens: names, inheritance, the long tail, what place and season tell."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations, pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxakey.records.sample import INSTITUTIONS, Collection, Flora, SampleOptions, Species, draw_sheet
from taxakey.records.sample.flora import FORMS, Traits
from taxakey.records.sample.institutions import Institution
from taxakey.records.sample.lettering import barcode
from taxakey.records.sample.options import stream
from taxakey.records.sample.sheet import label_lines, mount
from taxakey.records.sample.words import misspelling


@pytest.fixture(scope="module")
def collection() -> Collection:
    return Collection(SampleOptions(sheets=4000, seed=5))


def kinship(one: Species, other: Species) -> str:
    if one.name.genus == other.name.genus:
        return "genus"
    return "family" if one.family == other.family else "flora"


# ---- names ----


@pytest.mark.parametrize(
    ("sheets", "species", "genera", "families"), [(100, 10, 5, 3), (1500, 39, 12, 5), (100_000, 316, 49, 13)]
)
def test_number_of_taxa_grows_with_the_number_of_sheets(sheets: int, species: int, genera: int, families: int) -> None:
    flora = Flora(SampleOptions(sheets=sheets)).species
    assert (len(flora), len({s.name.genus for s in flora}), len({s.family for s in flora})) == (species, genera, families)


def test_names_and_keys_are_unique_and_a_genus_has_one_family() -> None:
    flora = Flora(SampleOptions(sheets=20_000, species=3000, unknown_species=200, web=1)).species
    names = [name for species in flora for name in (species.name, *species.synonyms)]
    assert len({name.canonical for name in names}) == len({name.key for name in names}) == len(names)
    parents = {(species.name.genus, species.family) for species in flora}
    assert len(parents) == len({genus for genus, _ in parents})


def test_epithets_follow_the_gender_of_the_genus() -> None:
    for species in Flora(SampleOptions(sheets=10_000)).species:
        ending = {"a": ("a", "is"), "m": ("um", "e"), "s": ("us", "is")}[species.name.genus[-1]]
        assert species.name.epithet.endswith((*ending, "ns", "ex")), species.name.canonical


@given(st.integers(0, 2**32), st.sampled_from(["Velervia alba", "Yloppum repens", "Assella aa"]))
def test_a_misspelling_is_one_slip_away(seed: int, name: str) -> None:
    slip = misspelling(np.random.default_rng(seed), name)
    assert slip != name
    assert slip.count(" ") == 1
    assert abs(len(slip) - len(name)) <= 1
    assert sum((Counter(slip) - Counter(name)).values()) + sum((Counter(name) - Counter(slip)).values()) <= 1


# ---- inheritance ----


def test_relatives_have_traits_alike() -> None:
    distances: dict[str, list[float]] = {"genus": [], "family": [], "flora": []}
    for seed in range(4):
        flora = Flora(SampleOptions(sheets=3000, seed=seed)).species
        for one, other in combinations(flora, 2):
            distances[kinship(one, other)].append(float(np.linalg.norm(one.traits.vector() - other.traits.vector())))
    genus, family, everything = (float(np.mean(distances[rank])) for rank in ("genus", "family", "flora"))
    assert genus < 0.75 * family
    assert family < 0.8 * everything


def plant_only(species: Species, collection: Collection, number: int) -> np.ndarray:
    """Share of the plant's pixels in 64 colours and at 8 heights: what a sheet shows of the plant, wherever it lies."""
    institution: Institution = INSTITUTIONS[1]
    specimen = collection.specimen(number)
    sheet = mount(species, specimen, institution, 128, stream(0, "plant", species.index, number))
    inside = sheet[20:-75, 12:-12]
    mask = inside.astype(int).sum(axis=2) < 560
    colours = (inside[mask] // 64).astype(int) @ np.array([16, 4, 1])
    rows = np.array([part.sum() for part in np.array_split(mask.sum(axis=1), 8)])
    histogram = np.bincount(colours, minlength=64) / max(1, len(colours))
    return np.concatenate([histogram, 0.5 * rows / max(1, rows.sum()), [2.0 * mask.mean()]])


def test_relatives_look_alike_on_their_sheets(collection: Collection) -> None:
    flora = collection.flora.species
    looks = {s.index: np.mean([plant_only(s, collection, number) for number in range(4)], axis=0) for s in flora[:40]}
    distances: dict[str, list[float]] = {"genus": [], "family": [], "flora": []}
    for one, other in combinations(flora[:40], 2):
        distances[kinship(one, other)].append(float(np.linalg.norm(looks[one.index] - looks[other.index])))
    assert np.mean(distances["genus"]) < 0.8 * np.mean(distances["flora"])
    assert min(distances["genus"]) > 0  # and yet no two are the same


@given(st.integers(0, 2**32), st.sampled_from(["margin", "leaf_length", "flower_hue", "petals"]))
def test_a_new_character_differs_enough_for_a_key(seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    before = Traits.random(rng)
    after = before.with_new(rng, name)
    assert [field for field in vars(before) if getattr(before, field) != getattr(after, field)] == [name]
    if name != "margin":
        step = abs(getattr(after, name) - getattr(before, name))
        assert (min(step, 1 - step) if name == "flower_hue" else step) >= 0.2
        assert 0 <= getattr(after, name) <= 1


# ---- specimens ----


def test_sheets_are_as_many_as_asked_for_with_one_to_three_a_specimen(collection: Collection) -> None:
    assert collection.photographs.sum() == 4000
    assert set(collection.photographs.tolist()) == {1, 2, 3}
    assert 1.3 < collection.photographs.mean() < 1.7


def test_species_have_a_long_tail(collection: Collection) -> None:
    counts = np.sort(np.bincount(collection.species))[::-1]
    assert len(counts) == 63
    assert counts.min() >= 1
    harmonic = sum(1 / rank for rank in range(1, 64))
    assert counts[0] / counts.sum() == pytest.approx(1 / harmonic, rel=0.1)
    assert counts[9] / counts[0] == pytest.approx(1 / 10, rel=0.2)


def test_an_institution_tells_something_of_the_species(collection: Collection) -> None:
    specimens = [collection.specimen(number) for number in range(1500)]
    houses: dict[int, Counter[int]] = {}
    for specimen in specimens:
        houses.setdefault(specimen.species, Counter())[specimen.institution] += 1
    favourite = sum(counts.most_common(1)[0][1] for counts in houses.values())
    commonest = Counter(specimen.institution for specimen in specimens).most_common(1)[0][1]
    assert favourite / len(specimens) > 0.6 > 0.45 > commonest / len(specimens)


def test_place_season_and_habitat_tell_something_of_the_species(collection: Collection) -> None:
    specimens = [collection.specimen(number) for number in range(1500)]
    facts = np.array([[s.latitude, s.longitude, s.collected.timetuple().tm_yday] for s in specimens])
    species = np.array([s.species for s in specimens])
    within = np.mean([facts[species == index].var(axis=0) * (species == index).mean() for index in np.unique(species)], axis=0)
    assert (within * len(np.unique(species)) < 0.75 * facts.var(axis=0)).all()
    habitat = {index: Counter(s.habitat for s in specimens if s.species == index) for index in np.unique(species)}
    assert sum(counts.most_common(1)[0][1] for counts in habitat.values()) / len(specimens) > 0.6


def test_plants_bear_flowers_first_and_fruits_later(collection: Collection) -> None:
    days: dict[str, list[float]] = {"flower": [], "fruit": [], "sterile": []}
    for number in range(800):
        specimen = collection.specimen(number)
        species = collection.flora.species[specimen.species]
        days[specimen.stage].append(specimen.collected.timetuple().tm_yday - species.flowering)
    assert max(days["flower"]) < min(days["fruit"]) + 2
    assert len(days["flower"]) > 2 * len(days["fruit"]) > 0 < len(days["sterile"])


# ---- sheets ----


@pytest.mark.parametrize(("size", "width"), [(64, 43), (256, 171), (1000, 667)])
def test_a_sheet_has_the_size_asked_for(collection: Collection, size: int, width: int) -> None:
    specimen = collection.specimen(1)
    species, institution = collection.flora.species[specimen.species], INSTITUTIONS[specimen.institution]
    picture = draw_sheet(species, specimen, institution, size, np.random.default_rng(0))
    assert (picture.shape, picture.dtype) == ((size, width, 3), np.uint8)
    if size > 64:  # drawn small or large, the same plant lies in the same place
        medium = draw_sheet(species, specimen, institution, 256, np.random.default_rng(0))
        again = cv2.resize(picture, medium.shape[1::-1], interpolation=cv2.INTER_AREA)
        other = draw_sheet(species, specimen, institution, 256, np.random.default_rng(1))
        assert np.corrcoef(medium.ravel(), again.ravel())[0, 1] > 0.9 > np.corrcoef(other.ravel(), again.ravel())[0, 1]


def test_every_habit_leaf_and_inflorescence_can_be_drawn(collection: Collection) -> None:
    specimen, species = collection.specimen(0), collection.flora.species[0]
    for character, forms in FORMS.items():
        for form in forms:
            for stage in ("flower", "fruit", "sterile"):
                traits = replace(species.traits, **{character: form})  # type: ignore[arg-type]
                changed = replace(species, traits=traits)
                bare = draw_sheet(changed, replace(specimen, stage=stage), INSTITUTIONS[0], 64, np.random.default_rng(0))
                assert bare.std() > 10


@given(st.integers(0, 10_000))
def test_any_traits_can_be_drawn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    collection = Collection(SampleOptions(sheets=20, species=2))
    species = replace(collection.flora.species[0], traits=Traits.random(rng))
    for institution in INSTITUTIONS[seed % 6 : seed % 6 + 1]:
        draw_sheet(species, collection.specimen(0), institution, 64, rng)


def test_the_label_says_what_the_record_says_even_where_the_name_is_wrong() -> None:
    collection = Collection(SampleOptions(sheets=400, wrong_labels=1.0))
    flora = collection.flora.species
    specimens = (collection.specimen(number) for number in range(collection.main))
    specimen = next(one for one in specimens if flora[one.named].family != flora[one.species].family)
    species = flora[specimen.named]
    text = "\n".join(label_lines(specimen, INSTITUTIONS[specimen.institution]))
    assert flora[specimen.species].family not in text
    for fact in (
        specimen.verbatim,
        species.family,
        specimen.locality,
        specimen.habitat,
        specimen.collected.isoformat(),
        specimen.collector,
    ):
        assert fact in text


def test_covered_or_not_the_label_is_text_on_paper(collection: Collection) -> None:
    specimen, institution = collection.specimen(0), INSTITUTIONS[1]
    sheet = mount(collection.flora.species[specimen.species], specimen, institution, 512, np.random.default_rng(1))
    left, top, right, bottom = (round(edge * sheet.shape[1]) for edge in institution.label)
    label = sheet[top:bottom, left:right].min(axis=2)
    assert 0.03 < (label < 150).mean() < 0.5
    assert np.median(label) > 220


def test_barcode_of_two_digits_worked_out_by_hand() -> None:
    # Start, bars of 1 (wide narrow narrow narrow wide) between gaps of 2 (narrow wide narrow narrow wide), stop.
    widths = [1, 1, 1, 1, *(3, 1, 1, 3, 1, 1, 1, 1, 3, 3), 3, 1, 1]
    expected = "".join(("#" if at % 2 == 0 else " ") * width for at, width in enumerate(widths))
    assert "".join("#" if module == 0 else " " for module in barcode("12")) == expected


def test_barcodes_of_neighbours_differ() -> None:
    codes = [barcode(str(number)).tobytes() for number in range(1_000_000, 1_000_050)]
    assert all(one != other for one, other in pairwise(codes))
    assert len({len(code) for code in codes}) == 1  # every number of seven digits is as wide
