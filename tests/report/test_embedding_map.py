"""Embedding maps of vectors that are written out here: species far apart in one backbone and mixed in the other."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from sklearn.metrics import silhouette_score
from typer.testing import CliRunner

from taxakey import artifacts
from taxakey.cli.map import embedding_map as command
from taxakey.dataset.reader import Dataset
from taxakey.dataset.vectors import shard_file, write_shard
from taxakey.errors import BadInput, MissingExtra
from taxakey.evaluation.embedding_map import MapOptions, choose, make_map
from taxakey.evaluation.probes import cross_validated
from taxakey.report.map_page import says, write_map

WIDTH = 8
FAST = MapOptions(species=3, pictures=25, resamples=100)
app = typer.Typer()
app.command()(command)


def write(out: Path, dataset: Dataset, apart: float) -> Path:
    """Vectors of all parts: noise, and `apart` along an axis of each class."""
    rng = np.random.default_rng(0)
    plan = artifacts.Plan("embeddings", {"dataset": artifacts.hash_of(dataset.folder)}, {"backbone_hash": "x"})
    artifacts.start(out, plan)
    for name in ("train", "validation", "test"):
        part = dataset.part(name)
        vectors = rng.normal(size=(len(part), WIDTH)) + apart * np.eye(len(dataset.taxonomy) + 1, WIDTH)[part.class_index]
        write_shard(shard_file(out, name, 0), part.image_ids, vectors.astype(np.float32))
    artifacts.finish(out, plan, counts={"width": WIDTH})
    return out


@pytest.fixture(scope="module")
def folders(sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder, dataset = tmp_path_factory.mktemp("vectors"), Dataset.open(sheets_dataset)
    return write(folder / "good", dataset, 5.0), write(folder / "bad", dataset, 0.0)


def test_the_better_backbone_is_found(sheets_dataset: Path, folders: tuple[Path, Path]) -> None:
    found = make_map(sheets_dataset, folders, FAST)
    good, bad = found.backbones
    assert good.probe.value > 0.95
    assert 0.15 < bad.probe.value < 0.6
    assert good.silhouette.low > 0.5 > 0.1 > bad.silhouette.high
    assert found.differences["probe"].value == pytest.approx(good.probe.value - bad.probe.value)
    assert all(sentence.startswith("With good") for sentence in says(found))
    assert set(good.places) == {"pca", "tsne"}
    for places in good.places.values():
        assert places.shape == (len(found.part), 2)
        assert np.abs(places).max() == pytest.approx(1)


def test_a_backbone_beside_itself_is_no_better(sheets_dataset: Path, folders: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(folders[0], tmp_path / "twin")
    found = make_map(sheets_dataset, [folders[0], tmp_path / "twin"], FAST)
    assert found.differences["probe"].value == found.differences["silhouette"].value == 0
    assert all("isn't shown" in sentence for sentence in says(found))


def test_the_silhouette_is_scikit_learns(sheets_dataset: Path, folders: tuple[Path, Path]) -> None:
    from taxakey.dataset.vectors import Vectors

    found = make_map(sheets_dataset, folders[:1], FAST)
    vectors = Vectors(folders[0]).part(found.part.name, found.part.image_ids)
    labels = found.part.table["scientificName"].to_pylist()
    assert found.backbones[0].silhouette.value == pytest.approx(silhouette_score(vectors, labels, metric="cosine"), abs=1e-6)
    assert not found.differences


def test_the_commonest_species_are_chosen_and_no_more_pictures_than_asked_for(sheets_dataset: Path) -> None:
    dataset = Dataset.open(sheets_dataset)
    part, species = choose(dataset, MapOptions(species=3, pictures=10))
    names = [name for each in ("train", "validation", "test") for name in dataset.part(each).table["scientificName"].to_pylist()]
    counts = {name: names.count(name) for name in set(names)}
    assert list(species) == sorted(counts, key=lambda name: (-counts[name], name))[:3]
    chosen = part.table["scientificName"].to_pylist()
    assert {name: chosen.count(name) for name in species} == {name: min(10, counts[name]) for name in species}


def test_pictures_of_an_observation_share_a_fold() -> None:
    """Vectors that only tell the observation: a probe that saw its other pictures would name it, one that didn't can't."""
    rng = np.random.default_rng(0)
    observations = np.repeat(np.arange(60), 4)
    labels = np.where(rng.random(60) < 0.5, "a", "b")[observations]
    vectors = rng.normal(size=(60, 80))[observations] + 0.01 * rng.normal(size=(240, 80))
    right = cross_validated(vectors, labels.tolist(), [str(each) for each in observations])
    assert right.mean() < 0.75


@pytest.mark.parametrize(
    "options",
    [
        {"species": 1}, {"species": 11}, {"pictures": 2}, {"methods": ("pca", "sne")}, {"methods": ()},
        {"parts": ("all",)}, {"parts": ()},
    ],
)  # fmt: skip
def test_options_that_make_no_map_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        MapOptions(**options)


def test_what_cannot_be_compared_is_refused(sheets_dataset: Path, folders: tuple[Path, Path]) -> None:
    with pytest.raises(BadInput, match="one or two"):
        make_map(sheets_dataset, [folders[0], folders[0]], FAST)
    with pytest.raises(BadInput, match="folds need one each"):
        make_map(sheets_dataset, folders[:1], MapOptions(species=8, pictures=25, parts=("validation",)))


def test_umap_without_its_package_names_the_extra(sheets_dataset: Path, folders: tuple[Path, Path], monkeypatch: Any) -> None:
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    with pytest.raises((MissingExtra, ModuleNotFoundError), match="umap"):
        make_map(sheets_dataset, folders[:1], MapOptions(species=3, pictures=25, methods=("umap",)))


def test_the_command_writes_a_page_and_its_figures(sheets_dataset: Path, folders: tuple[Path, Path], tmp_path: Path) -> None:
    given = [str(sheets_dataset), *map(str, folders), "--out", str(tmp_path / "map"), "--species", "3", "--pictures", "10"]
    done = CliRunner().invoke(app, [*given, "--resamples", "50", "--method", "pca"])
    assert done.exit_code == 0, done.output
    assert "With good" in done.output
    found = json.loads((tmp_path / "map" / "map.json").read_text(encoding="utf-8"))
    assert [each["name"] for each in found["backbones"]] == ["good", "bad"]
    assert len(found["pictures"]) == len(found["backbones"][0]["places"]["pca"]) == len(found["scientificName"])
    assert "tsne" not in found["backbones"][0]["places"]
    said = f"{sheets_dataset.resolve().name} good bad --out map --species 3 --pictures 10 --method pca --resamples 50 --seed 0"
    assert found["command"].endswith(said)
    foot = (tmp_path / "map" / "map.html").read_text(encoding="utf-8").split('<pre class="command">')[1].split("</pre>")[0]
    assert re.sub(r"</?span>", "", foot) == found["command"]


def test_umap_lays_out_what_lies_together(sheets_dataset: Path, folders: tuple[Path, Path]) -> None:
    pytest.importorskip("umap", reason="the extra umap isn't installed")
    options = MapOptions(species=3, pictures=25, methods=("umap",), resamples=20)
    found = make_map(sheets_dataset, folders[:1], options)
    places = found.backbones[0].places["umap"]
    assert places.shape == (len(found.part), 2)
    again = make_map(sheets_dataset, folders[:1], options).backbones[0].places["umap"]
    assert (places == again).all(), "one seed, one picture"
    species = found.part.table["scientificName"].to_pylist()
    assert silhouette_score(places, species) > 0.3


@pytest.mark.browser
def test_the_page_draws_and_shows_pictures(
    sheets_dataset: Path, folders: tuple[Path, Path], tmp_path: Path, telephone: Any
) -> None:
    page = write_map(make_map(sheets_dataset, folders, FAST), tmp_path / "map", "taxakey map")
    telephone.goto(page.as_uri())
    telephone.wait_for_selector("#panel-1-tsne[data-drawn=yes]")
    telephone.wait_for_selector("#panel-0-pca[data-drawn=yes]")
    assert not telephone.is_visible("#shown")
    telephone.evaluate("document.getElementById('panel-0-pca').emit('plotly_click', { points: [{ customdata: 3 }] })")
    assert telephone.is_visible("#shown")
    shown = telephone.evaluate(
        "[document.querySelector('#shown img').naturalWidth, document.querySelector('#shown i').textContent]"
    )
    found = json.loads((tmp_path / "map" / "map.json").read_text(encoding="utf-8"))
    assert shown[0] > 50
    assert shown[1] == found["scientificName"][3]
    assert telephone.complaints == []
    assert set(telephone.requests) <= {"file", "data", "blob"}
    assert telephone.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
