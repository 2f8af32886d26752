"""What `--shares` says: a file of the classes' shares where the model is used, or that they be estimated there.

Shapes: I images, O observations, C classes.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxakey.calibration.bias_corrected import BiasCorrected
from taxakey.calibration.fitting import mean_by_observation
from taxakey.calibration.shares import Floats, with_shares
from taxakey.calibration.stored import Calibration
from taxakey.calibration.supported import LEAST_EVIDENCE, Estimated, estimate_with_support
from taxakey.errors import BadInput, MissingArtifact
from taxakey.taxonomy import Taxonomy

ESTIMATE = "estimate"
_MOST_NUMBERS = 200_000_000
_COLUMNS = ("scientificName", "share")


@dataclass(frozen=True)
class Told:
    """What became of shares that were told. `corrected`: whether anything was; `meaning`: in a sentence for people."""

    calibration: Calibration
    meaning: str
    corrected: bool = True


def told_shares(
    told: str,
    calibration: Calibration,
    taxonomy: Taxonomy,
    train_counts_C: ArrayLike,
    scores_IC: NDArray[np.floating] | None = None,
    observation_I: NDArray[np.integer] | None = None,
    basis: BiasCorrected | None = None,
) -> Told:
    """The calibration that corrects for the shares told from now on: "estimate", from these pictures, or a file's path.

    `scores_IC`: raw scores of pictures without known names, not looked at for a file; `observation_I`: the number of the
    observation of each, counted once each; None: one of its own. `basis`: fitted on validation, without which nothing is
    estimated; it then takes the calibration's place. Where the pictures don't speak for other shares, nothing is corrected.
    Raises BadInput or MissingArtifact for what isn't a table of shares of these classes.
    """
    if told != ESTIMATE:
        train_share_C = np.asarray(train_counts_C, dtype=np.float64) / np.sum(train_counts_C)
        new_share_C = read_shares(Path(told), taxonomy)
        whose = f"told by {Path(told).name}"
        return Told(with_shares(calibration, taxonomy, train_share_C, new_share_C), _meaning(whose, train_share_C, new_share_C))
    if scores_IC is None:
        raise BadInput("shares are estimated from pictures, and there are none; name a file of shares")
    if basis is None or len(basis.bias) != len(taxonomy):
        raise BadInput(
            "this model doesn't say how its probabilities lean, without which estimated shares do harm. That takes ten "
            "validation pictures or more, as many as species, and 1,414 species at most: run `taxakey calibrate` on its run (and "
            "export again), or name a file of shares"
        )
    probabilities_OC = basis.probabilities(scores_IC)
    if observation_I is not None:
        probabilities_OC = mean_by_observation(probabilities_OC, observation_I, int(observation_I.max()) + 1)
    found = estimate_with_support(probabilities_OC, np.array(basis.share))
    if not found.supported:
        return Told(calibration, _unsupported(found, len(probabilities_OC)), corrected=False)
    return Told(
        _estimated(calibration, basis, taxonomy, found.share_C),
        _meaning("estimated from these pictures themselves", np.array(basis.share), found.share_C),
    )


def _estimated(calibration: Calibration, basis: BiasCorrected, taxonomy: Taxonomy, new_share_C: Floats) -> Calibration:
    """One temperature and, as a shift of each class, its bias and its new share."""
    plain = replace(calibration, temperature=1 / basis.sharpness, rank_temperatures={}, bin_knots=(), bin_factors=())
    shifted = with_shares(plain, taxonomy, np.array(basis.share), new_share_C)
    biases = zip(taxonomy.names, basis.bias, strict=True)
    return replace(shifted, share_shift={name: shifted.share_shift[name] + bias for name, bias in biases})


def _meaning(whose: str, old_share_C: Floats, new_share_C: Floats) -> str:
    """What was corrected for and how far that is from training."""
    moved = np.abs(new_share_C - old_share_C).sum() / 2
    return (
        f"Probabilities are corrected for shares of species {whose}; {100 * moved:.0f}\u00a0% of training's would have to change "
        "species. Thresholds and promises were measured without that."
    )


def _unsupported(found: Estimated, observations: int) -> str:
    return (
        f"Shares of species were to be estimated from these pictures, and nothing is corrected: {observations:,} observations "
        f"don't surely speak for other shares than training's (log-likelihood of held-out ones {found.evidence:+.3f} each, at "
        f"least {found.low:+.3f}, where {LEAST_EVIDENCE:g} is asked for)."
    )


def require_room(observations: int, classes: int) -> None:
    """Raise BadInput where the probabilities of so many observations can't be held at once to estimate shares from them."""
    if observations * classes > _MOST_NUMBERS:
        raise BadInput(
            f"shares are estimated from all probabilities at once, and {observations:,} pictures of {classes:,} species are too "
            f"many; estimate from {_MOST_NUMBERS // classes:,}, or name a file of shares"
        )


def read_shares(file: Path, taxonomy: Taxonomy) -> Floats:
    """Shares [C] from a CSV with the columns scientificName and share (or counts: they are divided by their sum).

    A class that isn't in it has 0. Raises BadInput with the line for a name that is no class or stands twice, and for what isn't
    a number from 0 on.
    """
    if not file.is_file():
        raise MissingArtifact(f"{file}: no such file; name a table of {' and '.join(_COLUMNS)}, or say {ESTIMATE}")
    position = {name: index for index, name in enumerate(taxonomy.names)}
    share_C = np.full(len(taxonomy), np.nan)
    with open(file, encoding="utf-8-sig", newline="") as lines:
        rows = csv.DictReader(lines)
        if missing := [name for name in _COLUMNS if name not in (rows.fieldnames or ())]:
            raise BadInput(f"{file}: lacks the column {missing[0]}; its header must say {','.join(_COLUMNS)}")
        for row in rows:
            index = position.get((row["scientificName"] or "").strip())
            if index is None:
                raise BadInput(
                    f"{file}, line {rows.line_num}: {row['scientificName']!r} is no species of the model; leave it out"
                )
            if not math.isnan(share_C[index]):
                raise BadInput(f"{file}, line {rows.line_num}: {row['scientificName']!r} stands twice; keep one of its lines")
            share_C[index] = _number(row["share"], f"{file}, line {rows.line_num}")
    if np.nansum(share_C) <= 0:
        raise BadInput(f"{file}: no share above 0 in it; name at least one species that occurs")
    return np.nan_to_num(share_C) / np.nansum(share_C)


def _number(text: str | None, where: str) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise BadInput(f"{where}: the share {text!r} isn't a number from 0 on")
    return number
