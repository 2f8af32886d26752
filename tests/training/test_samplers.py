"""What samplers draw, against shares worked out by hand, and that it follows from seed and epoch alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from taxakey.errors import BadInput
from taxakey.training.batches import EpochShuffle
from taxakey.training.loop import train
from taxakey.training.recipe import read_recipe
from taxakey.training.samplers import (
    Draw,
    PlainOptions,
    RepeatFactorOptions,
    SamplerOptions,
    TrainingPart,
    UnderSamplingOptions,
    WeightedOptions,
)

COUNTS = np.array([60, 25, 10, 4, 1])
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), COUNTS))
PART = TrainingPart(LABELS, np.array([2, 2, 2, 3, 1]), seed=3)
SAMPLERS: list[SamplerOptions] = [
    PlainOptions(),
    PlainOptions(length=0.3),
    PlainOptions(length=2.5),
    *(WeightedOptions(kind) for kind in ("inverse_frequency", "square_root", "effective_number", "validation_ratio")),
    UnderSamplingOptions("under_sampling", most=4),
    RepeatFactorOptions("repeat_factor", threshold=0.3),
]


def shares(draw: Draw, epochs: int) -> np.ndarray:
    """How often each class was drawn, as a share of all, over some epochs."""
    rows = np.concatenate([draw.rows(epoch) for epoch in range(epochs)])
    return np.bincount(LABELS[rows], minlength=5) / len(rows)


@pytest.mark.parametrize("options", SAMPLERS, ids=str)
def test_every_epoch_follows_from_seed_and_epoch_alone(options: SamplerOptions) -> None:
    draw, again = options.build(PART), options.build(PART)
    for epoch in (5, 0, 7):  # in another order than an undisturbed run asks
        rows = draw.rows(epoch)
        assert len(rows) == draw.length
        assert rows.min() >= 0
        assert rows.max() < len(LABELS)
        np.testing.assert_array_equal(rows, again.rows(epoch))
    assert (draw.rows(0) != draw.rows(1)).any()
    assert (options.build(PART._replace(seed=4)).rows(0) != draw.rows(0)).any()


def test_plain_shows_every_picture_once_an_epoch() -> None:
    draw = PlainOptions().build(PART)
    assert sorted(draw.rows(3)) == list(range(100))


@pytest.mark.parametrize(("length", "epochs", "times"), [(0.25, 4, 1), (1.5, 2, 3), (0.4, 5, 2)])
def test_short_and_long_plain_epochs_show_all_equally_often(length: float, epochs: int, times: int) -> None:
    draw = PlainOptions(length=length).build(PART)
    rows = np.concatenate([draw.rows(epoch) for epoch in range(epochs)])
    assert np.bincount(rows, minlength=100).tolist() == [times] * 100


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (WeightedOptions("inverse_frequency"), [0.2] * 5),
        # √60, √25, √10, √4, √1 over their sum 18.908
        (WeightedOptions("square_root"), [0.40966, 0.26444, 0.16725, 0.10577, 0.05289]),
        # N (1 − 0.9) / (1 − 0.9^N), over their sum 12.7166: 6.0108, 2.6935, 1.5353, 1.1632, 1 (with 12.4028 as their sum)
        (WeightedOptions("effective_number", beta=0.9), [0.48463, 0.21719, 0.12379, 0.09376, 0.08063]),
        (WeightedOptions("validation_ratio"), [0.2, 0.2, 0.2, 0.3, 0.1]),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_classes_are_drawn_in_these_shares(options: WeightedOptions, expected: list[float]) -> None:
    draw = replace(options, length=50.0).build(PART)
    np.testing.assert_allclose(shares(draw, 20), expected, atol=0.006)  # 100,000 draws: a standard error below 0.0016


def test_weights_are_those_of_the_formulas() -> None:
    chances = WeightedOptions("effective_number", beta=0.99).weights(PART)
    by_sum = [1 / sum(0.99**i for i in range(count)) for count in COUNTS]  # (1−β^N)/(1−β) is a geometric series
    np.testing.assert_allclose(chances, by_sum)
    ratio = WeightedOptions("validation_ratio").weights(PART)
    np.testing.assert_allclose(ratio, [0.2 / 0.6, 0.2 / 0.25, 0.2 / 0.1, 0.3 / 0.04, 0.1 / 0.01])


def test_pictures_of_one_class_are_drawn_alike() -> None:
    draw = WeightedOptions("inverse_frequency", length=100.0).build(PART)
    counts = np.bincount(np.concatenate([draw.rows(epoch) for epoch in range(10)]), minlength=100)
    of_common = counts[LABELS == 0]  # 20,000 draws on 60 pictures
    assert of_common.min() > 333 - 100
    assert of_common.max() < 333 + 100


def test_classes_without_validation_pictures_are_refused_or_given_a_weight() -> None:
    part = PART._replace(validation_C=np.array([5, 0, 5, 0, 0]))
    with pytest.raises(BadInput, match=r"3 classes have no validation picture \(first: class 1\).*sampler.unseen"):
        WeightedOptions("validation_ratio").build(part)
    weights = WeightedOptions("validation_ratio", unseen=1.0).weights(part)
    np.testing.assert_allclose(weights, [0.5 / 0.6, 1, 0.5 / 0.1, 1, 1])
    assert shares(WeightedOptions("validation_ratio", unseen=0.0).build(part), 5)[[1, 3, 4]].sum() == 0


def test_under_sampling_takes_no_picture_twice_and_another_lot_each_time() -> None:
    draw = UnderSamplingOptions("under_sampling", most=4).build(PART)
    drawn = [draw.rows(epoch) for epoch in range(100)]
    for rows in drawn:
        assert len(set(rows)) == len(rows) == 17
        assert np.bincount(LABELS[rows]).tolist() == [4, 4, 4, 4, 1]
    times = np.bincount(np.concatenate(drawn), minlength=100)[LABELS == 0]
    assert times.min() > 0
    assert times.max() < 25
    assert np.bincount(LABELS[UnderSamplingOptions("under_sampling").build(PART).rows(0)]).tolist() == [1] * 5


def test_repeat_factors_hold_on_average_and_nobody_is_left_out() -> None:
    draw = RepeatFactorOptions("repeat_factor", threshold=0.25).build(PART)
    times = np.stack([np.bincount(draw.rows(epoch), minlength=100) for epoch in range(400)])
    assert times.min() == 1
    # √(0.25 / share): 1, 1, 1.5811, 2.5, 5; together 85 + 15.811 + 10 + 5 = 115.81, drawn as 116
    expected = np.array([1, 1, np.sqrt(2.5), 2.5, 5]) * 116 / 115.8114
    for label, factor in enumerate(expected):
        of_class = times[:, label == LABELS]
        assert of_class.mean() == pytest.approx(factor, rel=0.01)
        assert set(np.unique(of_class)) <= {np.floor(factor), np.ceil(factor)}


def test_a_picture_shown_again_has_another_number() -> None:
    shuffle = EpochShuffle(WeightedOptions("inverse_frequency").build(PART), 100)
    numbers = []
    for epoch in range(3):
        shuffle.set_epoch(epoch)
        indices = np.array(list(shuffle))
        np.testing.assert_array_equal(indices % 100, shuffle.draw.rows(epoch))
        numbers += indices.tolist()
    assert len(set(numbers)) == len(numbers) == 300


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PlainOptions(length=0), "length is 0"),
        (lambda: WeightedOptions("square_root", beta=1.0), "beta is 1.0"),
        (lambda: WeightedOptions("validation_ratio", unseen=-1), "unseen is -1"),
        (lambda: UnderSamplingOptions("under_sampling", most=0), "most is 0"),
        (lambda: RepeatFactorOptions("repeat_factor", threshold=0), "threshold is 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(build, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        build()


ASKED: list[int] = []


@dataclass(frozen=True)
class FirstPicturesOptions:
    """A sampler of somebody else's: always the same sixteen pictures."""

    kind: Literal["first"] = "first"

    def build(self, part: TrainingPart) -> Draw:
        def rows(epoch: int) -> np.ndarray:
            ASKED.append(epoch)
            return np.arange(16)

        return Draw(16, rows)


def test_a_sampler_is_added_without_touching_the_loop(sheets_dataset: Path, tmp_path: Path) -> None:
    smoke = read_recipe(Path(__file__).parent.parent.parent / "recipes" / "smoke.yaml")
    train(sheets_dataset, replace(smoke, sampler=FirstPicturesOptions()), tmp_path / "run", device="cpu")  # type: ignore[arg-type]
    assert ASKED == [0, 1]
