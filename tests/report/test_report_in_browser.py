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
