"""Real short runs: what is frozen stays as it came, adapters are merged, other sizes and further targets go all the way."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import taxakey.torchvision_guard  # noqa: F401  before timm

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from taxakey.artifacts import read_manifest
from taxakey.dataset.reader import Dataset
from taxakey.embeddings import embed, features
from taxakey.errors import BadRecipe
from taxakey.export import export
from taxakey.models.adapters import LoraOptions
from taxakey.models.backbones import BackboneOptions
from taxakey.models.cosine import ArcFaceOptions
from taxakey.models.heads import Head, LinearOptions
from taxakey.models.mlp import MlpOptions
from taxakey.models.targets import SeveralTargets, TargetOptions
from taxakey.models.trees import TreeHead
from taxakey.models.tuning import TuningOptions, groups
from taxakey.prediction.predict import predict
from taxakey.predictions import Predictions
from taxakey.serving.identifier import load
from taxakey.taxonomy import Taxonomy
from taxakey.training import loop, preparation
from taxakey.training.checkpoint import load_model
from taxakey.training.curves import Curves
from taxakey.training.loop import train
from taxakey.training.recipe import Recipe, read_recipe, recipe_from

ROOT = Path(__file__).parent.parent.parent
SMOKE = read_recipe(ROOT / "recipes" / "smoke.yaml")
VIT = {"depth": 2, "embed_dim": 24, "num_heads": 3}
needs_peft = pytest.mark.skipif(find_spec("peft") is None, reason="the extra lora isn't installed")


def fine_tuning(folder: Path, name: str, tuning: TuningOptions, *, size: int | tuple[int, int] = 48, epochs: int = 2) -> Recipe:
    """The smoke recipe from weights in a file, learning fast."""
    arguments = VIT if name.startswith("vit") else {}
    torch.manual_seed(0)
    save_file(timm.create_model(name, num_classes=0, **arguments).state_dict(), folder / "weights.safetensors")
    backbone = replace(
        SMOKE.backbone, name=name, weights=str(folder / "weights.safetensors"), image_size=size, arguments=arguments
    )
    changed = {"loop": replace(SMOKE.loop, epochs=epochs, accumulate=1), "head": MlpOptions(hidden=16)}
    return replace(SMOKE, backbone=backbone, tuning=tuning, **changed)


def numbers(state: dict[str, Tensor]) -> int:
    return sum(tensor.numel() for name, tensor in state.items() if "running" not in name and "num_batches" not in name)


def losses(run: Path) -> list[float]:
    with open(run / "curves.csv", newline="", encoding="utf-8") as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


def test_frozen_stages_stay_to_the_last_bit(sheets_dataset: Path, tmp_path: Path) -> None:
    recipe = fine_tuning(tmp_path, "resnet10t", TuningOptions(freeze=3))
    train(sheets_dataset, recipe, tmp_path / "run", device="cpu")
    before, after = load_file(tmp_path / "weights.safetensors"), load_file(tmp_path / "run" / "model" / "model.safetensors")
    moved = {name.split(".")[0] for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert moved == {"layer3", "layer4"}
    learning = {name for names in groups(timm.create_model("resnet10t", num_classes=0))[3:] for name in names}
    head = {name: tensor for name, tensor in after.items() if name.startswith("taxakey_head.")}
    counts = read_manifest(tmp_path / "run", "run").counts
    assert counts["trained_parameters"] == sum(before[name].numel() for name in learning) + numbers(head)
    assert counts["parameters"] == numbers(after)
    card = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "its first 3 stages frozen, the others trained; head: mlp" in card


@pytest.mark.parametrize(("name", "size"), [("mobilenetv3_small_050", 48), ("vit_tiny_patch16_224", (32, 64))])
def test_a_head_on_any_frozen_backbone_is_loaded_by_timm(
    name: str, size: int | tuple[int, int], sheets_dataset: Path, tmp_path: Path
) -> None:
    """MobileNetV3, the built-in recipe's, has a layer behind its pooling: more features come out than timm's num_features."""
    recipe = replace(fine_tuning(tmp_path, name, TuningOptions(), size=size), train="head", head=LinearOptions())
    embed(sheets_dataset, recipe.backbone, tmp_path / "vectors")
    train(sheets_dataset, recipe, tmp_path / "run", embeddings_folder=tmp_path / "vectors", device="cpu")
    model, part = load_model(tmp_path / "run"), Dataset.open(sheets_dataset).part("test")
    assert read_manifest(tmp_path / "vectors", "embeddings").counts["width"] == model.network.head.in_features
    theirs = timm.create_model(f"local-dir:{tmp_path / 'run' / 'model'}", pretrained=True).eval()
    ours = features(model.network, part, range(3), model.preprocess)
    np.testing.assert_allclose(features(theirs, part, range(3), model.preprocess), ours, rtol=1e-4, atol=1e-5)


@needs_peft
def test_adapters_are_merged_before_a_model_is_stored(sheets_dataset: Path, tmp_path: Path) -> None:
    recipe = fine_tuning(tmp_path, "vit_tiny_patch16_224", TuningOptions(lora=LoraOptions(rank=2, targets=("mlp.fc1",))))
    train(sheets_dataset, recipe, tmp_path / "run", device="cpu")
    before, after = load_file(tmp_path / "weights.safetensors"), load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert {name for name in after if not name.startswith("taxakey_head.")} == before.keys()
    del before["pos_embed"]  # resampled from 14×14 places to 3×3
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == {"blocks.0.mlp.fc1.weight", "blocks.1.mlp.fc1.weight"}
    difference = after["blocks.0.mlp.fc1.weight"] - before["blocks.0.mlp.fc1.weight"]
    assert int(torch.linalg.matrix_rank(difference, rtol=1e-3)) == 2
    head = sum(tensor.numel() for name, tensor in after.items() if name.startswith("taxakey_head."))
    counts = read_manifest(tmp_path / "run", "run").counts
    assert counts["trained_parameters"] == 2 * 2 * (24 + 96) + head
    assert counts["parameters"] == numbers(after)
    assert not [m for m in load_model(tmp_path / "run").network.modules() if "peft" in type(m).__module__]
    # What validation saw while adapters stood beside the layers, the stored model says without them.
    part = Dataset.open(sheets_dataset).part("validation")
    model = load_model(tmp_path / "run")
    pixels = torch.from_numpy(np.stack([model.preprocess.load(part.image_bytes(row)) for row in range(len(part))]))
    with torch.inference_mode():
        right = (model.network(pixels).argmax(1).numpy() == part.class_index).mean()
    with open(tmp_path / "run" / "curves.csv", newline="", encoding="utf-8") as file:
        best = max((float(row["validation_macro_top_1"]), float(row["validation_top_1"])) for row in csv.DictReader(file))
    assert right == pytest.approx(best[1], abs=1e-6)


class Stopped(Exception):
    """As a kill would, it ends the run with what lies on disk."""


class Snapshots(Curves):
    """Keeps the backbone's state at the end of every epoch, and stops a run where it is told to."""

    taken: ClassVar[list[dict[str, Tensor]]] = []
    stop_after: ClassVar[int | None] = None

    def on_train_epoch_end(self, trainer, module) -> None:  # type: ignore[no-untyped-def]
        super().on_train_epoch_end(trainer, module)
        self.taken.append({name: tensor.clone() for name, tensor in module.backbone.state_dict().items()})

    def on_train_epoch_start(self, trainer, module) -> None:  # type: ignore[no-untyped-def]
        super().on_train_epoch_start(trainer, module)
        if trainer.current_epoch == self.stop_after:
            raise Stopped


@pytest.fixture
def snapshots(monkeypatch: pytest.MonkeyPatch) -> type[Snapshots]:
    monkeypatch.setattr(loop, "Curves", Snapshots)
    monkeypatch.setattr(Snapshots, "taken", [])
    monkeypatch.setattr(Snapshots, "stop_after", None)
    return Snapshots


def test_first_the_head_then_all(sheets_dataset: Path, tmp_path: Path, snapshots: type[Snapshots]) -> None:
    recipe = fine_tuning(tmp_path, "resnet10t", TuningOptions(head_first=2), epochs=3)
    train(sheets_dataset, recipe, tmp_path / "run", device="cpu")
    before = load_file(tmp_path / "weights.safetensors")
    still = [all(torch.equal(before[name], tensor) for name, tensor in taken.items()) for taken in snapshots.taken]
    assert still == [True, True, False]
    assert losses(tmp_path / "run")[1] < losses(tmp_path / "run")[0]
    assert any(not torch.equal(snapshots.taken[2][name], before[name]) for name in before if "running_mean" in name)


def test_an_interrupted_run_knows_which_part_was_learning(
    sheets_dataset: Path, tmp_path: Path, snapshots: type[Snapshots]
) -> None:
    recipe = fine_tuning(tmp_path, "resnet10t", TuningOptions(head_first=2, freeze=2), epochs=3)
    train(sheets_dataset, recipe, tmp_path / "whole", device="cpu")
    snapshots.stop_after = 1
    with pytest.raises(Stopped):
        train(sheets_dataset, recipe, tmp_path / "parts", device="cpu")
    snapshots.stop_after = None
    train(sheets_dataset, recipe, tmp_path / "parts", device="cpu")
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-3)
    whole, parts = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("whole", "parts"))
    before = load_file(tmp_path / "weights.safetensors")
    frozen = [name for name in before if name.split(".")[0] in ("conv1", "bn1", "layer1")]
    assert frozen
    assert all(torch.equal(before[name], parts[name]) and torch.equal(before[name], whole[name]) for name in frozen)


def test_a_transformer_at_another_size_with_several_targets_goes_all_the_way(sheets_dataset: Path, tmp_path: Path) -> None:
    """Pictures of 32×64 through training, prediction, export and the server's scorer; the head tells ranks apart besides."""
    recipe = fine_tuning(tmp_path, "vit_tiny_patch16_224", TuningOptions(checkpointing=True), size=(32, 64), epochs=1)
    recipe = replace(recipe, head=ArcFaceOptions(margin=0.2), targets=TargetOptions(ranks={"genus": 0.5, "family": 0.2}))
    train(sheets_dataset, recipe, tmp_path / "run", device="cpu")
    model = load_model(tmp_path / "run")
    assert model.preprocess.input_size == (3, 32, 64)
    assert isinstance(model.network.head, SeveralTargets)
    assert json.loads((tmp_path / "run" / "model" / "config.json").read_text())["model_args"]["img_size"] == [32, 64]
    stored = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert stored["pos_embed"].shape == (1, 1 + 2 * 4, 24)
    genera = len(model.taxonomy.taxa("genus"))
    assert stored["taxakey_head.classifiers.genus.weight"].shape == (genera, 24)
    assert "which learnt genus, family besides the species" in (tmp_path / "run" / "model" / "README.md").read_text()
    predict(tmp_path / "run", sheets_dataset, tmp_path / "predictions")
    table = Predictions.read(tmp_path / "predictions" / "images.parquet")
    assert len(table.strings("image_id")) == len(Dataset.open(sheets_dataset).part("test"))
    export(tmp_path / "run", tmp_path / "bundle")
    picture = tmp_path / "sheet.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 60, 3), dtype=np.uint8)).save(picture)
    torch_says, onnx_says = (load(tmp_path / folder).identify([picture])[0].species for folder in ("run", "bundle"))
    assert [taxon.scientific_name for taxon in torch_says] == [taxon.scientific_name for taxon in onnx_says]
    np.testing.assert_allclose([t.probability for t in torch_says], [t.probability for t in onnx_says], rtol=1e-3)


def test_a_tree_with_further_targets_comes_back_as_it_was(sheets_dataset: Path, tmp_path: Path) -> None:
    recipe = replace(SMOKE, targets=TargetOptions(ranks={"family": 0.3}), loop=replace(SMOKE.loop, epochs=1))
    train(sheets_dataset, recipe, tmp_path / "run", device="cpu")
    head = load_model(tmp_path / "run").network.head
    assert isinstance(head, SeveralTargets)
    assert isinstance(head.species, TreeHead)
    stored = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert all(torch.equal(stored[f"taxakey_head.{name}"], tensor) for name, tensor in head.state_dict().items())


# ---- recipes ----


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tuning: {freeze: 2}", "train: head leaves it as it is"),
        ("train: all\ntuning: {head_first: 30}", "the backbone would never learn"),
        ("train: all\ntuning: {freeze: 1, lora: {rank: 4}}", "leave freeze out"),
        ("train: all\ntuning: {freze: 1}", "freze: Unexpected keyword"),
        ("train: all\ntuning: {lora: {rnk: 1}}", "rnk: Unexpected keyword"),
        ("targets: {ranks: {tribe: 1}}", "'tribe' is no rank"),
        ("targets: {genus: 1}", "genus: Unexpected keyword"),
        ("head: {kind: arcface, nodes: taxa}", "nodes: Unexpected keyword"),
        ("head: {kind: tree, margin: 0.5}", "margin: Unexpected keyword"),
    ],
)
def test_what_does_not_go_together_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadRecipe, match=message):
        recipe_from({"name": "a", **yaml.safe_load(text)}, "a test").resolved()


def test_sizes_and_freezing_are_read_from_yaml(tmp_path: Path) -> None:
    text = "name: a\ntrain: all\nbackbone: {image_size: [32, 64]}\ntuning: {freeze: all_but_norms, lora: null}"
    recipe = recipe_from(yaml.safe_load(text), "a test")
    assert recipe.backbone.image_size == (32, 64)
    assert recipe.tuning.freeze == "all_but_norms"
    recipe.write(tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml") == recipe
    assert recipe_from({"name": "a", "backbone": {"image_size": 32}}, "a test").backbone == BackboneOptions(image_size=32)


EXAMPLES = [
    (page, text)
    for page in ("backbones.md", "heads.md")
    for text in re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    if text.startswith("name:")
]


def test_both_pages_have_examples() -> None:
    assert {page for page, _ in EXAMPLES} == {"backbones.md", "heads.md"}


@pytest.mark.parametrize(("page", "text"), EXAMPLES)
def test_the_recipes_in_the_documentation_can_be_read(page: str, text: str) -> None:
    assert recipe_from(yaml.safe_load(text), page).resolved().name


# ---- a head that nobody here knows ----


class NearestPrototype(Head):
    """-|x - m_c|²: as a colleague would add it."""

    def __init__(self, in_features: int, classes: int) -> None:
        super().__init__()
        self.in_features, self.classes = in_features, classes
        self.prototypes_CD = torch.nn.Parameter(torch.randn(classes, in_features) * 0.1)

    def forward(self, features_BD: Tensor) -> Tensor:
        return -torch.cdist(features_BD, self.prototypes_CD).square()


def test_a_new_head_needs_no_change_of_the_loop(sheets_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def prototypes(_: object, in_features: int, taxonomy: Taxonomy, *others: object, **further: object) -> NearestPrototype:
        return NearestPrototype(in_features, len(taxonomy))

    monkeypatch.setattr(preparation, "build_head", prototypes)
    recipe = replace(SMOKE, targets=TargetOptions(ranks={"genus": 0.5}), loop=replace(SMOKE.loop, epochs=3))
    train(sheets_dataset, recipe, tmp_path / "run", device="cpu")
    assert losses(tmp_path / "run")[-1] < losses(tmp_path / "run")[0]
    stored = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert stored["taxakey_head.species.prototypes_CD"].shape == (len(Dataset.open(sheets_dataset).taxonomy), 512)
