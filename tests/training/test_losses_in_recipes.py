"""`loss:` of a recipe, from the file to a finished run; and a loss of one's own, for which no file had to be changed."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from taxakey.dataset.reader import Dataset
from taxakey.errors import BadRecipe
from taxakey.losses.cross_entropy import CrossEntropyOptions
from taxakey.losses.decision import Answer, Decision, DecisionLoss, Loss
from taxakey.losses.facts import NOTHING_KNOWN, LossFacts, WeightedOptions
from taxakey.losses.logit_adjusted import LogitAdjustedOptions
from taxakey.losses.loss_options import build_loss
from taxakey.losses.marginal import MarginalOptions
from taxakey.losses.poisonous import PoisonousOptions
from taxakey.losses.seesaw import SeesawOptions
from taxakey.losses.taxon_labels import first_label
from taxakey.losses.weighted_triplet import WeightedTripletOptions
from taxakey.models.backbones import Network
from taxakey.models.heads import LinearHead
from taxakey.models.trees import TreeHead
from taxakey.training.batches import Batch
from taxakey.training.loop import train
from taxakey.training.module import TrainingModule
from taxakey.training.recipe import Recipe, read_recipe

ROOT = Path(__file__).parent.parent.parent
SMOKE = read_recipe(ROOT / "recipes" / "smoke.yaml")


def recipe(folder: Path, text: str) -> Recipe:
    file = folder / "recipe.yaml"
    file.write_text(f"name: a\nbackbone: {{weights: hub}}\n{text}\n")
    return read_recipe(file)


def test_one_loss_needs_no_list_and_none_is_cross_entropy(tmp_path: Path) -> None:
    assert recipe(tmp_path, "loss: {kind: seesaw, p: 0.7, q: 0.3}").loss == (SeesawOptions(p=0.7, q=0.3),)
    assert recipe(tmp_path, "").loss == (CrossEntropyOptions(),)


def test_a_list_comes_back_from_the_file_it_is_written_to(tmp_path: Path) -> None:
    losses = "loss:\n- {kind: seesaw, label_smoothing: 0.1}\n- {kind: poisonous, weight: 0.1}\n- {kind: marginal}"
    read = recipe(tmp_path, losses)
    assert read.loss == (SeesawOptions(label_smoothing=0.1), PoisonousOptions(weight=0.1), MarginalOptions())
    read.write(tmp_path / "again.yaml")
    assert read_recipe(tmp_path / "again.yaml") == read


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss: {kind: seesow}", r"loss\.0: Input tag 'seesow'.*'seesaw'"),
        ("loss: {p: 1}", r"loss\.0: Unable to extract tag using discriminator 'kind'"),
        ("loss: {kind: seesaw, pp: 1}", r"loss\.0\.seesaw\.pp: Unexpected keyword argument"),
        ("loss: {kind: seesaw, eps: 0}", r"loss\.0\.seesaw: .*eps is 0"),
        ("loss: [{kind: cross_entropy}, {kind: poisonous, weight: -1}]", r"loss\.1\.poisonous: .*weight is -1"),
        ("loss: [{kind: focal, gamma: much}]", r"loss\.0\.focal\.gamma: Input should be a valid number"),
        ("loss: {kind: class_weighted, by: hand}", r"loss\.0\.class_weighted\.by: Input should be 'inverse' or 'class_balanced'"),
        ("loss: []", r"loss: Value should have at least 1 item"),
        ("loss: seesaw", r"loss: Input should be a valid tuple"),
    ],
)
def test_says_which_loss_and_which_key_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadRecipe, match=message) as error:
        recipe(tmp_path, text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss: [{kind: poisonous}, {kind: marginal}]", "poisonous, marginal alone teaches no species"),
        ("loss: [{kind: focal}, {kind: marginal}, {kind: marginal}]", "marginal stands twice"),
        ("head: {kind: sampled}\nloss: {kind: seesaw}", "seesaw compares classes .* take logit_adjusted"),
        ("loss: [{kind: focal}, {kind: weighted_triplet}]", "weighted_triplet moves the features, which train: head leaves"),
        (
            "head: {kind: tree, sparse: true}\noptimizer: {name: lazy_adamw}\nloss: [{kind: focal}, {kind: poisonous}]",
            "poisonous needs the scores of all classes, and so head.sparse: false",
        ),
    ],
)
def test_losses_that_do_not_fit_are_refused_before_anything_starts(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadRecipe, match=message):
        recipe(tmp_path, text).resolved()


# ---- runs ----


def train_losses(run: Path) -> list[float]:
    with open(run / "curves.csv", newline="", encoding="utf-8") as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


def test_a_tree_learns_by_seesaw_and_poison_with_the_counts_of_its_dataset(
    sheets_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    real = TreeHead.set_counts
    monkeypatch.setattr(TreeHead, "set_counts", lambda head, counts_C: (told.append(counts_C), real(head, counts_C)))
    losses = (SeesawOptions(label_smoothing=0.1), PoisonousOptions(weight=0.1), WeightedTripletOptions(weight=0.5))
    run = tmp_path / "run"
    train(sheets_dataset, replace(SMOKE, loss=losses, loop=replace(SMOKE.loop, epochs=3)), run, device="cpu")
    found = train_losses(run)
    assert found[-1] < found[0]
    assert read_recipe(run / "model" / "recipe.yaml").loss == losses
    labels_N = Dataset.open(sheets_dataset).part("train").class_index
    np.testing.assert_array_equal(told, [[(labels_N == c).sum() for c in range(8)]])


def test_what_a_dataset_does_not_tell_is_refused_before_the_run_is_begun(sheets_dataset: Path, tmp_path: Path) -> None:
    from taxakey.models.hashed import HashedOptions

    refused = replace(SMOKE, head=HashedOptions(width=8), loss=(SeesawOptions(),))
    with pytest.raises(BadRecipe, match="a hashed head chooses among buckets"):
        train(sheets_dataset, refused, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_images_known_to_their_genus_alone_teach_it(sheets_dataset: Path) -> None:
    """Through the module, which has never seen a label of a species."""
    taxonomy = Dataset.open(sheets_dataset).taxonomy
    genus_C, generator = taxonomy.codes("genus"), torch.Generator().manual_seed(0)
    centres_CD = 3 * torch.randn(8, 12, generator=generator)
    species_N = torch.randint(8, (400,), generator=generator)
    features_ND = centres_CD[species_N] + torch.randn(400, 12, generator=generator)
    labels_N = torch.as_tensor(genus_C)[species_N] + first_label(taxonomy, "genus")
    head = LinearHead(12, 8)
    loss = build_loss((CrossEntropyOptions(), MarginalOptions()), head, LossFacts(None, taxonomy))
    module = TrainingModule(Network(nn.Identity(), head), replace(SMOKE, train="head"), loss)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        step_of(module, Batch(features_ND, labels_N)).backward()
        optimizer.step()
    answers_N = head(features_ND).log_softmax(1)
    genera_NG = torch.zeros(400, genus_C.max() + 1).index_add(1, torch.as_tensor(genus_C), answers_N.exp().detach())
    assert len(taxonomy.taxa("genus")) < 8, "some genus must hold more than one species"
    assert (genera_NG.argmax(1) == torch.as_tensor(genus_C)[species_N]).float().mean() > 0.95


def step_of(module: TrainingModule, batch: Batch) -> Tensor:
    module.log = lambda *_, **__: None  # type: ignore[method-assign]  # there is no trainer to log for
    return module.training_step(batch, 0)


# ---- a loss of one's own ----


@dataclass(frozen=True)
class BrierOptions(WeightedOptions):
    """As CONTRIBUTING.md says a loss is written: an options class with a `kind` and a `build`, and a `DecisionLoss`."""

    kind: Literal["brier"] = "brier"
    compares_choices: ClassVar[bool] = True

    def build(self, facts: LossFacts = NOTHING_KNOWN) -> Brier:
        return Brier()


class Brier(DecisionLoss):
    """Squared distance of the probabilities from the target."""

    def of_decision(self, decision: Decision) -> Tensor:
        target_BK = nn.functional.one_hot(decision.labels, decision.logits.shape[1])
        return (decision.logits.float().softmax(1) - target_BK).square().sum(1)


class FeatureLength(Loss):
    """A loss of the answer as a whole."""

    def forward(self, answer: Answer) -> Tensor:
        return answer.features_BD.float().square().mean(1)


@dataclass(frozen=True)
class FeatureLengthOptions(WeightedOptions):
    kind: Literal["feature_length"] = "feature_length"
    accompanies: ClassVar[bool] = True

    def build(self, facts: LossFacts = NOTHING_KNOWN) -> FeatureLength:
        return FeatureLength()


def test_a_loss_of_ones_own_runs_in_the_loop_as_it_is(sheets_dataset: Path, tmp_path: Path) -> None:
    mine = replace(SMOKE, loss=(BrierOptions(), FeatureLengthOptions(weight=0.01)), loop=replace(SMOKE.loop, epochs=3))
    train(sheets_dataset, mine, tmp_path / "run", device="cpu")
    found = train_losses(tmp_path / "run")
    assert found[-1] < found[0]


def test_the_module_takes_the_mean_of_what_a_loss_gives() -> None:
    head = LinearHead(5, 4)
    module = TrainingModule(Network(nn.Identity(), head), replace(SMOKE, train="head", loss=(BrierOptions(weight=3),)))
    features_BD, labels_B = torch.randn(6, 5), torch.tensor([0, 1, 2, 3, 3, 0])
    p_BC = head(features_BD).softmax(1)
    expected = sum(3 * (p_C - torch.eye(4)[y]).square().sum() for p_C, y in zip(p_BC, labels_B, strict=True)) / 6
    torch.testing.assert_close(step_of(module, Batch(features_BD, labels_B)), expected)


def test_a_loss_that_needs_facts_says_so_where_a_module_has_none() -> None:
    with pytest.raises(BadRecipe, match="loss logit_adjusted: needs each class's number of training images"):
        TrainingModule(Network(nn.Identity(), LinearHead(5, 4)), replace(SMOKE, train="head", loss=(LogitAdjustedOptions(),)))
