"""What is said where a dataset has no validation part, as with four pictures of each species."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taxakey.errors import BadInput
from taxakey.prediction.calibrate import raw_scores
from taxakey.records.splits import SplitOptions


class Empty:
    """A part of nothing."""

    folder, name = Path("dataset"), "validation"

    def __len__(self) -> int:
        return 0


def test_a_dataset_without_validation_names_the_way_out() -> None:
    nothing: Any = Empty()
    with pytest.raises(BadInput, match=r"part 'validation' has no pictures.*--train 0.5 --validation 0.25 --test 0.25"):
        raw_scores(nothing, nothing, None, "cpu")
    SplitOptions(train=0.5, validation=0.25, test=0.25)  # what it proposes is taken
