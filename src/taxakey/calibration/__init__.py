"""Calibration: from raw scores to probabilities that may be believed, and from those to decisions; fitted on validation, saved
as `calibration.json` and `decisions.json`, applied anywhere. No torch."""

from __future__ import annotations

from taxakey.calibration.decisions import Decisions
from taxakey.calibration.fitting import TARGET_PRECISION, best_calibration, fit_calibration, mean_by_observation
from taxakey.calibration.stored import METHODS, BoundCalibration, Calibration, Method

__all__ = [
    "METHODS",
    "TARGET_PRECISION",
    "BoundCalibration",
    "Calibration",
    "Decisions",
    "Method",
    "best_calibration",
    "fit_calibration",
    "mean_by_observation",
]
