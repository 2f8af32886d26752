"""What is known besides the photograph, on all ways in: Python, the command line, a CSV, HTTP, the page.

The model (colour_model.ToldColours): a bog means Caltha palustris and April Tussilago farfara, whatever the colour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import typer
from colour_model import COLOURS, KNOWN, picture, write_bundle
from test_page import browser, statement  # noqa: F401 - a fixture
from typer.testing import CliRunner

from taxakey.cli.identify import identify
from taxakey.errors import BadInput
from taxakey.serving.app import create_app
from taxakey.serving.identifier import Identifier, load
from taxakey.serving.known import KnownFile

DAISY = "Bellis perennis"
BOG, APRIL = {"habitat": "Bog"}, {"eventDate": "2024-04-03"}


@pytest.fixture(scope="module")
def told_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("told") / "bundle", told=True)


@pytest.fixture(scope="module")
def model(told_bundle: Path) -> Identifier:
    return load(told_bundle)


@pytest.fixture(scope="module")
def told_address(told_bundle: Path, serve_app: Callable) -> Iterator[str]:
    with serve_app(create_app(told_bundle, project="flora")) as address:
        yield address


def first(answers: list) -> list[str]:
    return [answer.species[0].scientific_name for answer in answers]


def test_a_model_is_told_what_is_known_of_each(model: Identifier) -> None:
    daisy = picture(COLOURS[DAISY])
    known = [BOG, {}, APRIL, {"habitat": None, "eventDate": ""}]
    expected = ["Caltha palustris", DAISY, "Tussilago farfara", DAISY]
    assert first(model.identify([daisy] * 4, known=known)) == expected
    assert first(model.identify([daisy] * 4, known=known, batch_size=3)) == expected  # across batches
    assert first(model.identify([[daisy, daisy], daisy], known=[APRIL, {}])) == [expected[2], DAISY]
    assert first(model.identify([daisy] * 2, known=BOG)) == ["Caltha palustris"] * 2
    assert first(model.identify([daisy])) == [DAISY]


def test_what_can_not_be_is_told_before_anything_is_named(model: Identifier, identifier: Identifier) -> None:
    daisy = picture(COLOURS[DAISY])
    with pytest.raises(BadInput, match="2 entries are known of 3"):
        model.identify([daisy] * 3, known=[BOG, BOG])
    with pytest.raises(BadInput, match="fewer entries"):
        model.identify(iter([daisy] * 3), known=[BOG, BOG])
    with pytest.raises(BadInput, match="habitat 'sea'"):
        model.identify([daisy], known={"habitat": "sea"})
    with pytest.raises(BadInput, match="takes no substrate"):
        model.identify([daisy], known={"substrate": "peat"})
    with pytest.raises(BadInput, match="photographs only and can't be told habitat"):
        identifier.identify([daisy], known=BOG)


# ---- the command ----


def run(*arguments: object) -> tuple[str, object]:
    app = typer.Typer()
    app.command()(identify)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.output, done.exception


def named(output: str) -> list[str]:
    return [line.split(",")[-2] for line in output.splitlines()[1:] if ".jpg," in line]


def test_the_command_tells_all_photographs_the_same(told_bundle: Path, photograph: Callable) -> None:
    files = [photograph(DAISY, f"{number}.jpg") for number in range(2)]
    same = (told_bundle, *files, "--format", "csv", "--top", 1)
    assert named(run(*same)[0]) == [DAISY] * 2
    assert named(run(*same, "--habitat", "bog", "--lat", 50.9, "--lon", 11.6)[0]) == ["Caltha palustris"] * 2
    assert named(run(*same, "--date", "2024-04-30")[0]) == ["Tussilago farfara"] * 2
    for bad, message in {
        ("--lat", 5): "alone is no place",
        ("--substrate", "peat"): "no substrate",
        ("--date", "x"): "read",
    }.items():
        assert message in str(run(*same, *bad)[1])


def test_a_csv_tells_each_its_own(told_bundle: Path, photograph: Callable, tmp_path: Path) -> None:
    files = [photograph(DAISY, f"{number}.jpg") for number in range(4)]
    table = tmp_path / "known.csv"
    table.write_text(f"file_name,habitat,eventDate,notes\n{files[0]},bog,,x\n1.jpg,,2024-04,y\n2.jpg,sea,,\ngone.jpg,bog,,\n")
    output, error = run(told_bundle, *files, "--format", "csv", "--top", 1, "--observations", table)
    assert error is None
    assert named(output) == ["Caltha palustris", "Tussilago farfara", DAISY, DAISY]
    assert "1 words of habitat (first: 'sea')" in output
    assert "says nothing of 1 of 4" in output
    assert "1 lines name no photograph that is asked about (first: gone.jpg)" in output
    error = run(told_bundle, *files, "--observations", table, "--habitat", "bog")[1]
    assert "one or the other" in str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file_name,habitat,decimalLatitude,decimalLongitude\na.jpg,bog,,\nb.jpg,bog,99,1\n", "line 3: decimalLatitude 99"),
        ("file_name,habitat\na.jpg,bog\na.jpg,garden\n", "line 3: 'a.jpg' stands there twice"),
        ("name,habitat\na.jpg,bog\n", "lacks the column file_name"),
        ("file_name,colour\na.jpg,red\n", "no column is called so"),
    ],
)
def test_a_csv_that_can_not_be_right_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "known.csv").write_text(text)
    with pytest.raises(BadInput, match=message):
        KnownFile(tmp_path / "known.csv", KNOWN)
    with pytest.raises(BadInput, match="can't be read"):
        KnownFile(tmp_path / "none.csv", KNOWN)


def test_answers_to_another_question_are_not_gone_on_with(told_bundle: Path, photograph: Callable, tmp_path: Path) -> None:
    asked = (told_bundle, photograph(DAISY), "--out", tmp_path / "names.csv")
    assert run(*asked, "--habitat", "bog")[1] is None
    assert run(*asked, "--habitat", "bog")[1] is None
    assert "was begun with known" in str(run(*asked, "--habitat", "garden")[1])
    assert "was begun with known" in str(run(*asked)[1])


# ---- over HTTP ----


def ask(address: str, **fields: str) -> httpx.Response:
    return httpx.post(f"{address}/v2/identify/flora", files={"images": ("a.jpg", picture(COLOURS[DAISY]))}, data=fields)


def test_a_request_says_what_is_known(told_address: str, address: str) -> None:
    facts = httpx.get(f"{told_address}/health").json()
    assert facts["takes"] == ["eventDate", "decimalLatitude", "decimalLongitude", "habitat"]
    assert facts["words"] == {"habitat": ["bog", "garden"]}
    assert httpx.get(f"{address}/health").json()["takes"] == []
    answer = ask(told_address, habitat="bog", substrate="peat", eventDate=" ").json()
    assert answer["bestMatch"] == "Caltha palustris L."
    assert (answer["taxakey"]["used"], answer["taxakey"]["ignored"]) == (["habitat"], ["substrate"])
    untold = ask(told_address).json()
    assert untold["bestMatch"] == "Bellis perennis L."
    assert (untold["taxakey"]["used"], untold["taxakey"]["ignored"]) == ([], [])
    plain = ask(address, habitat="bog").json()
    assert (plain["bestMatch"], plain["taxakey"]["ignored"]) == ("Bellis perennis L.", ["habitat"])
    schema = httpx.get(f"{told_address}/openapi.json").text
    assert "decimalLatitude" in schema
    assert "decimalLatitude" not in httpx.get(f"{address}/openapi.json").text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"decimalLatitude": "91", "decimalLongitude": "0"}, "outside -90 to 90"),
        ({"decimalLongitude": "0"}, "alone is no place"),
        ({"eventDate": "31.5.2024"}, "write it as 2024-05-31"),
        ({"habitat": "sea"}, "one of: bog, garden"),
        ({"habitat": "b" * 1001}, "exceeded maximum size"),
    ],
)
def test_bad_values_are_refused_with_400(told_address: str, fields: dict[str, str], message: str) -> None:
    response = ask(told_address, **fields)
    assert response.status_code == 400
    assert message in response.json()["message"]


# ---- the page ----


@pytest.mark.browser
def test_the_page_asks_for_what_the_model_takes(
    browser,  # noqa: F811
    told_address: str,
    address: str,
    photograph: Callable,
    tmp_path: Path,
) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(10_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(told_address)
    page.get_by_label("Habitat").wait_for()
    page.locator("#files").set_input_files([photograph(DAISY)])
    page.get_by_label("Habitat").select_option("bog")
    page.get_by_role("button", name="Identify").click()
    assert "Caltha palustris" in statement(page)
    page.get_by_label("Habitat").select_option("")
    assert page.locator("#answer").is_hidden()  # the answer was to another question
    page.get_by_label("Date").fill("2024-04-03")
    page.get_by_role("button", name="Identify").click()
    assert "Tussilago farfara" in statement(page)
    page.get_by_role("button", name="Next specimen").click()
    assert page.get_by_label("Date").input_value() == ""
    page.locator("#files").set_input_files([photograph(DAISY)])
    page.get_by_label("Latitude").fill("50.9")
    page.get_by_role("button", name="Identify").click()
    page.locator("#problem", has_text="alone is no place").wait_for()
    assert faults == []
    page.goto(address)
    page.locator("#facts", has_text="Model").wait_for()
    assert page.locator("#known").is_hidden()
    page.close()
