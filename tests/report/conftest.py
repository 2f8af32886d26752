"""Small evaluated worlds, made once, and a real headless Chromium with the screen of a telephone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from evaluated_world import RichWorld, World, make_rich_world, make_world

from taxakey.evaluation import Report, evaluate


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def report(world: World) -> Report:
    return evaluate(world.predictions, resamples=50)


@pytest.fixture(scope="session")
def rich_world(tmp_path_factory: pytest.TempPathFactory) -> RichWorld:
    return make_rich_world(tmp_path_factory.mktemp("rich"))


@pytest.fixture(scope="module")
def telephone() -> Iterator[Any]:
    """A tab that notes in `complaints` what the console says, and in `requests` the schemes of all addresses asked for."""
    playwright = pytest.importorskip("playwright.sync_api", reason="install playwright: pip install 'taxakey[dev]'")
    browser_path = shutil.which("chromium")
    if browser_path is None:
        pytest.skip("no chromium on this machine; install it: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 390, "height": 844})
        tab.complaints, tab.requests = [], []
        tab.on("console", lambda message: tab.complaints.append(message.text))
        tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.on("request", lambda request: tab.requests.append(request.url.split(":")[0]))
        yield tab
        browser.close()
