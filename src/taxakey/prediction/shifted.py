"""A namer whose members correct for shares of species told, or estimated from the very pictures that they are about to name.

Shapes: I images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from taxakey.calibration import Calibration
from taxakey.calibration.told_shares import ESTIMATE, require_room, told_shares
from taxakey.dataset.reader import Part
from taxakey.errors import BadInput
from taxakey.prediction.namer import Namer
from taxakey.progress import track


def corrected_for(
    told: str, namer: Namer, rows: Part, portions: Sequence[NDArray[np.int64]], counts_C: NDArray[np.integer]
) -> tuple[Namer, str]:
    """The namer with calibrations corrected for the shares told (see `told_shares`), and a note that says so.

    `counts_C`: training pictures of each class, for models that don't know them themselves. "estimate" looks at all pictures of
    the part before any is named, by `portions`.
    """
    scores_MIC: Sequence[NDArray[np.float32] | None] = [None] * len(namer.models)
    observation_I = None
    if told == ESTIMATE:
        scores_MIC, observation_I = _all_scores(namer, rows, portions)
    found = []
    for model, scores_IC in zip(namer.models, scores_MIC, strict=True):
        own_C = model.decisions.train_images if model.decisions and model.decisions.train_images else counts_C
        basis = model.decisions.shares if model.decisions else None
        calibration = model.calibration or Calibration()
        found.append(told_shares(told, calibration, model.taxonomy, own_C, scores_IC, observation_I, basis))
    if refused := [each.meaning for each in found if not each.corrected]:  # members that differ would be compared with each other
        return namer, refused[0]
    models = [replace(model, calibration=each.calibration) for model, each in zip(namer.models, found, strict=True)]
    return replace(namer, models=tuple(models)), found[0].meaning


def _all_scores(
    namer: Namer, rows: Part, portions: Sequence[NDArray[np.int64]]
) -> tuple[list[NDArray[np.float32]], NDArray[np.int64]]:
    """Raw scores of each member [I, C], and the observation [I] of each picture, in the order of the portions."""
    if namer.crops is not None:
        raise BadInput("shares are estimated from whole pictures; leave out the crops, or name a file of shares")
    require_room(len(rows) * len(namer.models), len(namer.taxonomy))
    asked, found = namer.at(rows), []
    for images in track(portions, "looking for the shares of species"):
        found.append(asked.scores(images))
    order = np.concatenate(portions)
    observation_I = np.unique(np.array(rows.observation_ids)[order], return_inverse=True)[1]
    return [np.concatenate(each) for each in zip(*found, strict=True)], observation_I
