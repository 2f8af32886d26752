"""Averages of weights, computed a second time from the weights that each step left behind."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import lightning as L
import pytest
import torch
from test_loop import SMOKE
from torch.testing import assert_close

from taxakey.dataset.augment import AugmentOptions
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadRecipe
from taxakey.models.heads import LinearOptions
from taxakey.models.trees import TreeOptions
from taxakey.models.tuning import TuningOptions
from taxakey.training import loop
from taxakey.training.averaged_weights import _moving_average
from taxakey.training.averaging import AveragingOptions
from taxakey.training.loop import train
from taxakey.training.module import TrainingModule
from taxakey.training.preparation import prepare
from taxakey.training.resume import BEST, FOLDER
from taxakey.training.scale import ScaleOptions


class Watch(L.Callback):
    """Keeps the learning weights after each step, and those that are validated."""

    def __init__(self) -> None:
        self.steps: list[dict[str, torch.Tensor]] = []
        self.validated: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        self.steps.append({name: value.clone() for name, value in module.state_dict().items()})

    def on_validation_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, number: int) -> None:
        if number == 0:
            self.validated.append({name: value.clone() for name, value in module.state_dict().items()})


def watched(dataset: Path, out: Path, averaging: AveragingOptions, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Watch:
    watch, usual = Watch(), loop._callbacks
    monkeypatch.setattr(loop, "_callbacks", lambda run, module: [*usual(run, module), watch])
    recipe = replace(SMOKE, averaging=averaging, loop=replace(SMOKE.loop, epochs=3, accumulate=1), **more)
    train(dataset, recipe, out, device="cpu")
    return watch


def kept(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / FOLDER / BEST, weights_only=True)["state_dict"]


def best_epoch(run: Path) -> int:
    with open(run / "curves.csv", newline="", encoding="utf-8") as file:
        figures = [float(row["validation_macro_top_1"]) for row in csv.DictReader(file)]
    return figures.index(max(figures))


def test_a_moving_average_of_every_step_is_validated_and_kept(
    sheets_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = watched(sheets_dataset, tmp_path / "run", AveragingOptions("ema", decay=0.8), monkeypatch, head=TreeOptions(width=8))
    each = len(watch.steps) // 3
    average = dict(watch.steps[0])
    for number, weights in enumerate(watch.steps):
        if number:
            average = {
                name: 0.8 * average[name] + 0.2 * value if value.is_floating_point() else value for name, value in weights.items()
            }
        if (number + 1) % each == 0:
            assert_close(watch.validated[number // each], average, rtol=1e-4, atol=1e-6)
    weight = "backbone.conv1.0.weight"
    assert not torch.allclose(watch.validated[-1][weight], watch.steps[-1][weight], rtol=1e-3)
    assert_close(kept(tmp_path / "run"), watch.validated[best_epoch(tmp_path / "run")], rtol=0, atol=0)


def test_whole_numbers_are_no_average() -> None:
    indices = torch.tensor([5, 7, 11])
    _moving_average(0.999)([indices], [torch.tensor([5, 7, 12])], 1)
    assert indices.tolist() == [5, 7, 12]


def test_the_mean_of_epochs_ends_with_statistics_of_its_own(
    sheets_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The BatchNorms are measured by hand: a hook keeps what goes into the first of them in one pass with the kept weights."""
    plain = AugmentOptions(crop="whole", flip=False, colour=0.0)  # the pass by hand can't know another epoch's changes
    watch = watched(
        sheets_dataset, tmp_path / "run", AveragingOptions("swa", start=0.4), monkeypatch, head=LinearOptions(), augment=plain
    )
    ends = watch.steps[len(watch.steps) // 3 - 1 :: len(watch.steps) // 3]
    name = "backbone.layer1.0.conv1.weight"
    assert_close(watch.validated[0][name], ends[0][name], rtol=0, atol=0)  # nothing averaged yet
    assert_close(watch.validated[1][name], ends[1][name])
    assert_close(watch.validated[2][name], (ends[1][name] + ends[2][name]) / 2)
    best = kept(tmp_path / "run")
    assert any(torch.equal(best[name], watch.validated[epoch][name]) for epoch in (1, 2)), "an epoch before the average was kept"
    recipe = replace(SMOKE, head=LinearOptions(), augment=plain)
    run = prepare(sheets_dataset, recipe, tmp_path / "other")
    module = TrainingModule(run.network, recipe)
    module.load_state_dict(watch.validated[2])
    loader, _ = loop._loaders(run, loop.Process())
    inputs: list[torch.Tensor] = []
    norm = module.backbone.conv1[1]  # type: ignore[union-attr, index]
    norm.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach().clone()))
    loader.batch_sampler.sampler.set_epoch(2)
    with torch.no_grad():
        module.train()
        for batch in loader:
            module(batch)
    means = torch.stack([batch.mean((0, 2, 3)) for batch in inputs]).mean(0)
    assert_close(watch.validated[2]["backbone.conv1.1.running_mean"], means, rtol=1e-3, atol=1e-4)


def test_without_validation_the_last_average_is_kept(
    sheets_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Dataset.part

    def part(self: Dataset, name: str) -> Any:
        found = real(self, name)
        if name == "validation":
            found.__dict__["class_index"] = found.class_index * 0 - 1  # as if all its species were unknown
        return found

    monkeypatch.setattr(Dataset, "part", part)
    watch = watched(sheets_dataset, tmp_path / "run", AveragingOptions("swa", start=0.0), monkeypatch, head=LinearOptions())
    assert not watch.validated
    ends = watch.steps[len(watch.steps) // 3 - 1 :: len(watch.steps) // 3]
    name = "backbone.layer1.0.conv1.weight"
    from taxakey.training.checkpoint import load_model

    found = load_model(tmp_path / "run").network.state_dict()
    assert_close(found[name], sum(end[name] for end in ends) / 3)
    statistics = "backbone.conv1.1.running_mean"
    assert not torch.allclose(found[statistics], ends[-1][statistics], rtol=1e-3), "the norms weren't measured anew"


def test_norms_that_were_told_to_keep_their_statistics_keep_them_in_an_average(
    sheets_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stem is frozen, with its norms; the last stage learns, with its."""
    frozen = TuningOptions(freeze=1)
    watch = watched(
        sheets_dataset, tmp_path / "run", AveragingOptions("swa", start=0.0), monkeypatch, head=LinearOptions(), tuning=frozen
    )
    stem, last = (f"backbone.{name}.running_mean" for name in ("conv1.1", "layer4.0.bn1"))
    for validated, before in zip(watch.validated, watch.steps[len(watch.steps) // 3 - 1 :: len(watch.steps) // 3], strict=True):
        assert torch.equal(validated[stem], watch.steps[0][stem])
        assert not torch.equal(validated[last], before[last])


def test_what_can_not_be_averaged_is_refused() -> None:
    with pytest.raises(BadRecipe, match="can't be averaged"):
        replace(SMOKE, averaging=AveragingOptions("ema"), scale=ScaleOptions(devices=2, strategy="fsdp")).resolved()
    with pytest.raises(BadRecipe, match="or learnt in part"):
        replace(SMOKE, tuning=TuningOptions(freeze=1), scale=ScaleOptions(devices=2, strategy="fsdp")).resolved()
    with pytest.raises(ValueError, match="decay must lie"):
        AveragingOptions("ema", decay=1.0)
