"""A local server that speaks the calls of GBIF's download service, with the faults that tests ask for."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0001234-250101000000000"
DOI = "10.15468/dl.abc123"
ACCOUNT = "Basic " + base64.b64encode(b"botanist:s3cret-word").decode()


@dataclass
class Service:
    """`states`: what each question about the download is answered, the last one again and again; `busy`: how many calls of which
    kind are answered 429; `pieces`: after how many bytes each sending of the file breaks off.
    """

    content: bytes
    states: list[str] = field(default_factory=lambda: ["SUCCEEDED"])
    busy: dict[str, int] = field(default_factory=dict)
    pieces: list[int] = field(default_factory=list)
    size: int | None = None
    ranges: bool = True
    order_fails: int = 0
    key: str = KEY
    log: list[str] = field(default_factory=list)
    orders: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""


@contextmanager
def running(service: Service) -> Iterator[Service]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            service.log.append(f"GET {self.path} {wanted}".strip())
            if self._busy("GET"):
                return
            if self.path.endswith(".zip"):
                return self._send_file(int(wanted.removeprefix("bytes=").rstrip("-") or 0) if service.ranges else 0)
            if self.path in (f"/v1/occurrence/download/{service.key}", f"/v1/occurrence/download/{DOI}"):
                state = service.states.pop(0) if len(service.states) > 1 else service.states[0]
                return self._answer(200, self._description(state))
            self._answer(404, "no such download")

        def do_POST(self) -> None:
            service.log.append(f"POST {self.path}")
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self._busy("POST"):
                return
            if self.headers.get("Authorization") != ACCOUNT:
                return self._answer(401, "who are you?")
            service.orders.append(body)
            if service.order_fails:
                return self._answer(service.order_fails, "the order is in, the answer isn't")
            self._answer(201, service.key)

        def _busy(self, method: str) -> bool:
            if not service.busy.get(method):
                return False
            service.busy[method] -= 1
            self.send_response(429)
            self.send_header("Retry-After", "7")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return True

        def _description(self, state: str) -> dict[str, Any]:
            size = len(service.content) if service.size is None else service.size
            link = f"{service.url}/occurrence/download/request/{service.key}.zip"
            said = {"key": service.key, "doi": DOI, "status": state, "created": "2026-11-20T10:00:00Z", "totalRecords": 3}
            return {**said, "size": size, "downloadLink": link, "license": "http://creativecommons.org/licenses/by/4.0/legalcode"}

        def _send_file(self, begin: int) -> None:
            rest = service.content[begin:]
            if begin and not rest:
                return self._answer(416, "")
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(service.content) - 1}/{len(service.content)}")
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[: service.pieces.pop(0)] if service.pieces else rest)
            self.close_connection = True

        def _answer(self, status: int, content: object) -> None:
            body = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
