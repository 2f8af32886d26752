"""How all pages are rendered: what comes from data is escaped, and a name that a template doesn't know is an error."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


def template(name: str, **filters: Callable[..., Any]) -> Template:
    """A template of this folder, with filters of its own."""
    environment = Environment(
        loader=PackageLoader("taxakey", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(name)


def jpeg_address(jpeg: bytes) -> str:
    """A picture as data: URI."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
