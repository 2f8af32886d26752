"""The plan of the building: a file imports only from lower floors, and folders on one floor don't import each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "taxakey"

FLOORS = [
    {
        "errors",
        "progress",
        "cpu_memory",
        "torchvision_guard",
        "taxonomy",
        "artifacts",
        "predictions",
        "recipe_file",
        "__init__",
        "__main__",
    },
    {"records", "losses", "metadata"},  # heads say what they had to decide in the losses' words
    {"dataset", "models", "metrics"},
    {"calibration", "embeddings", "size"},
    {"training"},  # a run isn't finished before it is calibrated, so training stands above both
    {"prediction"},
    {"evaluation"},
    {"report", "serving"},
    {"study", "frontier"},
    {"export"},  # it checks its file with the very scorer that will serve it
    {"cli"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
NEED_GUARD = {"timm", "lightning", "torchmetrics", "torchvision"}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(file: Path) -> list[tuple[int, str]]:
    """Line and full name of everything a file imports, wherever in it."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import; say which floor it comes from"
            module = node.module or ""
            found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
    return sorted(found)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down(file: Path) -> None:
    room = room_of(file)
    assert room in FLOOR_OF, f"{file}: {room} stands on no floor; give it one in FLOORS and in the README's tree"
    if room in ("__init__", "__main__"):
        return  # the door itself names outsiders' few names and loads them lazily
    for line, name in imported(file):
        parts = name.split(".")
        if parts[0] != "taxakey" or len(parts) < 2 or parts[1] == "__version__":
            continue
        other = parts[1]
        allowed = other == room or FLOOR_OF[other] < FLOOR_OF[room] or FLOOR_OF[other] == FLOOR_OF[room] == 0
        assert allowed, f"{file.relative_to(PACKAGE)}:{line}: {room} imports {name}, which isn't below it"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_the_guard_comes_before_what_imports_torchvision(file: Path) -> None:
    first = {}
    for line, name in imported(file):
        first.setdefault(name.split(".")[0] if not name.startswith("taxakey.torchvision_guard") else "guard", line)
    for package in NEED_GUARD & first.keys():
        assert first.get("guard", 10**6) < first[package], f"{file}: import taxakey.torchvision_guard before {package}"


def test_nothing_is_called_utils() -> None:
    assert not [file for file in FILES if "util" in str(file.relative_to(PACKAGE))]
