"""The page of a report in a real headless Chromium: it fits a telephone, sorts, finds, and complains of nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluated_world import make_world

from taxakey.evaluation import evaluate
from taxakey.report.write import write_report

pytestmark = pytest.mark.browser

playwright = pytest.importorskip("playwright.sync_api", reason="install playwright: pip install 'taxakey[dev]'")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, telephone: playwright.Page) -> playwright.Page:
    root = tmp_path_factory.mktemp("world")
    html = write_report(evaluate(make_world(root).predictions, resamples=20), root / "report")
    telephone.goto(Path(html).as_uri())
    return telephone


def test_it_fits_a_telephone_and_every_picture_is_shown(page: playwright.Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert page.complaints == []
    assert set(page.requests) <= {"file", "data"}


def test_a_long_name_stays_inside_its_card(page: playwright.Page) -> None:
    wide = page.evaluate(
        """() => {
            const names = [...document.querySelectorAll(".example .taxon, .pair .taxon")];
            const before = names.map(name => name.textContent);
            names.forEach(name => { name.textContent = "Pseudoarchaeopteryx ovoideocystidiatissima"; });
            const inside = card => [...card.querySelectorAll("*")].every(
                each => each.getBoundingClientRect().right <= card.getBoundingClientRect().right + 1);
            const found = [...document.querySelectorAll(".card")].filter(card => !inside(card)).length;
            names.forEach((name, at) => { name.textContent = before[at]; });
            return [names.length > 20, found];
        }"""
    )
    assert wide == [True, 0]


def test_the_table_of_species_is_sorted_and_searched(page: playwright.Page) -> None:
    def first_cells(column: int) -> list[str]:
        cells = page.locator(f"#all tbody tr:visible td:nth-child({column})").all_inner_texts()
        return [cell.split(" <")[0] for cell in cells]

    button = page.locator("#all thead button", has_text="Training photographs")
    button.focus()
    page.keyboard.press("Enter")
    assert first_cells(3) == ["0", "0", "1", "2", "6", "12"]
    page.keyboard.press("Enter")
    assert first_cells(3) == ["12", "6", "2", "1", "0", "0"]
    assert page.locator("#all thead th[aria-sort=descending]").count() == 1
    page.fill("#find", "FAGACEAE")
    assert first_cells(2) == ["Fagaceae"] * 4
    page.fill("#find", "")
    assert page.complaints == []


def test_a_species_is_looked_up_in_the_plot(page: playwright.Page) -> None:
    page.wait_for_selector("#species-plot[data-drawn=yes]")
    plot = page.evaluate("document.getElementById('species-plot').data[0]")
    at = next(number for number, text in enumerate(plot["text"]) if "Quercus robur" in text)
    assert "12 training photographs<br>top-1 60 % of 5 observations" in plot["text"][at]
    assert "&lt;Que&gt;" in plot["text"][at], "a vernacular name became markup"
    page.evaluate(
        "at => document.getElementById('species-plot').emit('plotly_click', {points: [{curveNumber: 0, pointNumber: at}]})", at
    )
    assert page.input_value("#find") == "Quercus robur"
    assert page.locator("#all tbody tr:visible").count() >= 1
    colours = page.evaluate("document.getElementById('species-plot').data[0].marker.color")
    assert len({colour for number, colour in enumerate(colours) if number != at}) == 1
    assert colours[at] not in colours[:at] + colours[at + 1 :]
    page.fill("#find", "")
    assert not page.locator("figure.lookup > svg").is_visible()
    page.emulate_media(media="print")
    assert page.locator("figure.lookup > svg").is_visible()
    page.emulate_media(media="screen")
    assert page.complaints == []


def test_a_figure_leads_to_its_definition(page: playwright.Page) -> None:
    page.locator("header a.def").first.click()
    assert page.evaluate("location.hash") == "#def-top_1"
    assert page.locator("#def-top_1").is_visible()
