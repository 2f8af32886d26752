"""The bundle that all tests of serving share."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import uvicorn
from colour_model import COLOURS, make_decisions, picture, write_bundle
from fastapi import FastAPI

from taxakey.serving.app import create_app
from taxakey.serving.identifier import Identifier, load
from taxakey.serving.limits import Limits


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("serving") / "bundle")


@pytest.fixture(scope="session")
def identifier(bundle: Path) -> Identifier:
    return load(bundle)


@pytest.fixture(scope="session")
def deciding_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with decisions.json."""
    return write_bundle(tmp_path_factory.mktemp("serving") / "deciding", decisions=make_decisions())


@pytest.fixture(scope="session")
def deciding_address(deciding_bundle: Path) -> Iterator[str]:
    with served(create_app(deciding_bundle, project="flora")) as address:
        yield address


@pytest.fixture
def photograph(tmp_path: Path) -> Callable[[str], Path]:
    """A file that shows the colour of a species."""

    def make(species: str, name: str | None = None) -> Path:
        file = tmp_path / (name or f"{species.replace(' ', '_')}.jpg")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(COLOURS[species]))
        return file

    return make


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve an app on a free port by a real uvicorn in a thread; gives the address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()


@pytest.fixture(scope="session")
def address(bundle: Path) -> Iterator[str]:
    """A real server of the tiny bundle, with small limits on bytes."""
    with served(create_app(bundle, project="flora", limits=Limits(image_bytes=400_000, form_bytes=50_000))) as address:
        yield address


@pytest.fixture(scope="session")
def serve_app() -> Callable[[FastAPI], AbstractContextManager[str]]:
    """`served`, for a test that needs an app of its own."""
    return served
