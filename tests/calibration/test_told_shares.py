"""Shares that a file tells, or that are estimated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from taxakey.calibration import Calibration
from taxakey.calibration.shares import corrected
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
    told = told_shares(str(file), plain, TAXONOMY, TRAIN, raw)
    # A species that isn't in the file isn't shut out for ever: it has a hundredth of the smallest other share.
    expected = corrected(plain.probabilities(raw), TRAIN / TRAIN.sum(), np.array([0.2, 0.002, 0.8]))
    np.testing.assert_allclose(told.bind(TAXONOMY).probabilities(raw), expected, rtol=1e-9)


def test_estimated_shares_come_near_the_true_ones() -> None:
    raw = scores([0.1, 0.3, 0.6])
    told = told_shares("estimate", Calibration(), TAXONOMY, TRAIN, raw)
    shares = np.exp([told.share_shift[name] for name in NAMES]) * TRAIN / TRAIN.sum()
    # A tenth as many observations as there are were taken to have the shares of training.
    np.testing.assert_allclose(shares, (np.array([0.1, 0.3, 0.6]) + 0.1 * TRAIN / 100) / 1.1, atol=0.03)


def test_an_earlier_shift_doesnt_count_twice() -> None:
    raw = scores([0.1, 0.3, 0.6], 500)
    once = told_shares("estimate", Calibration(), TAXONOMY, TRAIN, raw)
    again = told_shares("estimate", once, TAXONOMY, TRAIN, raw)
    assert again.share_shift == pytest.approx(once.share_shift)


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
