"""A recipe is a YAML file whose keys are the fields of frozen dataclasses; pydantic checks it here, at the door, only."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from taxakey.errors import BadRecipe

Options = TypeVar("Options")


def refuse_unknown_keys(*classes: type) -> None:
    """A key that no option has is a slip of the pen and must not be ignored. Said here, so that components need no pydantic."""
    for options in classes:
        setattr(options, "__pydantic_config__", ConfigDict(extra="forbid"))  # noqa: B010 - pydantic's door, not in the class


def read_mapping(text: str, origin: object) -> dict[str, Any]:
    """Parse YAML; raises BadRecipe, which names `origin`, for anything but a mapping."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadRecipe(f"{origin}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise BadRecipe(f"{origin}: a recipe is a mapping of keys, this is {type(content).__name__}")
    return content


def checked(adapter: TypeAdapter[Options], content: Mapping[str, Any], origin: object) -> Options:
    """The options; raises BadRecipe with `origin`, the key and what was expected."""
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the recipe"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise BadRecipe(f"{origin}: {place}: {first['msg']}, got {first['input']!r}{more}") from None


def read_text(path: Path) -> str:
    """The file's text; raises BadRecipe where it isn't UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadRecipe(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None


def expanded(text: str, key: str, next_step: str) -> str:
    """With ${VARIABLES} of the environment filled in; raises BadRecipe with the key and `next_step` where one isn't set."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise BadRecipe(f"{key} {text!r}: the environment variable {name} isn't set; set it, or {next_step}")
        return os.environ[name]

    return re.sub(r"\$\{(\w+)\}", value, text)
