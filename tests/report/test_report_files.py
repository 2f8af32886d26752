"""The three files of a report: the same numbers in each, safe whatever the names are, and nothing fetched from elsewhere."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from evaluated_world import RUN_NOTE, World, make_rich_world
from plotly.offline import get_plotlyjs

from taxakey import artifacts
from taxakey.errors import PlanMismatch
from taxakey.evaluation import Report, evaluate
from taxakey.metrics.intervals import Interval
from taxakey.report import plots, wording
from taxakey.report.html import to_html
from taxakey.report.markdown import to_markdown
from taxakey.report.tables import escape
from taxakey.report.write import write_report


@pytest.fixture(scope="module")
def bare(report: Report) -> Report:
    """As it is where neither dataset nor run can be had."""
    return dataclasses.replace(
        report,
        analyses=dataclasses.replace(report.analyses, rarity=None),
        by_train_images=(), curves=(), thumbnails={}, single_photographs=None,
        calibration=dataclasses.replace(report.calibration, unsure=None),
        species=tuple(dataclasses.replace(row, train_images=None) for row in report.species),
    )  # fmt: skip


class Page(HTMLParser):
    """Tags with their attributes, and whether every tag is closed."""

    VOID = ("meta", "img", "input", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_fetches_nothing(report: Report) -> None:
    text = to_html(report)
    page = Page(text)
    assert page.open == []
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), f"{tag} {name}={attributes[name]}"
        assert tag not in ("link", "iframe", "object", "base")
    library = str(get_plotlyjs())
    assert text.count(library) == 1
    own = text.replace(library, "")
    assert not re.search(r"url\((?!#)|@import", own)
    # What plotly's script might ask for, the policy forbids: only the two scripts of the page run, and no address is open.
    policy = next(attributes["content"] or "" for tag, attributes in page.tags if attributes.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'sha256-")
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert sorted(re.findall(r"'sha256-([^']+)'", policy)) == sorted(digests)
    # Addresses occur only as names of XML namespaces, and in matplotlib's document type nowhere.
    assert set(re.findall(r"https?://[^\s\"'<]+", own)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert len(own) < 3_000_000


def test_every_picture_says_what_it_shows(report: Report) -> None:
    page = Page(to_html(report))
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 2 * len(report.confused) + sum(
        len(kind) for kind in (report.examples.right, report.examples.wrong, report.examples.near)
    )
    assert all((attributes["alt"] or "").startswith(("Photograph of ", "Training photograph of ")) for attributes in pictures)
    assert all((attributes["src"] or "").startswith("data:image/jpeg;base64,") for attributes in pictures)
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(drawings) == 7
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in drawings)


def test_ids_are_unique_and_links_lead_to_them(report: Report, bare: Report) -> None:
    for each in (report, bare):
        page = Page(to_html(each))
        ids = [
            attributes["id"] for tag, attributes in page.tags if attributes.get("id") and tag not in ("path", "clippath", "use")
        ]
        assert len(ids) == len(set(ids))
        links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
        assert {(link or "").removeprefix("#") for link in links} <= set(ids)
        sections = [link for link in links if not (link or "").startswith("#def-")]
        assert len(sections) == (11 if each is report else 9)


def test_names_cant_break_out_of_the_page(report: Report) -> None:
    evil = '<script>alert("x")</script>'
    rows = (dataclasses.replace(report.species[0], scientific_name=evil, taken_for='" onload="x'), *report.species[1:])
    pair = dataclasses.replace(report.confused[0], true_name='"><b>', predicted_name="'&amp;")
    text = to_html(dataclasses.replace(report, species=rows, confused=(pair,), title=evil))
    assert evil not in text
    assert "&lt;script&gt;" in text
    assert "<b>" not in text.replace('<b aria-label="right">', "")
    assert RUN_NOTE not in text
    assert RUN_NOTE.replace("<", "&lt;").replace(">", "&gt;") in text
    assert Page(text).open == []


def test_the_headline_stands_in_every_file(report: Report, tmp_path: Path) -> None:
    page = write_report(report, tmp_path / "report")
    assert page == tmp_path / "report" / "report.html"
    values = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert values["figures"]["species"]["top_1"]["value"] == pytest.approx(9 / 19)
    assert "thumbnails" not in values
    for name in ("report.html", "report.md"):
        text = (tmp_path / "report" / name).read_text(encoding="utf-8")
        for rank in report.figures.values():
            for interval in rank.values():
                assert wording.percent(interval.value) in text
                assert wording.span(interval) in text
    manifest = artifacts.read_manifest(tmp_path / "report", "report")
    assert manifest.counts["observations"] == 19
    assert manifest.notes == (RUN_NOTE,)


def test_a_folder_holds_one_report_only(report: Report, world: World, tmp_path: Path) -> None:
    first = write_report(report, tmp_path).read_bytes()
    assert write_report(report, tmp_path).read_bytes() == first
    with pytest.raises(PlanMismatch, match="resamples"):
        write_report(evaluate(world.predictions, resamples=20), tmp_path)


def test_the_same_input_gives_the_same_bytes(report: Report, world: World) -> None:
    again = dataclasses.replace(evaluate(world.predictions, resamples=50), created=report.created)
    assert to_html(again) == to_html(report)
    assert to_markdown(again) == to_markdown(report)


def test_what_cant_be_had_leaves_no_gap(bare: Report) -> None:
    text, markdown = to_html(bare), to_markdown(bare)
    assert 'id="rare"' not in text
    assert 'id="learning"' not in text
    assert "unsure" not in text + markdown
    assert text.count("picture not at hand") > 10
    assert ">None<" not in text
    assert "None" not in markdown.split("## How this was made")[0]


def test_species_are_italic_everywhere(report: Report) -> None:
    text, markdown = to_html(report), to_markdown(report)
    body = re.sub(r"<svg.*?</svg>|alt=\"[^\"]*\"|<script.*?</script>", "", text, flags=re.DOTALL)
    for row in report.species:
        assert body.count(row.scientific_name) == body.count(f'<i class="taxon">{row.scientific_name}</i>') > 0
        assert f"*{row.scientific_name}*" in markdown


def test_markdown_tables_are_even(report: Report) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", to_markdown(report), flags=re.MULTILINE)
    assert len(tables) == 11
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


@pytest.mark.parametrize(
    ("text", "safe"), [("a|b", r"a\|b"), ("*x*_y_", r"\*x\*\_y\_"), ("two\nlines", "two lines"), ("<i>", r"\<i\>")]
)
def test_markdown_signs_in_names_are_harmless(text: str, safe: str) -> None:
    assert escape(text) == safe


@pytest.mark.parametrize(
    "draw",
    [
        plots.figures_by_rank,
        plots.train_images,
        plots.reliability,
        *(lambda report, n=n: plots.learning_curves(report)[n] for n in (0, 1)),
    ],
)
def test_plots_are_well_formed_and_the_same_each_time(draw, report: Report) -> None:
    svg = draw(report)
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert draw(report) == svg
    assert "<text" in svg, "letters were drawn as shapes, so nobody can search or hear them"


def test_a_plot_of_very_many_species_stays_small(report: Report) -> None:
    row = report.species[0]
    rows = tuple(dataclasses.replace(row, train_images=1 + number % 300, top_1=number % 7 / 6) for number in range(5000))
    assert len(plots.train_images(dataclasses.replace(report, species=rows))) < 200_000


# ---- every figure can be traced ----


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Report:
    world = make_rich_world(tmp_path_factory.mktemp("rich"))
    return evaluate(world.predictions, validation_folder=world.validation, resamples=50)


class Columns(HTMLParser):
    """Whether each head of a column of numbers, and each figure of the headline, leads to a definition."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.untraced: list[str] = []
        self.traced = 0
        self.waiting: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if (tag == "th" and found.get("class") == "number") or tag == "dt":
            self.waiting = tag
        elif self.waiting and ((found.get("href") or "").startswith("#def-") or found.get("data-figure")):
            self.waiting, self.traced = None, self.traced + 1

    def handle_endtag(self, tag: str) -> None:
        if tag == self.waiting:
            self.untraced.append(str(self.getpos()))
            self.waiting = None


def test_every_column_of_numbers_leads_to_its_definition(report: Report, bare: Report, rich: Report) -> None:
    for each in (report, bare, rich):
        text = re.sub(r"<dl class=\"(meanings|definitions)\">.*?</dl>", "", to_html(each), flags=re.DOTALL)
        found = Columns(text)
        assert found.untraced == []
        assert found.traced > 15
    rich_text = to_html(rich)
    defined = set(re.findall(r'<div id="def-(\w+)">', rich_text))
    asked = set(re.findall(r'(?:href="#def-|data-figure=")(\w+)"', rich_text))
    assert asked == defined <= set(rich.definitions)
    assert {"omega_squared", "saturation", "track4", "macro_average_k", "holm", "taxonomic_distance"} <= defined
    assert "track4" not in re.findall(r'<div id="def-(\w+)">', to_html(report)), "nothing is poisonous here"


def test_every_definition_says_how_it_is_computed(report: Report) -> None:
    for name, meant in report.definitions.items():
        assert meant.title, name
        assert meant.meaning.endswith((".", ")")), name
        assert meant.formula, name


def test_the_rich_page_is_well_formed_and_tells_all(rich: Report) -> None:
    page, markdown = Page(to_html(rich)), to_markdown(rich)
    assert page.open == []
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert {"short", "families", "groups", "poisonous", "definitions", "species-plot", "species-points"} <= ids
    for title in (
        "Families and genera",
        "Where and when the photographs were made",
        "Poisonous species",
        "Answers of several species",
    ):
        assert f"## {title}\n" in markdown
    for table in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


# ---- words ----


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0.0 %"), (0.0004, "< 0.1 %"), (0.9, "90.0 %"), (0.99951, "> 99.9 %"), (0.99949, "99.9 %"), (1, "100.0 %")],
)
def test_percent(share: float, text: str) -> None:
    assert wording.percent(share).replace("\u00a0", " ") == text


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [(0.93, 0.91, 0.95, "which was kept"), (0.88, 0.86, 0.91, "chance alone may explain"), (0.8, 0.75, 0.85, "NOT kept")],
)
def test_whether_the_promise_was_kept(report: Report, value: float, low: float, high: float, said: str) -> None:
    unsure = report.calibration.unsure
    assert unsure is not None
    unsure = dataclasses.replace(unsure, precision=Interval(value, low, high, 0.95, 50))
    calibration = dataclasses.replace(report.calibration, unsure=unsure)
    text = wording.unsure(dataclasses.replace(report, calibration=calibration))
    assert text is not None
    assert said in text
    assert "Of 3 observations of species that the model doesn't know, 1 was called unsure" in text
    nobody = dataclasses.replace(calibration, unsure=dataclasses.replace(unsure, precision=None))
    assert "here every answer was" in (wording.unsure(dataclasses.replace(report, calibration=nobody)) or "")


def test_the_subtitle_counts_what_the_model_doesnt_know(report: Report) -> None:
    text = wording.subtitle(report)
    assert "19 observations with 30 photographs of 6 species" in text
    assert "The model knows 4 species, 3 genera and 2 families" in text
    assert "3 observations are of 2 species that it doesn't know" in text
