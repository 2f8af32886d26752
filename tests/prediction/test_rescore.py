"""Old answers under new names: equal to what full scores of the new classes would have given."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxakey.errors import BadInput, TaxonomyMismatch
from taxakey.prediction.rescore import (
    Translation,
    make_translation,
    rescore_predictions,
    rescore_probabilities,
)
from taxakey.predictions import Predictions, Truth
from taxakey.records.naming.checklist import make_checklist
from taxakey.records.naming.checklist_files import Delivered
from taxakey.records.naming.name_drift import Drift, classes_of, find_drift
from taxakey.taxonomy import Taxonomy

OLD = Taxonomy.from_rows(
    {"scientificName": name, "genus": name.split()[0], "family": family, "poisonous": poisonous}
    for name, family, poisonous in [
        ("Aus bus", "Aaceae", False), ("Aus cus", "Aaceae", True), ("Aus dus", "Aaceae", None), ("Eus fus", "Eaceae", False),
        ("Eus gus", "Eaceae", False), ("Hus ius", "Haceae", None),
    ]
)  # fmt: skip
# Aus cus is sunk into Aus bus, Eus gus moved to the genus Kus of another family, Hus ius isn't there.
NEW = [("Aus bus", "Aus bus", "Aaceae"), ("Aus cus", "Aus bus", "Aaceae"), ("Aus dus", "Aus dus", "Aaceae"),
       ("Eus fus", "Eus fus", "Eaceae"),
       ("Kus gus", "Kus gus", "Aaceae"), ("Eus gus", "Kus gus", "Aaceae")]  # fmt: skip


def drift_of(rows: list[tuple[str, str, str]]) -> Drift:
    place = {name: str(number) for number, (name, _, _) in enumerate(rows)}
    columns = {
        "taxonID": list(place.values()),
        "scientificName": list(place),
        "acceptedNameUsageID": [place[accepted] for _, accepted, _ in rows],
        "family": [family for _, _, family in rows],
    }
    return find_drift(classes_of(OLD), make_checklist(Delivered("Darwin Core", pa.table(columns), 0), "new"))


TRANSLATION = make_translation(OLD, drift_of(NEW))


def with_split(weights: tuple[float | None, float | None]) -> Drift:
    """The same drift, where Aus dus became two species."""
    found = drift_of(NEW)
    rows = [row for row in found.mapping.to_pylist() if row["old"] != "Aus dus"]
    rows += [
        {"old": "Aus dus", "new": "Aus dus", "weight": weights[0], "heir": True},
        {"old": "Aus dus", "new": "Aus fus", "weight": weights[1], "heir": False},
    ]
    return Drift(found.classes, pa.Table.from_pylist(rows, schema=found.mapping.schema), found.accepted, found.new)


def random_probabilities(rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(len(OLD)), rows)


def test_the_new_classes() -> None:
    new = TRANSLATION.new
    assert new.names == ("Aus bus", "Aus dus", "Eus fus", "Hus ius", "Kus gus")
    assert new.column("family") == ["Aaceae", "Aaceae", "Eaceae", "Haceae", "Aaceae"]
    assert new.column("poisonous") == [True, None, False, None, False]
    assert TRANSLATION.left == ("Hus ius",)
    assert new.fingerprint != OLD.fingerprint


def test_probabilities_of_merged_classes_are_added() -> None:
    given_OC = np.array([[0.1, 0.2, 0.3, 0.1, 0.05, 0.25]])
    np.testing.assert_allclose(rescore_probabilities(given_OC, TRANSLATION), [[0.3, 0.3, 0.1, 0.25, 0.05]])
    with pytest.raises(BadInput, match="scores for 3 classes"):
        rescore_probabilities(given_OC[:, :3], TRANSLATION)


def test_a_split_is_refused_goes_to_the_heir_or_follows_its_weights() -> None:
    undecided = with_split((None, None))
    with pytest.raises(BadInput, match=r"1 classes were split \(first: Aus dus into Aus dus, Aus fus\)"):
        make_translation(OLD, undecided)
    probabilities_OC = np.array([[0, 0, 0.8, 0.2, 0, 0]])
    whole = make_translation(OLD, undecided, undecided="heir")
    assert dict(zip(whole.new.names, rescore_probabilities(probabilities_OC, whole)[0], strict=True))["Aus dus"] == 0.8
    shared = make_translation(OLD, with_split((0.25, 0.75)))
    found = dict(zip(shared.new.names, rescore_probabilities(probabilities_OC, shared)[0], strict=True))
    assert found["Aus dus"] == pytest.approx(0.2)
    assert found["Aus fus"] == pytest.approx(0.6)
    assert shared.name_of("Aus dus") is None
    assert (shared.name_of("Aus cus"), shared.name_of("Zea mays"), shared.name_of(None)) == ("Aus bus", "Zea mays", None)


def test_a_class_that_is_dropped_follows_its_genus_into_another_family() -> None:
    moved = [("Aus bus", "Aus bus", "Zaceae"), ("Aus dus", "Aus dus", "Zaceae")]
    new = make_translation(OLD, drift_of(moved)).new
    assert new.names == OLD.names
    assert new.column("family") == ["Zaceae"] * 3 + ["Eaceae", "Eaceae", "Haceae"]


def test_the_drift_of_other_classes_is_refused() -> None:
    other = Taxonomy.from_rows([{"scientificName": "Zea mays"}])
    with pytest.raises(BadInput, match="Zea mays"):
        make_translation(other, drift_of(NEW))


def predictions(probabilities_OC: np.ndarray, names: list[str | None], taxonomy: Taxonomy, k: int) -> Predictions:
    place = {name: index for index, name in enumerate(taxonomy.names)}
    parents = [[taxonomy.column(rank)[place[name]] if name in place else None for name in names] for rank in ("genus", "family")]
    return Predictions.from_probabilities(
        probabilities_OC,
        taxonomy,
        observation_ids=[str(number) for number in range(len(names))],
        truth=Truth(names, *parents),
        logsumexp_O=np.arange(len(names), dtype=float),
        k=k,
    )


@given(st.integers(1, 6), st.integers(0, 1000))
def test_stored_predictions_equal_those_of_full_scores_where_everything_was_stored(rows: int, seed: int) -> None:
    probabilities_OC = random_probabilities(rows, seed)
    names = [[*OLD.names, "Zea mays", None][number] for number in np.random.default_rng(seed).integers(0, 8, rows)]
    stored = predictions(probabilities_OC, names, OLD, k=6)
    found = rescore_predictions(stored, TRANSLATION)
    new_names = [TRANSLATION.name_of(name) for name in names]
    expected = predictions(rescore_probabilities(probabilities_OC, TRANSLATION), new_names, TRANSLATION.new, k=5)
    assert found.taxonomy_fingerprint == TRANSLATION.new.fingerprint
    for rank in ("species", "genus", "family"):
        assert found.index(rank).tolist() == expected.index(rank).tolist()
        np.testing.assert_allclose(found.probability(rank), expected.probability(rank), atol=1e-6)
        assert found.strings(f"true_{rank}") == expected.strings(f"true_{rank}")
        assert found.true_rank(rank).tolist() == expected.true_rank(rank).tolist()
        np.testing.assert_allclose(found.true_probability(rank), expected.true_probability(rank), atol=1e-6)
    np.testing.assert_allclose(found.values("tail"), 0, atol=1e-6)
    assert found.values("logsumexp").tolist() == stored.values("logsumexp").tolist()
    assert found.values("poisonous_probability").tolist() == stored.values("poisonous_probability").tolist()


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 1000))
def test_new_names_alone_change_no_rank_and_no_tail(rows: int, k: int, seed: int) -> None:
    """Where classes are only renamed, the truth's rank and the tail stay, however few answers were stored."""
    renamed = [(name, f"Aaa {name.split()[1]}", "Aaceae") for name in OLD.names]
    translation = make_translation(OLD, drift_of(renamed + [(new, new, family) for _, new, family in renamed]))
    probabilities_OC = random_probabilities(rows, seed)
    names: list[str | None] = [OLD.names[number] for number in np.random.default_rng(seed).integers(0, 6, rows)]
    stored = predictions(probabilities_OC, names, OLD, k=k)
    found = rescore_predictions(stored, translation)
    assert found.true_rank("species").tolist() == stored.true_rank("species").tolist()
    np.testing.assert_allclose(found.true_probability("species"), stored.true_probability("species"))
    np.testing.assert_allclose(found.values("tail"), stored.values("tail"), atol=1e-6)
    assert [translation.new.names[i] for i in found.index("species")[:, 0]] == [
        translation.name_of(OLD.names[i]) for i in stored.index("species")[:, 0]
    ]


def test_fewer_answers_are_stored_where_some_became_one() -> None:
    probabilities_OC = np.array([[0.4, 0.3, 0.2, 0.06, 0.03, 0.01], [0.01, 0.03, 0.06, 0.2, 0.3, 0.4]])
    found = rescore_predictions(predictions(probabilities_OC, ["Aus bus", "Aus cus"], OLD, k=3), TRANSLATION)
    assert found.index("species").shape == (2, 2)
    np.testing.assert_allclose(found.probability("species")[0], [0.7, 0.2])
    np.testing.assert_allclose(found.values("tail"), [0.1, 0.3], atol=1e-6)
    assert found.strings("true_species") == ["Aus bus", "Aus bus"]


def test_portions_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = predictions(random_probabilities(7, 0), [None] * 7, OLD, k=4)
    whole = rescore_predictions(stored, TRANSLATION)
    monkeypatch.setattr("taxakey.prediction.rescore._SCORES_AT_ONCE", 12)
    assert rescore_predictions(stored, TRANSLATION).table.equals(whole.table)


def test_predictions_of_another_model_are_refused() -> None:
    stored = predictions(rescore_probabilities(random_probabilities(2, 0), TRANSLATION), [None] * 2, TRANSLATION.new, k=2)
    with pytest.raises(TaxonomyMismatch):
        rescore_predictions(stored, TRANSLATION)
    assert isinstance(TRANSLATION, Translation)
