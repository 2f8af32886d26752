"""Shares that a file tells, or that are estimated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from taxakey.calibration import Calibration
from taxakey.calibration.bias_corrected import BiasCorrected
from taxakey.calibration.shares import corrected
from taxakey.calibration.supported import estimate_with_support
from taxakey.calibration.told_shares import read_shares, told_shares
from taxakey.errors import BadInput, MissingArtifact
from taxakey.taxonomy import Taxonomy

NAMES = ("Acer campestre", "Fagus sylvatica", "Quercus robur")
TAXONOMY = Taxonomy.from_rows([{"scientificName": name} for name in NAMES])
TRAIN = np.array([60, 30, 10])


def written(folder: Path, *lines: str) -> Path:
    file = folder / "shares.csv"
    file.write_text("\n".join(("scientificName,share", *lines)) + "\n", encoding="utf-8")
    return file


def scores(shares: list[float], observations: int = 4000) -> np.ndarray:
    """Raw scores of a perfectly calibrated model of three Gaussian classes, met in those shares, as training shares would say."""
    rng = np.random.default_rng(0)
    true = rng.choice(3, observations, p=shares)
    x = rng.normal(size=(observations, 3)) + 2 * np.eye(3)[true]
    return 2 * x + np.log(TRAIN / TRAIN.sum())


def test_a_file_of_counts_shifts_probabilities_as_the_formula_says(tmp_path: Path) -> None:
    file = written(tmp_path, "Quercus robur,8", "Acer campestre,2")
    np.testing.assert_allclose(read_shares(file, TAXONOMY), [0.2, 0, 0.8])
    raw = scores([0.6, 0.3, 0.1], 50)
    plain = Calibration(1.5)
    told = told_shares(str(file), plain, TAXONOMY, TRAIN, raw).calibration
    # A species that isn't in the file isn't shut out for ever: it has a hundredth of the smallest other share.
    expected = corrected(plain.probabilities(raw), TRAIN / TRAIN.sum(), np.array([0.2, 0.002, 0.8]))
    np.testing.assert_allclose(told.bind(TAXONOMY).probabilities(raw), expected, rtol=1e-9)


BASIS = BiasCorrected(1.0, (0.0, 0.0, 0.0), (0.6, 0.3, 0.1), 0.0, 1000)


def test_estimated_shares_come_near_the_true_ones() -> None:
    raw = scores([0.1, 0.3, 0.6])
    told = told_shares("estimate", Calibration(), TAXONOMY, TRAIN, raw, basis=BASIS)
    assert told.corrected
    assert told.meaning.startswith("Probabilities are corrected for shares of species estimated from these pictures themselves; ")
    shares = np.exp([told.calibration.share_shift[name] for name in NAMES]) * TRAIN / TRAIN.sum()
    # As many observations as there are were taken to have the shares of training.
    np.testing.assert_allclose(shares, (np.array([0.1, 0.3, 0.6]) + TRAIN / 100) / 2, atol=0.05)


def test_its_probabilities_are_the_basis_shifted() -> None:
    raw = scores([0.1, 0.3, 0.6], 500)
    basis = BiasCorrected(0.8, (0.3, 0.0, -0.5), (0.6, 0.3, 0.1), 0.02, 1000)
    earlier = Calibration(2.0, 0.7, {"precision": 0.9}, bin_knots=(0.2, 0.9), bin_factors=(1.0, 2.0), share_shift={NAMES[0]: 3.0})
    told = told_shares("estimate", earlier, TAXONOMY, TRAIN, raw, basis=basis).calibration
    p_OC = basis.probabilities(raw)
    new_C = estimate_with_support(p_OC, np.array(basis.share)).share_C
    expected_OC = corrected(p_OC, np.array(basis.share), new_C)
    np.testing.assert_allclose(told.bind(TAXONOMY).probabilities(raw), expected_OC, rtol=1e-9)
    assert (told.unsure_below, told.measured) == (0.7, {"precision": 0.9})


def test_where_shares_are_those_of_training_nothing_is_corrected_and_that_is_said() -> None:
    told = told_shares("estimate", plain := Calibration(1.3), TAXONOMY, TRAIN, scores([0.6, 0.3, 0.1], 300), basis=BASIS)
    assert not told.corrected
    assert told.calibration is plain
    assert "nothing is corrected: 300 observations don't surely speak for other shares" in told.meaning


def test_pictures_of_one_observation_count_once() -> None:
    raw = scores([0.1, 0.3, 0.6], 200)
    twice = np.repeat(raw, 2, axis=0)
    once = told_shares("estimate", Calibration(), TAXONOMY, TRAIN, raw, basis=BASIS)
    again = told_shares("estimate", Calibration(), TAXONOMY, TRAIN, twice, np.repeat(np.arange(200), 2), BASIS)
    assert again.calibration.share_shift == pytest.approx(once.calibration.share_shift)


def test_without_a_basis_nothing_is_estimated() -> None:
    with pytest.raises(BadInput, match="run `taxakey calibrate`"):
        told_shares("estimate", Calibration(), TAXONOMY, TRAIN, scores([0.6, 0.3, 0.1], 20))


@pytest.mark.parametrize(
    ("lines", "fact"),
    [
        (["Acer campestris,1"], "line 2: 'Acer campestris' is no species"),
        (["Acer campestre,1", "Acer campestre,2"], "line 3: 'Acer campestre' stands twice"),
        (["Acer campestre,-1"], "'-1' isn't a number"),
        (["Acer campestre,nan"], "'nan' isn't a number"),
        (["Acer campestre,"], "'' isn't a number"),
        (["Acer campestre"], "None isn't a number"),
        (["Acer campestre,0"], "no share above 0"),
        ([], "no share above 0"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(lines: list[str], fact: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=fact):
        read_shares(written(tmp_path, *lines), TAXONOMY)


def test_no_file_and_no_column(tmp_path: Path) -> None:
    with pytest.raises(MissingArtifact, match="no such file"):
        read_shares(tmp_path / "nothing.csv", TAXONOMY)
    (tmp_path / "other.csv").write_text("name,share\nAcer campestre,1\n", encoding="utf-8")
    with pytest.raises(BadInput, match="lacks the column scientificName"):
        read_shares(tmp_path / "other.csv", TAXONOMY)
