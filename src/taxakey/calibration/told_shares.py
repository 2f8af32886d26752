"""What `--shares` says: a file of the classes' shares where the model is used, or that they be estimated there.

Shapes: I images, O observations, C classes.
"""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxakey.calibration.fitting import mean_by_observation
from taxakey.calibration.shares import Floats, estimate_shares, with_shares
from taxakey.calibration.stored import Calibration
from taxakey.errors import BadInput, MissingArtifact
from taxakey.taxonomy import Taxonomy

ESTIMATE = "estimate"
CAUTION = 0.1
"""So many further observations for each real one are taken to have the shares of training when shares are estimated."""

_MOST_NUMBERS = 200_000_000
_COLUMNS = ("scientificName", "share")


def told_shares(
    told: str,
    calibration: Calibration,
    taxonomy: Taxonomy,
    train_counts_C: ArrayLike,
    scores_IC: NDArray[np.floating] | None = None,
    observation_I: NDArray[np.integer] | None = None,
) -> Calibration:
    """The calibration that corrects for the shares told from now on: "estimate", from these pictures, or a file's path.

    `scores_IC`: raw scores of pictures without known names, not looked at for a file; `observation_I`: the number of the
    observation of each, counted once each; None: one of its own. Raises BadInput or MissingArtifact for what isn't a table of
    shares of these classes.
    """
    train_share_C = np.asarray(train_counts_C, dtype=np.float64)
    if told != ESTIMATE:
        return with_shares(calibration, taxonomy, train_share_C, read_shares(Path(told), taxonomy))
    if scores_IC is None:
        raise BadInput("shares are estimated from pictures, and there are none; name a file of shares")
    # Estimated from what the model says under the shares of training, whatever it was corrected for before.
    probabilities_OC = replace(calibration, share_shift={}).bind(taxonomy).probabilities(scores_IC)
    if observation_I is not None:
        probabilities_OC = mean_by_observation(probabilities_OC, observation_I, int(observation_I.max()) + 1)
    new_share_C = estimate_shares(probabilities_OC, train_share_C, prior_observations=CAUTION * len(probabilities_OC))
    return with_shares(calibration, taxonomy, train_share_C, new_share_C)


def require_room(observations: int, classes: int) -> None:
    """Raise BadInput where the probabilities of so many observations can't be held at once to estimate shares from them."""
    if observations * classes > _MOST_NUMBERS:
        raise BadInput(
            f"shares are estimated from all probabilities at once, and {observations:,} pictures of {classes:,} species are too "
            f"many; estimate from {_MOST_NUMBERS // classes:,}, or name a file of shares"
        )


def shares_meaning(told: str, shifted: Calibration, train_counts_C: ArrayLike) -> str:
    """In a sentence for people, what was corrected for and how far that is from training."""
    train_share_C = np.asarray(train_counts_C, dtype=np.float64) / np.sum(train_counts_C)
    new_share_C = train_share_C * np.exp(list(shifted.share_shift.values()))
    moved = np.abs(new_share_C / new_share_C.sum() - train_share_C).sum() / 2
    whose = "estimated from these pictures themselves" if told == ESTIMATE else f"told by {Path(told).name}"
    return (
        f"Probabilities are corrected for shares of species {whose}; {100 * moved:.0f}\u00a0% of training's would have to change "
        "species. Thresholds and promises were measured without that."
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
