"""`taxakey sample`: draw the simulated herbarium."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sample(
    out: Annotated[Path, typer.Argument(help="Folder to write: archive.zip, checklist.csv, truth.csv, images/.")],
    sheets: Annotated[int, typer.Option(help="Photographs of herbarium sheets.")] = 1500,
    species: Annotated[int | None, typer.Option(help="Species; by default the square root of the sheets.")] = None,
    size: Annotated[int, typer.Option(help="Longest edge in pixels.")] = 256,
    seed: Annotated[int, typer.Option(help="The same seed and options give the same bytes.")] = 0,
    unknown_species: Annotated[int, typer.Option(help="Further species, in validation and test only.")] = 0,
    shift: Annotated[float, typer.Option(help="Further test sheets, as share, in which rare species are the common ones.")] = 0.0,
    wrong_labels: Annotated[float, typer.Option(help="Share of specimens under the name of another species.")] = 0.0,
    duplicates: Annotated[float, typer.Option(help="Share of specimens whose picture appears again in another record.")] = 0.0,
    leaks: Annotated[int, typer.Option(help="Specimens that appear twice, for each of five kinds of leak.")] = 0,
    web: Annotated[int, typer.Option(help="Pictures of a second, noisy collection (web.zip).")] = 0,
    address: Annotated[
        str, typer.Option(help="Of pictures, such as http://127.0.0.{number}:8000/{path}; number, institution: whose it is.")
    ] = "{path}",
    idigbio: Annotated[float, typer.Option(help="Share of specimens that a second portal delivers too (idigbio.zip).")] = 0.0,
) -> None:
    """Draw a simulated herbarium: sheets, records and names of an invented flora.

    Example: taxakey sample herbarium --sheets 1500 --unknown-species 5
    """
    from taxakey.records.sample import SampleOptions
    from taxakey.records.sample import sample as draw

    options = SampleOptions(
        sheets=sheets,
        species=species,
        size=size,
        seed=seed,
        unknown_species=unknown_species,
        shift=shift,
        wrong_labels=wrong_labels,
        duplicates=duplicates,
        leaks=leaks,
        web=web,
        address=address,
        idigbio=idigbio,
    )
    counts = draw(out, options).counts
    typer.echo(
        f"{out}: {counts['sheets']:,} sheets of {counts['specimens']:,} specimens, {counts['species']:,} species in "
        f"{counts['genera']:,} genera and {counts['families']:,} families; next: taxakey records {out / 'archive.zip'} …"
    )
