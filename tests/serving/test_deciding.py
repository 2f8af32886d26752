"""Decisions in answers: by hand on the colours, least cost by brute force, in every output, and over real HTTP."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from colour_model import (
    BETWEEN,
    COLOURS,
    GREEN,
    GREY,
    RULE,
    SHARPNESS,
    SPECIES,
    TEMPERATURE,
    UNSURE_BELOW,
    YELLOW,
    expected_probabilities,
    make_decisions,
    make_taxonomy,
    picture,
    write_bundle,
)
from fastapi import FastAPI

from taxakey.artifacts import read_json, write_json
from taxakey.calibration import Calibration
from taxakey.calibration.decisions import Rejection
from taxakey.calibration.likeness import learn_likeness
from taxakey.calibration.roll_up import RankRule
from taxakey.errors import BadInput, TaxonomyMismatch
from taxakey.serving.app import create_app
from taxakey.serving.cost_list import CostList
from taxakey.serving.deciding import Decision
from taxakey.serving.formats import FORMATS, with_decisions
from taxakey.serving.identifier import Identifier, load

Serve = Callable[[FastAPI], AbstractContextManager[str]]


@pytest.fixture(scope="module")
def deciding(deciding_bundle: Path) -> Identifier:
    return load(deciding_bundle)


def decision(identifier: Identifier, *colours: tuple[int, int, int]) -> Decision:
    found = identifier.identify([[picture(colour, format="PNG") for colour in colours]])[0].decision
    assert found is not None
    return found


# ---- what is decided ----


@pytest.mark.parametrize(
    ("colours", "rank", "name", "sentence"),
    [
        ([COLOURS["Bellis perennis"]], "species", "Bellis perennis", "This looks like Bellis perennis."),
        ([BETWEEN], "genus", "Aconitum", "This is an Aconitum; which one can't be said."),
        ([COLOURS["Bellis perennis"], COLOURS["Calendula officinalis"]], "family", "Asteraceae",
         "This is one of the Asteraceae; which genus can't be said."),
        ([YELLOW], "", "", "What it is can't be said, not even its family."),
    ],
)  # fmt: skip
def test_the_finest_rank_that_may_be_believed(
    deciding: Identifier, colours: list[tuple[int, int, int]], rank: str, name: str, sentence: str
) -> None:
    found = decision(deciding, *colours)
    assert (found.rule, found.rank, found.name, found.sentence) == ("roll-up", rank, name, sentence)
    assert (found.unknown, found.organism) == (False, True)
    p_C = np.mean([expected_probabilities(colour) for colour in colours], axis=0)
    if rank:
        member_C = [name in (row[0], row[2], row[3]) for row in SPECIES]
        assert found.probability == pytest.approx(p_C[member_C].sum(), abs=1e-3)
    else:
        assert found.probability is None
    # The set holds every species of 0.1 or more, the most probable first.
    inside = [SPECIES[place][0] for place in np.argsort(-p_C, kind="stable") if p_C[place] >= 0.1]
    assert (sorted(found.possible), found.possible_count, found.coverage) == (sorted(inside), len(inside), 0.9)  # near ties


def test_what_may_be_unknown_isnt_named_to_the_species(deciding: Identifier) -> None:
    assert expected_probabilities(GREY).max() > 0.8, "it would be named but for the flag"
    found = decision(deciding, GREY)
    assert (found.unknown, found.organism) == (True, True)
    assert (found.rank, found.name) == ("genus", "Aconitum")
    assert found.sentence == "Perhaps a species that this model doesn't know. This is an Aconitum; which one can't be said."
    assert decision(deciding, GREY, COLOURS["Bellis perennis"]).unknown is False, "the energy is a mean over photographs"


def test_a_picture_of_no_organism_is_flagged(deciding: Identifier) -> None:
    found = decision(deciding, GREEN)
    assert found.organism is False
    assert found.sentence == "No organism that this model knows can be made out."
    assert deciding.identify([picture(GREEN)])[0].species[0].scientific_name == "Caltha palustris", "the ranking stands beside"


@pytest.fixture(scope="module")
def likening_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It has learnt how the scores of its own colours look, a little off as photographs are."""
    generator, own_63 = np.random.default_rng(0), np.array(list(COLOURS.values())) / 255
    class_I = np.repeat(np.arange(6), 60)
    seen_I3 = own_63[class_I] + generator.normal(0, 0.03, (360, 3))
    scores_IC = -SHARPNESS * ((seen_I3[:, None] - own_63) ** 2).sum(axis=2)
    likeness = learn_likeness(lambda rows: scores_IC[rows], class_I, make_taxonomy())
    assert likeness is not None
    threshold = float(np.quantile(likeness.of(scores_IC, make_taxonomy()), 0.01))
    decisions = make_decisions(likeness=likeness, organism=Rejection("likeness", threshold))
    return write_bundle(tmp_path_factory.mktemp("likening") / "bundle", decisions=decisions)


def test_a_picture_unlike_all_training_pictures_is_no_organism_in_a_bundle_too(likening_bundle: Path, serve_app: Serve) -> None:
    identifier = load(likening_bundle)
    for colour in COLOURS.values():
        assert decision(identifier, colour).organism is True
        assert decision(identifier.only("Asteraceae"), colour).organism is True, "the likeness is to all species of the model"
    assert decision(identifier, GREEN).organism is False
    assert decision(identifier, GREEN, *COLOURS.values()).organism is False, "the likeness is a mean over photographs"
    pictures = [picture(colour, format="PNG") for colour in (GREEN, *COLOURS.values())]
    together = [answer.decision.organism for answer in identifier.identify(pictures, batch_size=2) if answer.decision]
    assert together == [False] + [True] * 6
    alone = identifier.identify_pixels(identifier.preprocess.load(pictures[0])[None]).decision
    assert alone is not None
    assert alone.organism is False
    with serve_app(create_app(likening_bundle, project="flora")) as address:
        assert post(address, GREEN).status_code == 404
        assert post(address, GREEN, no_reject="true").status_code == 200
        assert post(address, COLOURS["Bellis perennis"]).status_code == 200


def test_a_taxon_has_its_own_threshold(tmp_path: Path) -> None:
    strict = make_decisions(by_taxon={"genus": {"Aconitum": 2.0}}, roll_up={
        "species": RankRule(0.7, **RULE), "genus": RankRule(0.9, **RULE),
    })  # fmt: skip
    assert decision(load(write_bundle(tmp_path / "bundle", decisions=strict)), BETWEEN).rank == ""


def test_ten_names_of_a_set_are_written_out_and_all_are_counted(deciding: Identifier) -> None:
    everything = replace(make_decisions(), set_threshold=0.0)
    assert decision(Identifier(
        deciding.scorer, deciding.taxonomy, deciding.preprocess, deciding.calibration, fingerprint="f", decisions=everything
    ), YELLOW).possible_count == 6  # fmt: skip


def test_one_after_the_other_and_in_batches_they_are_the_same(deciding: Identifier) -> None:
    pictures = [picture(colour, format="PNG") for colour in [*COLOURS.values(), BETWEEN, GREY, GREEN, YELLOW]]
    together = [answer.decision for answer in deciding.identify(pictures, batch_size=3)]
    pixels = [deciding.preprocess.load(data)[None] for data in pictures]
    assert [deciding.identify_pixels(each).decision for each in pixels] == [
        replace(found, probability=pytest.approx(found.probability)) if found and found.probability else found
        for found in together
    ]


def test_restricted_the_flags_look_at_all_species_and_the_rest_at_those_left(deciding: Identifier) -> None:
    only = deciding.only("Tussilago, Bellis")
    found = decision(only, COLOURS["Aconitum napellus"])
    assert found.unknown is False, "a photograph of a known species stays one, though it isn't on the list"
    assert set(found.possible) <= {"Tussilago farfara", "Bellis perennis"}
    assert decision(only, YELLOW).name == "Tussilago farfara", "without Caltha there is no doubt"
    assert decision(only, GREEN).organism is False


def test_of_species_without_known_families_species_and_genera_are_left(deciding: Identifier) -> None:
    rows = [{**row, "family": ""} for row in make_taxonomy().table.to_pylist() if row["genus"] == "Aconitum"]
    restriction = deciding.only("Aconitum").restriction
    assert restriction is not None
    bare = replace(restriction, taxonomy=make_taxonomy().from_rows(rows))
    assert decision(deciding.only(bare), BETWEEN).name == "Aconitum"


# ---- other rules ----


def test_argmax_answers_always_and_needs_no_thresholds(deciding: Identifier, identifier: Identifier) -> None:
    assert identifier.identify([picture(YELLOW)])[0].decision is None, "a model without decisions.json answers as before"
    assert identifier.rule is None
    for model, coverage in ((deciding, 0.9), (identifier, None)):
        found = decision(model.deciding("argmax"), YELLOW)
        assert (found.rule, found.rank, found.name) == ("argmax", "species", "Tussilago farfara")
        assert found.coverage == coverage
    assert decision(identifier.deciding("argmax"), GREEN).organism is None
    with pytest.raises(BadInput, match="run `taxakey calibrate`"):
        identifier.deciding("roll-up")


def test_least_cost_for_poison(identifier: Identifier) -> None:
    model = identifier.deciding("least-cost", "poison")
    for colour in (YELLOW, *COLOURS.values(), GREY):
        p_C = expected_probabilities(colour)
        poisonous_C = np.array([row[5] for row in SPECIES])
        # By brute force: 1 for a wrong name, 100 more for a poisonous one missed, 1 more for a harmless one accused.
        cost_CC = 1 - np.eye(6) + 100 * np.outer(poisonous_C, ~poisonous_C) + np.outer(~poisonous_C, poisonous_C)
        found = decision(model, colour)
        assert found.name == SPECIES[int((p_C @ cost_CC).argmin())][0]
        assert found.probability == pytest.approx(p_C[list(COLOURS).index(found.name)], abs=1e-3)
    assert decision(model, YELLOW).name == "Caltha palustris"
    assert decision(model.only("Asteraceae"), YELLOW).name == "Tussilago farfara"


def test_least_cost_from_a_file(identifier: Identifier, tmp_path: Path) -> None:
    file = tmp_path / "costs.csv"
    file.write_text(
        "true,answer,cost\nCaltha palustris,Tussilago farfara,50\nPoa annua,Bellis perennis,2\n"
        "Bellis perennis,Caltha palustris,0\n"
    )
    model = identifier.deciding("least-cost", str(file))
    assert CostList.read(file).strangers(make_taxonomy()) == ["Poa annua"]
    cost_CC = 1 - np.eye(6)
    cost_CC[4, 5], cost_CC[2, 4] = 50, 0
    for colour in (YELLOW, GREY, *COLOURS.values()):
        assert decision(model, colour).name == SPECIES[int((expected_probabilities(colour) @ cost_CC).argmin())][0]
    assert decision(model, YELLOW).name == "Caltha palustris"
    assert model.plan["costs"] != identifier.deciding("least-cost", "poison").plan["costs"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("true,answer\n", "lacks the column cost"),
        ("true,answer,cost\nA b,C d,x\n", "line 2: the cost is 'x'"),
        ("true,answer,cost\nA b,C d,1\nA b,C d,-1\n", "line 3"),
        ("true,answer,cost\nA b,A b,1\n", "line 2: 'A b' and 'A b'"),
        ("true,answer,cost\nA b,C d,inf\n", "line 2: the cost is 'inf'"),
        ("true,answer,cost\nA b,C d,1\n", "none of its 2 names"),
    ],
)
def test_costs_that_cant_be_right_are_named(text: str, said: str, identifier: Identifier, tmp_path: Path) -> None:
    (tmp_path / "costs.csv").write_text(text)
    with pytest.raises(BadInput, match=said):
        identifier.deciding("least-cost", str(tmp_path / "costs.csv"))


def test_costs_and_the_rule_go_together(identifier: Identifier, bundle: Path, tmp_path: Path) -> None:
    for rule, costs in (("least-cost", None), ("argmax", "poison"), (None, "poison")):
        with pytest.raises(BadInput, match="go together"):
            identifier.deciding(rule, costs)  # type: ignore[arg-type]
    unmarked = make_taxonomy().from_rows([{**row, "poisonous": None} for row in make_taxonomy().table.to_pylist()])
    with pytest.raises(BadInput, match="don't say which species are poisonous"):
        Identifier(identifier.scorer, unmarked, identifier.preprocess, None, fingerprint="f").deciding("least-cost", "poison")


# ---- the file ----


def test_decisions_of_another_calibration_or_taxonomy_are_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", decisions=make_decisions())
    Calibration(TEMPERATURE * 2, UNSURE_BELOW).write(folder / "calibration.json")
    with pytest.raises(BadInput, match=r"decisions\.json: its thresholds belong to another calibration"):
        load(folder)
    Calibration(TEMPERATURE, 0.3, {"other": "facts"}).write(folder / "calibration.json")
    assert load(folder).rule == "roll-up"
    write_json(folder / "decisions.json", {**read_json(folder / "decisions.json"), "taxonomy": "0" * 16})
    with pytest.raises(TaxonomyMismatch):
        load(folder)


# ---- in every output ----


def test_formats(deciding: Identifier) -> None:
    answer = deciding.only("Ranunculaceae").identify([picture(BETWEEN, format="PNG")], top=2)[0]
    format = with_decisions(FORMATS["csv"])
    rows = list(csv.DictReader(io.StringIO(format.header() + format.text("a.jpg", answer, "f00d"))))
    assert len(rows) == 2
    for row in rows:
        assert (row["decided_rank"], row["decided_name"], row["unknown"], row["organism"]) == (
            "genus",
            "Aconitum",
            "false",
            "true",
        )
        assert set(row["possible"].split("|")) == {"Aconitum napellus", "Aconitum variegatum"}
        assert (row["possible_count"], float(row["decided_probability"])) == ("2", pytest.approx(1, abs=1e-3))
    document = json.loads(FORMATS["jsonl"].text("a.jpg", answer, "f00d"))
    assert document["decision"]["sentence"] == "This is an Aconitum; which one can't be said."
    assert document["restriction"].startswith("Only 3 of the model's 6 species")
    assert document["inside"] == pytest.approx(1, abs=1e-3)
    (darwin_core,) = [json.loads(json.dumps(row)) for row in FORMATS["dwc"].rows("a.jpg", answer, "f00d")][:1]
    assert "This is an Aconitum; which one can't be said; Only 3 of" in darwin_core["identificationRemarks"]
    plain = deciding.identify([picture(BETWEEN)])[0]
    assert "restriction" not in json.loads(FORMATS["jsonl"].text("a.jpg", plain, "f00d"))


# ---- over HTTP ----


def post(address: str, colour: tuple[int, int, int], **query: Any) -> httpx.Response:
    files = [("images", ("a.png", picture(colour, format="PNG"), "image/png"))]
    return httpx.post(f"{address}/v2/identify/flora", files=files, params={k.replace("_", "-"): v for k, v in query.items()})


def test_the_server_decides(deciding_address: str) -> None:
    own = post(deciding_address, BETWEEN).json()["taxakey"]
    assert own["decision"]["rank"] == "genus"
    assert own["decision"]["name"] == "Aconitum"
    assert own["decision"]["sentence"] == "This is an Aconitum; which one can't be said."
    assert own["decision"]["coverage"] == 0.9
    assert own["decides"] == "roll-up"
    assert "50\u00a0% of the answers went to the species, 97\u00a0% of them right" in own["decisionMeaning"]
    assert (own["restriction"], own["inside"]) == (None, None)
    health = httpx.get(f"{deciding_address}/health").json()
    assert (health["decides"], health["flagsUnknown"], health["restriction"]) == ("roll-up", True, None)


def test_a_picture_of_no_organism_is_404_unless_no_reject(deciding_address: str, address: str) -> None:
    response = post(deciding_address, GREEN)
    assert response.status_code == 404
    assert response.json()["error"] == "Not Found"
    assert response.json()["message"].startswith("Species not found: no organism")
    allowed = post(deciding_address, GREEN, no_reject="true")
    assert allowed.status_code == 200
    assert allowed.json()["taxakey"]["decision"]["organism"] is False
    assert allowed.json()["results"][0]["species"]["scientificNameWithoutAuthor"] == "Caltha palustris"
    plain = post(address, GREEN)
    assert plain.status_code == 200, "a model without a threshold rejects nothing"
    assert plain.json()["taxakey"]["decision"] is None


def test_only_some_taxa_by_query(deciding_address: str, tmp_path: Path) -> None:
    body = post(deciding_address, COLOURS["Caltha palustris"], only="Asteraceae", nb_results=10).json()
    assert [result["species"]["family"]["scientificName"] for result in body["results"]] == ["Asteraceae"] * 3
    assert sum(result["score"] for result in body["results"]) == pytest.approx(1, abs=1e-4)
    assert body["taxakey"]["restriction"] == "Only 3 of the model's 6 species were considered: the family Asteraceae."
    assert body["taxakey"]["inside"] == pytest.approx(
        expected_probabilities(COLOURS["Caltha palustris"])[[2, 3, 5]].sum(), abs=0.01
    )
    secret = tmp_path / "secret.csv"
    secret.write_text("species\nBellis perennis\n")
    for strange in ("Rosaceae", str(secret), f"{secret}:x", ","):
        refused = post(deciding_address, COLOURS["Bellis perennis"], only=strange)
        assert refused.status_code == 400, strange
        assert refused.json()["message"].startswith("only: ")
        assert "Bellis" not in refused.json()["message"], "a file of the server is never read for a stranger"


def test_started_for_a_list_a_query_narrows_it(bundle: Path, serve_app: Serve, tmp_path: Path) -> None:
    (tmp_path / "flora.csv").write_text(
        "country,species\nPeru,Caltha palustris\nPeru,Bellis perennis\nPeru,Poa annua\nFiji,Aconitum napellus\n"
    )
    app = create_app(bundle, project="flora", only=f"{tmp_path / 'flora.csv'}:Peru", decide="least-cost", costs="poison")
    with serve_app(app) as address:
        health = httpx.get(f"{address}/health").json()
        assert "Only 2 of the model's 6 species were considered: flora.csv, Peru. 1 of the 3 species" in health["restriction"]
        assert health["decides"] == "least-cost"
        assert len(post(address, BETWEEN).json()["results"]) == 2
        narrowed = post(address, BETWEEN, only="Bellis").json()
        assert [result["species"]["scientificName"] for result in narrowed["results"]] == ["Bellis perennis L."]
        assert narrowed["taxakey"]["decision"]["rule"] == "least-cost"
        assert post(address, BETWEEN, only="Aconitum").status_code == 400


def test_a_server_can_correct_for_shares_and_says_so(serve_app: Serve, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", decisions=make_decisions(train_images=(10,) * 6))
    file = tmp_path / "shares.csv"
    file.write_text("scientificName,share\nCaltha palustris,9\nTussilago farfara,1\n", encoding="utf-8")
    with serve_app(create_app(bundle, project="flora", shares=str(file))) as address:
        own = post(address, YELLOW).json()
        assert own["taxakey"]["shares"] == httpx.get(f"{address}/health").json()["shares"]
        assert own["taxakey"]["shares"].startswith("Probabilities are corrected for shares of species told by shares.csv")
        assert own["results"][0]["species"]["scientificNameWithoutAuthor"] == "Caltha palustris"
    assert load(bundle).identify([picture(YELLOW)])[0].species[0].scientific_name == "Tussilago farfara"
