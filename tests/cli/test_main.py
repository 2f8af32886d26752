"""How the command ends: 0, 1 with a traceback, 2 with one line."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRANSITIVE = {"httpcore": "httpx", "markupsafe": "jinja2", "starlette": "fastapi", "huggingface_hub": "timm"}
"""Packages that one of ours can't do without."""
DISTRIBUTIONS = {"umap": "umap-learn"}
"""Packages of extras that the tests don't install, and whose distribution has another name."""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("package", "extra"),
    [
        ("torch", "train"),
        ("timm.optim", "train"),
        ("fastapi", "serve"),
        ("onnx", "export"),
        ("rapidocr", "mask"),
        ("pyspark", "spark"),
    ],
)
def test_a_missing_extra_names_the_line_that_installs_it(package: str, extra: str) -> None:
    done = run(
        "import sys; from taxakey.cli import main\n"
        f"def missing(): raise ModuleNotFoundError('no', name={package!r})\n"
        "main.app = missing; main.main()"
    )
    assert done.returncode == 2
    assert done.stderr == f"taxakey: the package {package} isn't installed; run: pip install 'taxakey[{extra}]'\n"


def imported_packages() -> set[str]:
    """Top-level packages that are imported anywhere in the source, without Python's own and ours."""
    nodes = [node for file in (ROOT / "src").rglob("*.py") for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"taxakey"}


def test_every_package_comes_with_a_plain_installation_or_an_extra_that_is_named() -> None:
    from taxakey.cli.main import _EXTRA_OF

    def named(requirements: list[str]) -> set[str]:
        return {re.split(r"[^\w-]", text)[0].lower() for text in requirements}

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {extra: named(wanted) for extra, wanted in project["optional-dependencies"].items()}
    of_import = {name: {each.lower() for each in owners} for name, owners in packages_distributions().items()}
    for package in imported_packages():
        owners = of_import.get(package, set()) | {TRANSITIVE.get(package, DISTRIBUTIONS.get(package, package))}
        if not owners & named(project["dependencies"]):
            assert package in _EXTRA_OF, f"{package} is in no plain installation, and _EXTRA_OF doesn't say what brings it"
            assert owners & extras[_EXTRA_OF[package]], f"the extra {_EXTRA_OF[package]} doesn't bring {package}"


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
