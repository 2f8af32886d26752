"""`taxakey serve`: the page and the interface over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    bundle: Annotated[Path, typer.Argument(help="An exported bundle.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 0,
    project: Annotated[str, typer.Option(help="Name of the project in POST /v2/identify/NAME.")] = "taxakey",
) -> None:
    """Serve a page for photographs and the interface behind it until Ctrl-C; prints the address once it listens.

    Example: taxakey serve bundle/ --port 8000
    """
    from taxakey.serving.server import serve as listen

    listen(bundle, host=host, port=port, project=project, on_ready=lambda address: print(address, flush=True))
