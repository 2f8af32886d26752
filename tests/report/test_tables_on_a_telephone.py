"""Tables on a telephone: the figures stand on their side so that nothing is cut off, long lists keep their names in sight."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluated_world import make_rich_world

from taxakey.evaluation import evaluate
from taxakey.report.write import write_report

pytestmark = pytest.mark.browser

playwright = pytest.importorskip("playwright.sync_api", reason="install playwright: pip install 'taxakey[dev]'")
CUT_OFF = """[...document.querySelectorAll("table")].filter(table => !table.closest(".long, details"))
    .filter(table => table.scrollWidth > 351 || table.parentElement.scrollWidth > table.parentElement.clientWidth)
    .map(table => table.tHead.textContent)"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, telephone: playwright.Page) -> playwright.Page:
    root = tmp_path_factory.mktemp("rich")
    rich = make_rich_world(root)
    html = write_report(evaluate(rich.predictions, validation_folder=rich.validation, resamples=20), root / "report")
    telephone.goto(Path(html).as_uri())
    return telephone


def test_no_table_of_figures_is_cut_off(page: playwright.Page) -> None:
    assert page.evaluate("document.querySelectorAll('table').length") > 10
    assert page.evaluate(CUT_OFF) == []


def test_figures_stand_on_their_side(page: playwright.Page) -> None:
    places = page.evaluate(
        """[...document.querySelectorAll("#figures tr")].map(row =>
            [...row.cells].map(cell => cell.getBoundingClientRect()).map(box => [Math.round(box.x), Math.round(box.y)]))"""
    )
    assert len(places) >= 3
    for row in places:
        assert len({x for x, _ in row}) == 1, "a row is a column"
        assert [y for _, y in row] == [y for _, y in places[0]], "its figures beside their names"


def test_names_stay_in_sight_while_a_long_table_is_moved(page: playwright.Page) -> None:
    page.evaluate("document.querySelector('#species details').open = true")
    before, after = page.evaluate(
        """() => {
            const table = document.querySelector("#species .scroll"), name = table.querySelector("tbody td");
            const x = () => Math.round(name.getBoundingClientRect().x);
            const first = x();
            table.scrollLeft = 80;
            return [first, x()];
        }"""
    )
    assert before == after
