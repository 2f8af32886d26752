"""`taxakey fetch`: the pictures of records from the servers that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer


def fetch(
    records: Annotated[Path, typer.Argument(help="Finished records; their rows that have an address and no file are fetched.")],
    out: Annotated[Path, typer.Argument(help="Folder for the pictures.")],
    contact: Annotated[
        str | None, typer.Option(help="Your mail address or page, told to every host so that its people can reach you.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Requests a second to one host, at most.")] = 2.0,
    per_host: Annotated[int, typer.Option(help="Requests under way at one host.")] = 2,
    concurrency: Annotated[int, typer.Option(help="Requests under way in all.")] = 128,
    max_mib: Annotated[float, typer.Option(help="Larger files are refused.")] = 256,
    retry: Annotated[
        Literal["none", "transient", "all"],
        typer.Option(help="Which failures of an earlier run are tried again; transient: those that may have passed."),
    ] = "transient",
    allow_private_addresses: Annotated[
        bool, typer.Option("--allow-private-addresses", help="Also ask this machine and the local network.")
    ] = False,
) -> None:
    """Fetch pictures, politely: robots.txt, Retry-After and refusals are obeyed. Run it again to go on and to retry failures.

    Example: taxakey fetch work/records work/pictures --contact you@example.org
    """
    from taxakey.dataset.fetch import FetchOptions
    from taxakey.dataset.fetch import fetch as fetch_pictures

    options = FetchOptions(
        contact=contact,
        rate=rate,
        per_host=per_host,
        concurrency=concurrency,
        max_bytes=int(max_mib * 2**20),
        allow_private_addresses=allow_private_addresses,
    )
    try:
        counts = fetch_pictures(records, out, options, retry=retry).counts
    except KeyboardInterrupt:
        typer.echo(f"{out}: interrupted; the same command goes on where it stopped", err=True)
        raise typer.Exit(130) from None
    _summarise(counts, out)


def _summarise(counts: Mapping[str, int], out: Path) -> None:
    typer.echo(f"{counts['pictures']:,} pictures in {counts['files']:,} files, {counts['bytes'] / 1e6:,.1f} MB")
    if counts["failures"]:
        typer.echo(f"{counts['failures']:,} pictures can't be had, as {out / 'failures.parquet'} lists:")
        for name, number in counts.items():
            if name.startswith("failed: "):
                typer.echo(f"  {number:,}: {name.removeprefix('failed: ')}")
    if counts["to retry"]:
        typer.echo(f"{counts['to retry']:,} of them will be tried again when the same command is run once more")
    typer.echo(f"pictures: {out}")
