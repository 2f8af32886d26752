"""The page in a real headless Chromium, served by a real server."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from colour_model import BETWEEN, COLOURS, GREEN, GREY, picture

from taxakey.serving.app import create_app

pytestmark = pytest.mark.browser
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'taxakey[dev]'")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser, address: str) -> Iterator[Callable]:
    """Opens the page; in the end nothing may have gone to another host, and no script may have failed."""
    contexts, foreign, faults = [], [], []
    usual = address

    def open_it(viewport: dict[str, int] = DESKTOP, *, address: str = usual, **options):
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        home = urlsplit(address).netloc
        page.on("request", lambda r: foreign.append(r.url) if urlsplit(r.url).netloc not in (home, "") else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
        page.goto(address)
        page.locator("#facts", has_text="Model").wait_for()  # wait_for_function evaluates text, which the page's policy forbids
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert foreign == []
    assert faults == []


def statement(page) -> str:
    page.locator("#answer").wait_for(state="visible")
    return page.locator("#statement").inner_text().replace("\u00a0", " ")


def test_a_chosen_photograph_is_named(open_page: Callable, photograph: Callable) -> None:
    page = open_page()
    assert page.locator("#identify").is_disabled()
    with page.expect_file_chooser() as chooser:
        page.locator("#drop").click()
    chooser.value.set_files([photograph("Bellis perennis")])
    page.get_by_role("button", name="Identify").click()
    said = statement(page)
    assert said.startswith("This looks like Bellis perennis (Asteraceae), ")
    assert said.endswith("%.")
    assert page.locator("#common").inner_text() == "daisy"
    rows = page.locator("#species > li:visible")
    assert rows.count() == 5
    assert "Bellis perennis L." in rows.first.inner_text()
    assert page.locator("#species em").first.evaluate("node => getComputedStyle(node).fontStyle") == "italic"
    assert page.locator("#genera li").first.inner_text().startswith("Bellis")
    assert page.locator("#families li").first.inner_text().startswith("Asteraceae")
    assert "On validation (412 observations)" in page.locator("#explanation").inner_text()
    assert not page.locator("#poison").is_visible()
    page.get_by_role("button", name="Show 1 more").click()
    assert page.locator("#species > li:visible").count() == 6
    widths = page.locator("#species .fill").evaluate_all("bars => bars.map(bar => bar.getBoundingClientRect().width)")
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 100


def test_an_unsure_answer_says_so_and_names_the_genus(open_page: Callable, tmp_path: Path) -> None:
    page = open_page()
    (tmp_path / "between.jpg").write_bytes(picture((75, 55, 180)))
    page.set_input_files("#files", tmp_path / "between.jpg")
    page.get_by_role("button", name="Identify").click()
    said = statement(page)
    assert said.startswith("Not sure. The best guess, Aconitum ")
    assert "the genus Aconitum has " in said
    explanation = page.locator("#explanation").inner_text().replace("\u00a0", " ")
    assert "below 62 % are called unsure" in explanation
    assert "62 % or more were right 93 % of the time" in explanation
    warning = page.locator("#poison").inner_text()
    assert "Poisonous species make up" in warning
    assert "edible" not in page.locator("body").inner_text()
    assert page.locator("#species .tag").count() == 3


def test_by_keyboard_alone(open_page: Callable, photograph: Callable) -> None:
    page = open_page()
    # Chromium hands its file dialog to the test only once somebody listens, and on a busy machine that takes a moment: listen
    # from the start, so that the answers to the questions below come after it.
    page.on("filechooser", lambda _: None)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    assert page.locator("#drop").evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files([photograph("Caltha palustris"), photograph("Bellis perennis")])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Remove Caltha_palustris.jpg"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # removes the daisy
    assert page.locator("#thumbs li").count() == 1
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Remove Caltha_palustris.jpg"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "identify"
    page.keyboard.press("Enter")
    assert "Caltha palustris" in statement(page)
    assert page.evaluate("document.activeElement.id") == "statement"
    assert page.locator("#status").text_content().startswith("Done.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_telephone_nothing_is_cut_off(open_page: Callable, photograph: Callable, scheme: str) -> None:
    page = open_page(PHONE, color_scheme=scheme, has_touch=True, is_mobile=True)
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) == 0
    long_name = photograph("Tussilago farfara", "a_very_long_name_" * 8 + ".jpg")
    page.set_input_files("#files", [long_name, photograph("Caltha palustris"), photograph("Bellis perennis")])
    page.get_by_role("button", name="Identify").tap()
    statement(page)
    assert page.evaluate(wide) == 0
    sizes = page.locator(".remove").evaluate_all("nodes => nodes.map(node => node.getBoundingClientRect().width)")
    assert min(sizes) >= 32, "a finger must hit it"


def test_what_is_no_picture_is_refused_by_its_name(open_page: Callable, photograph: Callable, tmp_path: Path) -> None:
    page = open_page()
    notes = tmp_path / "notes.jpg"
    notes.write_text("seen in May, by the river")
    page.set_input_files("#files", [photograph("Bellis perennis"), notes])
    page.get_by_role("button", name="Identify").click()
    problem = page.locator("#problem p")
    problem.wait_for()
    assert problem.inner_text().startswith("notes.jpg isn't a picture that can be read")
    assert not page.locator("#answer").is_visible()
    # Taken away, the rest is identified.
    page.get_by_role("button", name="Remove notes.jpg").click()
    assert page.locator("#problem").inner_text() == ""
    page.get_by_role("button", name="Identify").click()
    assert "Bellis perennis" in statement(page)


def test_limits_are_explained_before_anything_is_sent(open_page: Callable, photograph: Callable, tmp_path: Path) -> None:
    page = open_page()
    large, text = tmp_path / "large.jpg", tmp_path / "list.txt"
    large.write_bytes(picture(COLOURS["Bellis perennis"]) + b"\0" * 400_000)
    text.write_text("a list")
    page.set_input_files("#files", [large, text, *(photograph("Bellis perennis", f"{number}.jpg") for number in range(6))])
    said = page.locator("#problem").inner_text().replace("\u00a0", " ")
    assert "large.jpg is too large: 0.4 MB, at most 0.4 MB." in said
    assert "list.txt isn't a picture." in said
    assert "5.jpg was left out: at most 5 photographs" in said
    assert page.locator("#thumbs li").count() == 5
    assert page.locator("#thumbs img").first.evaluate("node => node.naturalWidth") == 80


def test_a_server_that_is_away_is_said_plainly_and_nothing_is_lost(open_page: Callable, photograph: Callable) -> None:
    page = open_page()
    page.set_input_files("#files", [photograph("Bellis perennis")])
    page.route("**/v2/**", lambda route: route.abort())
    page.get_by_role("button", name="Identify").click()
    page.locator("#problem p").wait_for()
    assert "The server doesn't answer" in page.locator("#problem").inner_text()
    page.unroute("**/v2/**")
    page.get_by_role("button", name="Identify").click()
    assert "Bellis perennis" in statement(page)


def test_a_dropped_photograph_and_starting_over(open_page: Callable) -> None:
    page = open_page()
    content = list(picture(COLOURS["Calendula officinalis"]))
    page.evaluate(
        """content => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(content)], "dropped.jpg", { type: "image/jpeg" }));
            const drop = new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
            document.getElementById("drop").dispatchEvent(drop);
        }""",
        content,
    )
    page.get_by_role("button", name="Identify").click()
    assert "Calendula officinalis" in statement(page)
    page.get_by_role("button", name="Next specimen").click()
    assert not page.locator("#answer").is_visible()
    assert page.locator("#thumbs li").count() == 0
    assert page.evaluate("document.activeElement.id") == "files"


# ---- a model that decides ----


def ask_about(page, file: Path) -> None:
    page.set_input_files("#files", file)
    page.get_by_role("button", name="Identify").click()


def test_a_genus_is_named_where_the_species_cant_be(open_page: Callable, deciding_address: str, tmp_path: Path) -> None:
    page = open_page(address=deciding_address)
    (tmp_path / "between.png").write_bytes(picture(BETWEEN, format="PNG"))
    ask_about(page, tmp_path / "between.png")
    assert statement(page) == "This is an Aconitum, over 99 %; which one can't be said."
    assert page.locator("#statement em").inner_text() == "Aconitum"
    possible = page.locator("#possible").inner_text().replace("\u00a0", " ")
    assert possible.startswith("Sets like this hold the right species 90 % of the time: Aconitum ")
    assert "97 % of them right" in page.locator("#explanation").inner_text().replace("\u00a0", " ")
    assert "unsure" in (page.locator("#slip").get_attribute("class") or "")
    assert page.locator("#species > li:visible").count() == 5, "the ranking stands beside"


def test_what_may_be_unknown_is_said_first(open_page: Callable, deciding_address: str, tmp_path: Path) -> None:
    page = open_page(address=deciding_address)
    (tmp_path / "grey.png").write_bytes(picture(GREY, format="PNG"))
    ask_about(page, tmp_path / "grey.png")
    assert statement(page) == (
        "Perhaps a species that this model doesn't know. This is an Aconitum, over 99 %; which one can't be said."
    )
    assert "may be named wrongly" in page.locator("#facts").inner_text()


def test_no_organism_is_said_and_the_answer_is_a_click_away(open_page: Callable, deciding_address: str, tmp_path: Path) -> None:
    page = open_page(address=deciding_address)
    (tmp_path / "green.png").write_bytes(picture(GREEN, format="PNG"))
    ask_about(page, tmp_path / "green.png")
    page.locator("#problem p").wait_for()
    assert page.locator("#problem p").inner_text().startswith("No organism that this model knows can be made out.")
    assert not page.locator("#answer").is_visible()
    page.get_by_role("button", name="Show the answer anyway").click()
    assert statement(page).startswith("No organism that this model knows can be made out. ")
    assert page.locator("#species > li:visible").count() == 5


def test_a_restricted_server_says_so_with_every_answer(
    open_page: Callable, bundle: Path, serve_app: Callable, photograph: Callable
) -> None:
    with serve_app(create_app(bundle, only="Asteraceae")) as address:
        page = open_page(PHONE, address=address)
        assert "Only 3 of the model's 6 species were considered" in page.locator("#facts").inner_text()
        ask_about(page, photograph("Caltha palustris"))
        statement(page)
        said = page.locator("#restriction").inner_text().replace("\u00a0", " ")
        assert "Only 3 of the model's 6 species were considered: the family Asteraceae." in said
        assert said.endswith("Most of it lay on other species: perhaps it is one of those.")
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
