"""The page of an exploration in a real headless Chromium: charts are drawn, tables work, and names stay text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from explored_world import BOLD, EVIL, observations, rows

from taxakey.artifacts import Plan
from taxakey.report.exploration_page import write_exploration

pytestmark = pytest.mark.browser

playwright = pytest.importorskip("playwright.sync_api", reason="install playwright: pip install 'taxakey[dev]'")

MANY = 3000


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The evil records, and enough further species that the table must be paged."""
    root = tmp_path_factory.mktemp("exploration")
    more = [
        {**rows()[-1], "image_id": f"m{n}", "occurrenceID": f"m{n}", "scientificName": f"Genus number{n:04d}",
         "family": "Manyaceae", "identifier": f"https://example.org/m{n}.jpg"}
        for n in range(MANY)
    ]  # fmt: skip
    observations(rows() + more).write(root / "records", Plan("records"))
    return write_exploration(root / "records", root / "out")


@pytest.fixture(scope="module")
def page(html: Path, telephone: playwright.Page) -> playwright.Page:
    telephone.goto(html.as_uri())
    telephone.wait_for_function("[...document.querySelectorAll('.chart')].every(chart => chart.dataset.drawn)", timeout=60_000)
    return telephone


def names(page: playwright.Page, table: str = "species") -> list[str]:
    return page.locator(f".table[data-name={table}] tbody td:first-child").all_inner_texts()


def test_it_fits_a_telephone_fetches_nothing_and_complains_of_nothing(page: playwright.Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.complaints == []
    assert set(page.requests) <= {"file", "data", "blob"}
    charts = page.locator(".chart .main-svg").count()
    assert charts >= 8
    assert page.locator(".chart[data-drawn=yes]").count() == page.locator(".chart").count() == 10


def test_a_script_in_a_name_stays_text(page: playwright.Page) -> None:
    assert page.evaluate("document.body.dataset.broken") is None
    page.fill(".table[data-name=species] input", "<script>")
    assert names(page) == [EVIL]
    assert EVIL in names(page, "licences")
    assert page.evaluate("[...document.querySelectorAll('img')].every(image => !image.onerror)")
    # Plotly draws labels from markup: ours must come out as the letters that the record has.
    label = page.locator("#chart-institutions .ytick text").nth(2)  # after B and KEW
    assert label.text_content() == EVIL[:19] + "…"
    assert page.locator("#chart-institutions .ytick text img, #chart-institutions .ytick text a").count() == 0
    assert page.locator("#chart-countries .ytick text").first.text_content() == BOLD
    page.fill(".table[data-name=species] input", "")


def test_even_a_script_that_got_in_would_not_run(page: playwright.Page) -> None:
    page.evaluate("""() => { const script = document.createElement('script');
        script.textContent = 'document.body.dataset.broken = 1'; document.body.append(script); }""")
    assert page.evaluate("document.body.dataset.broken") is None
    assert any("Content Security Policy" in text for text in page.complaints)
    page.complaints.clear()


def test_the_table_of_species_is_paged_sorted_and_searched(page: playwright.Page) -> None:
    box = page.locator(".table[data-name=species]")
    assert len(names(page)) == 50
    assert names(page)[0] == "Bellis perennis"
    assert box.locator(".where").inner_text() == f"1–50 of {MANY + 4:,}"
    assert box.locator(".before").is_disabled()
    box.locator(".next").click()
    assert box.locator(".where").inner_text() == f"51–100 of {MANY + 4:,}"
    box.locator("thead button", has_text="Species").click()
    assert names(page)[1:3] == ["Acer campestre", "Acer rubrum"]  # after the one that begins with a sign
    box.locator("thead button", has_text="Species").click()
    assert names(page)[0] == f"Genus number{MANY - 1:04d}"
    page.fill(".table[data-name=species] input", "sapindACEAE")
    assert sorted(names(page)) == ["Acer campestre", "Acer rubrum"]
    box.locator("thead button", has_text="Shares").click()
    assert names(page)[0] == "Acer rubrum"  # its only picture is in test
    assert box.locator("tbody tr").first.locator(".shares").inner_text() == "0 · 0 · 100 %"
    page.fill(".table[data-name=species] input", "no such plant")
    assert (names(page), box.locator(".where").inner_text()) == ([], "none found")
    page.fill(".table[data-name=species] input", "")
    assert page.complaints == []


def test_a_click_on_a_family_finds_its_species(page: playwright.Page) -> None:
    chart = page.locator("#chart-families")
    chart.scroll_into_view_if_needed()
    bar = chart.locator(".bars .point").nth(3).bounding_box()  # Sapindaceae, after Manyaceae, Asteraceae and the evil one
    page.mouse.move(bar["x"] + bar["width"] / 2, bar["y"] + bar["height"] / 2)
    page.mouse.click(bar["x"] + bar["width"] / 2, bar["y"] + bar["height"] / 2)
    page.wait_for_function("document.querySelector('.table[data-name=species] input').value === 'Sapindaceae'")
    assert sorted(names(page)) == ["Acer campestre", "Acer rubrum"]


def test_the_file_names_no_address_of_ours(html: Path) -> None:
    text = html.read_text(encoding="utf-8")
    ours = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)  # plotly itself names many addresses and fetches none here
    assert not re.search(r"(src|href|action)=\"(?!#|data:)", ours.split('<script type="application/json"')[0])
    assert EVIL not in text
    assert text.count("</script>") == 3
