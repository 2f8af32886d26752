from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from taxakey.errors import BadInput
from taxakey.records.long_tail import REASON, LongTailOptions, long_tail, zipf_counts
from taxakey.records.table import Observations


def records(per_species: dict[str, int], pictures: int = 1) -> Observations:
    """So many training pictures of each species, and three in validation and test."""
    rows = []
    for name, count in per_species.items():
        for split, number in (("train", count), ("validation", 3), ("test", 3)):
            for i in range(number):
                observation = f"{name}-{split}-{i // pictures}"
                picture = {"identifier": f"{observation}-{i}.jpg", "image_id": f"{observation}-{i}"}
                rows.append({"occurrenceID": observation, "scientificName": name, "split": split, **picture})
    return Observations.from_table(pa.Table.from_pylist(rows))


def counts(observations: Observations, split: str) -> Counter[str]:
    table = observations.table
    pairs = zip(table["scientificName"].to_pylist(), table["split"].to_pylist(), strict=True)
    return Counter(name for name, side in pairs if side == split)


def test_training_follows_the_law_and_the_rest_stays() -> None:
    whole = records({f"Genus species{chr(97 + i)}": 40 for i in range(9)})
    options = LongTailOptions(least=2, most=32)
    thinned = long_tail(whole, options)
    assert sorted(counts(thinned, "train").values(), reverse=True) == zipf_counts(9, options).tolist()
    assert counts(thinned, "test") == counts(whole, "test")
    assert counts(thinned, "validation") == counts(whole, "validation")
    assert thinned.rejections() == {REASON: 9 * 40 - sum(zipf_counts(9, options))}


def test_the_common_ones_are_drawn_among_those_that_have_enough() -> None:
    few = {f"Genus rarus{chr(97 + i)}": 4 for i in range(6)}
    for seed in range(5):
        found = counts(long_tail(records(few | {"Genus communis": 60}), LongTailOptions(2, 50, seed)), "train")
        assert found["Genus communis"] == 50
        assert max(count for name, count in found.items() if name != "Genus communis") <= 4


def test_the_seed_decides_and_the_order_of_rows_doesnt() -> None:
    whole = records({f"Genus species{chr(97 + i)}": 30 for i in range(6)})
    shuffled = whole.replace(whole.table.take(pa.array(np.random.default_rng(1).permutation(len(whole)))))

    def kept(observations: Observations, seed: int) -> set[str]:
        return set(long_tail(observations, LongTailOptions(2, 20, seed)).table["image_id"].to_pylist())

    assert kept(whole, 0) == kept(shuffled, 0)
    assert kept(whole, 0) != kept(whole, 1)


def test_observations_stay_whole_and_no_species_loses_its_last() -> None:
    thinned = long_tail(records({"Genus a": 30, "Genus b": 30, "Genus c": 30}, pictures=5), LongTailOptions(2, 12))
    assert sorted(counts(thinned, "train").values()) == [5, 5, 10]


@pytest.mark.parametrize(("least", "most"), [(0, 10), (5, 4)])
def test_refuses_a_tail_that_is_none(least: int, most: int) -> None:
    with pytest.raises(BadInput, match="it must fall, and end at 1 or more"):
        LongTailOptions(least, most)


def test_needs_a_training_part() -> None:
    whole = records({"Genus a": 3})
    unsplit = whole.replace(
        whole.table.set_column(whole.table.schema.get_field_index("split"), "split", pa.nulls(len(whole), pa.string()))
    )
    with pytest.raises(BadInput, match="split them first"):
        long_tail(unsplit)
