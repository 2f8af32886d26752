"""The factorised head against a slow loop, the flat matrix it stands for, and its two limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from taxakey.losses.cross_entropy import CrossEntropy
from taxakey.models.factorised import FactorisedHead, FactorisedOptions

GROUPS = [2, 0, 2, -1, 0, -1, 5]


def head(groups: list[int], *, rank: int = 3, seed: int = 0) -> FactorisedHead:
    """A head on 6 features with weights large enough to matter."""
    torch.manual_seed(seed)
    made = FactorisedHead(6, np.array(groups), rank=rank)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=12), st.integers(1, 8), st.integers(0, 5))
def test_logits_equal_slow_loops(groups: list[int], rank: int, seed: int) -> None:
    made, x = head(groups, rank=rank, seed=seed), torch.randn(6)
    names = sorted(set(groups))
    z = made.projection.weight @ x
    expected = [
        (made.group_weight_GD[names.index(group)] @ x + made.own_weight_Cr[c] @ z + made.bias_C[c]).item()
        for c, group in enumerate(groups)
    ]
    assert_close(made(x[None])[0], torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_stands_for_a_matrix_of_higher_rank_than_its_own_part() -> None:
    made, features_BD = head(list(range(4)) * 3, rank=2), torch.randn(5, 6)
    matrix_CD = made.group_weight_GD[made.group_C] + made.own_weight_Cr @ made.projection.weight
    assert torch.linalg.matrix_rank(matrix_CD) == 6  # min(D, 4 groups + rank 2)
    assert_close(made(features_BD), features_BD @ matrix_CD.T + made.bias_C)


def test_one_group_is_the_bottleneck_head_and_a_group_each_the_linear_one() -> None:
    one, features_BD = head([0] * 5), torch.randn(4, 6)
    by_bottleneck = one.projection(features_BD) @ one.own_weight_Cr.T + one.bias_C
    assert_close(one(features_BD).softmax(1), by_bottleneck.softmax(1))  # a vector shared by all classes decides nothing
    each = head([3, 1, 4, 0])
    with torch.no_grad():
        each.own_weight_Cr.zero_()
    assert_close(each(features_BD), features_BD @ each.group_weight_GD[[2, 1, 3, 0]].T + each.bias_C)


def test_classes_of_unknown_parent_share_one_vector() -> None:
    assert head(GROUPS).group_C.tolist() == [2, 1, 2, 0, 1, 0, 3]
    assert len(head([-1, -1, -1]).group_weight_GD) == 1


@given(st.permutations(range(len(GROUPS))))
def test_naming_classes_in_another_order_moves_the_answers_only(order: list[int]) -> None:
    plain, moved, features_BD = head(GROUPS), head([GROUPS[c] for c in order]), torch.randn(2, 6)
    with torch.no_grad():
        moved.own_weight_Cr.copy_(plain.own_weight_Cr[order])
        moved.bias_C.copy_(plain.bias_C[order])
    assert_close(moved(features_BD), plain(features_BD)[:, order])


def test_probabilities_sum_to_one_and_agree_with_log_prob_and_loss() -> None:
    made, features_BD, labels_B = head(GROUPS), torch.randn(4, 6) * 3, torch.tensor([6, 0, 3, 3])
    log_p_BC = made.log_prob_all(features_BD)
    assert_close(log_p_BC.exp().sum(1), torch.ones(4))
    assert_close(made.log_prob(features_BD, labels_B), log_p_BC[range(4), labels_B])
    loss = sum(CrossEntropy().of_decision(decision).mean() for decision in made.decisions(features_BD, labels_B))
    assert_close(loss, -log_p_BC[range(4), labels_B].mean())
    assert made.top_k(features_BD, 2).classes[:, 0].tolist() == log_p_BC.argmax(1).tolist()


def test_gradients_reach_every_parameter_from_the_start() -> None:
    made = FactorisedHead(6, np.array(GROUPS), rank=3)
    CrossEntropy().of_decision(made.decisions(torch.randn(4, 6), torch.tensor([0, 1, 2, 3]))[0]).mean().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad.abs().sum(-1) > 0).all(), name


def test_what_is_stored_answers_the_same_even_with_other_groups() -> None:
    made, features_BD = head(GROUPS), torch.randn(3, 6)
    loaded = head([0, 1, 2, 3, 0, 1, 2], seed=9)
    loaded.load_state_dict(made.state_dict())
    assert_close(loaded(features_BD), made(features_BD), rtol=0, atol=0)


def test_multiply_adds_and_parameters_by_hand() -> None:
    made = FactorisedHead(10, np.array([0, 0, 1, 1, 1]), rank=3)
    # 2 groups × 10 features, 3 directions × 10 features, 5 classes × 3 directions
    assert made.multiply_adds(training=True) == made.multiply_adds(training=False) == 20 + 30 + 15
    assert sum(parameter.numel() for parameter in made.parameters()) == 20 + 30 + 15 + 5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_stays_finite_in_half_precision(dtype: torch.dtype) -> None:
    assert head(GROUPS).to(dtype).log_prob_all((torch.randn(4, 6) * 30).to(dtype)).isfinite().all()


def test_one_class_is_certain() -> None:
    assert head([0]).log_prob_all(torch.randn(2, 6)).tolist() == [[0.0], [0.0]]


def test_refuses_what_makes_no_head() -> None:
    with pytest.raises(ValueError, match="rank must be"):
        FactorisedOptions(rank=0)
    with pytest.raises(ValueError, match="one of genus, family"):
        FactorisedOptions(groups="order")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="0 classes"):
        FactorisedHead(6, np.array([], dtype=np.int64))
    with pytest.raises(ValueError, match="rank 0"):
        FactorisedHead(6, np.array([0]), rank=0)
