"""Calibration: from raw scores to probabilities that may be believed; fitted on validation, saved as `calibration.json`,
applied anywhere. No torch."""

from __future__ import annotations

from taxakey.calibration.fitting import TARGET_PRECISION, best_calibration, fit_calibration, mean_by_observation
from taxakey.calibration.stored import METHODS, BoundCalibration, Calibration, Method

__all__ = [
    "METHODS",
    "TARGET_PRECISION",
    "BoundCalibration",
    "Calibration",
    "Method",
    "best_calibration",
    "fit_calibration",
    "mean_by_observation",
]
