"""A real HTTP server on a loopback address, which answers as its tests tell it and remembers who asked for what and when."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from small_pictures import noise


class Request(NamedTuple):
    at: float
    path: str
    headers: Mapping[str, str]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # header and body are two writes, and a delayed ACK between them costs 40 ms
    server: PictureServer

    def do_GET(self) -> None:
        self.server.requests.append(Request(time.monotonic(), self.path, dict(self.headers)))
        answer = self.server.answers.get(self.path, self.server.default)
        try:
            answer(self)
        except (BrokenPipeError, ConnectionResetError):
            self.server.broken[self.path] += 1  # the client has gone
            self.close_connection = True
        else:
            self.server.completed[self.path] += 1

    def log_message(self, format: str, *args: object) -> None: ...

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


Answer = Callable[[Handler], None]


class PictureServer(ThreadingHTTPServer):
    """Use as a context manager. `answers`: path -> what is done for it; other paths are not found."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: str = "127.0.0.1") -> None:
        super().__init__((address, 0), Handler)
        self.answers: dict[str, Answer] = {}
        self.default: Answer = status(404)
        self.requests: list[Request] = []
        self.completed: Counter[str] = Counter()
        self.broken: Counter[str] = Counter()
        self.connections = 0
        self.closing = threading.Event()
        self.url = f"http://{address}:{self.server_port}"

    def __enter__(self) -> PictureServer:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is what many of these tests are about."""

    def paths(self) -> list[str]:
        """All that was asked for, in order, without robots.txt."""
        return [request.path for request in self.requests if request.path != "/robots.txt"]

    def times(self, path: str) -> list[float]:
        return [request.at for request in self.requests if request.path == path]


def jpeg(seed: int = 0, height: int = 30, width: int = 40) -> bytes:
    file = io.BytesIO()
    noise(seed, height, width).save(file, "JPEG", quality=80)
    return file.getvalue()


# ---- answers ----


def gives(data: bytes, media_type: str = "image/jpeg", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(handler: Handler) -> None:
        handler.start(200, {"Content-Type": media_type, "Content-Length": str(len(data)), **named})
        handler.wfile.write(data)

    return answer


def status(code: int, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.start(code, {"Content-Length": "0", **named})


def redirects(to: str, code: int = 302) -> Answer:
    return status(code, Location=to)


def in_turn(*answers: Answer) -> Answer:
    """The first request gets the first answer, and so on; the last one stays."""
    left = list(answers)
    return lambda handler: (left.pop(0) if len(left) > 1 else left[0])(handler)


def after(seconds: float, answer: Answer) -> Answer:
    def late(handler: Handler) -> None:
        time.sleep(seconds)
        answer(handler)

    return late


def stalls(data: bytes) -> Answer:
    """Half of it, and then silence."""

    def answer(handler: Handler) -> None:
        handler.start(200, {"Content-Type": "image/jpeg", "Content-Length": str(len(data))})
        handler.wfile.write(data[: len(data) // 2])
        handler.server.closing.wait(20)
        handler.close_connection = True

    return answer


def drips(data: bytes, seconds: float, rest: bytes = b"") -> Answer:
    """Byte by byte: never silent for long, and slow. The `rest` comes at once."""

    def answer(handler: Handler) -> None:
        handler.start(200, {"Content-Type": "image/jpeg", "Content-Length": str(len(data + rest))})
        for byte in data:
            handler.wfile.write(bytes([byte]))
            if handler.server.closing.wait(seconds):
                return
        handler.wfile.write(rest)

    return answer


def cut_off(data: bytes) -> Answer:
    """Promises a kilobyte more than it sends."""

    def answer(handler: Handler) -> None:
        handler.start(200, {"Content-Type": "image/jpeg", "Content-Length": str(len(data) + 1024)})
        handler.wfile.write(data)
        handler.close_connection = True

    return answer


def chunks(data: bytes, *, ends: bool) -> Answer:
    """Chunked; without its end the last chunk is missing."""

    def answer(handler: Handler) -> None:
        handler.start(200, {"Content-Type": "image/jpeg", "Transfer-Encoding": "chunked"})
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) + (b"0\r\n\r\n" if ends else b""))
        handler.close_connection = not ends

    return answer


def until_closed(data: bytes) -> Answer:
    """As HTTP/1.0 did it: no length, the end of the connection is the end of the body."""

    def answer(handler: Handler) -> None:
        handler.start(200, {"Content-Type": "image/jpeg", "Connection": "close"})
        handler.wfile.write(data)
        handler.close_connection = True

    return answer


def endless(head: bytes, size: int, sent: list[int], *, declared: bool) -> Answer:
    """`size` bytes made on the fly; what could be sent is added to `sent`."""

    def answer(handler: Handler) -> None:
        length = {"Content-Length": str(size)} if declared else {"Connection": "close"}
        handler.start(200, {"Content-Type": "image/jpeg", **length})
        handler.close_connection = True
        piece, left = bytes(2**16), size
        handler.wfile.write(head)
        while left > 0:
            handler.wfile.write(piece)
            left -= len(piece)
            sent.append(len(piece))

    return answer
