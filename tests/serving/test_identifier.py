"""Answers against plain arithmetic on colours; loading, streaming and refusing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from colour_model import COLOURS, PREPROCESS, Colours, expected_probabilities, make_taxonomy, picture, write_bundle

import taxakey
from taxakey.artifacts import write_parquet
from taxakey.calibration import Calibration
from taxakey.errors import BadImage, BadInput, MissingArtifact, TaxonomyMismatch
from taxakey.prediction.scorers import TorchScorer
from taxakey.serving.identifier import Identifier, load
from taxakey.taxonomy import Taxonomy

CLOSE = 0.01  # a JPEG's colours are off by a level


def test_probabilities_are_those_worked_out_from_the_colours(identifier: Identifier) -> None:
    for name, colour in COLOURS.items():
        answer = identifier.identify([picture(colour)], top=6)[0]
        expected = dict(zip(COLOURS, expected_probabilities(colour), strict=True))
        assert answer.species[0].scientific_name == name
        for taxon in answer.species:
            assert taxon.probability == pytest.approx(expected[taxon.scientific_name], abs=CLOSE)
        assert [t.probability for t in answer.species] == sorted((t.probability for t in answer.species), reverse=True)


def test_genera_families_and_poison_are_summed_over_all_species_not_the_listed(identifier: Identifier) -> None:
    colour = (75, 55, 180)  # between the two monkshoods
    answer = identifier.identify([picture(colour)], top=1)[0]
    p = expected_probabilities(colour)
    assert len(answer.species) == len(answer.genera) == len(answer.families) == 1
    assert (answer.genera[0].scientific_name, answer.genera[0].family) == ("Aconitum", "Ranunculaceae")
    assert answer.genera[0].probability == pytest.approx(p[0] + p[1], abs=CLOSE)
    assert answer.families[0].scientific_name == "Ranunculaceae"
    assert answer.families[0].probability == pytest.approx(p[0] + p[1] + p[4], abs=CLOSE)
    assert answer.poisonous_probability == pytest.approx(p[0] + p[1] + p[4], abs=CLOSE)
    assert answer.unsure
    assert answer.calibrated


def test_what_is_known_of_a_taxon_comes_with_it(identifier: Identifier) -> None:
    taxon = identifier.identify([picture(COLOURS["Bellis perennis"])])[0].species[0]
    assert (taxon.authorship, taxon.genus, taxon.family, taxon.vernacular_name, taxon.poisonous) == (
        "L.", "Bellis", "Asteraceae", "daisy", False,
    )  # fmt: skip
    assert taxon.parents["kingdom"] == "Plantae"


def test_several_photographs_of_a_specimen_give_the_mean_of_their_probabilities(identifier: Identifier) -> None:
    colours = [COLOURS["Bellis perennis"], COLOURS["Caltha palustris"], (200, 200, 100)]
    answer = identifier.identify([[picture(colour) for colour in colours]], top=6)[0]
    expected = dict(zip(COLOURS, np.mean([expected_probabilities(colour) for colour in colours], axis=0), strict=True))
    assert answer.photographs == 3
    for taxon in answer.species:
        assert taxon.probability == pytest.approx(expected[taxon.scientific_name], abs=CLOSE)


def test_one_answer_per_item_in_order_whatever_the_batch(photograph: Callable[..., Path], identifier: Identifier) -> None:
    items: list = [photograph(name) for name in COLOURS]
    items[1] = [items[1], str(items[1])]  # a path and a text for the same file
    items[3] = picture(COLOURS["Calendula officinalis"])
    by_one = identifier.identify(items, batch_size=1)
    for batch_size in (2, 3, 100):
        again = identifier.identify(iter(items), batch_size=batch_size)
        assert [answer.species[0].scientific_name for answer in again] == list(COLOURS)
        for one, other in zip(by_one, again, strict=True):
            assert [t.probability for t in one.species] == pytest.approx([t.probability for t in other.species], abs=1e-6)


def test_broken_pictures_are_values_in_a_stream_and_raise_in_a_list(
    photograph: Callable[..., Path], identifier: Identifier, tmp_path: Path
) -> None:
    good, broken, missing = photograph("Bellis perennis"), tmp_path / "broken.jpg", tmp_path / "missing.jpg"
    broken.write_text("no picture")
    items = [broken, good, [good, missing], good]
    results = list(identifier.identify_each(items, batch_size=2))
    assert [item for item, _ in results] == items
    kinds = [isinstance(answer, BadImage) for _, answer in results]
    assert kinds == [True, False, True, False]
    assert "broken.jpg" in str(results[0][1])
    assert "missing.jpg" in str(results[2][1])
    with pytest.raises(BadImage, match="missing"):
        identifier.identify([good, missing])


def test_answers_come_while_later_items_are_not_even_asked_for(identifier: Identifier) -> None:
    asked = 0

    def items():
        nonlocal asked
        for _ in range(1000):
            asked += 1
            yield picture(COLOURS["Bellis perennis"])

    stream = identifier.identify_each(items(), batch_size=4)
    next(stream)
    assert asked < 30
    stream.close()


def test_without_calibration_the_answer_says_so(tmp_path: Path) -> None:
    identifier = load(write_bundle(tmp_path / "bundle", calibrated=False))
    colour = COLOURS["Aconitum napellus"]
    answer = identifier.identify([picture(colour)], top=6)[0]
    assert not answer.calibrated
    assert identifier.calibration is None
    sharper = expected_probabilities(colour) ** 2  # temperature 1 instead of 2
    assert answer.species[0].probability == pytest.approx(sharper[0] / sharper.sum(), abs=CLOSE)


def test_torch_and_onnxruntime_answer_alike(identifier: Identifier) -> None:
    torch_one = Identifier(
        TorchScorer(Colours()), make_taxonomy(), PREPROCESS, identifier.calibration, fingerprint="0", decode_threads=1
    )
    pictures = [picture((x, 255 - x, x // 2)) for x in range(0, 250, 50)]
    for one, other in zip(torch_one.identify(pictures), identifier.identify(pictures), strict=True):
        assert [t.scientific_name for t in one.species] == [t.scientific_name for t in other.species]
        assert [t.probability for t in one.species] == pytest.approx([t.probability for t in other.species], abs=1e-5)


def test_a_taxonomy_without_parents_or_poison_has_empty_higher_answers(identifier: Identifier) -> None:
    bare = Taxonomy.from_rows([{"scientificName": name} for name in COLOURS])
    one = Identifier(identifier.scorer, bare, PREPROCESS, Calibration(), fingerprint="0")
    answer = one.identify([picture((0, 0, 0))])[0]
    assert (answer.genera, answer.families, answer.poisonous_probability) == ([], [], None)
    assert answer.species[0].genus == ""


def test_the_public_door(bundle: Path, photograph: Callable[..., Path]) -> None:
    file = photograph("Tussilago farfara")
    assert taxakey.load(bundle).identify([file])[0].species[0].scientific_name == "Tussilago farfara"


@pytest.mark.parametrize("wrong", ["a.jpg", b"bytes", Path("a.jpg")])
def test_a_single_photograph_outside_a_list_is_refused(identifier: Identifier, wrong: object) -> None:
    with pytest.raises(BadInput, match="list"):
        identifier.identify(wrong)  # type: ignore[arg-type]


def test_an_empty_specimen_is_refused(identifier: Identifier) -> None:
    with pytest.raises(BadInput, match="no photograph"):
        identifier.identify([[]])


# ---- loading ----


def test_what_is_no_model_is_named(tmp_path: Path, bundle: Path) -> None:
    with pytest.raises(MissingArtifact, match="no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="a file, not a folder"):
        load(bundle / "model.onnx")
    with pytest.raises(MissingArtifact, match="it is empty"):
        load(tmp_path)
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(MissingArtifact, match=r"it holds holiday\.jpg"):
        load(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"kind": "dataset"}))
    with pytest.raises(MissingArtifact, match="a finished dataset"):
        load(tmp_path)


@pytest.fixture
def spoilt(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "spoilt"))


def test_an_unfinished_bundle_is_refused(spoilt: Path) -> None:
    (spoilt / "manifest.json").unlink()
    with pytest.raises(MissingArtifact, match="not finished"):
        load(spoilt)


def test_another_taxonomy_is_refused(spoilt: Path) -> None:
    other = Taxonomy.from_rows([{"scientificName": name} for name in list(COLOURS)[:5]])
    write_parquet(spoilt / "taxonomy.parquet", other.table)
    with pytest.raises(TaxonomyMismatch, match=r"manifest\.json"):
        load(spoilt)
    manifest = json.loads((spoilt / "manifest.json").read_text())
    (spoilt / "manifest.json").write_text(json.dumps({**manifest, "taxonomy": other.fingerprint}))
    with pytest.raises(TaxonomyMismatch, match=r"config\.json has 6 classes .* 5"):
        load(spoilt)
    config = json.loads((spoilt / "config.json").read_text())
    (spoilt / "config.json").write_text(json.dumps({**config, "label_names": list(COLOURS)[:5]}))
    with pytest.raises(TaxonomyMismatch, match=r"model\.onnx has 6 classes .* 5"):
        load(spoilt)


def test_a_torn_model_file_and_an_impossible_device_are_refused(spoilt: Path, bundle: Path) -> None:
    (spoilt / "model.onnx").write_bytes((spoilt / "model.onnx").read_bytes()[:500])
    with pytest.raises(BadInput, match=r"model\.onnx: onnxruntime can't read it"):
        load(spoilt)
    with pytest.raises(BadInput, match="abacus"):
        load(bundle, device="abacus")
