"""What an epoch is judged by on validation, from counts that are added up batch by batch on the device.

Shapes: B pictures, C classes, R ranks above the species. The figures are those of `taxakey.metrics` on the same scores: there
they come from a table of predictions, here from a few sums, because a table after every epoch would cost a run its time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from taxakey.taxonomy import RANKS, Taxonomy

FIGURES = (
    "validation_loss", "validation_top_1", "validation_top_3", "validation_macro_top_1", "validation_macro_f1",
    "validation_poison_accuracy", "validation_poison_confusion", "validation_edible_confusion", "validation_taxonomic_distance",
)  # fmt: skip
"""In the order of `curves.csv`; the last four only where the taxonomy says what they need."""
_AMONG = 3


class ValidationFigures:
    """Sums over the validation pictures of an epoch.

    Without `taxonomy`, or where it marks no class as poisonous or not, nothing is said of poison; where it names no genus and no
    family, nothing of distance. Plain tensors and no buffers of a module: an average of weights (training/averaging.py) would
    average them too.
    """

    def __init__(self, classes: int, taxonomy: Taxonomy | None, device: torch.device) -> None:
        def zeros(size: int) -> Tensor:
            return torch.zeros(size, dtype=torch.long, device=device)

        self.hits_C, self.seen_C, self.answered_C = zeros(classes), zeros(classes), zeros(classes)
        self.among, self.poison_4, self.errors_and_height = zeros(1), zeros(4), zeros(2)
        self.nll = torch.zeros((), dtype=torch.float64, device=device)
        poisonous_C = None if taxonomy is None else taxonomy.poisonous()
        self.poisonous_C = None if poisonous_C is None else torch.from_numpy(poisonous_C).to(device)
        codes_RC = None if taxonomy is None else np.stack([taxonomy.codes(rank) for rank in RANKS[1:]])
        known = codes_RC is not None and (codes_RC >= 0).any()
        self.codes_RC = torch.from_numpy(codes_RC).to(device) if known else None

    def add(self, log_p_BC: Tensor, labels_B: Tensor) -> None:
        """A batch of normalised log-probabilities and true classes; equal scores stand in the order of their index."""
        classes, answers_B = len(self.seen_C), log_p_BC.argmax(1)
        true_B1 = log_p_BC.gather(1, labels_B[:, None])
        self.nll -= true_B1.sum()
        self.hits_C += torch.bincount(labels_B[answers_B == labels_B], minlength=classes)
        self.seen_C += torch.bincount(labels_B, minlength=classes)
        self.answered_C += torch.bincount(answers_B, minlength=classes)
        self.among += _among(log_p_BC, true_B1, labels_B, _AMONG)
        if self.poisonous_C is not None:
            pair_B = 2 * self.poisonous_C[labels_B].long() + self.poisonous_C[answers_B]
            self.poison_4 += torch.bincount(pair_B, minlength=4)
        if self.codes_RC is not None:
            height_B = _ancestor_height(labels_B, answers_B, self.codes_RC)
            self.errors_and_height += torch.stack([(height_B > 0).sum(), height_B.sum()])

    def figures(self, over_processes: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """By their names in FIGURES; NaN where no picture has what a figure needs (no poisonous one, no error).

        `over_processes` adds a tensor up over the processes of the run.
        """
        hits_C, seen_C, answered_C = (over_processes(each).double() for each in (self.hits_C, self.seen_C, self.answered_C))
        present, either, pictures = seen_C > 0, seen_C + answered_C > 0, seen_C.sum()
        found = {
            "validation_loss": over_processes(self.nll) / pictures,
            "validation_top_1": hits_C.sum() / pictures,
            "validation_top_3": over_processes(self.among).double()[0] / pictures,
            # Means as metrics.accuracy.macro_top_k and metrics.long_tail.macro_f1 have them: over the classes present, and over
            # those true or answered.
            "validation_macro_top_1": (hits_C[present] / seen_C[present]).mean(),
            "validation_macro_f1": (2 * hits_C[either] / (seen_C + answered_C)[either]).mean(),
        }
        if self.poisonous_C is not None:
            found |= _poison(over_processes(self.poison_4).double())
        if self.codes_RC is not None:
            errors, height = over_processes(self.errors_and_height).double()
            found["validation_taxonomic_distance"] = height / errors
        return found


def _poison(counts_4: Tensor) -> dict[str, Tensor]:
    """From how often: harmless named so, harmless accused, poisonous missed, poisonous named so."""
    harmless_named, accused, missed, poisonous_named = counts_4
    return {
        "validation_poison_accuracy": (harmless_named + poisonous_named) / counts_4.sum(),
        "validation_poison_confusion": missed / (missed + poisonous_named),
        "validation_edible_confusion": accused / (harmless_named + accused),
    }


def _among(log_p_BC: Tensor, true_B1: Tensor, labels_B: Tensor, most: int) -> Tensor:
    """How many true classes are among the `most` first, equal scores in the order of their index (as `predictions.rank_of`)."""
    last_B1 = log_p_BC.topk(min(most, log_p_BC.shape[1])).values[:, -1:]
    # Only where the true class is the last or equal to it must be looked who comes first: a third of the cost of always looking.
    at_B = (true_B1 == last_B1)[:, 0]
    equal_NC, labels_N1 = log_p_BC[at_B], labels_B[at_B][:, None]
    before_NC = torch.arange(log_p_BC.shape[1], device=log_p_BC.device) < labels_N1
    first_NC = torch.where(before_NC, equal_NC >= true_B1[at_B], equal_NC > true_B1[at_B])
    return (true_B1 > last_B1).sum() + (first_NC.sum(1) < most).sum()


def _ancestor_height(true_B: Tensor, answers_B: Tensor, codes_RC: Tensor) -> Tensor:
    """Ranks up to the last common ancestor [B], as `metrics.taxonomic.ancestor_height`."""
    height_B = torch.full_like(true_B, len(codes_RC) + 1)
    for above in range(len(codes_RC), 0, -1):
        codes_C = codes_RC[above - 1]
        height_B[(codes_C[true_B] >= 0) & (codes_C[true_B] == codes_C[answers_B])] = above
    return height_B.masked_fill(true_B == answers_B, 0)
