"""Learning rates against their definitions."""

from __future__ import annotations

import pytest
import torch

from taxakey.training.schedule import OptimizerOptions, ScheduleOptions


def rates(options: ScheduleOptions, steps: int, per_epoch: int) -> list[list[float]]:
    """The rate of each parameter group at each step; the second group is a backbone at a tenth of the head's rate."""
    optimizer = OptimizerOptions(rate=1.0, backbone_rate=0.1).build(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    schedule = options.build(optimizer, steps=steps, steps_per_epoch=per_epoch)
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return [[row[0], row[2]] for row in found]


def test_cosine_rises_peaks_and_ends_at_its_share_of_the_peak() -> None:
    found = rates(ScheduleOptions(kind="cosine", warmup=0.1, final=0.01), 100, 10)
    assert found[0] == pytest.approx([0.01, 0.001])
    assert found[10] == pytest.approx([1.0, 0.1])
    assert found[55] == pytest.approx([0.505, 0.0505])  # half-way down: the mean of peak and end
    assert found[99] == pytest.approx([0.01, 0.001], rel=0.05)


def test_exponential_falls_once_an_epoch_by_its_factor() -> None:
    found = rates(ScheduleOptions(kind="exponential", decay=0.85), 30, 10)
    assert [found[step][0] for step in (0, 10, 20)] == pytest.approx([1, 0.85, 0.85**2])


def test_one_cycle_peaks_at_its_share_of_the_run() -> None:
    found = [row[0] for row in rates(ScheduleOptions(kind="one_cycle", warmup=0.2), 100, 10)]
    assert found.index(max(found)) == pytest.approx(19, abs=1)
    assert max(found) == pytest.approx(1.0)


def test_constant_stays() -> None:
    assert {tuple(row) for row in rates(ScheduleOptions(kind="constant"), 20, 10)} == {(1.0, 0.1)}
