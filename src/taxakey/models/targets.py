"""What a network learns besides the species: their genus, family …, and whether they are poisonous.

Shapes: B images, D features, C classes, G choices of a target.

Each target is one more linear classifier on the features that the species' head is given, and in training one more decision. An
answer stays the species' head's alone: genera and families are sums over their species, as for any model, so that ranks never
contradict each other. What a target's own classifier says can be asked for (`target_log_prob`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taxakey.errors import BadRecipe
from taxakey.losses.decision import Decision
from taxakey.models.heads import Head, Ranked
from taxakey.taxonomy import HIGHER_RANKS, Taxonomy

TOXICITY = "toxicity"


@dataclass(frozen=True)
class TargetOptions:
    """Weights in the loss. `ranks`: of each further rank, such as {genus: 0.5, family: 0.2}; none by default.

    `toxicity`: of the choice between poisonous and not, 0 for none. `species`: of the species' own decisions.
    """

    species: float = 1.0
    ranks: Mapping[str, float] = field(default_factory=dict)
    toxicity: float = 0.0

    def __post_init__(self) -> None:
        if unknown := [rank for rank in self.ranks if rank not in HIGHER_RANKS]:
            raise ValueError(f"{unknown[0]!r} is no rank above the species; one of {', '.join(reversed(HIGHER_RANKS))}")
        if not self.species > 0 or min(self.ranks.values(), default=1.0) <= 0 or self.toxicity < 0:
            raise ValueError("a target's weight must be above 0; leave out what isn't wanted")

    @property
    def wanted(self) -> bool:
        """Whether there is anything to learn besides the species."""
        return bool(self.ranks) or self.toxicity > 0


@dataclass(frozen=True, eq=False)
class Target:
    """`codes_C` [C]: the right choice for each class, -1 where it isn't known. `choices`: G. `weight`: in the loss."""

    name: str
    codes_C: NDArray[np.int64]
    choices: int
    weight: float


def targets_of(options: TargetOptions, taxonomy: Taxonomy) -> list[Target]:
    """The targets for a list of classes; raises BadRecipe where no class has that rank, or none is marked poisonous or not."""
    found = []
    for rank, weight in options.ranks.items():
        taxa = taxonomy.taxa(rank)
        if not taxa:
            raise BadRecipe(f"targets.ranks: no species here has a known {rank}; leave it out, or fill in the records' {rank}")
        found.append(Target(rank, taxonomy.codes(rank), len(taxa), weight))
    if options.toxicity:
        poisonous_C = taxonomy.poisonous()
        if poisonous_C is None:
            raise BadRecipe("targets.toxicity: no species here is marked as poisonous or not; leave it out, or mark them")
        found.append(Target(TOXICITY, poisonous_C.astype(np.int64), 2, options.toxicity))
    return found


def with_targets(head: Head, options: TargetOptions, taxonomy: Taxonomy, counts_C: NDArray[np.integer] | None = None) -> Head:
    """The head, with classifiers for what else is to be learnt; the head itself where nothing is. Raises BadRecipe.

    `counts_C`: training pictures of each class, which some losses want to know of every choice.
    """
    if not options.wanted:
        return head
    return SeveralTargets(head, targets_of(options, taxonomy), weight=options.species, counts_C=counts_C)


class SeveralTargets(Head):
    """A species' head, of any kind, and D·G + G parameters for each target. `weight`: of the species' decisions."""

    def __init__(
        self, species: Head, targets: list[Target], *, weight: float = 1.0, counts_C: NDArray[np.integer] | None = None
    ) -> None:
        super().__init__()
        self.species, self.weight = species, weight
        self.in_features, self.classes, self.metadata = species.in_features, species.classes, species.metadata
        self.targets = {target.name: target for target in targets}
        self.classifiers = nn.ModuleDict()
        for target in targets:
            self.classifiers[target.name] = classifier = nn.Linear(self.in_features, target.choices)
            nn.init.normal_(classifier.weight, std=0.01)  # as in LinearHead
            nn.init.zeros_(classifier.bias)
            # They follow from the taxonomy, which is stored with the model.
            self.register_buffer(f"code_{target.name}_C", torch.as_tensor(target.codes_C), persistent=False)
            self.register_buffer(f"count_{target.name}_G", _counts(target, counts_C), persistent=False)

    def set_counts(self, counts_C: NDArray[np.integer]) -> None:
        self.species.set_counts(counts_C)
        for target in self.targets.values():
            counts_G = _counts(target, counts_C)
            assert counts_G is not None
            setattr(self, f"count_{target.name}_G", counts_G.to(next(self.parameters()).device))

    def decisions(self, features_BD: Tensor, labels_B: Tensor) -> list[Decision]:
        """The species' own, then one for each target."""
        own = self.species.decisions(features_BD, labels_B)
        further = [self._decision(target, features_BD, labels_B) for target in self.targets.values()]
        return [decision._replace(weight=self.weight * decision.weight) for decision in own] + further

    def _decision(self, target: Target, features_BD: Tensor, labels_B: Tensor) -> Decision:
        logits_BG = self.classifiers[target.name](features_BD)
        code_B = self.get_buffer(f"code_{target.name}_C")[labels_B]
        counts_G = getattr(self, f"count_{target.name}_G")
        if (target.codes_C < 0).any():
            # Where the right choice isn't known there is nothing to decide: one column, right with certainty.
            nothing_G = torch.full_like(logits_BG[:1], -torch.inf).index_fill(1, code_B.new_zeros(1), 0)
            logits_BG, code_B = torch.where(code_B[:, None] < 0, nothing_G, logits_BG), code_B.clamp(min=0)
        return Decision(logits_BG, code_B, counts_G, target.weight)

    def target_log_prob(self, features_BD: Tensor, name: str) -> Tensor:
        """What a target's own classifier says [B, G]: log-probabilities in the order of `taxonomy.taxa(rank)`.

        Of "toxicity" the second column is poisonous. Raises KeyError for a target that wasn't learnt.
        """
        return self.classifiers[name](features_BD).float().log_softmax(1)

    # ---- an answer is the species' head's ----

    def representation(self, features_BD: Tensor) -> Tensor:
        return self.species.representation(features_BD)

    def forward(self, features_BD: Tensor) -> Tensor:
        return self.species(features_BD)

    def log_prob(self, features_BD: Tensor, labels_B: Tensor) -> Tensor:
        return self.species.log_prob(features_BD, labels_B)

    def log_prob_several(self, features_BD: Tensor, classes_BK: Tensor) -> Tensor:
        return self.species.log_prob_several(features_BD, classes_BK)

    def log_prob_all(self, features_BD: Tensor) -> Tensor:
        return self.species.log_prob_all(features_BD)

    def node_log_prob(self, features_BD: Tensor, codes_C: NDArray[np.int64]) -> Tensor:
        return self.species.node_log_prob(features_BD, codes_C)

    def top_k(self, features_BD: Tensor, k: int) -> Ranked:
        return self.species.top_k(features_BD, k)

    def multiply_adds(self, *, training: bool) -> int:
        further = self.in_features * sum(target.choices for target in self.targets.values())
        return self.species.multiply_adds(training=training) + (further if training else 0)


def species_head(head: Head) -> Head:
    """The head that answers: what stands inside one with further targets, or the head itself."""
    return head.species if isinstance(head, SeveralTargets) else head


def _counts(target: Target, counts_C: NDArray[np.integer] | None) -> Tensor | None:
    """Training pictures of each choice [G]."""
    if counts_C is None:
        return None
    known = target.codes_C >= 0
    counted = np.bincount(target.codes_C[known], weights=counts_C[known], minlength=target.choices)
    return torch.as_tensor(counted, dtype=torch.float32)
