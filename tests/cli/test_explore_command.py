"""`taxakey explore`, run as a person would."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from typer.testing import CliRunner, Result

from taxakey.cli.explore import explore
from taxakey.errors import BadRecords


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(explore)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_csv_with_columns_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("file,plant,who\n1.jpg,Poa annua,KEW\n2.jpg,Poa annua,KEW\n3.jpg,Acer rubrum,\n")
    result = run(tmp_path / "list.csv", tmp_path / "out", "--column", "scientificName=plant", "--column", "institutionCode=who")
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "out" / "exploration.html") in result.output
    found = json.loads((tmp_path / "out" / "exploration.json").read_text())
    assert found["classes"]["images"] == [2, 1]
    assert [group["name"] for group in found["institutions"]] == ["KEW", None]


def test_samples_can_be_left_out(sheets_dataset: Path, tmp_path: Path) -> None:
    assert run(sheets_dataset, tmp_path / "none", "--families", 0).exit_code == 0
    assert "data:image/jpeg" not in (tmp_path / "none" / "exploration.html").read_text()
    assert run(sheets_dataset, tmp_path / "some", "--families", 1).exit_code == 0
    assert (tmp_path / "some" / "exploration.html").read_text().count("data:image/jpeg") == 5


def test_what_isnt_there_is_an_error_for_people(tmp_path: Path) -> None:
    assert isinstance(run(tmp_path / "absent", tmp_path / "out").exception, BadRecords)
