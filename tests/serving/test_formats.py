"""What is written for others: columns, rows and quoting, read back with independent readers."""

from __future__ import annotations

import csv
import io
import json

from colour_model import COLOURS, picture

from taxakey.calibration import Calibration
from taxakey.serving.answers import Answer, Taxon, describe_threshold
from taxakey.serving.formats import FORMATS, Question, plantnet_response
from taxakey.serving.identifier import Identifier

NAME = 'a "quoted", name.jpg'


def answer_for(identifier: Identifier, *species: str, top: int = 5) -> Answer:
    return identifier.identify([[picture(COLOURS[name]) for name in species]], top=top)[0]


def test_csv_has_the_fixed_columns_and_survives_awkward_names(identifier: Identifier) -> None:
    format, answer = FORMATS["csv"], answer_for(identifier, "Bellis perennis", top=3)
    text = format.header() + format.text(NAME, answer, "f00d")
    assert text.splitlines()[0] == "file_name,kingdom,phylum,class,order,family,genus,species,score"
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["file_name"] for row in rows] == [NAME] * 3
    assert (rows[0]["species"], rows[0]["genus"], rows[0]["family"], rows[0]["kingdom"]) == (
        "Bellis perennis", "Bellis", "Asteraceae", "Plantae",
    )  # fmt: skip
    assert float(rows[0]["score"]) == round(answer.species[0].probability, 6)


def test_json_lines_hold_one_object_per_photograph(identifier: Identifier) -> None:
    answer = answer_for(identifier, "Caltha palustris", "Caltha palustris")
    line = FORMATS["jsonl"].text("Blüte\n.jpg", answer, "f00d")
    assert line.count("\n") == 1
    document = json.loads(line)
    assert (document["file_name"], document["photographs"], document["model"]) == ("Blüte\n.jpg", 2, "f00d")
    assert document["species"][0]["scientific_name"] == "Caltha palustris"
    assert document["species"][0]["probability"] == answer.species[0].probability
    assert document["genera"][0]["scientific_name"] == "Caltha"
    assert document["families"][0]["family"] == "Ranunculaceae"


def test_darwin_core_terms(identifier: Identifier) -> None:
    format = FORMATS["dwc"]
    sure, unsure = answer_for(identifier, "Bellis perennis"), answer_for(identifier, "Caltha palustris", "Calendula officinalis")
    text = format.header() + format.text("a.jpg", sure, "f00d") + format.text("b.jpg", unsure, "f00d")
    rows = list(csv.DictReader(io.StringIO(text)))
    first, first_of_second = rows[0], rows[len(sure.species)]
    assert first["scientificName"] == "Bellis perennis L."
    assert (first["scientificNameAuthorship"], first["taxonRank"], first["genus"]) == ("L.", "species", "Bellis")
    assert first["identificationQualifier"] == ""
    assert first["identificationVerificationStatus"] == "machine"
    assert first["identifiedBy"].startswith("Taxakey ")
    assert first["identifiedBy"].endswith("f00d")
    assert first["associatedMedia"] == "a.jpg"
    assert f"{sure.species[0].probability:.4f}" in first["identificationRemarks"]
    assert unsure.unsure
    assert first_of_second["identificationQualifier"].startswith("cf. ")
    assert len({row["identificationID"] for row in rows}) == len(rows)


def test_identifiers_of_identifications_are_the_same_in_every_run(identifier: Identifier) -> None:
    answer = answer_for(identifier, "Bellis perennis")
    ids = [FORMATS["dwc"].rows("a.jpg", answer, model)[0]["identificationID"] for model in ("f00d", "f00d", "beef")]
    assert ids[0] == ids[1] != ids[2]


def test_plantnet_shape_is_exact(identifier: Identifier) -> None:
    answer = answer_for(identifier, "Aconitum napellus", top=6)
    response = plantnet_response(Question("flora", ["abc"], ["leaf"]), answer, 2, {"unsure": False})
    assert list(response) == [
        "query", "language", "preferedReferential", "bestMatch", "results",
        "version", "remainingIdentificationRequests", "taxakey",
    ]  # fmt: skip
    assert response["query"] == {"project": "flora", "images": ["abc"], "organs": ["leaf"], "includeRelatedImages": False}
    assert response["bestMatch"] == "Aconitum napellus L."
    assert len(response["results"]) == 2
    assert response["results"][0] == {
        "score": round(answer.species[0].probability, 5),
        "species": {
            "scientificNameWithoutAuthor": "Aconitum napellus",
            "scientificNameAuthorship": "L.",
            "scientificName": "Aconitum napellus L.",
            "genus": {"scientificNameWithoutAuthor": "Aconitum", "scientificNameAuthorship": "", "scientificName": "Aconitum"},
            "family": {
                "scientificNameWithoutAuthor": "Ranunculaceae",
                "scientificNameAuthorship": "",
                "scientificName": "Ranunculaceae",
            },
            "commonNames": ["monkshood"],
        },
        "images": [],
        "gbif": {"id": None},
        "powo": {"id": None},
    }


def test_the_threshold_is_described_by_what_was_measured(identifier: Identifier) -> None:
    assert describe_threshold(identifier.calibration).replace("\u00a0", " ") == (
        "On validation (412 observations), first answers of 62 % or more were right 93 % of the time. "
        "71 % of all answers reach it."
    )
    nothing_reached_it = Calibration(1.0, 1.0, {"target_precision": 0.9, "precision": None, "observations": 50})
    assert "every answer of this model is called unsure" in describe_threshold(nothing_reached_it)
    assert "not calibrated" in describe_threshold(None)


def test_a_name_of_one_word_keeps_a_qualifier() -> None:
    taxon = Taxon("Amanita", "species", 0.2, {})
    answer = Answer([taxon], [], [], True, None, False)
    assert FORMATS["dwc"].rows("a.jpg", answer, "f")[0]["identificationQualifier"] == "cf. Amanita"
