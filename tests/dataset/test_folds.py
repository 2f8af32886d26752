"""Who learns from what in an ensemble: each observation validates one member, and no picture is on two sides."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from taxakey.dataset.folds import Fold
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput
from taxakey.taxonomy import Taxonomy


def ids(dataset: Dataset, name: str) -> set[str]:
    return set(dataset.part(name).observation_ids)


def test_each_observation_validates_one_member_and_trains_the_others(sheets_dataset: Path) -> None:
    dataset = Dataset.open(sheets_dataset)
    pool = ids(dataset, "train") | ids(dataset, "validation")
    members = [Fold(number, 4).of(dataset, seed=5) for number in range(1, 5)]
    validated = Counter(observation for member in members for observation in ids(member, "validation"))
    species_of = dict(zip(*([*dataset.part("train").table[c].to_pylist(), *dataset.part("validation").table[c].to_pylist()]
                            for c in ("occurrenceID", "scientificName")), strict=True))  # fmt: skip
    observations = Counter(species_of.values())
    assert set(validated.values()) == {1}
    assert pool - set(validated) == {one for one, species in species_of.items() if observations[species] == 1}
    for member in members:
        assert not ids(member, "train") & ids(member, "validation")
        assert ids(member, "train") | ids(member, "validation") == pool
        assert len(member.part("train")) + len(member.part("validation")) == sum(
            len(dataset.part(n)) for n in ("train", "validation")
        )
        assert member.taxonomy.fingerprint == dataset.taxonomy.fingerprint
        assert set(member.part("train").class_index) == set(range(len(dataset.taxonomy))), "every class needs a training picture"
    for species, number in observations.items():
        shares = [sum(species_of[one] == species for one in ids(member, "validation")) for member in members]
        assert max(shares) - min(shares) <= 1, (species, number, shares)


def test_a_species_of_one_observation_trains_every_member(sheets_dataset: Path) -> None:
    dataset = Dataset.open(sheets_dataset)
    train = dataset.part("train")
    rare = train.observation_ids[0]
    species = train.table["scientificName"][0].as_py()
    named = zip(train.observation_ids, train.table["scientificName"].to_pylist(), strict=True)
    keep = [row for row, (one, name) in enumerate(named) if name != species or one == rare]
    train.table = train.table.take(keep)
    for cached in ("class_index", "observation_ids", "image_ids"):
        train.__dict__.pop(cached, None)
    validation = dataset.part("validation")
    validation.table = validation.table.filter([name != species for name in validation.table["scientificName"].to_pylist()])
    for number in (1, 2, 3):
        assert rare in ids(Fold(number, 3).of(dataset, seed=0), "train")


def test_members_agree_on_the_dealing_and_another_seed_deals_anew(sheets_dataset: Path) -> None:
    dataset = Dataset.open(sheets_dataset)
    first = [ids(Fold(2, 3).of(dataset, seed), "validation") for seed in (0, 0, 1)]
    assert first[0] == first[1] != first[2]


def test_validation_alone_is_dealt_with_one_fold_held_out(sheets_dataset: Path) -> None:
    """DS@GT's way: three parts, two of which take turns; the third is seen by none."""
    dataset = Dataset.open(sheets_dataset)
    first, second = (Fold(number, 2, "validation").of(dataset, seed=0) for number in (1, 2))
    one, two = ids(first, "validation"), ids(second, "validation")
    assert one
    assert two
    assert not one & two
    held_out = ids(dataset, "validation") - one - two
    for member, other in ((first, two), (second, one)):
        assert other <= ids(member, "train")
        assert ids(dataset, "train") <= ids(member, "train")
        assert not held_out & (ids(member, "train") | ids(member, "validation")) - _single(dataset)


def _single(dataset: Dataset) -> set[str]:
    """The only observation of its species in the validation part: it trains all members."""
    part = dataset.part("validation")
    names = dict(zip(part.observation_ids, part.table["scientificName"].to_pylist(), strict=True))
    counts = Counter(names.values())
    return {one for one, name in names.items() if counts[name] == 1}


def test_pictures_come_from_where_they_are(sheets_dataset: Path) -> None:
    dataset = Dataset.open(sheets_dataset)
    known = {}
    for name in ("train", "validation"):
        part = dataset.part(name)
        known |= {image: part.image_bytes(row) for row, image in enumerate(part.image_ids)}
    for part in (Fold(1, 3).of(dataset, 0).part(name) for name in ("train", "validation")):
        for row in np.random.default_rng(0).permutation(len(part))[:20]:
            assert part.image_bytes(int(row)) == known[part.image_ids[row]]
        with pytest.raises(IndexError):
            part.image_bytes(len(part))


def test_the_test_part_is_not_opened(sheets_dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(sheets_dataset, tmp_path / "dataset")
    for shard in (tmp_path / "dataset" / "data").glob("test-*"):
        shard.unlink()
    assert len(Fold(1, 3).of(Dataset.open(tmp_path / "dataset"), 0).part("validation"))


@pytest.mark.parametrize("text", ["2", "0/3", "4/3", "1/1", "a/b", "-1/3", ""])
def test_what_is_no_fold_is_said(text: str) -> None:
    with pytest.raises(BadInput, match="fold "):
        Fold.parse(text)
    assert str(Fold.parse(" 2/5 ")) == "2/5"


def test_more_members_than_observations_are_refused(sheets_dataset: Path) -> None:
    dataset = Dataset.open(sheets_dataset)
    with pytest.raises(BadInput, match="400 folds of 81 groups without a given part; ask for fewer"):
        Fold(400, 400).of(dataset, 0)


def test_species_without_a_class_validate_and_never_train(sheets_dataset: Path) -> None:
    """They stand in the validation part of a dataset whose training part lacks them."""
    dataset = Dataset.open(sheets_dataset)
    rows = dataset.taxonomy.table.to_pylist()
    other = Dataset(dataset.folder, dataset.manifest, Taxonomy.from_rows(rows[1:]))
    train = other.part("train")
    train.table = train.table.filter([name != rows[0]["scientificName"] for name in train.table["scientificName"].to_pylist()])
    validation = other.part("validation")
    unknown = {one for one, index in zip(validation.observation_ids, validation.class_index, strict=True) if index < 0}
    assert unknown
    members = [Fold(number, 3).of(other, 0) for number in (1, 2, 3)]
    assert all((member.part("train").class_index >= 0).all() for member in members)
    assert unknown <= set().union(*(ids(member, "validation") for member in members))
