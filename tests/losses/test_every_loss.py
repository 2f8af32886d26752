"""What must hold for every loss: one table, and each test runs over all of it."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_head import BESIDE, COUNTS, FACTS, KINDS, LISTS, C, PlainHead, built, drawn, flora, loss_of
from torch.testing import assert_close

from taxakey.errors import BadRecipe
from taxakey.losses.cross_entropy import CrossEntropyOptions
from taxakey.losses.decision import Answer, Decision, DecisionLoss
from taxakey.losses.facts import LossFacts
from taxakey.losses.loss_options import LossOptions, build_loss
from taxakey.losses.poisonous import PoisonousOptions
from taxakey.losses.seesaw import SeesawOptions

every_loss = pytest.mark.parametrize("name", LISTS)
SINGLE = [name for name in LISTS if name != "weighted_triplet"]  # the others look at one image at a time


def test_the_table_holds_every_kind() -> None:
    assert {options.kind for losses in LISTS.values() for options in losses} == {kind().kind for kind in get_args(LossOptions)}


@every_loss
def test_one_finite_number_an_image_and_a_finite_gradient(name: str) -> None:
    logits_BC, labels_B = drawn()
    logits_BC.requires_grad_()
    loss_B = loss_of(LISTS[name], logits_BC, labels_B)
    assert loss_B.shape == (9,)
    assert loss_B.dtype == torch.float32
    assert (loss_B >= 0).all()
    (gradient,) = torch.autograd.grad(loss_B.sum(), logits_BC)
    assert gradient.isfinite().all()
    assert gradient.any()


@every_loss
def test_scores_far_apart_stay_finite(name: str) -> None:
    # A softmax that is sure, rightly and wrongly: 1 − p and p are 0 in float32.
    logits_BC = torch.tensor(
        [[200.0, 0, -50, 0, 0, 0, 0], [-200.0, 0, 100, 0, 0, 0, 0], [0.0, 0, 0, 0, 0, 0, 0]]
    ).requires_grad_()
    loss_B = loss_of(LISTS[name], logits_BC, torch.tensor([0, 0, 0]))
    assert loss_B.isfinite().all()
    (gradient,) = torch.autograd.grad(loss_B.sum(), logits_BC)
    assert gradient.isfinite().all()


@every_loss
def test_half_precision_is_computed_in_float32(name: str) -> None:
    logits_BC, labels_B = drawn()
    half_BC = logits_BC.bfloat16().requires_grad_()
    loss_B = loss_of(LISTS[name], half_BC, labels_B)
    assert loss_B.dtype == torch.float32
    assert_close(loss_B, loss_of(LISTS[name], half_BC.detach().float(), labels_B))
    (gradient,) = torch.autograd.grad(loss_B.sum(), half_BC)
    assert gradient.dtype == torch.bfloat16


@every_loss
@given(order=st.permutations(range(C)))
def test_naming_classes_in_another_order_changes_nothing(name: str, order: list[int]) -> None:
    logits_BC, labels_B = drawn()
    renamed = LossFacts(COUNTS[order], flora(order))
    moved_B = torch.as_tensor(np.argsort(order))[labels_B]
    assert_close(loss_of(LISTS[name], logits_BC[:, order], moved_B, renamed), loss_of(LISTS[name], logits_BC, labels_B))


@every_loss
def test_the_order_of_the_images_does_not_matter(name: str) -> None:
    logits_BC, labels_B = drawn()
    order_B = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    assert_close(loss_of(LISTS[name], logits_BC[order_B], labels_B[order_B]), loss_of(LISTS[name], logits_BC, labels_B)[order_B])


@pytest.mark.parametrize("name", SINGLE)
def test_an_images_loss_does_not_hang_on_its_batch(name: str) -> None:
    logits_BC, labels_B = drawn()
    alone = torch.cat([loss_of(LISTS[name], logits_BC[[b]], labels_B[[b]]) for b in range(9)])
    assert_close(alone, loss_of(LISTS[name], logits_BC, labels_B))


@pytest.mark.parametrize("name", [name for name in SINGLE if name not in ("poisonous", "poisonous smoothed")])
def test_adding_the_same_to_all_scores_changes_nothing(name: str) -> None:
    logits_BC, labels_B = drawn()
    assert_close(loss_of(LISTS[name], logits_BC + 3, labels_B), loss_of(LISTS[name], logits_BC, labels_B), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in KINDS if isinstance(built(KINDS[name])[0].losses[0], DecisionLoss)])
def test_masked_columns_are_as_if_they_were_not_there(name: str) -> None:
    logits_BK, labels_B = drawn()
    loss = KINDS[name].build(FACTS)
    counts = torch.tensor(COUNTS)
    # Whatever number stands where nothing can be chosen, and also where each image has counts of its own.
    wider_BK = torch.cat([logits_BK, torch.full((9, 2), -torch.inf)], dim=1).requires_grad_()
    found_B = loss.of_decision(Decision(wider_BK, labels_B, torch.cat([counts, torch.tensor([0, 10**6])])))
    assert_close(found_B, loss.of_decision(Decision(logits_BK, labels_B, counts.expand(9, -1))))
    (gradient,) = torch.autograd.grad(found_B.sum(), wider_BK)
    assert gradient.isfinite().all()
    assert not gradient[:, C:].any()
    # A path that has ended: one column, right with certainty.
    ended = torch.tensor([[0.0, -torch.inf, -torch.inf]]).requires_grad_()
    found = loss.of_decision(Decision(ended, torch.tensor([0]), torch.tensor([[5, 900, 1]])))
    assert found.item() == 0
    (gradient,) = torch.autograd.grad(found.sum(), ended)
    assert not gradient.any()


@pytest.mark.parametrize("name", KINDS)
def test_the_gradient_is_that_of_finite_differences(name: str) -> None:
    # In float32, which the losses compute in; Seesaw's factors and the triplet's weights are constants by intention.
    if name.startswith(("seesaw", "weighted_triplet")):
        pytest.skip("its factors carry no gradient; test_seesaw.py and test_weighted_triplet.py compare with slow loops")
    logits_BC, labels_B = drawn(4)
    logits_BC.requires_grad_()
    (gradient_BC,) = torch.autograd.grad(loss_of(KINDS[name], logits_BC, labels_B).sum(), logits_BC)
    step = 1e-2
    for c in range(C):
        moved = torch.zeros(C).index_fill(0, torch.tensor(c), step)
        with torch.no_grad():
            above_B, below_B = (loss_of(KINDS[name], logits_BC + sign * moved, labels_B) for sign in (1, -1))
            slope_B = (above_B - below_B) / (2 * step)
        assert_close(gradient_BC[:, c], slope_B, atol=3e-4, rtol=3e-3)


@pytest.mark.parametrize("name", KINDS)
def test_a_list_adds_up_by_weights(name: str) -> None:
    logits_BC, labels_B = drawn()
    both = (CrossEntropyOptions(weight=2), replace(KINDS[name], weight=0.1))
    expected_B = 2 * loss_of(CrossEntropyOptions(), logits_BC, labels_B) + 0.1 * loss_of(KINDS[name], logits_BC, labels_B)
    assert_close(loss_of(both, logits_BC, labels_B), expected_B)


@every_loss
def test_nothing_of_a_loss_is_stored_or_trained(name: str) -> None:
    # A checkpoint must fit whatever loss it is resumed or gone on with.
    loss, _ = built(*LISTS[name])
    assert not loss.state_dict()
    assert not list(loss.parameters())


@pytest.mark.parametrize(
    ("name", "missing"),
    [("inverse", "number of training images"), ("seesaw", "number of training images"), ("poisonous", "taxonomy"),
     ("logit_adjusted", "number of training images"), ("marginal", "taxonomy")],
)  # fmt: skip
def test_facts_that_are_needed_and_missing_are_named(name: str, missing: str) -> None:
    losses = LISTS[name]
    with pytest.raises(BadRecipe, match=f"loss .*{losses[-1].kind}.*{missing}"):
        built(*losses, facts=LossFacts())


@pytest.mark.parametrize(("marks", "found"), [((True,) * C, "all"), ((False,) * C, "none"), ((None,) * C, "no class either way")])
def test_poison_must_be_some_and_not_all(marks: tuple[bool | None, ...], found: str) -> None:
    from taxakey.taxonomy import Taxonomy

    taxonomy = Taxonomy.from_rows({"scientificName": f"{c}", "poisonous": mark} for c, mark in enumerate(marks))
    with pytest.raises(BadRecipe, match=f"marks {found}"):
        PoisonousOptions().build(LossFacts(COUNTS, taxonomy))


def test_a_head_that_says_no_counts_is_named() -> None:
    logits_BC, labels_B = drawn()
    with pytest.raises(BadRecipe, match="needs the number of training images behind each choice"):
        SeesawOptions().build().of_decision(Decision(logits_BC, labels_B))


def test_heads_are_told_counts_only_by_losses_that_read_them() -> None:
    for name, losses in LISTS.items():
        head = PlainHead()
        build_loss(losses, head, FACTS)
        assert (head.counts is not None) == name.startswith(("seesaw", "logit_adjusted")), name
    head = PlainHead()
    build_loss((*BESIDE["marginal"], SeesawOptions()), head, FACTS)
    assert head.counts is not None


def test_scores_of_a_head_that_decides_in_steps_are_asked_for() -> None:
    class Steps(PlainHead):
        flat = False

        def __call__(self, features_BD: torch.Tensor) -> torch.Tensor:
            return features_BD + 1

    features_BD, labels_B = drawn()
    assert torch.equal(Answer(Steps(), features_BD, labels_B).scores_BC, features_BD + 1)
    assert torch.equal(Answer(PlainHead(), features_BD, labels_B).scores_BC, features_BD)
