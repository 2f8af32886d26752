"""The sampled head against the flat softmax that it estimates."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from taxakey.losses.cross_entropy import CrossEntropy
from taxakey.models.heads import BottleneckHead
from taxakey.models.sampled import SampledHead, SampledOptions


def head(classes: int, *, share: float = 0.3, sparse: bool = False, seed: int = 0) -> SampledHead:
    """A head on 7 features with weights large enough to matter."""
    torch.manual_seed(seed)
    made = SampledHead(7, classes, width=5, share=share, sparse=sparse)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


def flat(made: SampledHead) -> BottleneckHead:
    """The same weights in a flat head."""
    twin = BottleneckHead(7, made.classes, width=5)
    names = {"weight_Cd": "linear.weight", "bias_C": "linear.bias"}
    twin.load_state_dict({names.get(name, name): value for name, value in made.state_dict().items()})
    return twin


def test_answers_are_those_of_the_flat_head() -> None:
    made, features_BD, labels_B = head(23), torch.randn(4, 7) * 3, torch.tensor([0, 22, 5, 5])
    log_p_BC = flat(made).log_prob_all(features_BD)
    assert_close(made(features_BD), flat(made)(features_BD))
    assert_close(made.log_prob_all(features_BD), log_p_BC)
    assert_close(log_p_BC.exp().sum(1), torch.ones(4))
    assert_close(made.log_prob(features_BD, labels_B), log_p_BC[range(4), labels_B])
    assert_close(made.top_k(features_BD, 5).classes, flat(made).top_k(features_BD, 5).classes)


@pytest.mark.parametrize("sparse", [False, True])
@given(classes=st.integers(1, 20), images=st.integers(1, 6), seed=st.integers(0, 3))
def test_with_all_classes_sampled_loss_and_gradient_are_the_flat_ones(sparse: bool, classes: int, images: int, seed: int) -> None:
    made = head(classes, share=1.0, sparse=sparse, seed=seed)
    features_BD, labels_B = torch.randn(images, 7), torch.randint(classes, (images,))
    twin = flat(made)
    mine = CrossEntropy().of_decision(made.decisions(features_BD, labels_B)[0]).mean()
    theirs = CrossEntropy().of_decision(twin.decisions(features_BD, labels_B)[0]).mean()
    assert_close(mine, theirs)
    mine.backward()
    theirs.backward()
    for got, expected in zip(
        (made.bottleneck.projection.weight, made.weight_Cd, made.bias_C),
        (twin.bottleneck.projection.weight, twin.linear.weight, twin.linear.bias),
        strict=True,
    ):
        assert got.grad is not None
        assert_close(got.grad.to_dense(), expected.grad, rtol=1e-4, atol=1e-5)


def test_decision_equals_a_slow_loop_over_its_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    made, features_BD, labels_B = head(10, share=0.2), torch.randn(3, 7), torch.tensor([7, 2, 7])
    monkeypatch.setattr(made, "_sample_others", lambda own_P: torch.tensor([9, 4]))
    (decision,) = made.decisions(features_BD, labels_B)
    z_Bd = made.bottleneck(features_BD)
    for image in range(3):
        for column, c in enumerate([2, 7, 9, 4]):
            logit = (z_Bd[image] @ made.weight_Cd[c] + made.bias_C[c]).item()
            # 2 of the 8 classes outside the batch are drawn: each stands for four.
            expected = logit + (math.log(4) if c in (9, 4) else 0)
            assert_close(decision.logits[image, column].item(), expected, rtol=1e-4, atol=1e-4)
    assert decision.labels.tolist() == [1, 0, 1]


def test_sum_of_exponentials_is_that_of_all_classes_on_average() -> None:
    made, features_BD, labels_B = head(12, share=0.25), torch.randn(2, 7) / 3, torch.tensor([3, 8])
    whole_B = made(features_BD).exp().sum(1)
    torch.manual_seed(1)
    with torch.no_grad():
        drawn_NB = torch.stack([made.decisions(features_BD, labels_B)[0].logits.exp().sum(1) for _ in range(3_000)])
    error_B = drawn_NB.std(0) / math.sqrt(3_000)
    assert ((drawn_NB.mean(0) - whole_B).abs() < 4 * error_B).all()
    assert (error_B < 0.03 * whole_B).all()
    assert (drawn_NB.log().mean(0) < whole_B.log()).all()  # Jensen


@given(st.sets(st.integers(0, 29), min_size=1), st.floats(0.01, 1), st.integers(0, 5))
def test_others_are_distinct_and_not_the_batchs(own: set[int], share: float, seed: int) -> None:
    made = SampledHead(7, 30, width=1, share=share)
    torch.manual_seed(seed)
    others = made._sample_others(torch.tensor(sorted(own))).tolist()
    assert len(set(others)) == len(others) == min(made.samples, 30 - len(own))
    assert not own & set(others)
    assert all(0 <= c < 30 for c in others)


def test_every_other_class_is_drawn_equally_often() -> None:
    made, own_P = SampledHead(7, 9, width=1, share=0.3), torch.tensor([0, 4, 5])
    torch.manual_seed(0)
    hits_C = torch.stack([made._sample_others(own_P) for _ in range(2_000)]).flatten().bincount(minlength=9)
    assert hits_C[own_P].tolist() == [0, 0, 0]
    # 3 of 6 a time: 1,000 ± 22 each.
    assert ((hits_C[[1, 2, 3, 6, 7, 8]] - 1_000).abs() < 110).all()


def test_each_call_draws_anew_and_a_seed_repeats_it() -> None:
    made, features_BD, labels_B = head(50), torch.randn(2, 7), torch.tensor([3, 8])

    def logits() -> torch.Tensor:
        return made.decisions(features_BD, labels_B)[0].logits

    torch.manual_seed(5)
    first, second = logits(), logits()
    torch.manual_seed(5)
    assert_close(logits(), first, rtol=0, atol=0)
    assert not torch.equal(first, second)


def test_sparse_gradients_hold_the_rows_used_and_equal_the_dense_ones() -> None:
    features_BD, labels_B = torch.randn(3, 7), torch.tensor([7, 2, 7])
    gradients = {}
    for sparse in (False, True):
        made = head(40, share=0.1, sparse=sparse)
        torch.manual_seed(5)
        CrossEntropy().of_decision(made.decisions(features_BD, labels_B)[0]).mean().backward()
        assert all(parameter.grad is not None for parameter in made.parameters())
        gradients[sparse] = (made.weight_Cd.grad, made.bias_C.grad)
    for dense, rows in zip(gradients[False], gradients[True], strict=True):
        assert rows.is_sparse
        assert rows.coalesce().indices().numel() == 2 + 4  # two classes of the batch, a tenth of 40 others
        assert_close(rows.to_dense(), dense)


def test_every_class_learns_sooner_or_later() -> None:
    made = SampledHead(7, 20, width=5, share=0.2)
    torch.manual_seed(0)
    for _ in range(60):
        CrossEntropy().of_decision(made.decisions(torch.randn(2, 7), torch.tensor([0, 1]))[0]).mean().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad.abs() > 0).all(), name


@given(st.permutations(range(9)))
def test_naming_classes_in_another_order_moves_the_answers_only(order: list[int]) -> None:
    plain, moved, features_BD = head(9, share=1.0), head(9, share=1.0), torch.randn(3, 7)
    with torch.no_grad():
        moved.weight_Cd.copy_(plain.weight_Cd[order])
        moved.bias_C.copy_(plain.bias_C[order])
    assert_close(moved(features_BD), plain(features_BD)[:, order])
    labels_B = torch.tensor([1, 1, 4])
    renamed_B = torch.tensor([order.index(c) for c in labels_B.tolist()])
    losses = [
        CrossEntropy().of_decision(h.decisions(features_BD, y)[0]).mean() for h, y in ((plain, labels_B), (moved, renamed_B))
    ]
    assert_close(losses[0], losses[1])


def test_what_is_stored_answers_the_same() -> None:
    made, loaded, features_BD = head(30, seed=1), head(30, seed=2), torch.randn(3, 7)
    loaded.load_state_dict(made.state_dict())
    assert_close(loaded(features_BD), made(features_BD), rtol=0, atol=0)


def test_multiply_adds_by_hand() -> None:
    made = SampledHead(7, 100, width=5, share=0.1)
    assert made.multiply_adds(training=True) == 7 * 5 + 5 * (10 + 1)
    assert made.multiply_adds(training=False) == 7 * 5 + 5 * 100
    assert SampledHead(7, 100, width=5, share=1.0).multiply_adds(training=True) == 7 * 5 + 5 * 100


def test_features_in_half_precision_under_autocast() -> None:
    made, features_BD = head(40, sparse=True), torch.randn(4, 7)
    with torch.autocast("cpu", torch.bfloat16):
        (decision,) = made.decisions(features_BD, torch.tensor([0, 1, 2, 39]))
        loss = CrossEntropy().of_decision(decision).mean()
    loss.backward()
    assert decision.logits.dtype == torch.float32
    assert made.weight_Cd.grad is not None
    assert made.weight_Cd.grad.is_sparse
    assert made.weight_Cd.grad.dtype == torch.float32


def test_one_class_is_certain_and_a_batch_of_all_classes_needs_no_others() -> None:
    made = head(1)
    assert made.log_prob_all(torch.randn(2, 7)).tolist() == [[0.0], [0.0]]
    assert made.decisions(torch.randn(2, 7), torch.tensor([0, 0]))[0].logits.shape == (2, 1)
    assert head(3).decisions(torch.randn(3, 7), torch.tensor([2, 0, 1]))[0].labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5])
def test_refuses_a_share_that_is_none(share: float) -> None:
    with pytest.raises(ValueError, match="share is"):
        SampledOptions(share=share)
    with pytest.raises(ValueError, match="share is"):
        SampledHead(7, 5, share=share)


def test_refuses_what_makes_no_head() -> None:
    with pytest.raises(ValueError, match="width must"):
        SampledOptions(width=0)
    with pytest.raises(ValueError, match="at least one class"):
        SampledHead(7, 0)
