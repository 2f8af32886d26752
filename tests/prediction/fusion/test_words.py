"""Smoothed counts of words: against counting one by one, and what stays neutral."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxakey.errors import BadInput
from taxakey.prediction.fusion.words import WordEvidence, best_strength

ROWS = [("bog", 0), ("bog", 0), ("Bog ", 0), ("wood", 0), ("wood", 1), ("dunes", 1), (None, 1), ("unknown", 2), ("wood", -1)]


def table(words: list[str | None]) -> pa.Table:
    return pa.table({"habitat": pa.array(words, pa.string())})


def fitted(classes: int = 4) -> WordEvidence:
    words, labels = zip(*ROWS, strict=True)
    return WordEvidence.fit("habitat", table([*words]), np.array(labels), classes)


def test_ratios_are_bayes_with_smoothed_counts() -> None:
    evidence = fitted()
    known = [(word.strip().lower(), label) for word, label in ROWS if word not in (None, "unknown") and label >= 0]
    share = {word: sum(w == word for w, _ in known) / len(known) for word in ("bog", "wood", "dunes")}
    for word in share:
        # p(word | k), then p(k | word) by Bayes over all classes, then over p(k): the definition, the long way round.
        n = [sum(label == k for _, label in known) for k in range(4)]
        likelihood = [
            (sum(w == word and label == k for w, label in known) + evidence.strength * share[word]) / (n[k] + evidence.strength)
            for k in range(4)
        ]
        prior = np.array(n) / sum(n)
        posterior = np.array(likelihood) * prior / sum(np.array(likelihood) * prior)
        ratio = np.exp(evidence.log_ratio(table([word.upper()]))[0])
        # Normalised the same: classes without a record have no prior, and there the ratio is that of an average class.
        seen = prior > 0
        np.testing.assert_allclose(ratio[seen] / ratio[0], (posterior[seen] / prior[seen]) / (posterior[0] / prior[0]))
        np.testing.assert_allclose(ratio, np.array(likelihood) / share[word])
        np.testing.assert_allclose(ratio[2:], 1)


def test_what_is_not_known_and_words_that_training_did_not_hold_are_neutral() -> None:
    asked = table([None, "", "unknown", "tundra", "bog"])
    log_ratio_OC = fitted().log_ratio(asked)
    assert not log_ratio_OC[:4].any()
    assert log_ratio_OC[4].any()
    assert fitted().known(asked).tolist() == [False, False, False, False, True]
    assert not fitted().log_ratio(pa.table({"month": [5]})).any(), "a column that isn't there is not known"


@settings(max_examples=8)
@given(st.integers(0, 9999))
def test_the_strength_is_the_best_of_a_fine_grid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    class_N = rng.integers(0, 4, 60)
    word_N = np.where(rng.random(60) < 0.5, class_N, rng.integers(0, 5, 60))

    def foretold(strength: float) -> float:
        total = 0.0
        for row in range(60):
            others = np.arange(60) != row
            own = others & (class_N == class_N[row])
            share = (word_N == word_N[row]).mean()
            total += np.log(((word_N[own] == word_N[row]).sum() + strength * share) / (own.sum() + strength))
        return float(total)

    pairs, counts = np.unique(class_N * 5 + word_N, return_counts=True)
    found = best_strength(pairs // 5, pairs % 5, counts)
    assert foretold(found) >= max(foretold(strength) for strength in np.geomspace(0.01, 10_000, 25)) - 1e-3


def test_a_column_that_says_nothing_ends_with_ratios_of_nearly_one() -> None:
    rng = np.random.default_rng(0)
    class_N = rng.integers(0, 20, 3000)
    useless = WordEvidence.fit("habitat", table([f"w{word}" for word in rng.integers(0, 6, 3000)]), class_N, 20)
    telling = WordEvidence.fit("habitat", table([f"w{word}" for word in class_N % 6]), class_N, 20)
    assert useless.strength > 100 * telling.strength
    asked = table([f"w{word}" for word in range(6)])
    assert np.abs(useless.log_ratio(asked)).max() < 0.2 < 3 < np.abs(telling.log_ratio(asked)).max()


def test_numbers_that_are_words_are_taken_and_the_answer_itself_is_refused() -> None:
    months = WordEvidence.fit("month", pa.table({"month": pa.array([5, 5, 6, None], pa.int32())}), np.array([0, 0, 1, 1]), 2)
    ratio_C = months.log_ratio(pa.table({"month": pa.array([5], pa.int32())}))[0]
    assert ratio_C[0] > 0 > ratio_C[1]
    for column in ("genus", "scientificName", "occurrenceID"):
        with pytest.raises(BadInput, match="the answer itself"):
            WordEvidence.fit(column, pa.table({column: ["a"]}), np.array([0]), 1)
    with pytest.raises(BadInput, match=r"no column 'soil'.*habitat"):
        WordEvidence.fit("soil", table(["bog"]), np.array([0]), 1)
    with pytest.raises(BadInput, match="says no habitat"):
        WordEvidence.fit("habitat", table([None]), np.array([0]), 1)
    with pytest.raises(BadInput, match="isn't one of words"):
        WordEvidence.fit("weight", pa.table({"weight": [1.5]}), np.array([0]), 1)
