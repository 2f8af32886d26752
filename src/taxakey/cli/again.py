"""The command that a page names at its foot."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import typer


def again(context: typer.Context) -> str:
    """The running command with every option said, defaults too, so that a later version with other defaults repeats it.

    Folders and files by their names: whoever runs it again has them side by side, and no page tells of somebody's disk. Folders
    that are part of a text (NAME=FOLDER, VALIDATION,TEST) as they were given, absolute ones by their last two names.
    """
    words = ["taxakey", str(context.info_name)]
    options: list[str] = []
    for parameter in context.command.params:
        values = context.params.get(str(parameter.name))
        for value in values if isinstance(values, (list, tuple)) else [] if values is None else [values]:
            said = _said(value)
            if parameter.param_type_name == "argument":
                words.append(said)
            elif isinstance(value, bool):
                options += (parameter.opts if value else parameter.secondary_opts)[:1]
            else:
                options += [parameter.opts[0], said]
    return shlex.join([*words, *options])


def _said(value: Any) -> str:
    if isinstance(value, Path):
        return value.resolve().name
    return re.sub(r"(?<![^=,])/[^=,]+", lambda path: "/".join(Path(path[0]).parts[-2:]), str(value))
