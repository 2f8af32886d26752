"""How all pages are rendered: what comes from data is escaped, and a name that a template doesn't know is an error."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape


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


def policy(*scripts: str) -> str:
    """Content security policy that lets exactly these scripts run, and no address be asked for anything."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {allowed}"


def embedded(value: Any) -> Markup:
    """JSON that can't end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def jpeg_address(jpeg: bytes) -> str:
    """A picture as data: URI."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def formula(text: str) -> Markup:
    """`O_c` with its index below the line."""
    return Markup(re.sub(r"_(\w+)", r"<sub>\1</sub>", str(escape(text))))
