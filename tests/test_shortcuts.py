"""Tests of shortcuts: a planted one is found, and where there is none nothing is claimed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import typer
from typer.testing import CliRunner

from taxakey import artifacts
from taxakey.cli.shortcuts import shortcuts as command
from taxakey.dataset.blanking import Blanked, BlankOptions, paint_over
from taxakey.dataset.build import BuildOptions, build
from taxakey.dataset.preprocess import decode
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput, TaxonomyMismatch
from taxakey.evaluation.shortcuts import Left, Settings, held_out, masked_or_not, painted_over
from taxakey.predictions import Predictions, Truth
from taxakey.records.splits import SplitOptions, split
from taxakey.records.table import Observations

FAST = Settings(resamples=200)
app = typer.Typer()
app.command()(command)


def write(out: Path, dataset: Dataset, share_right: float, *, seed: int = 0) -> Path:
    """Predictions of the test part of which that share is right, drawn by the seed."""
    part, rng = dataset.part("test"), np.random.default_rng(seed)
    rows = np.flatnonzero(part.class_index >= 0)
    ids, first = np.unique([part.observation_ids[row] for row in rows], return_index=True)
    first = rows[first]
    right = rng.permutation(len(ids)) < round(share_right * len(ids))
    classes = len(dataset.taxonomy)
    named = np.where(right, part.class_index[first], (part.class_index[first] + 1) % classes)
    probabilities = np.eye(classes)[named]
    truth = Truth(*([names[row] for row in first] for names in (part.truth().species, part.truth().genus, part.truth().family)))
    plan = artifacts.Plan("predictions", {}, {"part": "test", "dataset": str(dataset.folder)})
    artifacts.start(out, plan)
    Predictions.from_probabilities(probabilities, dataset.taxonomy, observation_ids=ids.tolist(), truth=truth).write(
        out / "observations.parquet"
    )
    artifacts.write_parquet(out / "taxonomy.parquet", dataset.taxonomy.table)
    artifacts.finish(out, plan, counts={})
    return out


@pytest.fixture(scope="module")
def without(sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, str]:
    """The same sheets with the institution that has most of the test part held out, and its code."""
    folder = tmp_path_factory.mktemp("without")
    codes = Dataset.open(sheets_dataset).part("test").table["institutionCode"].to_pylist()
    code = max(sorted(set(codes)), key=codes.count)
    records = Observations.read(sheets_dataset.parent / "records")
    free = records.table.set_column(
        records.table.schema.get_field_index("split"), "split", pa.nulls(len(records.table), pa.string())
    )
    split(replace(records, table=free), SplitOptions(held_out=code)).write(folder / "records", artifacts.Plan("records"))
    build(folder / "records", folder / "dataset", BuildOptions(longest_edge=64))
    return Dataset.open(folder / "dataset"), code


def test_a_drop_on_the_institution_is_found(sheets_dataset: Path, without: tuple[Dataset, str], tmp_path: Path) -> None:
    dataset, code = without
    seen = write(tmp_path / "seen", Dataset.open(sheets_dataset), 1.0)
    unseen = write(tmp_path / "unseen", dataset, 0.3)
    found = held_out(seen, unseen, settings=FAST)
    part = Dataset.open(sheets_dataset).part("test")
    of_it = {
        name for name, own in zip(part.observation_ids, part.table["institutionCode"].to_pylist(), strict=True) if own == code
    }
    both = of_it & set(Predictions.read(unseen / "observations.parquet").strings("observation_id"))
    assert found.observations == len(both) > 5
    assert found.figures["seen"].value == 1.0
    assert found.differences["difference"].value == pytest.approx(1 - found.figures["unseen"].value)
    assert "new to the model must expect less" in found.says[1]
    assert code in found.title


def test_without_a_drop_nothing_is_claimed(sheets_dataset: Path, without: tuple[Dataset, str], tmp_path: Path) -> None:
    seen = write(tmp_path / "seen", Dataset.open(sheets_dataset), 0.5, seed=1)
    unseen = write(tmp_path / "unseen", without[0], 0.5, seed=2)
    found = held_out(seen, unseen, without[1], settings=FAST)
    assert not found.differences["difference"].supported
    assert "doesn't show" in found.says[1]


def test_an_institution_that_was_learnt_from_is_no_test(
    sheets_dataset: Path, without: tuple[Dataset, str], tmp_path: Path
) -> None:
    dataset = Dataset.open(sheets_dataset)
    seen, again = write(tmp_path / "seen", dataset, 1.0), write(tmp_path / "again", dataset, 0.5)
    with pytest.raises(BadInput, match=f"{without[1]} is in its training part too"):
        held_out(seen, again, without[1])
    with pytest.raises(BadInput, match="0 institutions"):
        held_out(seen, again)
    with pytest.raises(BadInput, match="no picture in its test part"):
        held_out(seen, write(tmp_path / "unseen", without[0], 1.0), "NOWHERE")


def test_text_that_helps_is_found(sheets_dataset: Path, tmp_path: Path) -> None:
    plain = Dataset.open(sheets_dataset)
    masked = _as_masked(sheets_dataset, tmp_path / "masked")
    first, second = write(tmp_path / "a", plain, 1.0), write(tmp_path / "b", masked, 0.6)
    found = masked_or_not(first, second, settings=FAST)
    assert found.differences["difference"].value == pytest.approx(0.4, abs=0.05)
    assert "gains from text" in found.says[1]
    same = masked_or_not(first, write(tmp_path / "c", masked, 1.0), settings=FAST)
    assert same.differences["difference"].value == 0
    assert "doesn't show" in same.says[1]
    with pytest.raises(BadInput, match="the plain one first"):
        masked_or_not(second, first)


def _as_masked(dataset: Path, out: Path) -> Dataset:
    """The same dataset, whose manifest says that its text was masked."""
    import shutil

    shutil.copytree(dataset, out)
    manifest = artifacts.read_json(out / "manifest.json")
    artifacts.write_json(out / "manifest.json", {**manifest, "recipe": {**manifest["recipe"], "mask": {"what": "text"}}})
    return Dataset.open(out)


def test_other_classes_or_pictures_are_refused(sheets_dataset: Path, without: tuple[Dataset, str], tmp_path: Path) -> None:
    first = write(tmp_path / "a", Dataset.open(sheets_dataset), 1.0)
    table = Predictions.read(first / "observations.parquet")
    renamed = table.table.set_column(0, "observation_id", pa.array([f"x{row}" for row in range(len(table))]))
    other = write(tmp_path / "b", Dataset.open(sheets_dataset), 1.0)
    Predictions(renamed, table.taxonomy_fingerprint, "observation").write(other / "observations.parquet")
    with pytest.raises(BadInput, match="no observation in common"):
        masked_or_not(first, other)
    strange = write(tmp_path / "c", Dataset.open(sheets_dataset), 1.0)
    Predictions(table.table, "0" * 16, "observation").write(strange / "observations.parquet")
    with pytest.raises(TaxonomyMismatch):
        masked_or_not(first, strange)


# ---- painting ----


def test_only_the_box_is_painted_in_the_colour_of_the_paper() -> None:
    image = np.full((100, 60, 3), (240, 230, 200), dtype=np.uint8)
    image[20:80, 20:40] = (30, 90, 40)
    image[:5] = 10
    painted = paint_over(image, BlankOptions((0.1, 0.1, 0.9, 0.9)))
    assert (painted[10:90, 6:54] == (240, 230, 200)).all()
    outside = np.ones((100, 60), dtype=bool)
    outside[10:90, 6:54] = False
    assert (painted[outside] == image[outside]).all()
    assert (image[50, 30] == (30, 90, 40)).all(), "the picture given was changed"
    dark = np.full((100, 60, 3), 40, dtype=np.uint8)
    assert (paint_over(dark, BlankOptions()) == 40).all()


@pytest.mark.parametrize("text", ["0,0,1,1", "0.5,0,0.4,1", "0,0,1", "a,b,c,d", "0,0,1,1.1"])
def test_a_box_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="box"):
        BlankOptions.parse(text)


def test_a_painted_part_keeps_its_pictures_in_order(sheets_dataset: Path) -> None:
    part, options = Dataset.open(sheets_dataset).part("test"), BlankOptions.parse("0,0.05,1,0.87")
    some = Blanked(part, options).only(np.array([4, 2]))
    assert some.image_ids == [part.image_ids[4], part.image_ids[2]]
    for row, source in enumerate((4, 2)):
        expected = paint_over(decode(part.image_bytes(source)), options).astype(int)
        assert np.abs(decode(some.image_bytes(row)).astype(int) - expected).mean() < 2


def left(rng: np.random.Generator, *, shortcut: bool) -> Left:
    """300 pictures of 150 plants of four species in four institutions; with a shortcut each species has one of its own."""
    species = np.repeat(rng.integers(0, 4, 150), 2)
    house = species if shortcut else np.repeat(rng.integers(0, 4, 150), 2)
    names = np.array(["a", "b", "c", "d"])
    return Left(
        observations_N=[f"{row // 2:03d}" for row in range(300)],
        species_N=names[species],
        institutions_N=house.astype(str),
        named_N=names[house],
        whole_N=names[species],
        probed_species_N=names[house],
        probed_institutions_N=house.astype(str),
        guessed_N=names[house],
        common_species="a",
        common_institution="0",
    )


def test_species_that_live_in_one_institution_are_told_without_the_plant() -> None:
    found = painted_over(left(np.random.default_rng(0), shortcut=True), settings=FAST)
    assert found.observations == 150
    assert found.figures["model"].value == 1.0
    assert found.differences["model"].low > 0.5
    assert any("does name species by something else" in sentence for sentence in found.says)
    assert any("shortcut is there to be taken" in sentence for sentence in found.says)


def test_species_spread_over_institutions_are_not() -> None:
    found = painted_over(left(np.random.default_rng(1), shortcut=False), settings=FAST)
    assert not found.differences["model"].supported
    assert found.differences["institution"].low > 0.5
    assert not any("does name species" in sentence or "to be taken" in sentence for sentence in found.says)


def test_pictures_of_one_plant_count_as_one_observation() -> None:
    one = left(np.random.default_rng(0), shortcut=False)
    wide = painted_over(one, settings=FAST).figures["model"]
    alone = painted_over(replace(one, observations_N=[str(row) for row in range(300)]), settings=FAST).figures["model"]
    assert wide.value == alone.value
    assert wide.high - wide.low > 1.2 * (alone.high - alone.low)


# ---- the command ----


def test_the_command_writes_what_it_says(sheets_dataset: Path, without: tuple[Dataset, str], tmp_path: Path) -> None:
    seen, unseen = write(tmp_path / "seen", Dataset.open(sheets_dataset), 1.0), write(tmp_path / "unseen", without[0], 0.3)
    done = CliRunner().invoke(app, [str(tmp_path / "out"), "--seen", str(seen), "--unseen", str(unseen), "--resamples", "100"])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out" / "shortcuts.json").read_text(encoding="utf-8"))
    assert len(found) == 1
    assert found[0]["differences"]["difference"]["low"] > 0
    page = (tmp_path / "out" / "shortcuts.html").read_text(encoding="utf-8")
    assert found[0]["title"] in page
    foot = page.split('<pre class="command">')[1].split("</pre>")[0]
    assert "<span>--seen</span> <span>seen</span> <span>--unseen</span> <span>unseen</span>" in foot
    assert "<span>--resamples</span> <span>100</span> <span>--seed</span> <span>0</span>" in foot
    assert "http" not in page.split("<body>")[1]


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ([], "nothing to test"),
        (["--seen", "a"], "belong together"),
        (["--masked", "a"], "belong together"),
        (["--blank", "run"], "which pictures"),
    ],
)
def test_half_a_test_is_refused(arguments: list[str], fact: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(tmp_path / "out"), *arguments])
    assert isinstance(done.exception, BadInput)
    assert fact in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_a_run_is_asked_about_painted_pictures(sheets_dataset: Path, tmp_path: Path) -> None:
    """With a real network: the institutions differ in paper and board, which a linear layer on any features sees."""
    from taxakey.training.loop import train
    from taxakey.training.recipe import read_recipe

    smoke = read_recipe(Path(__file__).parent.parent / "recipes" / "smoke.yaml")
    train(sheets_dataset, replace(smoke, loop=replace(smoke.loop, epochs=1)), tmp_path / "run", device="cpu")
    given = [str(tmp_path / "out"), "--blank", str(tmp_path / "run"), "--dataset", str(sheets_dataset), "--device", "cpu"]
    done = CliRunner().invoke(app, [*given, "--resamples", "100"])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out" / "shortcuts.json").read_text(encoding="utf-8"))[0]
    assert found["differences"]["institution"]["low"] > 0
    page = (tmp_path / "out" / "shortcuts.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 12  # six pictures, whole and painted
