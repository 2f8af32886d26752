"""How the command ends: 0, 1 with a traceback, 2 with one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("package", "extra"), [("torch", "train"), ("timm.optim", "train"), ("fastapi", "serve"), ("onnx", "export")]
)
def test_a_missing_extra_names_the_line_that_installs_it(package: str, extra: str) -> None:
    done = run(
        "import sys; from taxakey.cli import main\n"
        f"def missing(): raise ModuleNotFoundError('no', name={package!r})\n"
        "main.app = missing; main.main()"
    )
    assert done.returncode == 2
    assert done.stderr == f"taxakey: the package {package} isn't installed; run: pip install 'taxakey[{extra}]'\n"


def test_a_bug_shows_its_traceback_and_ends_with_1() -> None:
    done = run("from taxakey.cli import main\ndef bug(): raise KeyError('surprise')\nmain.app = bug; main.main()")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_place_that_cant_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    command = [sys.executable, "-m", "taxakey", "sample", str(tmp_path / "file" / "out"), "--sheets", "100"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "file") in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    talkative = 'from taxakey.cli import main; main.app = lambda: [print("x" * 99) for _ in range(9999)]; main.main()'
    done = subprocess.run(
        f"{sys.executable} -c '{talkative}' | head -1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_the_version_is_printed() -> None:
    done = subprocess.run([sys.executable, "-m", "taxakey", "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("taxakey ")
    assert done.returncode == 0
