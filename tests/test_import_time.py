"""Pay for an import when it is used: what must stay light loads no torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "timm", "lightning")
NO_TORCH = (
    "taxakey.taxonomy",
    "taxakey.predictions",
    "taxakey.calibration",
    "taxakey.calibration.decisions",
    "taxakey.records.sample",
    "taxakey.records.sources",
    "taxakey.records.splits",
    "taxakey.dataset.build",
    "taxakey.dataset.compilation",
    "taxakey.dataset.fetch",
    "taxakey.dataset.preprocess",
    "taxakey.dataset.reader",
    "taxakey.dataset.vectors",
    "taxakey.metadata.observation",
    "taxakey.metrics.accuracy",
    "taxakey.evaluation",
    "taxakey.evaluation.ensembles",
    "taxakey.prediction.fusion",
    "taxakey.report.exploration_page",
    "taxakey.report.publication",
    "taxakey.report.write",
    "taxakey.serving.identifier",
    "taxakey.serving.app",
)


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys, json\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", NO_TORCH)
def test_loads_no_torch(module: str) -> None:
    assert not loaded_by(f"import {module}") & set(HEAVY)


NO_LIGHTNING = (
    "taxakey.prediction.predict",
    "taxakey.prediction.fuse",
    "taxakey.calibration.validation",
    "taxakey.frontier.measuring",
)


@pytest.mark.parametrize("module", NO_LIGHTNING)
def test_whoever_only_names_pictures_doesnt_wait_for_lightning(module: str) -> None:
    """It takes as long to load as all the rest together."""
    assert "lightning" not in loaded_by(f"import {module}")


def test_the_command_loads_nothing_heavy() -> None:
    heavy = {*HEAVY, "numpy", "pyarrow", "pydantic", "cv2", "scipy", "matplotlib", "fastapi", "onnxruntime"}
    assert not loaded_by("import taxakey.cli.main") & heavy


def test_the_package_itself_loads_nothing() -> None:
    assert not loaded_by("import taxakey") & {*HEAVY, "numpy", "pyarrow"}
