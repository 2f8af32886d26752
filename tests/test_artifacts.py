"""Artifacts: what is finished looks so, what was interrupted doesn't and goes on, and nothing is ever half-written."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxakey import artifacts
from taxakey.artifacts import Plan
from taxakey.errors import ArtifactError, BadInput, MissingArtifact, PlanMismatch

PLAN = Plan("dataset", {"records": "abc"}, {"edge": 512, "options": {"quality": 90}}, seed=3)


def test_the_life_of_an_artifact(tmp_path) -> None:
    folder = tmp_path / "a" / "b"
    assert artifacts.start(folder, PLAN) == "new"
    with pytest.raises(MissingArtifact, match="was begun and not finished"):
        artifacts.read_manifest(folder, "dataset")
    assert artifacts.kind_of(folder) is None
    artifacts.write_text(folder / "part-0", "done")
    assert artifacts.start(folder, PLAN) == "resumed"
    assert (folder / "part-0").read_text() == "done"
    made = artifacts.finish(folder, PLAN, counts={"images": 5}, taxonomy="f00", notes=("a note",))
    assert artifacts.start(folder, PLAN) == "finished"
    read = artifacts.read_manifest(folder, "dataset")
    assert read == made
    assert (read.inputs, read.recipe, read.seed, read.counts) == (PLAN.inputs, PLAN.recipe, 3, {"images": 5})
    assert (read.taxonomy, read.notes, artifacts.kind_of(folder)) == ("f00", ("a note",), "dataset")
    assert {"numpy", "duckdb", "imagehash"} <= set(read.packages)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Plan("run", PLAN.inputs, PLAN.recipe, 3), "holds 'dataset', not 'run'"),
        (Plan("dataset", {"records": "xyz"}, PLAN.recipe, 3), 'inputs \'records\' = "abc", now it is "xyz"'),
        (Plan("dataset", PLAN.inputs, {"edge": 256, "options": {"quality": 90}}, 3), "recipe 'edge' = 512, now it is 256"),
        (Plan("dataset", PLAN.inputs, {"edge": 512}, 3), "recipe 'options'"),
        (Plan("dataset", PLAN.inputs, PLAN.recipe, 4), "seed 3, now it is 4"),
    ],
)
def test_another_plan_is_refused_with_the_difference(tmp_path, other: Plan, said: str) -> None:
    artifacts.start(tmp_path, PLAN)
    with pytest.raises(PlanMismatch) as caught:
        artifacts.start(tmp_path, other)
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tuples_and_lists_in_a_plan_are_the_same(tmp_path) -> None:
    artifacts.start(tmp_path, Plan("run", {}, {"size": (3, 224, 224)}))
    assert artifacts.start(tmp_path, Plan("run", {}, {"size": [3, 224, 224]})) == "resumed"


def test_foreign_folders_and_files_are_left_alone(tmp_path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("dear")
    with pytest.raises(ArtifactError, match=r"letters: not empty and not begun by Taxakey"):
        artifacts.start(tmp_path / "letters", PLAN)
    assert [file.name for file in (tmp_path / "letters").iterdir()] == ["letter.txt"]
    with pytest.raises(ArtifactError, match="a file, not a folder"):
        artifacts.start(tmp_path / "letters" / "letter.txt", PLAN)


def test_what_isnt_wanted_is_named(tmp_path) -> None:
    with pytest.raises(MissingArtifact, match="nowhere: no such folder"):
        artifacts.read_manifest(tmp_path / "nowhere", "run")
    with pytest.raises(MissingArtifact, match="this folder isn't one"):
        artifacts.read_manifest(tmp_path, "run")
    artifacts.start(tmp_path, PLAN)
    artifacts.finish(tmp_path, PLAN, counts={})
    with pytest.raises(ArtifactError, match="holds 'dataset', where 'run' is needed"):
        artifacts.read_manifest(tmp_path, "run")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    artifacts.write_json(tmp_path / "manifest.json", {**manifest, "format_version": 99, "taxakey": "9.9"})
    with pytest.raises(ArtifactError, match=r"Taxakey 9.9 in format 99.*install the newer version"):
        artifacts.read_manifest(tmp_path, "dataset")
    (tmp_path / "manifest.json").write_text('{"kind": ')
    with pytest.raises(BadInput, match=r"manifest.json: not JSON"):
        artifacts.read_manifest(tmp_path, "dataset")


def test_a_hash_is_that_of_the_file_or_of_the_manifest(tmp_path) -> None:
    (tmp_path / "manifest.json").write_text("abc")
    # The well-known test value of SHA-256.
    assert artifacts.hash_of(tmp_path) == artifacts.hash_of(tmp_path / "manifest.json")
    assert artifacts.hash_of(tmp_path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(MissingArtifact, match="hasn't finished"):
        artifacts.hash_of(tmp_path / "none")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    )
)
def test_json_is_read_as_it_was_written(tmp_path_factory, value: object) -> None:
    file = tmp_path_factory.getbasetemp() / "value.json"
    artifacts.write_json(file, value)
    assert artifacts.read_json(file) == value


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path) -> None:
    artifacts.write_json(tmp_path / "value.json", [1])
    with pytest.raises(ValueError, match="JSON"):
        artifacts.write_json(tmp_path / "value.json", float("nan"))
    with pytest.raises(TypeError), artifacts.open_atomically(tmp_path / "value.json") as file:
        file.writelines([b"[2", "no bytes"])
    assert [each.name for each in tmp_path.iterdir()] == ["value.json"]
    assert artifacts.read_json(tmp_path / "value.json") == [1]


# ---- a real kill ----

STAGE = """
    import sys, time
    from pathlib import Path
    from taxakey import artifacts
    folder, wanted = Path(sys.argv[1]), int(sys.argv[2])
    plan = artifacts.Plan("toy", {}, {"shards": 3})
    if artifacts.start(folder, plan) != "finished":
        for shard in range(3):
            if (folder / f"shard-{shard}").is_file():
                continue
            with artifacts.open_atomically(folder / f"shard-{shard}") as file:
                file.write(b"first half, ")
                file.flush()
                if shard == wanted:
                    print("half", flush=True)
                    time.sleep(60)
                file.write(b"second half")
        artifacts.finish(folder, plan, counts={"shards": 3})
    print("finished", flush=True)
"""


def stage(folder: Path, stop_in_shard: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(STAGE), str(folder), str(stop_in_shard)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("killed_in", [0, 2])
def test_a_stage_that_was_killed_looks_unfinished_and_goes_on(tmp_path, killed_in: int) -> None:
    process = stage(tmp_path, killed_in)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    process.stdout.close()

    with pytest.raises(MissingArtifact, match="was begun and not finished"):
        artifacts.read_manifest(tmp_path, "toy")
    assert sorted(file.name for file in tmp_path.glob("shard-*")) == [f"shard-{done}" for done in range(killed_in)]
    written = {file: file.stat().st_mtime_ns for file in tmp_path.glob("shard-*")}
    time.sleep(0.01)

    second = stage(tmp_path, -1)
    assert second.communicate(timeout=30)[0] == "finished\n"
    assert artifacts.read_manifest(tmp_path, "toy").counts == {"shards": 3}
    assert {(tmp_path / f"shard-{shard}").read_bytes() for shard in range(3)} == {b"first half, second half"}
    assert all(file.stat().st_mtime_ns == when for file, when in written.items()), "what was done was done again"
