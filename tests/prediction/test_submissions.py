"""Others' answers: ten real submissions to Kaggle's Leaf Classification, and what is refused of broken ones."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from taxakey.artifacts import read_json, read_manifest, write_parquet
from taxakey.cli.ensemble import ensemble
from taxakey.cli.import_predictions import import_predictions
from taxakey.errors import BadInput
from taxakey.prediction.members import Member, open_pool
from taxakey.prediction.submissions import import_submission, read_submission
from taxakey.predictions import Predictions
from taxakey.taxonomy import Taxonomy

SMALL = Taxonomy.from_rows({"scientificName": name} for name in ("Acer mono", "Quercus × hispanica", "Tilia oliveri"))
HEADER = "id,Tilia_Oliveri,Acer_Mono,Quercus_x_Hispanica"


def written(folder: Path, *rows: str, header: str = HEADER) -> Path:
    (folder / "theirs.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder / "theirs.csv"


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    write_parquet(tmp_path / "classes" / "taxonomy.parquet", SMALL.table)
    return tmp_path / "classes"


def test_columns_are_brought_into_the_classes_order(tmp_path: Path) -> None:
    ids, p_OC = read_submission(written(tmp_path, "007,0.2,0.5,0.3", "8,0,1,0"), SMALL)
    assert ids == ["007", "8"]  # an id is no number
    np.testing.assert_allclose(p_OC, [[0.5, 0.3, 0.2], [1, 0, 0]])


def test_rows_that_were_rounded_are_made_to_sum_to_one(tmp_path: Path) -> None:
    _, p_OC = read_submission(written(tmp_path, "1,0.3333,0.3333,0.3333"), SMALL)
    np.testing.assert_allclose(p_OC.sum(axis=1), 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("rows", "header", "said"),
    [
        (["1,0.5,0.5"], "id,Tilia_Oliveri,Acer_Mono", r"lacks 1 of 3 classes \(first: Quercus × hispanica\)"),
        (["1,0.5,0.5,0,0"], HEADER + ",Ulmus_minor", r"has 1 columns that aren't classes \(first: Ulmus_minor\)"),
        (["1,0.5,much,0"], HEADER, "invalid value 'much'"),
        (["1,0.5,0.5"], HEADER, "Expected 4 columns, got 3"),
        (["1,0.5,0.5,0", "2,0.4,,0.6"], HEADER, r"1 values aren't probabilities \(first: id 2, Acer_Mono: nan\)"),
        (["1,1.5,-0.5,0"], HEADER, r"2 values aren't probabilities \(first: id 1, Acer_Mono: -0.5\)"),
        (["1,0.5,0.5,0", "b,0.5,0.4,0.3"], HEADER, r"1 rows don't sum to 1 \(first: id b, 1.2\)"),
        (["1,0.5,0.5,0", "1,0.5,0.5,0"], HEADER, "has one twice"),
        ([",0.5,0.5,0"], HEADER, "lacks an id"),
        (["1,0.5,0.5,0"], "id,Acer_Mono,Acer_Mono,Tilia_Oliveri", "name stands twice"),
        (["1,0.5,0.5,0"], "id,Acer_Mono,acer mono,Tilia_Oliveri", "differ in capitals"),
        ([], HEADER, "0 rows"),
    ],
)
def test_what_is_broken_is_refused_by_name_and_leaves_nothing(
    tmp_path: Path, classes: Path, rows: list[str], header: str, said: str
) -> None:
    with pytest.raises(BadInput, match=said) as refused:
        import_submission(written(tmp_path, *rows, header=header), tmp_path / "out", classes)
    assert "theirs.csv" in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_damaged_or_empty_file_is_refused(tmp_path: Path) -> None:
    packed = gzip.compress(("\n".join([HEADER] + [f"{row},0.5,0.5,0" for row in range(2000)])).encode())
    (tmp_path / "short.csv.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "empty.csv").write_bytes(b"")
    for name in ("short.csv.gz", "empty.csv", "absent.csv"):
        with pytest.raises(BadInput, match=name):
            read_submission(tmp_path / name, SMALL)


def test_more_classes_than_stored_answers_are_kept_whole(tmp_path: Path) -> None:
    names = [f"Genus s{c:03d}" for c in range(130)]
    write_parquet(tmp_path / "taxonomy.parquet", Taxonomy.from_rows({"scientificName": name} for name in names).table)
    p_OC = np.random.default_rng(0).dirichlet(np.ones(130), 4)
    rows = [f"{o}," + ",".join(f"{p:.17g}" for p in p_OC[o]) for o in range(4)]
    import_submission(written(tmp_path, *rows, header="id," + ",".join(names)), tmp_path / "out", tmp_path)
    member = Member.open(tmp_path / "out")
    assert member.complete
    np.testing.assert_allclose(np.exp(member.log_probabilities(list("0123")).astype(float)), p_OC, rtol=1e-2)


# ---- the real ones ----


@pytest.fixture(scope="module")
def submissions(shared_data: Path) -> list[Path]:
    folder = shared_data / "metrics" / "kaggle_leaf99_submissions"
    if not folder.is_dir():
        pytest.skip(f"no submissions at {folder}")
    return sorted(folder.glob("submit*.csv.gz"))


@pytest.fixture(scope="module")
def leaves(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The class list of leaf99, from its labels."""
    with open(shared_data / "images" / "leaf99" / "labels.csv", encoding="utf-8", newline="") as file:
        names = sorted({row["species"] for row in csv.DictReader(file) if row["species"]})
    folder = tmp_path_factory.mktemp("leaf99")
    write_parquet(folder / "taxonomy.parquet", Taxonomy.from_rows({"scientificName": name} for name in names).table)
    return folder


def test_ten_real_submissions_are_read_aligned_and_mixed(submissions: list[Path], leaves: Path, tmp_path: Path) -> None:
    assert len(submissions) == 10
    run = _commands()
    for file in submissions:
        out = str(tmp_path / file.name.split(".")[0])
        arguments = ["import-predictions", str(file), out, "--classes", str(leaves)]
        assert "lacks 1 of 99 classes (first: Quercus infectoria)" in str(run(arguments).exception)
        assert run([*arguments, "--column", "Quercus_Infectoria_sub=Quercus infectoria"]).exit_code == 0
    members = [str(tmp_path / file.name.split(".")[0]) for file in submissions]
    done = run(["ensemble", str(tmp_path / "mean"), *members])
    assert done.exit_code == 0, done.output
    assert "all members give the same answer" in done.output

    with gzip.open(submissions[0], "rt", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    first = {row[0]: rows[0][1 + int(np.argmax([float(p) for p in row[1:]]))] for row in rows[1:]}
    pool = open_pool([Member.open(member) for member in members])
    (portion,) = pool.each(lambda portion: portion)
    named = [pool.taxonomy.names[c].replace("×", "x").replace(" ", "_") for c in portion.p_MBC[0].argmax(axis=1)]
    assert dict(zip(pool.ids, map(str.casefold, named), strict=True)) == {
        id_: name.casefold().removesuffix("_sub") for id_, name in first.items()
    }

    mixed = Predictions.read(tmp_path / "mean" / "predictions" / "observations.parquet")
    np.testing.assert_array_equal(mixed.index("species")[:, 0], portion.p_MBC.mean(axis=0).argmax(axis=1))
    said = read_json(tmp_path / "mean" / "disagreement.json")
    differ = (portion.p_MBC[2].argmax(axis=1) != portion.p_MBC[5].argmax(axis=1)).mean()
    assert said["disagreement"][2][5] == said["disagreement"][5][2] == pytest.approx(differ)
    assert "unfitted" in read_manifest(tmp_path / "mean" / "predictions", "predictions").notes[0]


def test_without_labels_no_weight_is_fitted_and_other_ids_dont_mix(classes: Path, tmp_path: Path) -> None:
    for name, row in {"a": "1,0.5,0.5,0", "b": "2,0.5,0.5,0"}.items():
        import_submission(written(tmp_path, row), tmp_path / name, classes)
    run = _commands()
    refused = run(["ensemble", str(tmp_path / "out"), str(tmp_path / "a"), str(tmp_path / "a"), "--rule", "greedy"])
    assert isinstance(refused.exception, BadInput)
    assert "fitted on labelled answers" in str(refused.exception)
    refused = run(["ensemble", str(tmp_path / "out"), str(tmp_path / "a"), str(tmp_path / "b")])
    assert "of which 0 are the same" in str(refused.exception)


def _commands() -> Callable:
    app = typer.Typer()
    app.command("ensemble")(ensemble)
    app.command("import-predictions")(import_predictions)
    return lambda arguments: CliRunner().invoke(app, arguments)
