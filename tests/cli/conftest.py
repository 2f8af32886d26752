"""A drawn herbarium whose pictures only a real HTTP server has."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from taxakey.artifacts import write_json
from taxakey.records.sample import SampleOptions, sample


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def herbarium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder with the archives of two portals; their pictures' addresses lead to several hosts of this machine."""
    folder = tmp_path_factory.mktemp("herbarium") / "drawn"
    with ThreadingHTTPServer(("0.0.0.0", 0), partial(Quiet, directory=str(folder))) as server:
        address = f"http://127.0.0.{{number}}:{server.server_port}/{{path}}"
        sample(folder, SampleOptions(sheets=150, size=96, duplicates=0.1, idigbio=0.4, address=address), workers=1)
        for picture in sorted(folder.rglob("*.jpg"))[::20]:
            picture.unlink()  # as on any server, some are gone
        write_json(folder / "archive.json", {"doi": "10.15468/dl.drawn1"})  # as `taxakey records --gbif` notes it
        Thread(target=server.serve_forever, daemon=True).start()
        yield folder
        server.shutdown()
