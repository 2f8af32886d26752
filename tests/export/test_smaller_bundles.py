"""Bundles in fewer bits or for fewer species: verified on real pictures, refused where they differ, and telling so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner
from untrained import train_nothing

import taxakey.export.bundle as bundle
from taxakey.artifacts import read_manifest
from taxakey.calibration import Calibration, Decisions
from taxakey.calibration.bias_corrected import BiasCorrected
from taxakey.calibration.decisions import Rejection, calibration_mark
from taxakey.calibration.roll_up import RankRule
from taxakey.cli.export import export as export_command
from taxakey.errors import BadInput, ExportMismatch
from taxakey.export import ExportOptions, export
from taxakey.export.pictures import validation_pictures
from taxakey.export.pruned_model import prune
from taxakey.export.verification import bytes_of
from taxakey.serving.identifier import load
from taxakey.serving.restriction import restrict
from taxakey.training.checkpoint import load_model

LOW = 0.3
"""Of random weights' answers, which many a rounding turns round."""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, generator = tmp_path_factory.mktemp("photographs"), np.random.default_rng(1)
    for number in range(4):
        picture = Image.fromarray(generator.integers(0, 255, (7, 9, 3), dtype=np.uint8)).resize((150, 100 + number))
        picture.save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-weights", "int8-dynamic", "int8"])
def test_a_bundle_says_what_was_measured(
    precision: str, exporter_at_hand: Callable, sheets_dataset: Path, tmp_path: Path
) -> None:
    run = exporter_at_hand("linear")
    options = ExportOptions(precision, dataset=sheets_dataset, pictures=12, agreement=LOW)  # type: ignore[arg-type]
    manifest = export(run, tmp_path / "bundle", options)
    assert {file.name for file in (tmp_path / "bundle").iterdir()} == {
        *("model.onnx", "taxonomy.parquet", "config.json", "calibration.json", "measured.json", "README.md"),
        *("plan.json", "manifest.json"),
    }
    measured = json.loads((tmp_path / "bundle" / "measured.json").read_text())
    # The same a second way: run and bundle name the same pictures.
    model, trained, small = load_model(run), load(run), load(tmp_path / "bundle")
    judged, fitted = validation_pictures(sheets_dataset, 12, model.preprocess, None)
    pixels = np.concatenate([given["pixels"] for given in judged.batches()])
    one, other = (np.exp(load_of.scorer.scores(pixels) / 1.5) for load_of in (trained, small))
    one, other = (weights / weights.sum(1, keepdims=True) for weights in (one, other))
    assert measured["pictures"] == len(pixels) == len(judged) > 3
    assert measured["agreement"] == pytest.approx((one.argmax(1) == other.argmax(1)).mean())
    assert measured["largest_difference"] == pytest.approx(np.abs(one - other).max(), abs=1e-5)
    assert (measured["largest_difference"] > 1e-5) == (precision != "fp32")
    assert not {*judged.rows.image_ids} & {*fitted.rows.image_ids}
    file = tmp_path / "bundle" / "model.onnx"
    assert not [hint for hint in (b"backbones.py", b"stack_trace") if hint in file.read_bytes()]  # no paths of our machine
    size = bytes_of(file)
    assert manifest.counts["bytes"] == measured["bytes"] == size
    whole = sum(parameter.numel() for parameter in model.network.parameters()) * 4
    assert size < {"fp32": 1.2, "fp16": 0.65, "int8-weights": 0.4, "int8-dynamic": 1.2, "int8": 0.5}[precision] * whole
    assert measured["images_per_second"] > 0 < measured["torch_images_per_second"]
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert f"precision {precision}" in card
    assert f"of {len(judged)} validation pictures" in card
    assert "images a second with onnxruntime" in manifest.notes[1]
    assert (small.fingerprint == trained.fingerprint) == (precision == "fp32")
    assert manifest.recipe["precision"] == precision


def test_what_differs_is_refused_with_the_measurement_and_nothing_is_left(
    exporter_at_hand: Callable, sheets_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = exporter_at_hand("linear")

    def turned_round(source: Path, file: Path) -> None:
        graph = onnx.load(source)
        (head,) = [tensor for tensor in graph.graph.initializer if tensor.name.endswith("linear.weight")]
        head.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(head), head.name))
        onnx.save(graph, file)

    options = ExportOptions("fp16", dataset=sheets_dataset, pictures=10, agreement=0.9)
    with monkeypatch.context() as patched:
        patched.setattr(bundle, "write_halved", turned_round)
        with pytest.raises(ExportMismatch, match=r"only \d+\.\d\d% of \d+ validation pictures .* 90\.00% are asked for"):
            export(run, tmp_path / "bundle", options)
    assert not (tmp_path / "bundle").exists()
    assert export(run, tmp_path / "bundle", options).counts["classes"] == 11


def test_options_are_checked() -> None:
    with pytest.raises(BadInput, match="--dataset"):
        ExportOptions("int8")
    with pytest.raises(BadInput, match="one of fp32, fp16, int8-weights, int8-dynamic, int8"):
        ExportOptions("int4")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="agreement 0"):
        ExportOptions(agreement=0.0)


# ---- some of the species ----


@pytest.mark.parametrize("kind", ["linear", "tree"])
def test_a_pruned_bundle_answers_as_the_whole_model_restricted(kind: str, photographs: list[Path], tmp_path: Path) -> None:
    run = train_nothing(tmp_path / "run", kind, species=26)
    (tmp_path / "flora.csv").write_text(
        "country,scientificName\nHere,Genusb speciesb\nHere,Genusb speciesf\nHere,Genusd speciesd\nHere,Poa annua\n"
        "There,Genusa speciesa\n"
    )
    shares = {"Genusb speciesb": 0.7, "Genusa speciesa": -2.0}
    Calibration(1.5, 0.4, {}, share_shift=shares).write(run / "model" / "calibration.json")
    wanted = f"{tmp_path / 'flora.csv'}:Here"
    manifest = export(run, tmp_path / "bundle", ExportOptions(only=wanted))
    restricted, small = load(run).only(wanted), load(tmp_path / "bundle")
    assert small.taxonomy.names == ("Genusb speciesb", "Genusb speciesf", "Genusd speciesd")
    assert small.calibration is not None
    assert small.calibration.share_shift == {"Genusb speciesb": 0.7}
    answers = [model.identify(photographs, top=3) for model in (restricted, small)]
    for one, other in zip(*answers, strict=True):
        for rank in ("species", "genera"):
            taxa, others = ({taxon.scientific_name: taxon.probability for taxon in getattr(a, rank)} for a in (one, other))
            assert taxa == pytest.approx(others, abs=1e-5)
    assert manifest.counts["classes"] == 3
    assert "only 3 of the model's 26 species are in it: flora.csv, Here; 1 of the 4" in " ".join(manifest.notes)
    assert small.fingerprint != load(run).fingerprint
    config = json.loads((tmp_path / "bundle" / "config.json").read_text())
    assert config["label_names"] == list(small.taxonomy.names)
    assert config["num_classes"] == config["pretrained_cfg"]["num_classes"] == (3 if kind == "linear" else 0)
    sizes = {tuple(tensor.dims) for tensor in onnx.load(tmp_path / "bundle" / "model.onnx").graph.initializer}
    whole = {tuple(row.shape) for name, row in load_model(run).network.head.named_parameters() if "bottleneck" not in name}
    assert len(whole) > 1
    assert not sizes & whole  # no rows of all species, or of all branches


def decisions_of(run: Path, calibration: Calibration) -> Decisions:
    rule = RankRule(0.6, 0.95, 0.9, 0.5, 100)
    return Decisions(
        taxonomy=load_model(run, decisions=False).taxonomy.fingerprint,
        calibration=calibration_mark(calibration),
        precision=0.9,
        confidence=0.9,
        observations=100,
        roll_up={"species": rule, "genus": rule},
        coverage=0.9,
        set_threshold=0.1,
        set_by_species={"Genusa speciesa": 0.2, "Genusb speciesb": 0.3},
        by_taxon={"species": {"Genusb speciesb": 0.8, "Genusc speciesc": 0.7}, "genus": {"Genusa": 0.5}},
        unknown=Rejection("energy", 3.0),
    )


def test_thresholds_go_along_where_they_mean_the_same(photographs: list[Path], tmp_path: Path) -> None:
    run = train_nothing(tmp_path / "run", "linear")
    calibration = Calibration.read(run / "model" / "calibration.json")
    names = load_model(run).taxonomy.names
    classes = len(names)
    basis = BiasCorrected(1.0, tuple(map(float, range(classes))), tuple(np.arange(1, classes + 1) / 100), 0.0, 50)
    told = replace(decisions_of(run, calibration), train_images=tuple(range(1, classes + 1)), shares=basis)
    told.write(run / "model" / "decisions.json")
    manifest = export(run, tmp_path / "bundle", ExportOptions(only="Genusb, Genusc"))
    small = load(tmp_path / "bundle")
    assert small.decisions is not None
    kept = [names.index(name) for name in small.taxonomy.names]
    assert small.decisions.train_images == tuple(place + 1 for place in kept)
    assert small.decisions.shares == basis.among(kept)
    shares = tmp_path / "shares.csv"
    shares.write_text("scientificName,share\nGenusb speciesb,1\nGenusc speciesc,9\n", encoding="utf-8")
    assert "told by shares.csv" in small.with_shares(str(shares)).shares
    assert small.decisions.by_taxon == {"species": {"Genusb speciesb": 0.8, "Genusc speciesc": 0.7}, "genus": {}}
    assert small.decisions.set_by_species == {"Genusb speciesb": 0.3}
    assert small.decisions.unknown is None
    assert any("without the flag unknown" in note for note in manifest.notes)
    assert any("thresholds were measured with all species" in note for note in manifest.notes)
    whole = load(run).only("Genusb, Genusc")
    for one, other in zip(whole.identify(photographs), small.identify(photographs), strict=True):
        assert one.decision is not None
        assert other.decision is not None
        assert one.decision.possible_count == other.decision.possible_count
        assert one.decision.unknown is not None
        assert other.decision.unknown is None
        if not one.decision.unknown:
            assert (one.decision.rank, one.decision.name) == (other.decision.rank, other.decision.name)


def test_what_looks_at_all_species_is_left_out_and_said(tmp_path: Path) -> None:
    run = train_nothing(tmp_path / "run", "linear")
    binned = Calibration(1.5, 0.4, {}, bin_knots=(0.2, 0.8), bin_factors=(1.0, 1.3))
    binned.write(run / "model" / "calibration.json")
    decisions_of(run, binned).write(run / "model" / "decisions.json")
    model = load_model(run)
    smaller = prune(model, restrict(model.taxonomy, "Genusb"))
    assert smaller.model.calibration == Calibration(1.5, 0.4, {})
    assert smaller.model.decisions is None
    said = " ".join(smaller.notes)
    assert "calibrated by one temperature" in said
    assert "without decisions.json" in said
    assert model.calibration == binned


def test_a_head_that_shares_its_weights_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    run = train_nothing(tmp_path / "run", "hashed")
    with pytest.raises(BadInput, match="HashedHead share their weights"):
        export(run, tmp_path / "bundle", ExportOptions(only="Genusb"))
    assert not (tmp_path / "bundle").exists()


def test_it_is_the_whole_model_that_a_pruned_file_is_compared_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of the wrong species are noticed."""
    import taxakey.export.pruned_model as pruned_model

    run = train_nothing(tmp_path / "run", "linear")
    cut = pruned_model.pruned
    monkeypatch.setattr(pruned_model, "pruned", lambda head, kept_A: cut(head, kept_A - 1))
    with pytest.raises(ExportMismatch, match="differ from torch's"):
        export(run, tmp_path / "bundle", ExportOptions(only="Genusb"))
    assert not (tmp_path / "bundle").exists()


def test_the_command(exporter_at_hand: Callable, sheets_dataset: Path, tmp_path: Path) -> None:
    run = exporter_at_hand("linear")
    app = typer.Typer()
    app.command()(export_command)
    arguments = [str(run), str(tmp_path / "bundle"), "--precision", "fp16", "--dataset", str(sheets_dataset), "--pictures", "6"]
    result = CliRunner().invoke(app, [*arguments, "--agreement", "0.5"])
    assert result.exit_code == 0, result.output
    assert "11 species, fp16" in result.output
    assert "images a second" in result.output
    manifest = read_manifest(tmp_path / "bundle", "bundle")
    assert manifest.recipe["agreement"] == 0.5
    assert manifest.recipe["pictures"] == 6
    refused = CliRunner().invoke(app, [str(run), str(tmp_path / "other"), "--precision", "int8"])
    assert isinstance(refused.exception, BadInput)
