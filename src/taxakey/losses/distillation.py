"""Learning from a teacher's stored answers as well as from labels. Shapes: B images, N images of the training part, C classes.

k: answers of the teacher that are kept of each image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from taxakey.losses.decision import Answer, Loss, OfEachPicture
from taxakey.losses.feature_matching import FeatureOptions

_LEAST_REST = 1e-6
"""What 1 − Σp can't be told from 0 below, in float32."""
_NONE = -1e4  # a logarithm whose exponential is 0; an infinity would make NaN of the gradient


@dataclass(frozen=True)
class DistilOptions:
    """`soft`: the teacher's share of the loss, 1 for no labels at all. `temperature`: both are softened by it before they are
    compared. `top`: answers of the teacher that are kept of each picture; null for all that were stored. `features`: draw the
    student's features to the teacher's too.
    """

    temperature: float = 2.0
    soft: float = 0.7
    top: int | None = 20
    features: FeatureOptions | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature is {self.temperature}; it must be above 0")
        if not 0 < self.soft <= 1:
            raise ValueError(f"soft is {self.soft}; it must lie above 0 and not above 1 (for 0, leave the teacher out)")
        if self.top is not None and self.top < 1:
            raise ValueError(f"top is {self.top}; it must be at least 1, or null")


class Distilled(Loss):
    """(1 − soft) · loss of the label + soft · T² · KL(teacher ‖ student), both softened by T (Hinton et al., 2015).

    Both are distributions over the teacher's k answers and the rest, as ONE further class: so a teacher of 80,000 classes takes
    k + 1 numbers an image, and with k = C nothing is the rest and the formula is Hinton's. T² keeps the teacher's gradient as
    large as the labels', whatever T is.

    An image whose label is `no_label` has none: the labels' loss doesn't see it, and its loss is soft · T² · KL.

    `classes_Nk`: the answers, -1 for none; an image with none at all learns from its label alone. `log_p_Nk`: their
    log-probabilities; `log_rest_N`: what lies beyond them, -inf for nothing. A head needs only say the log-probabilities of
    those k classes (`Head.log_prob_several`), and a tree opens only their nodes.
    """

    def __init__(
        self,
        of_label: Loss,
        options: DistilOptions,
        classes_Nk: Tensor,
        log_p_Nk: Tensor,
        log_rest_N: Tensor,
        no_label: int | None = None,
    ) -> None:
        super().__init__()
        self.of_label, self.options, self.needs_counts = of_label, options, of_label.needs_counts
        self.classes_Nk, self.log_p_Nk, self.log_rest_N = map(OfEachPicture, (classes_Nk, log_p_Nk, log_rest_N))
        self.no_label = no_label

    def forward(self, answer: Answer) -> Tensor:
        assert answer.rows_B is not None, "the batches don't say which pictures they hold"
        soft, of_label_B = self.options.soft, self.of_labels(answer)
        classes_Bk = self.classes_Nk[answer.rows_B].long()
        taught_B = (classes_Bk >= 0).any(1)
        both_B = (1 - soft) * of_label_B + soft * self.of_teacher(answer, classes_Bk)
        return torch.where(taught_B, both_B, of_label_B)

    def of_labels(self, answer: Answer) -> Tensor:
        """The labels' loss of each image [B], 0 without a label. Such images aren't shown to it: it may compare images."""
        labelled_B = answer.labels_B != self.no_label if self.no_label is not None else None
        if labelled_B is None or labelled_B.all():
            return self.of_label(answer)
        nothing_B = torch.zeros_like(answer.labels_B, dtype=torch.float32)
        if not labelled_B.any():
            return nothing_B
        return nothing_B.index_put((labelled_B,), self.of_label(answer.only(labelled_B)).float())

    def of_teacher(self, answer: Answer, classes_Bk: Tensor) -> Tensor:
        """T² · KL(teacher ‖ student) of each image [B]."""
        assert answer.rows_B is not None
        temperature, given_Bk = self.options.temperature, classes_Bk >= 0
        log_p_Bk, log_rest_B = said_by_student(answer, classes_Bk)
        log_rest_theirs_B = self.log_rest_N[answer.rows_B].masked_fill(_all_given(answer, given_Bk), _NONE)
        student = torch.cat([log_p_Bk.masked_fill(~given_Bk, _NONE), log_rest_B[:, None]], dim=1) / temperature
        teacher = torch.cat([self.log_p_Nk[answer.rows_B], log_rest_theirs_B[:, None]], dim=1).clamp(min=_NONE) / temperature
        # Both as logarithms: a class of the teacher's with no probability then costs 0, not 0 · log 0.
        distance = nn.functional.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="none", log_target=True)
        return temperature**2 * distance.sum(1)


def said_by_student(answer: Answer, classes_Bk: Tensor) -> tuple[Tensor, Tensor]:
    """The student's log-probabilities [B, k] of the given classes (-1: none, and anything) and of all others [B], float32."""
    given_Bk, columns_Bk = classes_Bk >= 0, classes_Bk.clamp(min=0)
    if answer.head.flat:
        # The scores are there already, and the others' own sum is exact where 1 − Σp isn't.
        log_p_BC = answer.scores_BC.float().log_softmax(1)
        given_BC = torch.zeros_like(log_p_BC, dtype=torch.int8).scatter_reduce(1, columns_Bk, given_Bk.to(torch.int8), "amax") > 0
        return log_p_BC.gather(1, columns_Bk), log_p_BC.masked_fill(given_BC, _NONE).logsumexp(1)
    log_p_Bk = answer.head.log_prob_several(answer.features_BD, columns_Bk).float()
    given_B = log_p_Bk.masked_fill(~given_Bk, _NONE).logsumexp(1)
    log_rest_B = torch.log(-torch.expm1(given_B.clamp(max=-_LEAST_REST)))
    return log_p_Bk, log_rest_B.masked_fill(_all_given(answer, given_Bk), _NONE)


def _all_given(answer: Answer, given_Bk: Tensor) -> Tensor:
    """Whether nothing is left for the rest [B]."""
    return given_Bk.sum(1) == answer.head.classes
