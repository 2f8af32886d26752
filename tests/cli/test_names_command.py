"""`taxakey names` and `taxakey drift`, called as the command calls them, on the simulated herbarium and on small lists."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from taxakey.artifacts import Plan
from taxakey.cli.names import drift, names
from taxakey.errors import BadInput, PlanMismatch
from taxakey.records.engines import open_engine
from taxakey.records.naming.matches import Matches
from taxakey.records.sample import SampleOptions, sample
from taxakey.records.selection import SelectionOptions, names_of, select
from taxakey.records.sources import read_source
from taxakey.records.splits import split

APP = typer.Typer()
APP.command()(names)
APP.command()(drift)
LIST = "taxonID,scientificName,scientificNameAuthorship,acceptedNameUsageID\n1,Poa annua,L.,1\n2,Poa crassa,Gaudin,1\n"


def run(*arguments: object) -> str:
    result = CliRunner().invoke(APP, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_records_of_the_simulated_herbarium(tmp_path: Path) -> None:
    """Every record names a species of the checklist or a synonym; the unknown species isn't in it."""
    sample(tmp_path / "herbarium", SampleOptions(sheets=60, species=8, size=64, seed=1, unknown_species=1))
    observations = split(read_source(tmp_path / "herbarium" / "archive.zip"))
    observations.write(tmp_path / "records", Plan("records"))
    output = run("names", tmp_path / "records", tmp_path / "herbarium" / "checklist.csv", tmp_path / "names")
    matches = Matches.read(tmp_path / "names")
    found = set(matches.matched["verbatimScientificName"].to_pylist())
    accepted = set(pq.read_table(tmp_path / "names" / "matches.parquet")["scientificName"].to_pylist())
    assert len(accepted) == 8
    assert len(matches.unmatched) == 1
    assert f"{len(found) + 1}  distinct names" in output
    assert "1:" in output
    with open_engine("duckdb") as engine:
        engine.register("observations", observations.table)
        selection = select(engine, SelectionOptions(min_images=1), names=names_of(matches))
    assert set(selection.table["scientificName"].to_pylist()) == accepted
    left_out = sum(number for step in selection.flow for number in step.dropped.values())
    assert len(selection.table) + left_out == len(observations)
    assert "nothing to do" in run("names", tmp_path / "records", tmp_path / "herbarium" / "checklist.csv", tmp_path / "names")


def test_a_csv_with_another_column_and_options(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("label\nPoa_Crassa\nPoa anua\nPoa_Crassa\n")
    (tmp_path / "list.csv").write_text(LIST)
    arguments = ("names", tmp_path / "labels.csv", tmp_path / "list.csv", tmp_path / "names", "--column", "scientificName=label")
    output = run(*arguments)
    assert "1  without author" in output
    assert "1  spelling variant" in output
    assert Matches.read(tmp_path / "names").matched["count"].to_pylist() == [1, 2]
    with pytest.raises(PlanMismatch, match="fuzzy"):
        run(*arguments, "--no-fuzzy")


def test_bad_arguments(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(LIST)
    with pytest.raises(BadInput, match="--column is for a CSV"):
        run("names", tmp_path, tmp_path / "list.csv", tmp_path / "names", "--column", "scientificName=label")
    assert not (tmp_path / "names").exists()


def test_drift(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text(LIST)
    (tmp_path / "new.csv").write_text(LIST.replace("2,Poa crassa,Gaudin,1", "2,Poa crassa,Gaudin,2"))
    output = run("drift", tmp_path / "old.csv", tmp_path / "new.csv", "--out", tmp_path / "drift")
    assert "1  split" in output
    assert "split: Poa annua → Poa annua and Poa crassa" in output
    assert "Poa annua,Poa crassa,,false" in (tmp_path / "drift" / "mapping.csv").read_text().replace('"', "")
