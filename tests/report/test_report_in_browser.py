"""The page of a report in a real headless Chromium: it fits a telephone, sorts, finds, and complains of nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from evaluated_world import make_world

from taxakey.evaluation import evaluate
from taxakey.report.write import write_report

pytestmark = pytest.mark.browser

playwright = pytest.importorskip("playwright.sync_api", reason="install playwright: pip install 'taxakey[dev]'")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[playwright.Page]:
    browser_path = shutil.which("chromium")
    if browser_path is None:
        pytest.skip("no chromium on this machine; install it: apt-get install chromium")
    root = tmp_path_factory.mktemp("world")
    html = write_report(evaluate(make_world(root).predictions, resamples=20), root / "report")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 390, "height": 844})
        tab.complaints = []
        tab.requests = []
        tab.on("console", lambda message: tab.complaints.append(message.text))
        tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.on("request", lambda request: tab.requests.append(request.url.split(":")[0]))
        tab.goto(Path(html).as_uri())
        yield tab
        browser.close()


def test_it_fits_a_telephone_and_every_picture_is_shown(page: playwright.Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert page.complaints == []
    assert set(page.requests) <= {"file", "data"}


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
