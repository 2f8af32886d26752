"""The command at the foot of a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.testing import CliRunner

from taxakey.cli.again import again

app = typer.Typer()


@app.command("draw")
def draw(
    context: typer.Context,
    folders: list[Path],
    out: Annotated[Path, typer.Option()],
    method: Annotated[list[str] | None, typer.Option()] = None,
    part: Annotated[str | None, typer.Option()] = None,
    rate: Annotated[float, typer.Option("--rate", "-r")] = 0.5,
    whole: Annotated[bool, typer.Option("--whole/--parts")] = False,
) -> None:
    print(again(context))


def test_every_option_is_said_and_folders_by_their_names(tmp_path: Path) -> None:
    given = [str(tmp_path / "a b"), str(tmp_path / "c" / ".."), "--out", "map", "--method", "pca", "--method", "umap"]
    printed = CliRunner().invoke(app, given).output.strip()
    assert printed == f"taxakey draw 'a b' {tmp_path.name} --out map --method pca --method umap --rate 0.5 --parts"


def test_a_printed_command_prints_itself() -> None:
    printed = CliRunner().invoke(app, ["one", "two", "--out", "map", "-r", "0.25", "--whole", "--part", "test"]).output.strip()
    assert printed == "taxakey draw one two --out map --part test --rate 0.25 --whole"
    assert CliRunner().invoke(app, printed.split()[2:]).output.strip() == printed
