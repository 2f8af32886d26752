"""Learning from a teacher's stored answers, against the same computed with all columns.

Shapes: B images, C classes, k answers.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from taxakey.losses.cross_entropy import CrossEntropy
from taxakey.losses.decision import Answer
from taxakey.losses.distillation import Distilled, DistilOptions
from taxakey.losses.loss_options import WeightedSum
from taxakey.losses.weighted_triplet import WeightedTriplet
from taxakey.models.head_options import ClassFacts, HeadOptions, build_head
from taxakey.models.heads import Head, LinearHead, LinearOptions
from taxakey.models.sampled import SampledOptions
from taxakey.models.targets import TargetOptions, with_targets
from taxakey.models.trees import TreeOptions
from taxakey.taxonomy import Taxonomy

D, C, B = 6, 11, 9
FLORA = Taxonomy.from_rows({"scientificName": f"s{c:02d}", "genus": f"g{c // 2}", "family": f"f{c // 4}"} for c in range(C))
HEADS: dict[str, HeadOptions] = {
    "linear": LinearOptions(),
    "tree even": TreeOptions(width=4, slots=4),
    "tree short last node": TreeOptions(width=None, slots=3, order="listed"),
    "tree of families and genera": TreeOptions(width=4, nodes="taxa"),
    "tree huffman": TreeOptions(width=4, nodes="huffman", slots=2),
    "sampled": SampledOptions(width=4, share=0.5),
}


def head_of(name: str) -> Head:
    torch.manual_seed(3)
    facts = ClassFacts(np.arange(1, C + 1), None, 0)
    head = build_head(HEADS[name], D, FLORA, facts)
    for parameter in head.parameters():  # far from even, so that a mistaken class is seen
        parameter.data += 0.7 * torch.randn_like(parameter)
    return head.double()


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    """Features, labels, and what the teacher says of all classes, as log-probabilities."""
    torch.manual_seed(5)
    return torch.randn(B, D).double(), torch.randint(C, (B,)), (2 * torch.randn(B, C).double()).log_softmax(1)


def first(log_p_BC: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first k answers and the rest, as they are stored."""
    top = log_p_BC.topk(k, dim=1)
    rest_B = (1 - top.values.exp().sum(1)).clamp(min=0)
    return top.indices.int(), top.values, rest_B.log()


def with_all_columns(log_p_BC: Tensor, teacher_BC: Tensor, k: int, temperature: float) -> Tensor:
    """T² · KL(teacher ‖ student), written out row by row over the k first answers and the sum of the others."""
    found = []
    for mine_C, theirs_C in zip(log_p_BC, teacher_BC, strict=True):
        order = theirs_C.argsort(descending=True).tolist()
        groups = [[c] for c in order[:k]] + ([order[k:]] if k < C else [])
        p, q = (torch.stack([of[g].exp().sum() for g in groups]) ** (1 / temperature) for of in (theirs_C, mine_C))
        p, q = p / p.sum(), q / q.sum()
        found.append(temperature**2 * (p * (p / q).log()).sum())
    return torch.stack(found)


@pytest.mark.parametrize("k", [1, 4, C])
@pytest.mark.parametrize("name", HEADS)
def test_loss_and_gradient_are_those_computed_with_all_columns(name: str, k: int) -> None:
    head, (features_BD, labels_B, teacher_BC) = head_of(name), drawn()
    options = DistilOptions(temperature=1.7, soft=1.0, top=k)
    loss = Distilled(CrossEntropy(), options, *first(teacher_BC, k))
    mine_B = loss(Answer(head, features_BD, labels_B, rows_B=torch.arange(B)))
    expected_B = with_all_columns(head.log_prob_all(features_BD), teacher_BC, k, 1.7)
    # The head's rest is 1 − Σp in float32, as in training.
    assert_close(mine_B.double(), expected_B, rtol=2e-4, atol=1e-5)
    parameters = list(head.parameters())
    mine, expected = (torch.autograd.grad(of.sum(), parameters, allow_unused=True) for of in (mine_B, expected_B))
    for gradient, wanted in zip(mine, expected, strict=True):
        assert wanted is not None
        assert gradient is not None
        assert_close(gradient, wanted, rtol=2e-3, atol=2e-5)


def test_with_all_answers_it_is_hinton_s_formula() -> None:
    head, (features_BD, labels_B, teacher_BC) = head_of("linear"), drawn()
    loss = Distilled(CrossEntropy(), DistilOptions(temperature=3.0, soft=0.6), *first(teacher_BC, C))
    answer = Answer(head, features_BD, labels_B, rows_B=torch.arange(B))
    soft_B = torch.nn.functional.kl_div(
        (head(features_BD) / 3).log_softmax(1), (teacher_BC / 3).softmax(1), reduction="none"
    ).sum(1)
    hard_B = torch.nn.functional.cross_entropy(head(features_BD), labels_B, reduction="none")
    assert_close(loss(answer).double(), 0.4 * hard_B + 0.6 * 9 * soft_B, rtol=1e-5, atol=1e-6)


def test_value_worked_out_by_hand() -> None:
    # Teacher 1/2, rest 1/2; student 1/4, rest 3/4: ½·log 2 + ½·log(2/3). At T = 2 the student's odds are 1 : √3.
    class Fixed(LinearHead):
        def forward(self, features_BD: Tensor) -> Tensor:
            return torch.zeros(len(features_BD), 4)

    said = torch.tensor([[2]]), torch.tensor([[0.5]]).log(), torch.tensor([0.5]).log()
    answer = Answer(Fixed(1, 4), torch.zeros(1, 1), torch.tensor([0]), rows_B=torch.tensor([0]))
    alone = Distilled(CrossEntropy(), DistilOptions(temperature=1.0, soft=1.0), *said)(answer)
    assert_close(alone, torch.tensor([0.143841]))
    share = 1 / (1 + 3**0.5)
    softened = 4 * (0.5 * np.log(0.5 / share) + 0.5 * np.log(0.5 / (1 - share)))
    assert_close(Distilled(CrossEntropy(), DistilOptions(soft=1.0), *said)(answer), torch.tensor([softened]).float())


def test_rows_say_which_pictures_and_those_without_an_answer_learn_from_their_label() -> None:
    head, (features_BD, labels_B, teacher_BC) = head_of("linear"), drawn()
    classes_Nk, log_p_Nk, log_rest_N = first(teacher_BC, 3)
    classes_Nk[4] = -1
    loss = Distilled(CrossEntropy(), DistilOptions(soft=0.5), classes_Nk, log_p_Nk, log_rest_N)
    whole_B = loss(Answer(head, features_BD, labels_B, rows_B=torch.arange(B)))
    assert_close(whole_B[4].float(), CrossEntropy()(Answer(head, features_BD, labels_B))[4])
    rows = torch.tensor([7, 4, 2])
    assert_close(loss(Answer(head, features_BD[rows], labels_B[rows], rows_B=rows)), whole_B[rows])


def test_a_missing_answer_counts_as_none_at_all() -> None:
    """-1 in the place of an answer says the same as a shorter list."""
    for name in ("linear", "tree even"):
        head, (features_BD, labels_B, teacher_BC) = head_of(name), drawn()
        classes_Nk, log_p_Nk, log_rest_N = first(teacher_BC, 3)
        padded = torch.cat([classes_Nk, torch.full((B, 2), -1)], 1), torch.cat([log_p_Nk, torch.full((B, 2), -torch.inf)], 1)
        losses = [Distilled(CrossEntropy(), DistilOptions(), *said, log_rest_N) for said in ((classes_Nk, log_p_Nk), padded)]
        short, long = (loss(Answer(head, features_BD, labels_B, rows_B=torch.arange(B))) for loss in losses)
        assert_close(long, short)
        (gradient,) = torch.autograd.grad(long.sum(), list(head.parameters())[-1:])
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", ["linear", "tree even"])
def test_nothing_infinite_where_both_are_certain(name: str) -> None:
    head, (features_BD, labels_B, _) = head_of(name), drawn()
    said = labels_B[:, None].int(), torch.zeros(B, 1), torch.full((B,), -torch.inf)
    loss_B = Distilled(CrossEntropy(), DistilOptions(), *said)(
        Answer(head.float(), 1000 * features_BD.float(), labels_B, rows_B=torch.arange(B))
    )
    gradients = torch.autograd.grad(loss_B.sum(), list(head.parameters()))
    assert loss_B.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_a_tree_scores_only_the_nodes_on_the_way() -> None:
    """Of a hundred classes in ten nodes, two siblings are asked for: no other node's weights are touched."""
    flora = Taxonomy.from_rows({"scientificName": f"s{c:03d}"} for c in range(100))
    head = build_head(TreeOptions(width=4, slots=10, order="listed"), D, flora)
    said = head.log_prob_several(torch.randn(2, D), torch.tensor([[20, 21], [25, 29]]))
    (gradient,) = torch.autograd.grad(said.sum(), [head.get_parameter("lower_weight_Ed")])
    assert gradient.abs().sum(1).nonzero().flatten().tolist() == list(range(20, 30))


def test_further_targets_answer_with_the_species_head() -> None:
    head, (features_BD, labels_B, teacher_BC) = head_of("tree even"), drawn()
    several = with_targets(head, TargetOptions(ranks={"genus": 0.5}), FLORA).double()
    loss = Distilled(CrossEntropy(), DistilOptions(soft=1.0), *first(teacher_BC, 4))
    rows = torch.arange(B)
    assert_close(
        loss(Answer(several, features_BD, labels_B, rows_B=rows)), loss(Answer(head, features_BD, labels_B, rows_B=rows))
    )


def test_a_student_learns_from_a_perfect_teacher_what_its_labels_never_say() -> None:
    """No picture is labelled with the third species; the teacher, who knows it, finds a little of it in the others' pictures."""
    generator = torch.Generator().manual_seed(0)
    weight_CD = torch.tensor([[3.0, 0.0], [-2.0, 2.5], [-2.0, -2.5]])
    features_ND = torch.randn(400, 2, generator=generator)
    scores_NC = features_ND @ weight_CD.T
    labels_N = scores_NC[:, :2].argmax(1)
    test_ND = torch.randn(500, 2, generator=generator)
    true_N = (test_ND @ weight_CD.T).argmax(1)
    right = {}
    for soft in (None, 0.9):
        torch.manual_seed(0)
        head = LinearHead(2, 3)
        said = first(scores_NC.log_softmax(1), 3)
        loss = CrossEntropy() if soft is None else Distilled(CrossEntropy(), DistilOptions(2.0, soft), *said)
        optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
        for _ in range(150):
            optimizer.zero_grad()
            loss(Answer(head, features_ND, labels_N, rows_B=torch.arange(400))).mean().backward()
            optimizer.step()
        right[soft] = float((head(test_ND).argmax(1) == true_N)[true_N == 2].float().mean())
    assert right[None] == 0, "the labels alone told it"
    assert right[0.9] > 0.7


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"soft": 0.0}, {"soft": 1.1}, {"top": 0}])
def test_refuses_what_makes_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DistilOptions(**wrong)  # type: ignore[arg-type]


def test_what_has_no_label_costs_its_teacher_s_share_and_no_label_s_loss_sees_it() -> None:
    """The triplet loss compares the pictures of a batch: even so those with a label cost what they cost alone."""
    head, (features_BD, labels_B, teacher_BC) = head_of("linear"), drawn()
    nobody, rows = C + 7, torch.arange(B)
    labels_B = torch.tensor([1, 1, 2, nobody, 2, nobody, 1, 2, nobody])
    both = WeightedSum([CrossEntropy(), WeightedTriplet()], [1.0, 0.5])
    options = DistilOptions(soft=0.6, top=4)
    loss = Distilled(both, options, *first(teacher_BC, 4), no_label=nobody)
    found_B, labelled_B = loss(Answer(head, features_BD, labels_B, rows_B=rows)), labels_B != nobody
    alone = Answer(head, features_BD[labelled_B], labels_B[labelled_B], rows_B=rows[labelled_B])
    assert_close(found_B[labelled_B], Distilled(both, options, *first(teacher_BC, 4))(alone))
    soft_B = with_all_columns(head.log_prob_all(features_BD), teacher_BC, 4, options.temperature)
    assert_close(found_B[~labelled_B].double(), 0.6 * soft_B[~labelled_B], rtol=2e-4, atol=1e-5)
    nothing = Answer(head, features_BD[~labelled_B], labels_B[~labelled_B], rows_B=rows[~labelled_B])
    assert_close(loss(nothing), found_B[~labelled_B])


def test_what_has_no_label_and_no_answer_costs_nothing() -> None:
    head, (features_BD, _, teacher_BC) = head_of("tree even"), drawn()
    classes_Nk, *more = first(teacher_BC, 4)
    loss = Distilled(CrossEntropy(), DistilOptions(), torch.full_like(classes_Nk, -1), *more, no_label=C)
    found_B = loss(Answer(head, features_BD, torch.full((B,), C), rows_B=torch.arange(B)))
    assert (found_B == 0).all()


def test_no_answers_lie_in_a_checkpoint_or_are_copied() -> None:
    loss = Distilled(CrossEntropy(), DistilOptions(), *first(drawn()[2], 4))
    assert not loss.state_dict()
    assert not list(loss.buffers())
    assert copy.deepcopy(loss).log_p_Nk.table_N is loss.log_p_Nk.table_N
