"""What `calibration.json` holds, and how it is applied to scores: numpy and scipy only.

Shapes: I images, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from taxakey.artifacts import read_json, write_json
from taxakey.calibration.scaling import Nest, binned_softmax, nested_softmax
from taxakey.errors import BadInput
from taxakey.taxonomy import Taxonomy

Method = Literal["temperature", "ranks", "bins"]
METHODS: tuple[Method, ...] = get_args(Method)
_RANKS = ("family", "genus", "species")


@dataclass(frozen=True)
class Calibration:
    """How raw scores become probabilities, and below which of them an answer is called unsure.

    `temperature` alone is Guo et al. (2017). `rank_temperatures` (family, genus, species) take its place where they are given,
    `bin_factors` at the confidences `bin_knots` multiply it (see `scaling`). `share_shift` holds, by scientificName, the
    logarithm of (share of the class where the model is used / share in training), by which probabilities are corrected at the
    end (see `shares`); a class without an entry has 0.

    `measured` says what the threshold was measured to mean on validation: `target_precision`, `precision` (share right among
    answers at or above the threshold; null if no threshold reached the target), `precision_low` (its one-sided 95 % lower
    bound, Clopper and Pearson, which doesn't know that the threshold was chosen on the same observations), `coverage` (share of
    observations at or above it), `observations`, and the negative log-likelihood per observation before and after
    (`nll_before`, `nll_after`); `species_added_since` counts species that the model learned later (`taxakey add-species`).
    """

    temperature: float = 1.0
    unsure_below: float = 0.0
    measured: dict[str, Any] = field(default_factory=dict)
    rank_temperatures: Mapping[str, float] = field(default_factory=dict)
    bin_knots: tuple[float, ...] = ()
    bin_factors: tuple[float, ...] = ()
    share_shift: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = [self.temperature, *self.rank_temperatures.values(), *self.bin_factors]
        if not all(np.isfinite(given)) or min(given) <= 0:
            raise BadInput(f"the temperature is {min(given)}, it must be above 0")
        if self.rank_temperatures and (set(self.rank_temperatures) != set(_RANKS) or self.bin_knots):
            raise BadInput(f"temperatures of ranks are those of {', '.join(_RANKS)}, and go without bins")
        if len(self.bin_knots) != len(self.bin_factors) or (np.diff(self.bin_knots) <= 0).any():
            raise BadInput("the knots of the bins must rise, and each has its factor")
        if not all(np.isfinite(list(self.share_shift.values()))):
            raise BadInput("a shift of class shares that isn't a finite number")

    @property
    def method(self) -> Method:
        return "ranks" if self.rank_temperatures else "bins" if self.bin_knots else "temperature"

    def probabilities(self, scores_IC: NDArray[np.floating]) -> NDArray[np.float64]:
        """[I, C] -> [I, C], for calibrations that need not know which class is which; else `bind` comes first."""
        if self.rank_temperatures or self.share_shift:
            raise BadInput("this calibration speaks of ranks or of single species; it must be bound to a taxonomy first")
        if self.bin_knots:
            return binned_softmax(scores_IC, self.temperature, np.array(self.bin_knots), np.array(self.bin_factors))
        return softmax(np.asarray(scores_IC, dtype=np.float64) / self.temperature, axis=1)

    def bind(self, taxonomy: Taxonomy) -> BoundCalibration:
        """The same for the classes of a model."""
        return BoundCalibration(self, taxonomy)

    @property
    def meaning(self) -> str:
        """In a sentence for people, what it was measured to mean that an answer is, or isn't, called unsure."""
        found, added = self.measured, int(self.measured.get("species_added_since", 0))
        of = f"On validation ({found['observations']:,} observations{f', before {added:,} species were added' if added else ''})"
        if found["precision"] is None:
            target = _percent(found["target_precision"])
            return f"{of} no threshold made {target} of the answers right, so every answer of this model is called unsure."
        return (
            f"{of}, first answers of {_percent(self.unsure_below)} or more were right {_percent(found['precision'])} "
            f"of the time. {_percent(found['coverage'])} of all answers reach it."
        )

    def write(self, path: Path | str) -> None:
        """Write `calibration.json`, atomically; fields that say nothing are left out."""
        always = ("temperature", "unsure_below", "measured")
        write_json(path, {name: value for name, value in asdict(self).items() if value or name in always})

    @classmethod
    def read(cls, path: Path | str) -> Calibration:
        """Read `calibration.json`; raises BadInput where it isn't one."""
        content = read_json(path)
        try:
            return cls(
                float(content["temperature"]),
                float(content["unsure_below"]),
                dict(content["measured"]),
                rank_temperatures={rank: float(value) for rank, value in content.get("rank_temperatures", {}).items()},
                bin_knots=tuple(map(float, content.get("bin_knots", ()))),
                bin_factors=tuple(map(float, content.get("bin_factors", ()))),
                share_shift={name: float(value) for name, value in content.get("share_shift", {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"{path}: not a calibration ({error!r}); train the model again or restore the file") from None
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from None


class BoundCalibration:
    """A calibration for the classes of one taxonomy."""

    def __init__(self, calibration: Calibration, taxonomy: Taxonomy) -> None:
        self.calibration = calibration
        self._nest = Nest.of(taxonomy) if calibration.rank_temperatures else None
        self._weight_C = None
        if calibration.share_shift:
            self._weight_C = np.exp([calibration.share_shift.get(name, 0.0) for name in taxonomy.names])
        self._plain = calibration
        if calibration.share_shift or calibration.rank_temperatures:
            self._plain = Calibration(
                calibration.temperature, bin_knots=calibration.bin_knots, bin_factors=calibration.bin_factors
            )

    def probabilities(self, scores_IC: NDArray[np.floating]) -> NDArray[np.float64]:
        """[I, C] -> [I, C]; rows sum to 1."""
        if self._nest is None:
            probabilities_IC = self._plain.probabilities(scores_IC)
        else:
            family, genus, species = (self.calibration.rank_temperatures[rank] for rank in _RANKS)
            probabilities_IC = nested_softmax(scores_IC, (family, genus, species), self._nest)
        if self._weight_C is None:
            return probabilities_IC
        weighted_IC = probabilities_IC * self._weight_C
        return weighted_IC / weighted_IC.sum(axis=1, keepdims=True)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"
