"""The table of predictions: ranks and sums taken from full scores, ties by index, and nothing lost on the way to disk."""

from __future__ import annotations

import doctest

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import taxakey.predictions
from taxakey.artifacts import write_parquet
from taxakey.errors import BadInput, MissingArtifact
from taxakey.predictions import Predictions, Truth, rank_of, read_full, top_k, write_full
from taxakey.taxonomy import Taxonomy

TAXONOMY = Taxonomy.from_rows(
    {"scientificName": name, "genus": name.split()[0], "family": family, "poisonous": poisonous}
    for name, family, poisonous in [
        ("Acer campestre", "Sapindaceae", False), ("Acer negundo", "Sapindaceae", True), ("Aesculus carnea", "Sapindaceae", True),
        ("Fagus sylvatica", "Fagaceae", False), ("Quercus robur", "Fagaceae", None), ("Zelkova serrata", "Ulmaceae", False),
    ]
)  # fmt: skip

# Sixteenths: many ties, and sums without rounding.
scores = st.integers(1, 12).flatmap(lambda rows: arrays(np.float64, (rows, 6), elements=st.integers(0, 4).map(lambda n: n / 16)))


@given(scores, st.integers(1, 8))
def test_top_k_sorts_falling_and_ties_by_index(scores_OC: np.ndarray, k: int) -> None:
    expected = [sorted(range(6), key=lambda c, row=row: (-row[c], c))[:k] for row in scores_OC]
    assert top_k(scores_OC, k).tolist() == expected


@given(scores, st.data())
def test_rank_is_the_place_in_the_whole_sorted_list(scores_OC: np.ndarray, data: st.DataObject) -> None:
    true_O = np.array(data.draw(st.lists(st.integers(-1, 5), min_size=len(scores_OC), max_size=len(scores_OC))))
    rank_O, score_O = rank_of(scores_OC, true_O)
    for row, true, rank, score in zip(scores_OC, true_O, rank_O, score_O, strict=True):
        ranked = sorted(range(6), key=lambda c, row=row: (-row[c], c))
        assert (rank, score) == ((0, 0.0) if true < 0 else (ranked.index(true) + 1, row[true]))


@given(scores, st.integers(1, 6), st.integers(0, 1000))
def test_every_column_is_that_of_a_slow_loop(scores_OC: np.ndarray, k: int, seed: int) -> None:
    names = [*TAXONOMY.names, "Zea mays", None]
    species = [names[number] for number in np.random.default_rng(seed).integers(0, 8, len(scores_OC))]
    truth = Truth(species, [name and name.split()[0] for name in species], [None] * len(species))
    made = Predictions.from_probabilities(
        scores_OC, TAXONOMY, observation_ids=[str(i) for i in range(len(species))], truth=truth, k=k
    )
    for rank, of_class, true in (
        ("species", TAXONOMY.names, truth.species),
        ("genus", TAXONOMY.column("genus"), truth.genus),
        ("family", TAXONOMY.column("family"), truth.family),
    ):  # fmt: skip
        taxa = sorted(set(of_class))
        for row, scores_C in enumerate(scores_OC):
            sums = [sum(score for score, name in zip(scores_C, of_class, strict=True) if name == taxon) for taxon in taxa]
            ranked = sorted(range(len(taxa)), key=lambda taxon, sums=sums: (-sums[taxon], taxon))
            assert made.index(rank)[row].tolist() == ranked[:k]
            assert made.probability(rank)[row].tolist() == [sums[taxon] for taxon in ranked[:k]]
            known = true[row] in taxa
            assert made.true_index(rank)[row] == (taxa.index(true[row]) if known else -1)
            assert made.true_rank(rank)[row] == (ranked.index(taxa.index(true[row])) + 1 if known else 0)
            assert made.true_probability(rank)[row] == (sums[taxa.index(true[row])] if known else 0)
    assert np.allclose(made.values("poisonous_probability"), scores_OC[:, [1, 2]].sum(1))
    assert np.allclose(made.values("tail"), scores_OC.sum(1) - np.sort(scores_OC, 1)[:, ::-1][:, :k].sum(1))


@given(scores, st.integers(0, 12))
def test_batches_joined_are_the_whole(scores_OC: np.ndarray, cut: int) -> None:
    cut = min(cut, len(scores_OC))
    ids = [str(row) for row in range(len(scores_OC))]

    def made(rows: slice) -> Predictions:
        return Predictions.from_probabilities(scores_OC[rows], TAXONOMY, observation_ids=ids[rows], k=3)

    whole, joined = made(slice(None)), Predictions.concat([made(slice(None, cut)), made(slice(cut, None))])
    assert joined.table.equals(whole.table)
    assert joined.index("genus").tolist() == whole.index("genus").tolist()


def test_a_file_is_read_as_it_was_written(tmp_path) -> None:
    made = Predictions.from_probabilities(
        np.full((2, 6), 1 / 6), TAXONOMY, observation_ids=["a", "b"], image_ids=["a1", None], images=[1, 2],
        truth=Truth(["Acer negundo", None], ["Acer", None], [None, "Ulmaceae"]), logsumexp_O=np.array([1.5, 2.5]), level="image",
    )  # fmt: skip
    made.write(tmp_path / "images.parquet")
    read = Predictions.read(tmp_path / "images.parquet")
    assert (read.level, read.taxonomy_fingerprint) == ("image", TAXONOMY.fingerprint)
    assert read.table.replace_schema_metadata().equals(made.table)
    assert read.index("species").tolist() == [[0, 1, 2, 3, 4, 5]] * 2
    assert read.strings("image_id") == ["a1", None]
    assert not list(tmp_path.glob(".*")), "a half-written file was left behind"


def test_portions_of_a_file_are_its_rows_in_order(tmp_path) -> None:
    scores_OC = np.random.default_rng(0).random((7, 6))
    made = Predictions.from_probabilities(scores_OC, TAXONOMY, observation_ids=list("abcdefg"), k=3)
    made.write(tmp_path / "observations.parquet")
    portions = list(Predictions.portions(tmp_path / "observations.parquet", rows=3))
    assert [len(portion) for portion in portions] == [3, 3, 1]
    assert np.array_equal(np.concatenate([portion.index("genus") for portion in portions]), made.index("genus"))
    assert Predictions.concat(portions).table.equals(made.table)
    with pytest.raises(MissingArtifact, match=r"none.parquet.*taxakey predict"):
        next(Predictions.portions(tmp_path / "none.parquet"))


def test_other_files_are_refused(tmp_path) -> None:
    with pytest.raises(MissingArtifact, match=r"none.parquet.*taxakey predict"):
        Predictions.read(tmp_path / "none.parquet")
    write_parquet(tmp_path / "other.parquet", pa.table({"a": [1]}))
    with pytest.raises(BadInput, match=r"other.parquet: not a table of predictions"):
        Predictions.read(tmp_path / "other.parquet")
    with pytest.raises(BadInput, match="5 classes, where the taxonomy has 6"):
        Predictions.from_probabilities(np.zeros((1, 5)), TAXONOMY, observation_ids=["a"])
    one = Predictions.from_probabilities(np.zeros((1, 6)), TAXONOMY, observation_ids=["a"])
    other = Predictions.from_probabilities(np.zeros((1, 6)), TAXONOMY, observation_ids=["a"], level="image")
    with pytest.raises(BadInput, match="different models or levels"):
        Predictions.concat([one, other])


def test_without_marks_nothing_is_said_about_poison() -> None:
    taxonomy = Taxonomy.from_rows([{"scientificName": "A a", "genus": "A", "family": "F"}])
    made = Predictions.from_probabilities(np.ones((1, 1)), taxonomy, observation_ids=["a"])
    assert made.table.column("poisonous_probability").null_count == 1


def test_a_flora_without_families_can_be_predicted(tmp_path) -> None:
    taxonomy = Taxonomy.from_rows([{"scientificName": "A a", "genus": "A"}, {"scientificName": "B b", "genus": "B"}])
    made = Predictions.from_probabilities(np.array([[0.25, 0.75]] * 3), taxonomy, observation_ids=["a", "b", "c"])
    made.write(tmp_path / "p.parquet")
    read = Predictions.read(tmp_path / "p.parquet")
    assert read.index("species").tolist() == [[1, 0]] * 3
    assert read.true_rank("family").tolist() == [0, 0, 0]
    assert read.index("family").shape == (3, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_of_a_model_that_diverged_are_refused(bad: float) -> None:
    # NaN is never "greater", so an unchecked one would put the true taxon first.
    with pytest.raises(BadInput, match="finite"):
        Predictions.from_probabilities(
            np.full((1, 6), bad), TAXONOMY, observation_ids=["a"], truth=Truth(["Acer negundo"], [None], [None])
        )


def test_examples_in_docstrings_run() -> None:
    result = doctest.testmod(taxakey.predictions)
    assert result.attempted >= 2
    assert result.failed == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_full_scores_come_back_file_by_file_without_a_zero(tmp_path, dtype: type) -> None:
    p_OC = np.array([[0.5, 0.5, 0.0], [1e-30, 0.25, 0.75], [0.1, 0.2, 0.7]], dtype=dtype)
    write_full(tmp_path / "00001.arrow", ["c"], p_OC[2:])
    write_full(tmp_path / "00000.arrow", ["a", "b"], p_OC[:2])
    (ids, log_p_OC), (last, log_p_1C) = read_full(tmp_path)
    assert (ids, last, log_p_OC.dtype) == (["a", "b"], ["c"], np.float16)
    np.testing.assert_allclose(np.exp(log_p_OC.astype(float))[:, 1:], p_OC[:2, 1:], rtol=2e-3, atol=1e-35)
    np.testing.assert_allclose(log_p_OC[1, 0], np.log(1e-30), rtol=1e-3)  # as a probability it would be 0 in half precision
    np.testing.assert_allclose(np.exp(log_p_1C.astype(float)), p_OC[2:], rtol=2e-3)
    assert np.isfinite(log_p_OC).all()
    with pytest.raises(MissingArtifact, match="predict again with --full"):
        next(read_full(tmp_path / "elsewhere"))
