"""`taxakey serve`: the page and the interface over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def serve(
    bundle: Annotated[Path, typer.Argument(help="An exported bundle, or an ensemble (slower: torch runs all members).")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 0,
    project: Annotated[str, typer.Option(help="Name of the project in POST /v2/identify/NAME.")] = "taxakey",
    only: Annotated[
        str | None, typer.Option(help="Only these species: flora.csv, flora.csv:COUNTRY, or taxa of the model (Rosaceae).")
    ] = None,
    decide: Annotated[
        Literal["argmax", "roll-up", "least-cost"] | None,
        typer.Option(help="What is answered beside the ranking; roll-up for a model with decisions.json, else nothing."),
    ] = None,
    costs: Annotated[str | None, typer.Option(help="For least-cost: poison, or a CSV with true,answer,cost.")] = None,
    shares: Annotated[
        Path | None, typer.Option(help="Shares of species that differ from training's: a CSV with scientificName,share.")
    ] = None,
) -> None:
    """Serve a page for photographs and the interface behind it until Ctrl-C; prints the address once it listens.

    Example: taxakey serve bundle/ --port 8000
    """
    from taxakey.serving.server import serve as listen

    def ready(address: str) -> None:
        print(address, flush=True)

    told = None if shares is None else str(shares)
    listen(bundle, host=host, port=port, project=project, only=only, decide=decide, costs=costs, shares=told, on_ready=ready)
