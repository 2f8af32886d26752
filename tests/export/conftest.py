"""Runs, and what the exporter writes of them, made once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from untrained import SIZE, train_nothing

import taxakey.export.onnx_file as onnx_file
from taxakey.export import write_onnx
from taxakey.training.checkpoint import load_model


@pytest.fixture(scope="session")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """(kind of head) -> its run, and model.onnx as the exporter writes it."""

    @cache
    def make(kind: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp(kind)
        run = train_nothing(folder / "run", kind)
        write_onnx(load_model(run).network, SIZE, folder / "model.onnx")
        return run, folder / "model.onnx"

    return make


@pytest.fixture
def exporter_at_hand(run_of: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """(kind of head) -> its run, which is now exported without waiting for the exporter."""

    def make(kind: str) -> Path:
        run, written = run_of(kind)
        monkeypatch.setattr(onnx_file, "write_onnx", lambda network, size, file, **_: shutil.copy(written, file))
        return run

    return make
