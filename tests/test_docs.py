"""The code blocks of the documentation are run, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [page for page in sorted((ROOT / "docs").glob("*.md")) if "```" in page.read_text(encoding="utf-8")]
RUNNERS = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}


def blocks(page: Path) -> list[tuple[str, str]]:
    return re.findall(r"^```(bash|python)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for language, code in blocks(page):
        done = subprocess.run(
            [*RUNNERS[language], code], cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{page.name}:\n{code}\n{done.stdout}\n{done.stderr}"


def test_every_command_has_help_with_an_example() -> None:
    from taxakey.cli.main import app

    for command in app.registered_commands:
        assert command.callback is not None
        assert "Example: taxakey " in (command.callback.__doc__ or ""), command.callback


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))])
def test_commands_that_are_named_exist(page: str) -> None:
    """In backquotes and code blocks; prose may say "Taxakey is"."""
    from taxakey.cli.main import app

    code = re.findall(r"```.*?```|`[^`]+`", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    named = {name for text in code for name in re.findall(r"(?:^|[\s`/])(?<!from )taxakey ([a-z][a-z-]*)", text)}
    known = {command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands}  # type: ignore[union-attr]
    known |= {group.name for group in app.registered_groups if group.name}
    assert not named - known, "commands that aren't registered in cli/main.py"


@pytest.mark.parametrize(
    "file", ["README.md", "CONTRIBUTING.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]
)
def test_files_that_are_named_exist(file: str) -> None:
    """Links and paths in backquotes that look like files of this repository."""
    text = (ROOT / file).read_text(encoding="utf-8")
    named = re.findall(r"\]\(([\w./-]+)\)", text) + re.findall(r"`((?:src|tests|docs|recipes|benchmarks)/[\w./-]+)`", text)
    missing = [name for name in named if not (ROOT / name).exists() and not ((ROOT / file).parent / name).exists()]
    assert not missing


def test_the_tree_in_the_readme_names_every_file() -> None:
    tree = (ROOT / "README.md").read_text(encoding="utf-8").split("## The tree")[1].split("```")[1]
    words = set(re.findall(r"[\w.-]+", tree))
    package = ROOT / "src" / "taxakey"
    files = [file for file in package.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    files += (ROOT / "benchmarks").glob("*.py")
    assert not {file.name for file in files if file.name not in ("__init__.py", "__main__.py", "py.typed")} - words
    named = {word for word in words if word.endswith((".py", ".html", ".js", ".css"))}
    assert len(named) > 80, "the tree wasn't found"
    assert not named - {file.name for file in files}, "the tree names files that aren't there"
