"""Several pictures of one observation as one answer. No torch.

Shapes: I images, O observations, C classes, F features of a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from taxakey.calibration import mean_by_observation
from taxakey.errors import BadInput

Floats = NDArray[np.float64]
RuleName = Literal["mean", "log-mean", "quality", "organ"]
RULES: tuple[RuleName, ...] = get_args(RuleName)

QUALITIES = ("confidence", "entropy")
"""What a picture's own answer says of it: the first probability, and the entropy as a share of log C. Size and sharpness aren't
used: pictures of a dataset have all been fitted to one edge, those at the door haven't."""

_FLOOR = 1e-12
"""In a geometric mean: one picture that gives a class less than this can't shut it out for all."""
_SPREAD = {"quality": 5.0, "organ": 1.0}
"""Standard deviation of the normal prior of the slopes: a weight may well be a hundred times another by quality, three times by
organ; with few observations the slopes stay near 0, which is the plain mean."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Answers to single pictures. observation_I: position of each one's observation, 0 to O - 1, each with a picture at least."""

    probabilities_IC: Floats
    observation_I: NDArray[np.integer]
    organ_I: Sequence[str | None] = ()
    """Empty where it isn't known of any."""

    @property
    def observations(self) -> int:
        return int(self.observation_I.max()) + 1

    def mean(self, values_IC: Floats) -> Floats:
        """Over the pictures of each observation, [I, C] -> [O, C]."""
        return mean_by_observation(values_IC, self.observation_I, self.observations)

    def total(self, values_I: Floats) -> Floats:
        """Sum over the pictures of each observation, [I] -> [O]."""
        return np.asarray(np.bincount(self.observation_I, values_I, self.observations), dtype=np.float64)


@dataclass(frozen=True)
class Rule:
    """How the pictures of an observation are combined; every rule leaves the answer to a single picture as it is.

    `mean` of the probabilities; `log-mean`: their geometric mean, renormalised; `quality`, `organ`: a mean in which a picture
    counts exp(Σ slope · feature), the features being `QUALITIES` or the organ shown; an organ without a slope counts 1.
    """

    name: RuleName = "mean"
    slopes: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in RULES or (self.name in ("mean", "log-mean") and self.slopes):
            raise BadInput(f"the rule {self.name!r} with {len(self.slopes)} slopes; one of {', '.join(RULES)}, a mean has none")
        if not all(np.isfinite(list(self.slopes.values()))):
            raise BadInput(f"the rule {self.name!r} has a slope that isn't a finite number")

    def combined(self, pictures: Pictures) -> Floats:
        """Probabilities of the observations [O, C]; rows sum to 1 where those of the pictures do."""
        if self.name == "log-mean":
            mean_OC = pictures.mean(np.log(np.maximum(pictures.probabilities_IC, _FLOOR)))
            alone_O = np.bincount(pictures.observation_I) == 1
            return np.where(alone_O[:, None], pictures.mean(pictures.probabilities_IC), softmax(mean_OC, axis=1))
        share_I = self.shares(pictures)
        images_O = np.bincount(pictures.observation_I)
        return pictures.mean(pictures.probabilities_IC * (share_I * images_O[pictures.observation_I])[:, None])

    def shares(self, pictures: Pictures) -> Floats:
        """How much each picture counts in its observation [I]; they sum to 1 over an observation."""
        log_weight_I = _features(self.name, pictures, tuple(self.slopes)) @ np.array([*self.slopes.values()], dtype=np.float64)
        return _shares(log_weight_I, pictures)


def fit_rule(name: RuleName, pictures: Pictures, true_O: NDArray[np.integer]) -> Rule:
    """The slopes with the greatest likelihood of the true classes [O] (no -1 among them), a weak prior holding them near 0.

    Raises BadInput where organs are asked for and none is known.
    """
    names = names_of(name, pictures)
    if not names:
        return Rule(name)
    from scipy.optimize import minimize

    features_IF = _features(name, pictures, names)
    true_p_I = np.maximum(pictures.probabilities_IC[np.arange(len(features_IF)), true_O[pictures.observation_I]], 1e-300)

    def loss(slopes_F: Floats) -> tuple[float, Floats]:
        share_I = _shares(features_IF @ slopes_F, pictures)
        true_p_O = pictures.total(share_I * true_p_I)
        part_I = share_I * true_p_I / true_p_O[pictures.observation_I]  # of the observation's likelihood, due to this picture
        gradient_F = -features_IF.T @ (part_I - share_I) + slopes_F / _SPREAD[name] ** 2
        return float(-np.log(true_p_O).sum() + (slopes_F**2).sum() / 2 / _SPREAD[name] ** 2), gradient_F

    found = minimize(loss, np.zeros(len(names)), jac=True, method="L-BFGS-B")
    return Rule(name, dict(zip(names, found.x.tolist(), strict=True)))


def names_of(name: RuleName, pictures: Pictures) -> tuple[str, ...]:
    """The features that a rule weighs by; none for the plain means."""
    if name == "quality":
        return QUALITIES
    if name != "organ":
        return ()
    if not (organs := sorted({organ for organ in pictures.organ_I if organ})):
        raise BadInput("no picture says which organ it shows (column organ), so none can be weighted by it; leave `organ` out")
    return tuple(organs)


def _features(name: RuleName, pictures: Pictures, names: Sequence[str]) -> Floats:
    """[I, F]."""
    p_IC = pictures.probabilities_IC
    if name == "quality":
        entropy_I = -(p_IC * np.log(np.maximum(p_IC, 1e-300))).sum(axis=1)
        columns = {"confidence": p_IC.max(axis=1), "entropy": entropy_I / np.log(max(p_IC.shape[1], 2))}
        return np.stack([columns[feature] for feature in names], axis=1)
    organ_I = np.array([*pictures.organ_I] or [None] * len(p_IC), dtype=object)
    return (organ_I[:, None] == np.array(names, dtype=object)).astype(np.float64).reshape(len(p_IC), len(names))


def _shares(log_weight_I: Floats, pictures: Pictures) -> Floats:
    top_O = np.full(pictures.observations, -np.inf)
    np.maximum.at(top_O, pictures.observation_I, log_weight_I)
    weight_I = np.exp(log_weight_I - top_O[pictures.observation_I])
    return np.asarray(weight_I / pictures.total(weight_I)[pictures.observation_I])
