"""What a stranger may send: limits, refusals in one shape, and the guard that counts the bytes of a body while they arrive."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from taxakey.errors import needs_extra

with needs_extra("serve"):
    from starlette.datastructures import Headers, MutableHeaders
    from starlette.responses import JSONResponse
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS = {
    # No foreign server, no inline script; blob: is how the page shows a photograph that has not left the visitor's machine.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "AVIF")


@dataclass(frozen=True)
class Limits:
    """Of one request, except for the last three, which are of the server."""

    images: int = 5
    image_bytes: int = 20 * 10**6
    form_bytes: int = 10**6
    """For everything in the body beside the pictures."""
    pixels: int = 100 * 10**6
    upload_seconds: float = 120.0
    requests: int = 16
    """Requests being uploaded, waiting or computed; one more is sent away with 503."""
    computing: int = 1
    """Models running at once; each already uses all cores."""
    retry_seconds: int = 5

    @property
    def body_bytes(self) -> int:
        return self.images * self.image_bytes + self.form_bytes


class Refusal(Exception):
    """A request is refused; `message` is for the person who sent it."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})

    def response(self) -> JSONResponse:
        """In the shape of the Pl@ntNet API's errors."""
        content = {"statusCode": self.status, "error": HTTPStatus(self.status).phrase, "message": self.message}
        return JSONResponse(content, self.status, self.headers)


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 10**6 else f"{size / 1e3:,.0f} kB"


class Guard:
    """ASGI middleware: refuses a body over `limits.body_bytes` by its stated and by its true length; adds security headers.

    Nothing is buffered here: what lies beyond the limit is never read.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app, self.limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limits.body_bytes:
                raise self._too_large()
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
            await send(message)

        stated = Headers(scope=scope).get("content-length", "0")
        if not stated.isdecimal() or int(stated) > self.limits.body_bytes:
            await self._too_large().response()(scope, receive, with_headers)
        else:
            await self.app(scope, counted, with_headers)

    def _too_large(self) -> Refusal:
        most = f"{self.limits.images} images of {megabytes(self.limits.image_bytes)}"
        return Refusal(413, f"the request is too large; at most {most} in one request", {"Connection": "close"})


def check_picture(data: bytes, name: str, limits: Limits) -> None:
    """Refuse a picture by its header alone, before anything is decoded: 413 for its size, 415 if it is none."""
    from PIL import Image

    if len(data) > limits.image_bytes:
        raise Refusal(413, f"{name} has {megabytes(len(data))}; at most {megabytes(limits.image_bytes)}")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            width, height = picture.size
    except Image.DecompressionBombError:
        raise Refusal(413, f"{name} has too many pixels; at most {limits.pixels / 1e6:,.0f} million") from None
    except Exception:  # hostile bytes make parsers raise anything
        raise Refusal(415, f"{name} isn't a picture that can be read (JPEG, PNG, WebP, TIFF, GIF, BMP, AVIF)") from None
    if width * height > limits.pixels:
        raise Refusal(413, f"{name} has {width} × {height} pixels; at most {limits.pixels / 1e6:,.0f} million")


def upload_schema(limits: Limits, takes: Sequence[str] = ()) -> dict[str, Any]:
    """The body of the request for /openapi.json; the form is read by hand so that its limits hold while it arrives.

    `takes`: what the model can be told besides (`Identifier.takes`).
    """
    many = {"type": "array", "minItems": 1, "maxItems": limits.images}
    images = {**many, "items": {"type": "string", "format": "binary"}, "description": "photographs of ONE specimen"}
    organs = {**many, "items": {"type": "string"}, "description": "one for each image; this model doesn't look at them"}
    known = {name: {"type": "string", "description": "if known; see /health for the words of categories"} for name in takes}
    form = {"type": "object", "required": ["images"], "properties": {"images": images, "organs": organs, **known}}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}
