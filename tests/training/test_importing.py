"""`taxakey import-model`: the same scores before and after, whatever form the checkpoint has; and what is refused."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before timm and torchvision

import pytest
import timm
import torch
import torchvision
import typer
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close
from typer.testing import CliRunner

from taxakey import artifacts
from taxakey.cli.import_model import import_model as command
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput, MissingArtifact
from taxakey.models.heads import LinearHead
from taxakey.prediction.members import Member
from taxakey.prediction.predict import predict
from taxakey.predictions import Predictions
from taxakey.training.checkpoint import load_model
from taxakey.training.continuation import Beginning
from taxakey.training.importing import ImportOptions, import_model, read_classes
from taxakey.training.recipe import read_recipe

NAMES = ["Quercus robur", "Acer campestre", "Zea mays", "Bellis perennis", "Poa annua"]
SMOKE = read_recipe(Path(__file__).parent.parent.parent / "recipes" / "smoke.yaml")


def trained(network: nn.Module) -> nn.Module:
    """With norms as after training: with fresh ones a mistaken name wouldn't be seen."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr, operator]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr, operator]
            module.weight.data.uniform_(0.5, 1.5)
    return network.eval()


def from_torchvision(name: str, classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return trained(torchvision.models.get_model(name, weights=None, num_classes=classes))


def plain(network: nn.Module, file: Path) -> None:
    torch.save(network.state_dict(), file)


def plantnet(network: nn.Module, file: Path) -> None:
    torch.save({"epoch": 29, "model": network.state_dict(), "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}, file)


def parallel(network: nn.Module, file: Path) -> None:
    weights = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"arch": "resnet18", "state_dict": weights, "args": argparse.Namespace(lr=0.1)}, file)


def lightning(network: nn.Module, file: Path) -> None:
    torch.save({"state_dict": {f"model.module.{name}": value for name, value in network.state_dict().items()}}, file)


def safetensors(network: nn.Module, file: Path) -> None:
    save_file(network.state_dict(), file)


def old(network: nn.Module, file: Path) -> None:
    """As torch saved before it counted batches, and before it wrote zip files."""
    weights = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(weights, file, _use_new_zipfile_serialization=False)


def behind_a_dropout(network: nn.Module, file: Path) -> None:
    torch.save({name.replace("fc.", "fc.1."): value for name, value in network.state_dict().items()}, file)


FORMS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module, Path], None], str, str | None]] = {
    "torchvision": (lambda: from_torchvision("resnet18"), plain, "a.pth", "resnet18.tv_in1k"),
    "Pl@ntNet-300K": (lambda: from_torchvision("resnet18"), plantnet, "a.tar", "resnet18"),
    "several GPUs, says its name": (lambda: from_torchvision("resnet18"), parallel, "a.pth.tar", None),
    "Lightning": (lambda: from_torchvision("resnet18"), lightning, "a.ckpt", "resnet18"),
    "old": (lambda: from_torchvision("resnet18"), old, "a.pth", "resnet18"),
    "behind a dropout": (lambda: from_torchvision("resnet18"), behind_a_dropout, "a.pth", "resnet18"),
    "torchvision, other names": (lambda: from_torchvision("mobilenet_v2"), plain, "a.pth", "mobilenetv2_100"),
    "torchvision, further other names": (lambda: from_torchvision("efficientnet_b0"), plain, "a.pth", "efficientnet_b0"),
    "timm": (lambda: trained(timm.create_model("resnet10t", num_classes=5)), safetensors, "a.safetensors", "resnet10t"),
    "timm, another classifier": (
        lambda: trained(timm.create_model("mobilenetv3_small_050", num_classes=5)), plantnet, "a.pth", "mobilenetv3_small_050",
    ),
}  # fmt: skip


def listed(folder: Path, names: list[str] = NAMES) -> Path:
    file = folder / "classes.txt"
    file.write_text("\n".join(names) + "\n")
    return file


def scores(network: nn.Module) -> Tensor:
    torch.manual_seed(2)
    with torch.inference_mode():
        return network(torch.randn(2, 3, 64, 64))


@pytest.mark.parametrize("form", FORMS)
def test_the_same_scores_in_the_order_of_the_names(form: str, tmp_path: Path) -> None:
    made, save, file, architecture = FORMS[form]
    network = made()
    save(network, tmp_path / file)
    import_model(tmp_path / file, listed(tmp_path), tmp_path / "run", ImportOptions(architecture))
    model = load_model(tmp_path / "run")
    assert model.taxonomy.names == tuple(sorted(NAMES))
    order = [NAMES.index(name) for name in model.taxonomy.names]
    assert_close(scores(model.network), scores(network)[:, order], rtol=1e-5, atol=1e-5)
    assert model.calibration is None
    assert "Not calibrated" in (tmp_path / "run" / "model" / "README.md").read_text()


def test_predict_a_member_and_a_further_training_take_it(sheets_dataset: Path, tmp_path: Path) -> None:
    names = list(Dataset.open(sheets_dataset).taxonomy.names)[::-1]
    network = trained(timm.create_model("resnet10t", num_classes=len(names)))
    safetensors(network, tmp_path / "a.safetensors")
    options = ImportOptions("resnet10t", mean=(0.5, 0.5, 0.5), std=(0.2, 0.3, 0.4), image_size=48, crop_pct=1.0)
    import_model(tmp_path / "a.safetensors", listed(tmp_path, names), tmp_path / "run", options)
    predict(tmp_path / "run", sheets_dataset, tmp_path / "said", full_scores=True)
    part, member = Dataset.open(sheets_dataset).part("test"), Member.open(tmp_path / "said", "image")
    preprocess = load_model(tmp_path / "run").preprocess
    assert (preprocess.input_size, preprocess.std, preprocess.crop_pct) == ((3, 48, 48), (0.2, 0.3, 0.4), 1.0)
    pixels = torch.stack([torch.from_numpy(preprocess.load(part.image_bytes(row))) for row in range(len(part))])
    with torch.inference_mode():
        best = network(pixels).argmax(1).tolist()
    row_of = {name: row for row, name in enumerate(member.ids)}
    stored = Predictions.read(tmp_path / "said" / "images.parquet")
    said = stored.index("species")[[row_of[name] for name in part.image_ids], 0]
    assert [member.taxonomy.names[index] for index in said] == [names[index] for index in best]
    beginning = Beginning.open(tmp_path / "run")
    going_on = beginning.recipe(replace(SMOKE, backbone=replace(SMOKE.backbone, std=None)))
    assert going_on.backbone.std == (0.2, 0.3, 0.4)
    head = LinearHead(512, len(names))
    taken, _ = beginning.hand_over(head, Dataset.open(sheets_dataset).taxonomy)
    assert taken["classes_taken_over"] == len(names)


class Evil:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(2)}, "more": Evil(tmp_path / "ran")}, tmp_path / "a.pth")
    with pytest.raises(
        BadInput, match=r"a\.pth: not a file of weights alone \(it asks for posix\.mkdir\).*save model\.state_dict\(\)"
    ):
        import_model(tmp_path / "a.pth", listed(tmp_path), tmp_path / "run", ImportOptions("resnet18"))
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "run").exists()


def test_a_whole_module_and_noise_are_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pth")
    (tmp_path / "noise.pth").write_bytes(b"noise" * 100)
    (tmp_path / "noise.safetensors").write_bytes(b"noise" * 100)
    torch.save([torch.ones(3)], tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    for file, why in {
        "whole.pth": "Python objects", "noise.pth": "not a file of weights alone", "noise.safetensors": "not a safetensors file",
        "list.pth": "holds a list", "none.pth": r"no weights in it \(keys: epoch\)",
    }.items():  # fmt: skip
        with pytest.raises(BadInput, match=why):
            import_model(tmp_path / file, listed(tmp_path), tmp_path / "run", ImportOptions("resnet18"))
    with pytest.raises(MissingArtifact, match="no such file of weights"):
        import_model(tmp_path / "nothing.pth", listed(tmp_path), tmp_path / "run")


def test_says_what_doesn_t_fit(tmp_path: Path) -> None:
    plain(from_torchvision("resnet18"), tmp_path / "a.pth")
    for options, names, why in (
        (ImportOptions(), NAMES, "doesn't say what network it is; name timm's with --architecture"),
        (ImportOptions("resnet19"), NAMES, "has no network named 'resnet19'"),
        (ImportOptions("resnet18"), NAMES[:4], r"tells 5 classes apart and .*classes\.txt names 4"),
        (ImportOptions("resnet34"), NAMES, r"it lacks layer1\.2\.bn1\.bias, .* and \d+ more"),
        (ImportOptions("mobilenetv2_100"), NAMES, "it lacks .*; it has besides .*"),
    ):
        with pytest.raises(BadInput, match=why):
            import_model(tmp_path / "a.pth", listed(tmp_path, names), tmp_path / "run", options)
    torch.save({**torch.load(tmp_path / "a.pth"), "layer1.0.conv1.weight": torch.zeros(128, 64, 1, 1)}, tmp_path / "wide.pth")
    with pytest.raises(BadInput, match=r"of another shape layer1\.0\.conv1\.weight is 128×64×1×1, there 64×64×3×3; name"):
        import_model(tmp_path / "wide.pth", listed(tmp_path), tmp_path / "run", ImportOptions("resnet18"))


def test_lists_of_classes(tmp_path: Path) -> None:
    def read(text: str, name: str = "a.json") -> list[tuple[str, str | None, str]]:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return [(entry.name, entry.author, entry.taxon_id) for entry in read_classes(tmp_path / name)]

    # Class index = order of the folders' names as strings: 11 before 9.
    plantnet = {"9": "Lactuca virosa L.", "11": "Cirsium_arvense_(L.) Scop."}
    assert read(json.dumps(plantnet)) == [("Cirsium arvense", "(L.) Scop.", "11"), ("Lactuca virosa", "L.", "9")]
    assert read('{"1": "Zea mays", "0": "Poa annua"}') == [("Poa annua", None, ""), ("Zea mays", None, "")]
    assert [name for name, _, _ in read(json.dumps({str(n): f"Zea mays{n}" for n in range(12)}))][10] == "Zea mays10"
    assert [name for name, _, _ in read('["moss", "Zea mays L."]')] == ["moss", "Zea mays"]
    assert [name for name, _, _ in read("moss\nfern no. 7\n\n", "a.txt")] == ["moss", "fern no. 7"]
    with pytest.raises(BadInput, match=r"classes 0 and 2 are both 'Zea mays' \('Zea mays L.', 'Zea mays'\)"):
        read("Zea mays L.\nPoa annua\nZea mays\n", "a.txt")
    with pytest.raises(BadInput, match="class 1 has no name"):
        read("moss\n\nfern\n", "a.txt")
    with pytest.raises(BadInput, match="names no class"):
        read("[]")
    with pytest.raises(BadInput, match="neither a list"):
        read('"moss"')


def test_the_command_and_the_facts_beside_a_timm_model(tmp_path: Path) -> None:
    safetensors(trained(timm.create_model("resnet10t", num_classes=5)), tmp_path / "model.safetensors")
    facts = {"architecture": "resnet10t", "pretrained_cfg": {"input_size": [3, 96, 96], "mean": [0.1, 0.2, 0.3], "crop_pct": 0.9}}
    artifacts.write_json(tmp_path / "config.json", facts)
    app = typer.Typer()
    app.command()(command)
    arguments = [tmp_path / "model.safetensors", tmp_path / "run", "--classes", listed(tmp_path), "--std", "0.3,0.3,0.3"]
    done = CliRunner().invoke(app, [*map(str, arguments), "--crop", "0.8"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "Not calibrated: run `taxakey calibrate`" in done.output
    found = load_model(tmp_path / "run").preprocess
    assert (found.input_size, found.mean, found.std, found.crop_pct) == ((3, 96, 96), (0.1, 0.2, 0.3), (0.3, 0.3, 0.3), 0.8)
    with pytest.raises(BadInput, match="--mean 1,2: three numbers"):
        CliRunner().invoke(app, [*map(str, arguments), "--mean", "1,2"], catch_exceptions=False)
