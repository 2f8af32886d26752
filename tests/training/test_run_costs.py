"""What a run writes down of its costs, and of its figures elsewhere."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import pytest
import torch
from test_loop import SMOKE, curves

from taxakey.artifacts import read_json
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadRecipe, MissingExtra
from taxakey.training.checkpoint import load_model
from taxakey.training.costs import EnergyMeter, peak_host_bytes, read_costs
from taxakey.training.loop import train
from taxakey.training.scale import ScaleOptions
from taxakey.training.schedule import OptimizerOptions
from taxakey.training.tracking import TrackingOptions


def test_a_run_writes_down_what_it_cost(sheets_dataset: Path, tmp_path: Path) -> None:
    recipe = replace(SMOKE, loop=replace(SMOKE.loop, epochs=2, batch_size=16, accumulate=2))
    train(sheets_dataset, recipe, tmp_path / "run", device="cpu")
    costs = read_costs(tmp_path / "run")
    assert costs == read_json(tmp_path / "run" / "costs.json")
    assert costs is not None
    network = load_model(tmp_path / "run").network
    assert costs["parameters"] == costs["trained_parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert (costs["batch"], costs["processes"], costs["epochs"], costs["precision"]) == (32, 1, 2, "32-true")
    seconds = [float(row["seconds"]) for row in curves(tmp_path / "run")]
    assert costs["seconds"] == pytest.approx(sum(seconds), rel=0.2)
    assert costs["seconds_per_epoch"] == pytest.approx(costs["seconds"] / 2, rel=0.01)
    shown = len(Dataset.open(sheets_dataset).part("train")) // 16 * 16 * 2  # the last, smaller batch is dropped
    assert costs["pictures_per_second"] == pytest.approx(shown / costs["training_seconds"], rel=0.01)
    assert 0 < costs["training_seconds"] < costs["seconds"]
    assert costs["peak_host_bytes"] > 100e6
    assert costs["peak_device_bytes"] is None, "there is no device"
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert f"{costs['pictures_per_second']:,.0f} photographs a second" in card


def test_the_peak_of_memory_grows_with_what_is_held() -> None:
    before = peak_host_bytes()
    if before is None:
        pytest.skip("this system doesn't say how much memory a process has had")
    held = torch.ones(before // 4 + 50_000_000)  # float32: at least 200 MB, more than was ever held
    after = peak_host_bytes()
    assert after is not None
    assert after - before > 0.5 * held.nbytes - 100e6


def write_zone(folder: Path, name: str, microjoules: int, limit: int = 10_000_000) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "energy_uj").write_text(f"{microjoules}\n")
    (folder / name / "max_energy_range_uj").write_text(f"{limit}\n")


def test_energy_of_both_processors_also_when_a_counter_begins_anew(tmp_path: Path) -> None:
    """The files are as Linux has them; the machine of the tests has none."""
    write_zone(tmp_path, "intel-rapl:0", 1_000_000)
    write_zone(tmp_path, "intel-rapl:1", 9_500_000)
    write_zone(tmp_path, "intel-rapl:0:0", 0)  # part of the first: counted there already
    meter = EnergyMeter(powercap=tmp_path)
    write_zone(tmp_path, "intel-rapl:0", 3_000_000)
    write_zone(tmp_path, "intel-rapl:1", 500_000)
    write_zone(tmp_path, "intel-rapl:0:0", 900_000)
    assert meter.joules() == pytest.approx(2.0 + 1.0)
    assert meter.joules() == 0.0


def test_no_meter_is_null_and_no_zero(tmp_path: Path) -> None:
    assert EnergyMeter(powercap=tmp_path / "nowhere").joules() is None
    write_zone(tmp_path, "intel-rapl:0", 1)
    meter = EnergyMeter(powercap=tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert meter.joules() is None, "a meter that stops is none"


@pytest.mark.parametrize(("option", "package"), [({"mlflow": "flora"}, "mlflow"), ({"wandb": "flora"}, "wandb")])
def test_a_tracker_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: dict[str, str], package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    if package not in sys.modules or sys.modules[package] is not None:
        pytest.fail("the package wasn't hidden")
    with pytest.raises(MissingExtra, match=rf"pip install 'taxakey\[{package}\]'"):
        TrackingOptions(**option).build(tmp_path, "run", {})


def test_mlflow_is_told_in_a_folder_of_the_run(sheets_dataset: Path, tmp_path: Path) -> None:
    tracking = pytest.importorskip("mlflow.tracking", reason="the extra mlflow isn't installed")
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    recipe = replace(SMOKE, tracking=TrackingOptions(mlflow="flora"), loop=replace(SMOKE.loop, epochs=2))
    run = tmp_path / "run"
    train(sheets_dataset, recipe, run, device="cpu")
    client = tracking.MlflowClient((run / "mlruns").as_uri())
    found = client.get_run((run / "mlflow_run.txt").read_text().strip())
    assert found.data.params["optimizer/name"] == "adamw"
    assert found.data.metrics["validation_loss"] == pytest.approx(float(curves(run)[-1]["validation_loss"]), rel=1e-4)
    history = client.get_metric_history(found.info.run_id, "train_loss")
    assert [point.value for point in history] == pytest.approx([float(row["train_loss"]) for row in curves(run)], rel=1e-4)


def test_what_is_the_backbones_is_refused_for_a_head() -> None:
    head = replace(SMOKE, train="head", backbone=replace(SMOKE.backbone, weights="hub"))
    for more in ({"scale": ScaleOptions(compile=True)}, {"optimizer": OptimizerOptions(layer_decay=0.7)}):
        with pytest.raises(BadRecipe, match=r"scale\.compile and optimizer\.layer_decay are the backbone's"):
            replace(head, **more).resolved()


def test_the_memory_layout_changes_nothing_that_is_learnt(sheets_dataset: Path, tmp_path: Path) -> None:
    recipe = replace(SMOKE, loop=replace(SMOKE.loop, epochs=1))
    train(sheets_dataset, recipe, tmp_path / "last", device="cpu")
    train(sheets_dataset, replace(recipe, scale=ScaleOptions(channels_last=False)), tmp_path / "first", device="cpu")
    losses = [float(curves(tmp_path / name)[0]["train_loss"]) for name in ("last", "first")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_a_compiled_backbone_answers_as_the_plain_one() -> None:
    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(3, 4)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.linear(pixels).relu()

    backbone = Small()
    pixels = torch.randn(2, 3)
    expected, keys = backbone(pixels), list(backbone.state_dict())
    ScaleOptions(compile=True, channels_last=False).prepare(backbone)
    before = torch._dynamo.utils.counters["frames"]["ok"]
    torch.testing.assert_close(backbone(pixels), expected)
    assert torch._dynamo.utils.counters["frames"]["ok"] > before, "nothing was compiled"
    assert list(backbone.state_dict()) == keys, "a checkpoint of a compiled network is one of the plain network"
