"""`taxakey publish`: a finished dataset -> card, citation, attribution ledger, and a challenge's files on request."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer


def publish(
    dataset: Annotated[Path, typer.Argument(help="Folder that `taxakey build` finished.")],
    out: Annotated[Path, typer.Argument(help="Folder to write README.md, CITATION.cff, attribution.csv … to.")],
    title: Annotated[str, typer.Option(help="Of the dataset.")],
    author: Annotated[list[str], typer.Option(help='"Family, Given", or an institution without a comma; repeatable.')],
    version: Annotated[str, typer.Option(help="Of the dataset.")] = "1.0",
    released: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Date of the release.")] = None,
    doi: Annotated[str | None, typer.Option(help="Of the dataset, without https://doi.org/.")] = None,
    url: Annotated[str | None, typer.Option(help="Where the dataset will be.")] = None,
    licence: Annotated[str | None, typer.Option(help="SPDX name, for the compilation; pictures keep their own.")] = None,
    abstract: Annotated[str | None, typer.Option(help="What the dataset is, in some sentences.")] = None,
    download: Annotated[list[str] | None, typer.Option(help="DOI of a download of GBIF; repeatable.")] = None,
    records: Annotated[Path | None, typer.Option(help="The dataset's records, which may name such downloads.")] = None,
    flow: Annotated[Path | None, typer.Option(help="flow.json of the selection: what was dropped where.")] = None,
    also: Annotated[list[str] | None, typer.Option(help="A further layout: herbarium2022. Hides the test part's names.")] = None,
    solution: Annotated[Path | None, typer.Option(help="Folder for the answers, outside of what is published.")] = None,
    tree: Annotated[Path | None, typer.Option(help="Newick file for distances between genera; else from ranks.")] = None,
    numbering: Annotated[Path | None, typer.Option(help="CSV that numbers species: scientificName, category_id.")] = None,
    halves: Annotated[Path | None, typer.Option(help="Parquet: image_id and half (public, private) of the test part.")] = None,
    pictures: Annotated[bool, typer.Option(help="Whether the further layout gets its JPEG files.")] = True,
) -> None:
    """Write what a published dataset needs: card, citation, licences, dataset keys of GBIF.

    Example: taxakey publish work/dataset work/public --title "Flora of X" --author "Doe, Jane" --flow work/flow.json

    Example: taxakey publish work/dataset public --title X --author Y --also herbarium2022 --solution work/answers
    """
    from taxakey.dataset.publishing.citation import CitationOptions
    from taxakey.report.publication import PublicationOptions
    from taxakey.report.publication import publish as publish_dataset

    citation = CitationOptions(
        title=title, authors=tuple(author), version=version, released=released.date() if released else None, doi=doi, url=url,
        licence=licence, abstract=abstract, downloads=tuple(download or ()),
    )  # fmt: skip
    options = PublicationOptions(
        citation, records, flow, tuple(also or ()), solution, tree, numbering, halves, pictures
    )  # fmt: skip
    manifest = publish_dataset(dataset, out, options)
    typer.echo(f"{manifest.counts['images']:,} pictures with their licences and makers")
    for note in manifest.notes:
        typer.echo(f"note: {note}")
    if solution is not None:
        typer.echo(f"answers: {solution} (keep them, and key.txt, to yourself)")
    typer.echo(f"publication: {out}")
