"""The benchmark of losses, small: what it compares with must be what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
import torch
from loaded import load

from taxakey.losses.loss_options import LossOptions

losses = load("losses")


def test_every_kind_of_loss_is_measured() -> None:
    assert {options.kind for listed in losses.LOSSES.values() for options in listed} == {o().kind for o in get_args(LossOptions)}


def test_the_table_of_seesaw_gives_what_ours_gives_without_one() -> None:
    steps, _ = losses.steps_of(300, "cpu")
    torch.testing.assert_close(steps[losses.TABLE](), steps["seesaw"]())
    torch.testing.assert_close(steps[losses.PLAIN](), steps["cross_entropy"]())


def test_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    losses.main(["--classes", "40", "90", "--rounds", "1", "--out", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found["classes"]) == ["40", "90"]
    assert all(row["milliseconds"] > 0 for row in found["classes"]["90"])
    printed = capsys.readouterr().out
    assert "seesaw + poisonous" in printed
    assert "too large" not in printed
