"""The loader's batches against the pictures themselves, and the log of which side waits."""

from __future__ import annotations

import csv
import time
from dataclasses import replace
from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from taxakey import progress
from taxakey.artifacts import read_manifest
from taxakey.dataset.augment import AugmentOptions, RareOptions
from taxakey.dataset.preprocess import Preprocess
from taxakey.dataset.reader import Dataset
from taxakey.models.backbones import Network, build_backbone
from taxakey.models.heads import LinearHead
from taxakey.training import batches
from taxakey.training.batches import EpochShuffle, Pictures, picture_loader
from taxakey.training.loop import train
from taxakey.training.mixing import MixingOptions
from taxakey.training.module import TrainingModule
from taxakey.training.recipe import Recipe, read_recipe
from taxakey.training.samplers import PlainOptions, TrainingPart, WeightedOptions
from taxakey.training.waiting import Waiting, told

SMOKE = read_recipe(Path(__file__).parent.parent.parent / "recipes" / "smoke.yaml")
PREPROCESS = Preprocess((3, 48, 40), (0.5, 0.4, 0.3), (0.25, 0.3, 0.2), crop_pct=1.0, crop_mode="squash")


def training_pictures(dataset: Path, options: AugmentOptions) -> Pictures:
    part = Dataset.open(dataset).part("train")
    counts_C = np.bincount(part.class_index)
    return Pictures(part, PREPROCESS, options.build(PREPROCESS, counts_C), seed=11)


def small_batches(recipe: Recipe = SMOKE, size: int = 6) -> Recipe:
    return replace(recipe, loop=replace(recipe.loop, batch_size=size))


def test_batches_hold_the_drawn_pictures_for_as_long_as_one_likes(sheets_dataset: Path) -> None:
    """More batches than the workers have places, all kept: none may have been written over."""
    pictures = training_pictures(sheets_dataset, AugmentOptions(automatic="rand_augment", erasing=0.5))
    draw = WeightedOptions("inverse_frequency").build(TrainingPart(pictures.labels_N, np.zeros(8, dtype=np.int64), 11))
    loader = picture_loader(pictures, small_batches(), draw)
    for epoch in (0, 1):  # the same worker processes go on
        loader.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        kept = list(loader)
        assert len(kept) == draw.length // 6 > 12
        shuffle = EpochShuffle(draw, len(pictures))
        shuffle.set_epoch(epoch)
        indices = list(shuffle)
        for number, batch in enumerate(kept):
            expected = [pictures[index] for index in indices[6 * number : 6 * number + 6]]
            assert batch.labels.tolist() == [label for _, label in expected]
            assert batch.inputs.dtype == torch.uint8
            assert batch.inputs.is_contiguous(memory_format=torch.channels_last)
            assert_close(
                batch.inputs, torch.stack([torch.from_numpy(pixels.copy()) for pixels, _ in expected]).permute(0, 3, 1, 2)
            )


def test_validation_batches_are_the_evaluation_transform(sheets_dataset: Path) -> None:
    part = Dataset.open(sheets_dataset).part("validation")
    kept = list(picture_loader(Pictures(part, PREPROCESS), small_batches()))
    assert sum(len(batch.labels) for batch in kept) == len(part)
    expected = np.stack([PREPROCESS.load(part.image_bytes(row)) for row in range(len(part))])
    assert_close(torch.cat([batch.inputs for batch in kept]), torch.from_numpy(expected))


def test_uint8_is_standardised_as_evaluation_does_it(sheets_dataset: Path) -> None:
    still = AugmentOptions(crop="whole", flip=False, colour=0.0)
    pictures = training_pictures(sheets_dataset, still)
    backbone = replace(SMOKE.backbone, mean=PREPROCESS.mean, std=PREPROCESS.std)
    module = TrainingModule(Network(build_backbone(backbone), LinearHead(512, 8)), replace(SMOKE, backbone=backbone))
    pixels = torch.from_numpy(pictures[3][0].copy()).permute(2, 0, 1)[None]
    expected = torch.from_numpy(PREPROCESS.load(pictures.part.image_bytes(3)))[None]
    assert_close(module.standardised(pixels), expected, rtol=1e-5, atol=1e-5)
    assert module.standardised(expected) is expected


def test_pictures_are_mixed_within_their_batch(sheets_dataset: Path) -> None:
    pictures = training_pictures(sheets_dataset, AugmentOptions())
    draw = PlainOptions().build(TrainingPart(pictures.labels_N, np.zeros(8, dtype=np.int64), 11))
    recipe = small_batches(replace(SMOKE, mixing=MixingOptions(mixup=1.0, cutmix=1.0)))
    plain, mixed = list(picture_loader(pictures, small_batches(), draw)), list(picture_loader(pictures, recipe, draw))
    assert all(batch.mixed_labels is None and batch.share is None for batch in plain)
    for before, after in zip(plain, mixed, strict=True):
        assert_close(after.labels, before.labels)
        assert set(after.mixed_labels.tolist()) <= set(before.labels.tolist())
        whole = after.share > 0.999
        assert_close(after.inputs[whole], before.inputs[whole], atol=1, rtol=0)
        assert (after.inputs != before.inputs).any()


def test_a_run_that_broke_off_goes_on_as_if_it_had_not(
    sheets_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sampler, augmentation and mixing of the second epoch are those of an undisturbed run."""
    recipe = replace(
        SMOKE,
        sampler=WeightedOptions("square_root"),
        augment=AugmentOptions(crop="window", automatic="trivial_augment", rare=RareOptions(threshold=12)),
        mixing=MixingOptions(mixup=0.3, cutmix=0.5),
    )

    def losses(run: Path) -> list[float]:
        with open(run / "curves.csv", newline="", encoding="utf-8") as file:
            return [float(row["train_loss"]) for row in csv.DictReader(file)]

    train(sheets_dataset, recipe, tmp_path / "whole", device="cpu")
    with monkeypatch.context() as patch:
        ordinary = EpochShuffle.__iter__

        def breaks_off(self: EpochShuffle):  # type: ignore[no-untyped-def]
            if self.epoch == 1:
                raise OSError("pulled the plug")
            return ordinary(self)

        patch.setattr(batches.EpochShuffle, "__iter__", breaks_off)
        with pytest.raises(OSError, match="pulled the plug"):
            train(sheets_dataset, recipe, tmp_path / "broken", device="cpu")
    assert len(losses(tmp_path / "broken")) == 1
    train(sheets_dataset, recipe, tmp_path / "broken", device="cpu")
    assert losses(tmp_path / "broken") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


def test_a_development_run_says_so_and_shows_what_was_done_to_pictures(sheets_dataset: Path, tmp_path: Path) -> None:
    recipe = replace(SMOKE.with_fraction(0.4), loop=replace(SMOKE.loop, epochs=1))
    manifest = train(sheets_dataset, recipe, tmp_path / "run", device="cpu")
    whole = Dataset.open(sheets_dataset)
    assert manifest.counts["classes"] == len(whole.taxonomy)
    assert 0.25 < manifest.counts["train"] / len(whole.part("train")) < 0.6
    assert manifest.recipe["fraction"] == 0.4
    note = f"A development run on 0.4 of the observations of each species, at least one ({manifest.counts['train']} training"
    assert manifest.notes[0].startswith(note)
    assert note in (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert read_manifest(tmp_path / "run", "run").notes == manifest.notes
    with open(tmp_path / "run" / "curves.csv", newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert 0 < float(row["seconds_waiting"]) < float(row["seconds"])
    assert 0 < float(row["seconds_in_steps"]) < float(row["seconds"])
    assert (tmp_path / "run" / "augmentation.jpg").stat().st_size > 5_000


# ---- which side waits ----


class _Slow(nn.Module):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.layer = nn.Linear(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds)
        return self.layer(x)


class _Learner(L.LightningModule):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.net = _Slow(seconds)

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        return self.net(batch[0]).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class _SlowData(TensorDataset):
    seconds = 0.0

    def __getitem__(self, index: int):  # type: ignore[no-untyped-def]
        time.sleep(self.seconds)
        return super().__getitem__(index)


@pytest.mark.parametrize(
    ("data", "step", "expected"),
    [(0.1, 0.0, "the network waits for the data"), (0.0, 0.1, "the data wait for the network")],
)
def test_the_log_says_which_side_waits(
    data: float, step: float, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = _SlowData(torch.zeros(10, 2))
    rows.seconds = data
    monkeypatch.setattr(progress, "_shown", True)
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", callbacks=[Waiting()], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(_Learner(step), DataLoader(rows, 1))
    lines = [line for line in capsys.readouterr().err.splitlines() if "waiting for batches" in line]
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2"]
    assert all(line.endswith(expected) for line in lines), lines
    waited, within = (float(trainer.callback_metrics[name]) for name in ("seconds_waiting", "seconds_in_steps"))
    assert (waited >= 1.0) == (data > 0)
    assert (within >= 1.0) == (step > 0)


def test_told_in_words() -> None:
    assert told(1.0, 9.5) == "1.0 s waiting for batches, 9.5 s in steps (10% waiting): the data wait for the network"
    assert told(2.0, 2.0) == "2.0 s waiting for batches, 2.0 s in steps (50% waiting): the network waits for the data"
    assert "0%" in told(0.0, 0.0)
