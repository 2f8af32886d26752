"""The artifact of a selection: what lies in it, and that an interrupted one starts again."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from drawn_records import checklist_says, records

from taxakey.artifacts import Plan, read_manifest
from taxakey.errors import PlanMismatch
from taxakey.records import selected
from taxakey.records.flow import flow_lines, read_flow
from taxakey.records.hosts import HostOptions
from taxakey.records.selected import write_selection
from taxakey.records.selection import SelectionOptions
from taxakey.records.splits import SplitOptions
from taxakey.records.table import Observations

OPTIONS = SelectionOptions(min_images=10, max_images=30, hosts=HostOptions(enough=10, share=0.9))


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    table = records()
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, part in zip(folders, (table.slice(0, 1000), table.slice(1000)), strict=True):
        Observations.from_table(part).write(folder, Plan("records", {"source": folder.name}))
    return folders


def read_in(folders: list[Path]) -> pa.Table:
    return pa.concat_tables([Observations.read(folder).table for folder in folders])


def test_everything_is_in_the_selection_or_accounted_for(sources: list[Path], tmp_path: Path) -> None:
    names = checklist_says(read_in(sources))
    out = tmp_path / "out"
    manifest = write_selection(sources, out, OPTIONS, names=names, split_options=SplitOptions())
    kept = Observations.read(out)
    assert kept.table["split"].null_count == 0
    dropped = pq.read_table(out / "dropped.parquet")
    ids = [*kept.table["image_id"].to_pylist(), *dropped["image_id"].to_pylist()]
    assert sorted(ids) == sorted(read_in(sources)["image_id"].to_pylist())
    flow = json.loads((out / "flow.json").read_text())
    assert (flow[0]["kept"], flow[-1]["kept"]) == (len(ids), len(kept))
    assert manifest.counts["step: cap"] == manifest.counts["images"] == len(kept)
    assert sum(n for step in flow for n in step["dropped"].values()) == len(dropped)
    hosts = pa.csv.read_csv(out / "hosts.csv")
    assert set(hosts["host"].to_pylist()) >= {url.split("/")[2].lower() for url in kept.table["identifier"].to_pylist()}
    assert f"{len(ids):>12,}  records with a picture" == flow_lines(read_flow(out / "flow.json"))[0]


def test_a_selection_that_was_interrupted_starts_again(
    sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(selected, "_write_tables", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_selection(sources, out, OPTIONS)
    assert not (out / "manifest.json").exists()
    write_selection(sources, out, OPTIONS)
    again = write_selection(sources, out, OPTIONS)
    assert again == read_manifest(out, "records")
    other = SelectionOptions(min_images=5)
    with pytest.raises(PlanMismatch, match="selection"):
        write_selection(sources, out, other)


@pytest.mark.usefixtures("local_spark")
def test_spark_writes_the_same_artifact(sources: list[Path], tmp_path: Path) -> None:
    names = checklist_says(read_in(sources))
    for engine in ("duckdb", "spark"):
        write_selection(sources, tmp_path / engine, OPTIONS, names=names, split_options=SplitOptions(), engine=engine)  # type: ignore[arg-type]
    for file in ("observations.parquet", "rejected.parquet", "flow.json", "hosts.csv"):
        assert (tmp_path / "duckdb" / file).read_bytes() == (tmp_path / "spark" / file).read_bytes(), file
    dropped = [pq.read_table(tmp_path / engine / "dropped.parquet").sort_by("image_id") for engine in ("duckdb", "spark")]
    assert dropped[0].to_pylist() == dropped[1].to_pylist()
