"""Gates and cascades: what they find where there is something to find, and the failure of a gate fitted on training pictures."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from test_ensemble import C, member

from taxakey.errors import BadInput
from taxakey.prediction.gates import GateOptions, answer_features, fit_gate
from taxakey.prediction.members import Member, Pool, open_pool
from taxakey.prediction.routing import (
    Costs,
    first_probabilities,
    fit_cascade,
    hashed,
    oracle,
    route,
    sparse,
    true_probabilities,
    uniform,
)

GATE = GateOptions(hidden=16, dropout=0.2, epochs=200)


def experts(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, 8] and what two experts give the truth [2, N]: each is good in one half of the features' space."""
    generator = np.random.default_rng(seed)
    features_NF = generator.standard_normal((rows, 8)).astype(np.float32)
    side_N = features_NF[:, 0] > 0
    good_N, bad_N = generator.beta(8, 2, rows), generator.beta(2, 6, rows)
    true_p_MN = np.stack([np.where(side_N, good_N, bad_N), np.where(side_N, bad_N, good_N)])
    return features_NF, true_p_MN


def nll(shares_NM: np.ndarray, true_p_MN: np.ndarray) -> float:
    return float(-np.log((shares_NM.T * true_p_MN).sum(axis=0)).mean())


@pytest.mark.parametrize("by", ["likelihood", "assignment"])
def test_a_gate_finds_who_is_good_at_what(by: str) -> None:
    features_NF, true_p_MN = experts(600, 0)
    options = GateOptions(hidden=16, dropout=0.2, epochs=200, by=by)  # type: ignore[arg-type]
    gate = fit_gate(features_NF, true_p_MN, options)
    new_NF, new_p_MN = experts(600, 1)
    routed, mean = nll(gate.shares(new_NF), new_p_MN), nll(uniform(600, 2), new_p_MN)
    assert routed < mean - 0.15
    chosen_N = gate.shares(new_NF).argmax(axis=1)
    assert ((chosen_N == 0) == (new_NF[:, 0] > 0)).mean() > 0.93


def test_a_gate_on_noise_stays_near_even() -> None:
    """Nothing to find: held-out rows stop it, and what it does costs next to nothing."""
    generator = np.random.default_rng(3)
    features_NF, true_p_MN = generator.standard_normal((300, 20)).astype(np.float32), generator.beta(3, 2, (3, 300))
    gate = fit_gate(features_NF, true_p_MN, GATE)
    new_NF, new_p_MN = generator.standard_normal((2000, 20)).astype(np.float32), generator.beta(3, 2, (3, 2000))
    assert nll(gate.shares(new_NF), new_p_MN) < nll(uniform(2000, 3), new_p_MN) + 0.02


def flora(rows: int, seed: int, learned: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Features, and what a good and a weak expert give the truth [2, N]: new pictures, or those that both have learned.

    The weak one is the better one for a tenth of the new pictures. What it has learned it knows by heart, a little surer even
    than the good one, as a network does that overfits.
    """
    generator = np.random.default_rng(seed)
    features_NF = generator.standard_normal((rows, 8)).astype(np.float32)
    if learned:
        return features_NF, np.stack([1 - generator.beta(1, 30, rows), 1 - generator.beta(1, 90, rows)])
    its_N = features_NF[:, 0] > 1.28
    good_N, weak_N = (
        np.where(generator.random(rows) < right, 0.9, 0.02) for right in np.where(its_N, [[0.4], [0.9]], [[0.85], [0.6]])
    )
    return features_NF, np.stack([good_N, weak_N])


def accuracy(shares_NM: np.ndarray, true_p_MN: np.ndarray) -> float:
    """Of the one expert that is asked; its answer is right where it gives the truth more than a half."""
    return float((true_p_MN[shares_NM.argmax(axis=1), np.arange(len(shares_NM))] > 0.5).mean())


def test_the_failure_of_a_gate_on_what_the_experts_learned_from_and_its_cure() -> None:
    """As in the examination of Pl@ntNet-300K: 99 % in training, 76.7 on validation, 77.5 on test; its best expert had 80.7."""
    learned, validation, test = flora(3000, 0, learned=True), flora(3000, 1), flora(6000, 2)
    alone = [accuracy(np.eye(2)[np.full(6000, m)], test[1]) for m in range(2)]
    fooled, cured = fit_gate(*learned, GATE), fit_gate(*validation, GATE)
    assert accuracy(fooled.shares(learned[0]), learned[1]) > 0.99
    for features_NF, true_p_MN in (validation, test):
        assert accuracy(fooled.shares(features_NF), true_p_MN) < max(alone) - 0.03  # the failure, on purpose
    assert accuracy(cured.shares(test[0]), test[1]) > max(alone) + 0.02  # gone
    assert nll(cured.shares(test[0]), test[1]) < nll(uniform(6000, 2), test[1])


def test_balance_keeps_every_expert_at_work() -> None:
    features_NF, true_p_MN = experts(400, 0)
    true_p_MN = np.stack([true_p_MN[0], 0.6 * true_p_MN[0]])  # the first is always better
    plain = fit_gate(features_NF, true_p_MN, GateOptions(hidden=0, dropout=0.0, balance=0.0))
    balanced = fit_gate(features_NF, true_p_MN, GateOptions(hidden=0, dropout=0.0, balance=50.0))
    assert plain.shares(features_NF)[:, 1].mean() < 0.3
    assert 0.4 < balanced.shares(features_NF)[:, 1].mean() < 0.6


def test_a_gate_is_the_same_for_the_same_seed_and_leaves_torchs_generator_alone() -> None:
    import torch

    features_NF, true_p_MN = experts(100, 0)
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    one = fit_gate(features_NF, true_p_MN, GATE)
    assert torch.rand(1) == before
    np.testing.assert_array_equal(one.shares(features_NF), fit_gate(features_NF, true_p_MN, GATE).shares(features_NF))


def test_assignment_gives_every_expert_as_many_rows_and_the_largest_likelihood() -> None:
    from taxakey.prediction.gates import _assigned

    log_p_NM = np.log(np.random.default_rng(0).random((6, 3)))
    found = _assigned(log_p_NM)
    assert np.bincount(found).tolist() == [2, 2, 2]
    best = max(itertools.permutations([0, 0, 1, 1, 2, 2]), key=lambda given: log_p_NM[np.arange(6), list(given)].sum())
    assert log_p_NM[np.arange(6), found].sum() == pytest.approx(log_p_NM[np.arange(6), list(best)].sum())


# ---- routing stored answers ----


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pool]:
    folder = tmp_path_factory.mktemp("routing")
    return {
        part: open_pool([
            Member.open(member(folder / f"{name}-{part}", part, noise, seed, rows=600))
            for seed, (name, noise) in enumerate({"small": 2.5, "large": 0.5, "other": 1.5}.items())
        ])
        for part in ("validation", "test")
    }  # fmt: skip


COSTS_M = np.array([1.0, 5.0, 2.0])
COSTS = Costs.apart(COSTS_M)


def test_routing_by_hand(pools: dict[str, Pool]) -> None:
    pool = pools["test"]
    weights_NM = sparse(np.random.default_rng(0).random((600, 3)), 2)
    found = route(pool, weights_NM, COSTS, extra=0.5)
    (portion,) = pool.each(lambda portion: portion)
    mixed = np.array([sum(weights_NM[n, m] * portion.p_MBC[m, n] for m in range(3)) for n in range(600)])
    np.testing.assert_array_equal(found.answers.first_O, mixed.argmax(axis=1))
    np.testing.assert_allclose(found.answers.true_p_O, mixed[np.arange(600), pool.true_O], rtol=1e-4)
    assert found.cost == pytest.approx(np.mean([COSTS_M[weights_NM[n] > 0].sum() for n in range(600)]) + 0.5)
    np.testing.assert_allclose(found.shares_M, weights_NM.mean(axis=0), rtol=1e-5)


def test_the_oracle_bounds_every_choice_of_one(pools: dict[str, Pool]) -> None:
    pool = pools["test"]
    known = pool.true_O >= 0
    bound = route(pool, oracle(true_probabilities(pool)), COSTS).answers.top_1(known)
    for weights_NM in (hashed(pool.ids, 3), *(np.tile(np.eye(3)[m], (600, 1)) for m in range(3))):
        assert route(pool, weights_NM, COSTS).answers.top_1(known) <= bound


def test_sparse_keeps_the_largest() -> None:
    np.testing.assert_allclose(sparse(np.array([[0.2, 0.5, 0.3]]), 2), [[0, 0.625, 0.375]])
    with pytest.raises(BadInput, match="4 of 3 experts"):
        sparse(np.ones((1, 3)), 4)


@pytest.mark.parametrize("budget", [1.0, 2.0, 4.0, 7.0])
def test_a_cascade_keeps_to_its_budget_and_pays(pools: dict[str, Pool], budget: float) -> None:
    cascade = fit_cascade(pools["validation"], COSTS, budget)
    of = {}
    for part, pool in pools.items():
        weights_NM = cascade.weights(first_probabilities(pool, cascade.first), 3)
        of[part] = route(pool, weights_NM, COSTS)
    assert COSTS_M[cascade.first] <= budget
    assert of["validation"].cost <= budget * (1 + 1e-9)
    known = pools["test"].true_O >= 0
    alone = route(pools["test"], np.tile(np.eye(3)[0], (600, 1)), COSTS).answers.nll(known)
    if budget == 1.0:
        assert of["test"].answers.nll(known) == pytest.approx(alone)
    else:
        assert of["test"].answers.nll(known) < alone - 0.05


def test_of_two_equally_cheap_experts_the_better_one_is_asked_first(pools: dict[str, Pool]) -> None:
    cascade = fit_cascade(
        pools["validation"], Costs.apart(np.array([1.0, 4.0, 1.0])), 1.5
    )  # small, large, other: the last is less noisy
    assert cascade.first == 2
    assert cascade.threshold > 0


def test_a_backbone_that_several_share_is_paid_for_once(pools: dict[str, Pool]) -> None:
    """Two heads of 1 and 5 on a backbone of 10, and a third expert of 4000 by itself."""
    costs = Costs(np.array([1.0, 5.0, 0.0]), np.array([10.0, 0.0, 4000.0]), np.array([0, 0, 2]))
    np.testing.assert_array_equal(costs.alone_M, [11, 15, 4000])
    run_NM = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0]], dtype=bool)
    np.testing.assert_array_equal(costs.of(run_NM), [11, 16, 4016, 4000, 0])
    looked_at = route(pools["test"], np.tile([0.0, 1.0, 0.0], (600, 1)), costs, 0.5, always=0)
    assert looked_at.cost == pytest.approx(16.5)  # the head of the expert that the gate looks at, and the other's
    assert looked_at.run_NM[:, 0].all()
    cascade = fit_cascade(pools["validation"], costs, 14.0)  # charged in full, the second might be asked of a fifth
    assert (cascade.first, cascade.second) == (0, 1)
    weights_NM = cascade.weights(first_probabilities(pools["validation"], 0), 3)
    assert 0.4 < (weights_NM[:, 1] > 0).mean() < 0.6
    assert route(pools["validation"], weights_NM, costs).cost <= 14


def test_a_budget_below_the_cheapest_is_refused(pools: dict[str, Pool]) -> None:
    with pytest.raises(BadInput, match=r"0\.5 multiply-adds a picture, where the cheapest expert alone costs 1; allow more"):
        fit_cascade(pools["validation"], COSTS, 0.5)


def test_features_of_answers_say_how_sure_it_was() -> None:
    sure, unsure = np.eye(C)[[0]] * 0.9 + 0.1 / C, np.full((1, C), 1 / C)
    found = answer_features(np.vstack([sure, unsure]))
    assert found.shape == (2, 7)
    assert found[0, 5] > 0.8 > found[1, 5]  # margin
    assert found[0, 6] < found[1, 6] == pytest.approx(np.log(C), rel=1e-5)  # entropy


def test_a_gate_needs_rows(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="at least 8"):
        fit_gate(np.zeros((4, 2), dtype=np.float32), np.ones((2, 4)))
