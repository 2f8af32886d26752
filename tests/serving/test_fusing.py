"""A model with fusion.json beside it: answers against arithmetic, what it can be told, and over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pytest
from colour_model import (
    COLOURS,
    KNOWN,
    TEMPERATURE,
    expected_probabilities,
    make_decisions,
    make_taxonomy,
    picture,
    write_bundle,
)
from scipy.special import softmax

from taxakey.calibration.bias_corrected import BiasCorrected
from taxakey.calibration.supported import estimate_with_support
from taxakey.errors import BadInput
from taxakey.prediction.fusion import FILE, Fusion, Pictures
from taxakey.prediction.fusion.pictures import Rule
from taxakey.prediction.fusion.words import WordEvidence
from taxakey.serving.app import create_app
from taxakey.serving.fusing import Teller
from taxakey.serving.identifier import Identifier, load
from taxakey.serving.known import KnownFile

CLOSE = 1e-4
BETWEEN = (245, 190, 40)
"""A colour between those of three yellow flowers."""
DAISY = "Bellis perennis"
NAMES = list(COLOURS)


def png(colour: tuple[int, int, int]) -> bytes:
    """A JPEG's colours are off by a level, which shows where three species are about as probable."""
    return picture(colour, format="PNG")


def soil() -> WordEvidence:
    """Nine of ten pot marigolds stood on loam, nine of ten of the others on chalk; nothing is known of monkshoods."""
    rows = [("loam" if (label == 3) != (number == 0) else "chalk", label) for label in (2, 3, 4, 5) for number in range(10)]
    table = pa.table({"soil": [word for word, _ in rows]})
    return WordEvidence.fit("soil", table, np.array([label for _, label in rows]), 6)


def fusion(rule: Rule | None = None) -> Fusion:
    return Fusion(make_taxonomy().fingerprint, rule or Rule(), (soil(),), (0.5,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = write_bundle(tmp_path_factory.mktemp("fusing") / "bundle")
    fusion().write(bundle / FILE)
    return bundle


@pytest.fixture(scope="module")
def model(folder: Path) -> Identifier:
    return load(folder)


def expected(probabilities_C: np.ndarray, word: str) -> np.ndarray:
    weighted = probabilities_C * np.exp(0.5 * soil().log_ratio(pa.table({"soil": [word]}))[0])
    return weighted / weighted.sum()


def by_name(answer) -> np.ndarray:
    found = {taxon.scientific_name: taxon.probability for taxon in answer.species}
    return np.array([found[name] for name in NAMES])


def test_what_is_known_is_multiplied_in_and_what_is_not_known_changes_nothing(model: Identifier, identifier: Identifier) -> None:
    colour = BETWEEN
    p = expected_probabilities(colour)
    for word in ("Loam", "chalk"):
        answer = model.identify([png(colour)], top=6, known={"soil": word})[0]
        np.testing.assert_allclose(by_name(answer), expected(p, word.lower()), atol=CLOSE)
    for nothing in ({}, {"soil": ""}, {"soil": None}):
        same = by_name(model.identify([png(colour)], top=6, known=nothing)[0])
        np.testing.assert_array_equal(same, by_name(identifier.identify([png(colour)], top=6)[0]))
    assert np.abs(expected(p, "loam") - p).max() > 0.1, "the test must show something"


def test_each_of_many_is_told_its_own(model: Identifier) -> None:
    colours = [COLOURS[DAISY], BETWEEN, BETWEEN]
    known = [{}, {"soil": "loam"}, {"soil": "chalk"}]
    answers = model.identify([png(colour) for colour in colours], known=known, top=6, batch_size=2)
    np.testing.assert_allclose(by_name(answers[0]), expected_probabilities(COLOURS[DAISY]), atol=CLOSE)
    for answer, word in zip(answers[1:], ("loam", "chalk"), strict=True):
        np.testing.assert_allclose(by_name(answer), expected(expected_probabilities(BETWEEN), word), atol=CLOSE)


RULES = [Rule(), Rule("log-mean"), Rule("quality", {"confidence": 3.0, "entropy": 0.0}), Rule("organ", {"leaf": 1.0})]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_several_photographs_are_combined_by_its_rule_on_both_ways_in(tmp_path: Path, rule: Rule) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    fusion(rule).write(bundle / FILE)
    model = load(bundle)
    colours = [COLOURS[DAISY], BETWEEN, (200, 200, 100)]
    p_IC = np.array([expected_probabilities(colour) for colour in colours])
    mean = {
        "mean": p_IC.mean(0), "organ": p_IC.mean(0), "log-mean": np.exp(np.log(p_IC).mean(0)),
        "quality": (np.exp(3 * p_IC.max(1))[:, None] * p_IC).sum(0) / np.exp(3 * p_IC.max(1)).sum(),
    }[rule.name]  # fmt: skip
    answer = model.identify([[png(colour) for colour in colours]], known={"soil": "chalk"}, top=6)[0]
    np.testing.assert_allclose(by_name(answer), expected(mean / mean.sum(), "chalk"), atol=CLOSE)
    pixels = np.stack([model.preprocess.load(png(colour)) for colour in colours])
    again = model.identify_pixels(pixels, told=model.tell({"soil": "chalk"}), top=6)
    np.testing.assert_allclose(by_name(again), by_name(answer), atol=1e-6)
    assert answer.photographs == again.photographs == 3


# ---- with shares of species that differ from training's ----

BASIS = BiasCorrected(0.8 / TEMPERATURE, (0.0, 0.2, 0.0, -0.1, 0.0, 0.1), (1 / 6,) * 6, 0.0, 100)


def shifted(folder: Path, *evidence: WordEvidence, rule: Rule | None = None) -> Identifier:
    bundle = write_bundle(folder / "bundle", decisions=make_decisions(train_images=(10,) * 6, shares=BASIS))
    Fusion(make_taxonomy().fingerprint, rule or Rule(), evidence, (0.5,) * len(evidence)).write(bundle / FILE)
    return load(bundle)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_told_shares_come_in_before_pictures_are_combined_and_what_is_known_after(tmp_path: Path, rule: Rule) -> None:
    file = tmp_path / "shares.csv"
    file.write_text("scientificName,share\n" + "".join(f"{name},{2**n}\n" for n, name in enumerate(NAMES)), encoding="utf-8")
    model = shifted(tmp_path, soil(), rule=rule).with_shares(str(file))
    colours = [COLOURS[DAISY], BETWEEN, (200, 200, 100)]
    p_IC = np.array([expected_probabilities(colour) for colour in colours]) * 2.0 ** np.arange(6)
    p_IC /= p_IC.sum(axis=1, keepdims=True)
    mean = Rule(rule.name, rule.slopes).combined(Pictures(p_IC, np.zeros(3, dtype=int), ()))[0]
    answer = model.identify([[png(colour) for colour in colours]], known={"soil": "loam"}, top=6)[0]
    np.testing.assert_allclose(by_name(answer), expected(mean / mean.sum(), "loam"), atol=CLOSE)
    assert answer.shares == model.shares
    assert "twice" not in answer.shares, "soil says nothing of where and when"


def test_estimated_shares_are_those_of_the_pictures_whatever_is_known(tmp_path: Path) -> None:
    plain = shifted(tmp_path, soil())
    photographs = [png(COLOURS[DAISY])] * 12 + [png(BETWEEN)]
    found = {word: plain.with_shares("estimate", photographs, known={"soil": word}) for word in ("loam", "chalk")}
    p_OC = np.array([softmax(np.log(expected_probabilities(c)) * 0.8 + np.array(BASIS.bias)) for c in (COLOURS[DAISY], BETWEEN)])
    new_C = estimate_with_support(p_OC[[0] * 12 + [1]], np.full(6, 1 / 6)).share_C
    p_C = p_OC[1] * np.maximum(new_C, new_C[new_C > 0].min() / 100)
    for word, model in found.items():
        answer = model.identify([png(BETWEEN)], known={"soil": word}, top=6)[0]
        np.testing.assert_allclose(by_name(answer), expected(p_C / p_C.sum(), word), atol=CLOSE)
    assert found["loam"].shares == found["chalk"].shares


def test_it_is_said_that_a_date_may_count_twice(tmp_path: Path) -> None:
    months = pa.table({"month": pa.array([5] * 10 + [8] * 10, pa.int16())})
    month = WordEvidence.fit("month", months, np.array([2] * 10 + [3] * 10), 6)
    model = shifted(tmp_path, month)
    twice = "Where shares differ because of the season or the place, a date or a place told besides counts twice."
    few = model.with_shares("estimate", [png(BETWEEN)])
    assert "nothing is corrected" in few.shares, "one picture speaks for nothing"
    assert twice not in few.shares
    many = model.with_shares("estimate", [png(COLOURS[DAISY])] * 12)
    assert many.shares.endswith(f"without that. {twice}")


def test_a_network_that_takes_metadata_is_told_its_own_and_the_fusion_the_rest(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", told=True)
    fusion().write(bundle / FILE)
    model = load(bundle)
    assert model.takes == ("eventDate", "decimalLatitude", "decimalLongitude", "habitat", "soil")
    daisy = png(COLOURS[DAISY])
    assert model.identify([daisy], known={"habitat": "bog", "soil": "loam"})[0].species[0].scientific_name == "Caltha palustris"
    same = model.identify([daisy], known={"soil": "loam"}, top=6)[0]
    np.testing.assert_allclose(by_name(same), expected(expected_probabilities(COLOURS[DAISY]), "loam"), atol=CLOSE)
    assert model.tell({"habitat": "bog"}).inputs_M is not None
    asks = Teller(KNOWN, fusion()).asks
    assert asks is not None
    assert {name: sorted(words) for name, words in asks.words.items()} == {
        "habitat": ["bog", "garden"],
        "soil": ["chalk", "loam"],
    }


def test_bad_values_are_refused_and_a_csv_is_taken(model: Identifier, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="soil 'sand'"):
        model.tell({"soil": "sand"})
    with pytest.raises(BadInput, match="takes no habitat"):
        model.tell({"habitat": "bog"})
    (tmp_path / "known.csv").write_text("file_name,soil\na.jpg,loam\nb.jpg,sand\n")
    told = KnownFile(tmp_path / "known.csv", model.teller.asks)
    assert told.of(["a.jpg", "b.jpg"]) == [{"soil": "loam"}, {"soil": ""}]


def test_the_fusion_of_another_model_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    Fusion("0" * 16).write(bundle / FILE)
    with pytest.raises(BadInput, match="other classes"):
        load(bundle)


@pytest.fixture
def fused_address(folder: Path, serve_app: Callable) -> Iterator[str]:
    with serve_app(create_app(folder, project="flora")) as address:
        yield address


def test_over_http(fused_address: str) -> None:
    facts = httpx.get(f"{fused_address}/health").json()
    assert facts["takes"] == ["soil"]
    assert sorted(facts["words"]["soil"]) == ["chalk", "loam"]
    colour = BETWEEN
    upload = {"images": ("a.jpg", png(colour))}
    body = httpx.post(f"{fused_address}/v2/identify/flora", files=upload, data={"soil": "loam", "habitat": "bog"}).json()
    p = expected(expected_probabilities(colour), "loam")
    assert body["results"][0]["score"] == pytest.approx(p.max(), abs=CLOSE)
    assert (body["taxakey"]["used"], body["taxakey"]["ignored"]) == (["soil"], ["habitat"])
    refused = httpx.post(f"{fused_address}/v2/identify/flora", files=upload, data={"soil": "sand"})
    assert refused.status_code == 400
