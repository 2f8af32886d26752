"""What `decisions.json` holds: thresholds learned on validation, which turn probabilities into an answer. numpy only.

Shapes: O observations, C classes.

They hold for probabilities of ONE calibration, for observations like validation's. The ranked answers stay beside every decision.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from taxakey.artifacts import read_json, write_json
from taxakey.calibration.bias_corrected import BiasCorrected
from taxakey.calibration.conformal import ConformalSets
from taxakey.calibration.likeness import Likeness
from taxakey.calibration.roll_up import RankRule
from taxakey.calibration.stored import Calibration
from taxakey.calibration.unknown import entropy
from taxakey.errors import BadInput
from taxakey.taxonomy import RANKS, Taxonomy

FILE = "decisions.json"
"""What it is called in a model's folder and in a bundle."""
_FORMAT = 1
Floats = NDArray[np.float64]

Sureness = Literal["probability", "entropy", "energy", "likeness"]
"""High for what the model knows: the largest probability, minus the entropy, the log-sum-exp of the raw scores (their energy with
the sign turned), how like they are to those of training pictures (`Likeness`)."""
SURENESSES: tuple[Sureness, ...] = get_args(Sureness)


def sureness(
    kind: Sureness,
    probabilities_OC: NDArray[np.floating],
    logsumexp_O: NDArray[np.floating],
    likeness_O: NDArray[np.floating] | None = None,
) -> Floats:
    """How sure the model is of each observation, [O]. The last two are of raw scores, means over an observation's images.

    >>> sureness("probability", np.array([[0.9, 0.1]]), np.array([3.0]))
    array([0.9])
    """
    if kind == "likeness":
        if likeness_O is None:
            raise BadInput("likeness to training pictures wasn't measured for these observations")
        return np.asarray(likeness_O, dtype=np.float64)
    if kind == "energy":
        return np.asarray(logsumexp_O, dtype=np.float64)
    return np.asarray(probabilities_OC, dtype=np.float64).max(axis=1) if kind == "probability" else -entropy(probabilities_OC)


@dataclass(frozen=True)
class Rejection:
    """Below `threshold` of a sureness an observation is flagged. `measured`: what that meant on validation."""

    sureness: Sureness
    threshold: float
    """-inf: nothing is flagged, inf: everything."""
    measured: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.sureness not in SURENESSES or np.isnan(self.threshold):
            raise BadInput(f"a threshold of {self.threshold} for {self.sureness!r}; a sureness is one of {', '.join(SURENESSES)}")

    def flags(
        self,
        probabilities_OC: NDArray[np.floating],
        logsumexp_O: NDArray[np.floating],
        likeness_O: NDArray[np.floating] | None = None,
    ) -> NDArray[np.bool_]:
        """Which observations [O] are below it."""
        return sureness(self.sureness, probabilities_OC, logsumexp_O, likeness_O) < self.threshold


@dataclass(frozen=True)
class Decisions:
    """Thresholds of one model.

    `taxonomy`: fingerprint of its classes; `calibration`: which probabilities they hold for (`calibration_mark`).
    `precision`, `confidence`: what `roll_up` promises, a rule for each rank that the taxonomy has, the finest first;
    `by_taxon`: thresholds of single taxa, by rank and name. `coverage`: of the sets of species, which hold every species of
    `set_threshold` or more, or of its own where `set_by_species` names them (class-conditional; one that isn't named is in every
    set). `unknown`: None where validation held no species outside the model; `organism`: what is kept are organisms.
    `likeness`: to the training pictures; None where there were too few. `train_images`: how many of them each class has, against
    which shares told later are corrected (`told_shares`); empty for decisions of before. `shares`: what shares are estimated by;
    None where validation had too few pictures for it.
    """

    taxonomy: str
    calibration: str
    precision: float
    confidence: float
    observations: int
    roll_up: Mapping[str, RankRule]
    coverage: float
    set_threshold: float
    set_by_species: Mapping[str, float] | None = None
    by_taxon: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    unknown: Rejection | None = None
    organism: Rejection | None = None
    likeness: Likeness | None = None
    train_images: tuple[int, ...] = ()
    shares: BiasCorrected | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)
    """`sets`: `covered` and `mean_size` on validation, `observations` of known species."""

    def __post_init__(self) -> None:
        shares = (self.precision, self.confidence, self.coverage)
        if not all(0 < share < 1 for share in shares):
            raise BadInput(f"precision, confidence and coverage are {shares}; each lies between 0 and 1")
        if any(rule.by_taxon for rule in self.roll_up.values()):
            raise BadInput("thresholds of single taxa stand in by_taxon, by name: places change with the classes")
        asked = [each.sureness for each in (self.unknown, self.organism) if each is not None]
        if self.likeness is None and "likeness" in asked:
            raise BadInput("a threshold on the likeness to training pictures, and nothing that measures it")
        if "species" not in self.roll_up or not {*self.roll_up, *self.by_taxon} <= set(RANKS):
            raise BadInput(
                f"rules for {', '.join(self.roll_up) or 'no rank'}: the species has one, and others are {', '.join(RANKS[1:])}"
            )

    @property
    def ranks(self) -> tuple[str, ...]:
        """Ranks at which may be answered, from the finest."""
        return tuple(rank for rank in RANKS if rank in self.roll_up)

    def rules(self, taxonomy: Taxonomy) -> dict[str, RankRule]:
        """The rule of each of `ranks`, for the classes of this taxonomy or of some of them."""
        found = {}
        for rank in self.ranks:
            own = self.by_taxon.get(rank, {})
            place = {name: index for index, name in enumerate(taxonomy.taxa(rank))}
            by_taxon = {place[name]: threshold for name, threshold in own.items() if name in place}
            found[rank] = replace(self.roll_up[rank], by_taxon=by_taxon)
        return found

    def sets(self, taxonomy: Taxonomy) -> ConformalSets:
        """Its sets of species, for the classes of this taxonomy or of some of them."""
        if self.set_by_species is None:
            return ConformalSets(self.coverage, self.set_threshold)
        threshold_C = np.array([self.set_by_species.get(name, 0.0) for name in taxonomy.names])
        return ConformalSets(self.coverage, self.set_threshold, threshold_C)

    @property
    def fingerprint(self) -> str:
        """Changes with any threshold."""
        return _digest(self._content())

    @property
    def meaning(self) -> str:
        """In a sentence for people: how far answers went on validation, and how many of them were right."""
        said, left = [], 1.0
        for rank in self.ranks:
            rule = self.roll_up[rank]
            share = rule.coverage * left  # its coverage is of what no finer rank answered
            left -= share
            if rule.precision is not None:
                said.append(f"{_percent(share)} of the answers went to the {rank}, {_percent(rule.precision)} of them right")
        told = "; ".join(said) or f"no rank could be answered with {_percent(self.precision)} of the answers right"
        return f"On validation ({self.observations:,} observations) {told}."

    def require(self, taxonomy: Taxonomy, calibration: Calibration | None, file: Path) -> None:
        """Raise TaxonomyMismatch or BadInput unless they were fitted to these classes and to this calibration."""
        taxonomy.require_same(self.taxonomy, mine="the model", theirs=file)
        if calibration is None or calibration_mark(calibration) != self.calibration:
            raise BadInput(
                f"{file}: its thresholds belong to another calibration than calibration.json; run `taxakey calibrate` again, "
                "or delete it"
            )

    # ---- files ----

    def _content(self) -> dict[str, Any]:
        content = {**asdict(self), "format": _FORMAT}
        for name in ("likeness", "train_images", "shares"):
            if not content[name]:  # as it was before there were any: fingerprints stay
                del content[name]
        for rule in content["roll_up"].values():
            del rule["by_taxon"]  # names stand for its places, in the field of that name
        for name in ("unknown", "organism"):
            if content[name] is not None:  # JSON has no infinity; its name is read by float() again
                content[name]["threshold"] = _finite_or_word(content[name]["threshold"])
        return content

    def write(self, path: Path | str) -> None:
        """Write `decisions.json`, atomically."""
        write_json(path, self._content())

    @classmethod
    def read(cls, path: Path | str) -> Decisions:
        """Read `decisions.json`; raises BadInput where it isn't one."""
        content = read_json(path)
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise BadInput(f"{path}: not decisions of format {_FORMAT}; run `taxakey calibrate` again, or delete it")
        try:
            return cls(
                taxonomy=str(content["taxonomy"]),
                calibration=str(content["calibration"]),
                precision=float(content["precision"]),
                confidence=float(content["confidence"]),
                observations=int(content["observations"]),
                roll_up={rank: _rule(stored) for rank, stored in content["roll_up"].items()},
                coverage=float(content["coverage"]),
                set_threshold=float(content["set_threshold"]),
                set_by_species=None if content["set_by_species"] is None else _numbers(content["set_by_species"]),
                by_taxon={rank: _numbers(stored) for rank, stored in content["by_taxon"].items()},
                unknown=_rejection(content["unknown"]),
                organism=_rejection(content["organism"]),
                likeness=None if content.get("likeness") is None else Likeness(**content["likeness"]),
                train_images=tuple(map(int, content.get("train_images", ()))),
                shares=_basis(content.get("shares")),
                measured=dict(content["measured"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"{path}: damaged ({error!r}); run `taxakey calibrate` again, or delete it") from None
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from None

    @classmethod
    def beside(cls, folder: Path, taxonomy: Taxonomy, calibration: Calibration | None) -> Decisions | None:
        """Those of a model's folder or a bundle, checked against the rest of it; None where it has none."""
        file = folder / FILE
        if not file.is_file():
            return None
        found = cls.read(file)
        found.require(taxonomy, calibration, file)
        return found


def calibration_mark(calibration: Calibration) -> str:
    """Sixteen digits that change with any probability that this calibration gives, and with nothing else."""
    fields = asdict(calibration)
    return _digest({name: fields[name] for name in fields if name not in ("measured", "unsure_below")})


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _finite_or_word(threshold: float) -> float | str:
    return threshold if np.isfinite(threshold) else str(threshold)


def _basis(stored: Mapping[str, Any] | None) -> BiasCorrected | None:
    if stored is None:
        return None
    bias, share = (tuple(map(float, stored[name])) for name in ("bias", "share"))
    return BiasCorrected(float(stored["sharpness"]), bias, share, float(stored["wrong_labels"]), int(stored["observations"]))


def _numbers(stored: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in stored.items()}


def _rule(stored: Mapping[str, Any]) -> RankRule:
    precision, low = (None if stored[name] is None else float(stored[name]) for name in ("precision", "precision_low"))
    return RankRule(float(stored["threshold"]), precision, low, float(stored["coverage"]), int(stored["observations"]))


def _rejection(stored: Mapping[str, Any] | None) -> Rejection | None:
    return None if stored is None else Rejection(stored["sureness"], float(stored["threshold"]), dict(stored["measured"]))


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"
