"""Features drawn to a teacher's, against the distance written out. Shapes: B images, N stored, D and T features."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from taxakey.losses.cross_entropy import CrossEntropy
from taxakey.losses.decision import Answer
from taxakey.losses.feature_matching import FeatureMatching, FeatureOptions
from taxakey.models.head_options import build_head
from taxakey.models.heads import Head, LinearHead
from taxakey.models.mlp import MlpHead, MlpOptions
from taxakey.models.targets import TargetOptions, with_targets
from taxakey.taxonomy import Taxonomy

B, N, D, T, C = 4, 7, 5, 3, 6


def drawn(head: Head, weight: float = 0.8) -> tuple[FeatureMatching, Answer, Tensor]:
    torch.manual_seed(1)
    vectors_NT = torch.randn(N, T)
    loss = FeatureMatching(CrossEntropy(), FeatureOptions(weight), vectors_NT, head.representation(torch.zeros(1, D)).shape[1])
    features_BD = torch.randn(B, D, requires_grad=True)
    return loss, Answer(head, features_BD, torch.tensor([0, 5, 2, 2]), rows_B=torch.tensor([6, 0, 3, 3])), vectors_NT


def half_squared_distances(mine_BF: Tensor, loss: FeatureMatching, theirs_BT: Tensor) -> Tensor:
    """FitNets' distance between vectors of length 1, number by number."""
    found = []
    for mine_F, theirs_T in zip(mine_BF, theirs_BT, strict=True):
        projected = [(row * mine_F).sum() + bias for row, bias in zip(loss.projection.weight, loss.projection.bias, strict=True)]
        length, their_length = (sum(x * x for x in of) ** 0.5 for of in (projected, theirs_T))  # type: ignore[misc]
        found.append(sum((a / length - b / their_length) ** 2 for a, b in zip(projected, theirs_T, strict=True)) / 2)
    return torch.stack(found)  # type: ignore[arg-type]


def test_loss_and_gradients_are_those_of_the_distance_written_out() -> None:
    loss, answer, vectors_NT = drawn(LinearHead(D, C))
    expected_B = CrossEntropy()(answer) + 0.8 * half_squared_distances(answer.features_BD, loss, vectors_NT[answer.rows_B])
    assert_close(loss(answer), expected_B)
    learnt = [answer.features_BD, loss.projection.weight, loss.projection.bias]
    mine, expected = (torch.autograd.grad(of.sum(), learnt, retain_graph=True) for of in (loss(answer), expected_B))
    for gradient, wanted in zip(mine, expected, strict=True):
        assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)


def test_a_head_with_a_hidden_layer_shows_that_one() -> None:
    head = MlpHead(D, C, hidden=9)
    loss, answer, vectors_NT = drawn(head)
    hidden_BH = (answer.features_BD @ head.hidden.weight.T + head.hidden.bias).clamp(min=0)
    assert_close(loss.distance(answer), half_squared_distances(hidden_BH, loss, vectors_NT[answer.rows_B]))
    loss.distance(answer).sum().backward()
    assert head.hidden.weight.grad is not None
    assert head.hidden.weight.grad.abs().sum() > 0
    flora = Taxonomy.from_rows({"scientificName": f"s{c}", "genus": f"g{c // 2}"} for c in range(C))
    several = with_targets(build_head(MlpOptions(hidden=9), D, flora), TargetOptions(ranks={"genus": 1.0}), flora)
    assert several.representation(torch.zeros(2, D)).shape == (2, 9)


def test_what_is_known_of_a_picture_besides_is_no_feature_of_it() -> None:
    head = LinearHead(D, C)
    head.metadata = 2
    assert_close(head.representation(torch.arange(10.0).view(2, D)), torch.tensor([[0.0, 1, 2], [5, 6, 7]]))


def test_a_teacher_without_any_feature_draws_nowhere() -> None:
    loss, answer, _ = drawn(LinearHead(D, C))
    loss.vectors_NT.table_N[:] = 0
    assert_close(loss.distance(answer), torch.ones(B))
    (gradient,) = torch.autograd.grad(loss.distance(answer).sum(), [answer.features_BD])
    assert (gradient == 0).all()


def test_the_teacher_s_vectors_lie_in_no_checkpoint_and_aren_t_copied() -> None:
    loss, _, _ = drawn(LinearHead(D, C))
    assert [*loss.state_dict()] == ["projection.weight", "projection.bias"]
    assert not list(loss.buffers())
    assert copy.deepcopy(loss).vectors_NT.table_N is loss.vectors_NT.table_N


@pytest.mark.parametrize("weight", [0.0, -1.0, np.inf])
def test_refuses_what_makes_no_sense(weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        FeatureOptions(weight)
