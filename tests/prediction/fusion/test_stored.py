"""fusion.json: what is read is what was written, and what can't be right is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from herbarium import collected

from taxakey.dataset.crops import CropOptions
from taxakey.errors import BadInput, MissingArtifact
from taxakey.prediction.fusion import FILE, Fusion
from taxakey.prediction.fusion.pictures import Rule

PRINT = "0123456789abcdef"


@pytest.fixture(scope="module")
def fusion() -> Fusion:
    training, _, _ = collected(sheets=300)
    evidence = tuple(training.evidence(name) for name in ("month", "habitat", "place"))
    return Fusion(PRINT, Rule("quality", {"confidence": 1.5, "entropy": -0.25}), evidence, (0.75, 1.0, 0.5))


def test_it_is_the_same_after_writing_and_reading(fusion: Fusion, tmp_path: Path) -> None:
    _, validation, _ = collected(sheets=300)
    fusion.write(tmp_path / FILE)
    again = Fusion.read(tmp_path / FILE)
    pictures_OC = fusion.of_pictures(validation.pictures)
    np.testing.assert_array_equal(again.of_pictures(validation.pictures), pictures_OC)
    fused_OC = fusion.with_known(pictures_OC, validation.known)
    np.testing.assert_allclose(again.with_known(pictures_OC, validation.known), fused_OC, rtol=1e-12)
    assert np.abs(fused_OC - pictures_OC).max() > 0.1
    again.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == (tmp_path / FILE).read_text()


def test_it_multiplies_what_is_known_and_leaves_the_rest_alone(fusion: Fusion) -> None:
    p_OC = np.full((3, 40), 1 / 40)
    known = pa.table({
        "month": pa.array([None, 6, None], pa.int32()), "day": pa.nulls(3, pa.int32()), "habitat": [None, "bog", "nowhere"],
        "decimalLatitude": pa.nulls(3, pa.float64()), "decimalLongitude": pa.nulls(3, pa.float64()),
    })  # fmt: skip
    fused_OC = fusion.with_known(p_OC, known)
    np.testing.assert_array_equal(fused_OC[[0, 2]], p_OC[[0, 2]])
    by_hand_C = np.exp(sum(e * one.log_ratio(known)[1] for e, one in zip(fusion.exponents, fusion.evidence, strict=True)))
    np.testing.assert_allclose(fused_OC[1], by_hand_C / by_hand_C.sum())


def test_it_says_what_it_can_be_told(fusion: Fusion) -> None:
    assert fusion.asks is not None
    assert (fusion.asks.options.date, fusion.asks.options.place) == (True, "sphere")
    assert "bog" in fusion.asks.words["habitat"]
    assert list(fusion.asks.words) == ["habitat"]
    assert Fusion(PRINT).asks is None


@pytest.mark.parametrize("damage", [
    lambda c: c.update(format=2), lambda c: c.pop("exponents"), lambda c: c["counts habitat"].update(strength=0),
    lambda c: c["counts habitat"]["class_P"].append(1), lambda c: c["counts habitat"]["class_P"].__setitem__(0, 40),
    lambda c: c["counts habitat"]["words"].append("sea"), lambda c: c["counts habitat"].update(column="soil"),
    lambda c: c["counts place"].update(kilometres="far"), lambda c: c["counts place"]["day_X"].pop(),
    lambda c: c["counts place"]["count_X"].__setitem__(0, 0), lambda c: c["rule"].update(name="best"),
    lambda c: c.update(exponents=[1]), lambda c: c["counts habitat"]["count_P"].__setitem__(0, 1.5),
    lambda c: c["exponents"].update(habitat=-1), lambda c: c.update(crops={"count": 0}),
])  # fmt: skip
def test_damaged_files_are_refused_by_name(fusion: Fusion, tmp_path: Path, damage: Callable[[dict[str, Any]], object]) -> None:
    fusion.write(tmp_path / FILE)
    content = json.loads((tmp_path / FILE).read_text())
    damage(content)
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(BadInput, match=FILE):
        Fusion.read(tmp_path / FILE)


def test_beside_a_model(fusion: Fusion, tmp_path: Path) -> None:
    assert Fusion.beside(tmp_path, PRINT) is None
    fusion.write(tmp_path / FILE)
    assert Fusion.beside(tmp_path, PRINT) is not None
    with pytest.raises(BadInput, match="fitted for other classes"):
        Fusion.beside(tmp_path, PRINT[::-1])
    Fusion(PRINT, crops=CropOptions(5, five=True)).write(tmp_path / FILE)
    with pytest.raises(BadInput, match="5 crops"):
        Fusion.beside(tmp_path, PRINT)
    with pytest.raises(MissingArtifact):
        Fusion.read(tmp_path / "none.json")
