"""Several ranks and toxicity at once: decisions beside the species', whose sum of losses is worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from slow_trees import FLORA
from torch import Tensor
from torch.testing import assert_close

from taxakey.errors import BadRecipe
from taxakey.losses.cross_entropy import CrossEntropy
from taxakey.losses.decision import Answer
from taxakey.models.heads import Head, LinearHead
from taxakey.models.targets import SeveralTargets, TargetOptions, targets_of, with_targets
from taxakey.taxonomy import Taxonomy

C, D = len(FLORA), 6
POISONOUS = {"Aesculus flava", "Mystica alba"}
MARKED = Taxonomy.from_rows(
    {**row, "poisonous": row["scientificName"] in POISONOUS if index % 3 else None}
    for index, row in enumerate(FLORA.table.to_pylist())
)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(3)


def cross_entropy_by_hand(logits: Tensor, choice: int) -> float:
    weights = np.exp(logits.detach().double().numpy())
    return float(-np.log(weights[choice] / weights.sum()))


def test_the_loss_is_the_weighted_sum_worked_out_image_by_image() -> None:
    options = TargetOptions(species=0.7, ranks={"genus": 0.5, "family": 0.2}, toxicity=0.1)
    head = with_targets(LinearHead(D, C), options, MARKED)
    assert isinstance(head, SeveralTargets)
    features_BD, labels_B = torch.randn(C, D), torch.randperm(C)
    found_B = CrossEntropy()(Answer(head, features_BD, labels_B))
    rows = MARKED.table.to_pylist()
    for x, c, found in zip(features_BD, labels_B.tolist(), found_B.tolist(), strict=True):
        expected = 0.7 * cross_entropy_by_hand(head.species(x[None])[0], c)
        for rank, weight in (("genus", 0.5), ("family", 0.2)):
            taxon, classifier = rows[c][rank], head.classifiers[rank]
            if taxon:  # of an unknown genus nothing is learnt
                choice = sorted({row[rank] for row in rows} - {""}).index(taxon)
                expected += weight * cross_entropy_by_hand(x @ classifier.weight.T + classifier.bias, choice)
        poison = head.classifiers["toxicity"]
        expected += 0.1 * cross_entropy_by_hand(x @ poison.weight.T + poison.bias, int(rows[c]["poisonous"] is True))
        assert found == pytest.approx(expected, rel=1e-5)


def test_an_unknown_genus_teaches_its_classifier_nothing() -> None:
    head = with_targets(LinearHead(D, C), TargetOptions(ranks={"genus": 1.0}), FLORA)
    assert isinstance(head, SeveralTargets)
    unknown = FLORA.names.index("Herba ignota")
    CrossEntropy(label_smoothing=0.1)(Answer(head, torch.randn(2, D), torch.tensor([unknown, unknown]))).sum().backward()
    assert head.classifiers["genus"].weight.grad is not None
    assert not head.classifiers["genus"].weight.grad.any()
    assert head.species.get_parameter("linear.weight").grad is not None


class Recorder(Head):
    """A species' head that only notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.in_features, self.classes = D, C
        self.asked: list[str] = []
        for name in ("forward", "log_prob", "log_prob_all", "node_log_prob", "top_k", "multiply_adds"):
            setattr(self, name, lambda *_, name=name, **__: self.asked.append(name) or len(self.asked))


def test_an_answer_is_the_species_heads_alone() -> None:
    """A tree has better ways to answer than its scores, so that each question must reach it as it was put."""
    species, x_BD, families = Recorder(), torch.randn(2, D), len(FLORA.taxa("family"))
    head = SeveralTargets(species, targets_of(TargetOptions(ranks={"family": 1.0}), FLORA))
    questions = [(head, ()), (head.log_prob, (torch.tensor([0, 1]),)), (head.log_prob_all, ())]
    questions += [(head.node_log_prob, (FLORA.codes("genus"),)), (head.top_k, (2,))]
    for number, (question, further) in enumerate(questions, start=1):
        assert question(x_BD, *further) == number
    assert (head.multiply_adds(training=False), head.multiply_adds(training=True)) == (6, 7 + D * families)
    assert species.asked == ["forward", "log_prob", "log_prob_all", "node_log_prob", "top_k", *["multiply_adds"] * 2]


def test_a_targets_own_classifier_can_be_asked() -> None:
    head = with_targets(LinearHead(D, C), TargetOptions(ranks={"genus": 1.0}, toxicity=1.0), MARKED)
    assert isinstance(head, SeveralTargets)
    x_BD = torch.randn(4, D)
    assert head.target_log_prob(x_BD, "genus").shape == (4, len(MARKED.taxa("genus")))
    assert_close(head.target_log_prob(x_BD, "toxicity").exp().sum(1), torch.ones(4))
    with pytest.raises(KeyError):
        head.target_log_prob(x_BD, "family")


def test_targets_learn_what_they_are_for() -> None:
    """Features that tell only the poisonous apart: the classifier of toxicity learns it, whatever the species."""
    head = with_targets(LinearHead(D, C), TargetOptions(toxicity=1.0), MARKED)
    assert isinstance(head, SeveralTargets)
    labels_N = torch.arange(200) % C
    poisonous_N = torch.from_numpy(MARKED.poisonous())[labels_N]
    features_ND = torch.randn(200, D)
    features_ND[:, 0] = poisonous_N * 4.0 - 2
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        CrossEntropy()(Answer(head, features_ND, labels_N)).mean().backward()
        optimizer.step()
    assert torch.equal(head.target_log_prob(features_ND, "toxicity").argmax(1).bool(), poisonous_N)


def test_choices_know_the_pictures_below_them() -> None:
    counts_C = np.arange(1, C + 1)
    head = with_targets(LinearHead(D, C), TargetOptions(ranks={"family": 1.0}), FLORA, counts_C)
    *_, decision = head.decisions(torch.randn(2, D), torch.tensor([0, 1]))
    families = FLORA.column("family")
    expected = [sum(int(n) for n, name in zip(counts_C, families, strict=True) if name == f) for f in FLORA.taxa("family")]
    assert decision.counts is not None
    assert decision.counts.tolist() == expected


def test_nothing_more_wanted_leaves_the_head_as_it_is() -> None:
    head = LinearHead(D, C)
    assert with_targets(head, TargetOptions(), FLORA) is head


def test_what_a_taxonomy_does_not_know_is_refused() -> None:
    with pytest.raises(BadRecipe, match="no species here has a known order"):
        targets_of(TargetOptions(ranks={"order": 1.0}), FLORA)
    with pytest.raises(BadRecipe, match="marked as poisonous or not"):
        targets_of(TargetOptions(toxicity=1.0), FLORA)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ranks": {"tribe": 1.0}}, "'tribe' is no rank above the species; one of genus, family"),
        ({"ranks": {"genus": 0.0}}, "must be above 0"),
        ({"species": 0.0}, "must be above 0"),
        ({"toxicity": -1.0}, "must be above 0"),
    ],
)
def test_options_out_of_bounds(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TargetOptions(**wrong)
