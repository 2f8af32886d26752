"""Ask a real `taxakey serve` process over HTTP, as an app would."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taxakey.errors import TaxakeyError

_TIMEOUT_SECONDS = 60.0


def ask_a_real_server(bundle: Path, pictures: Sequence[bytes], *, top: int) -> dict[str, Any]:
    """Start the server on a free port, post pictures of one specimen, stop it, and return its JSON answer."""
    with running_server(bundle) as address:
        body, content_type = _multipart(pictures)
        url = f"{address}/v2/identify/taxakey?nb-results={top}"
        request = urllib.request.Request(url, data=body, headers={"Content-Type": content_type}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise TaxakeyError(f"the server at {url} refused the picture: {error.read().decode(errors='replace')}") from error


@contextmanager
def running_server(bundle: Path) -> Iterator[str]:
    """The address of a `taxakey serve` process, which ends with the block."""
    command = [sys.executable, "-m", "taxakey", "serve", str(bundle), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if match := re.search(r"http://\S+:\d+", line):
                    yield match[0].rstrip("/")
                    return
            raise TaxakeyError(f"`taxakey serve {bundle}` ended without an address (its message stands above)")
        finally:
            process.terminate()


def _multipart(pictures: Sequence[bytes]) -> tuple[bytes, str]:
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="images"; filename="{number}.jpg"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + picture
        + b"\r\n"
        for number, picture in enumerate(pictures)
    ]
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
