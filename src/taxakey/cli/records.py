"""`taxakey records`: what was observed -> a table with a split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer


def records(
    source: Annotated[
        Path,
        typer.Argument(
            help="Darwin Core Archive (zip or folder), folder per species, CSV or Parquet, or a known dataset's files."
        ),
    ],
    out: Annotated[
        Path | None, typer.Argument(help="Folder to write the records to; with --gbif or --gbif-request it may be the only one.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="ours=theirs: a column of a CSV or Parquet file under another name; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split into train, validation and test.")] = 0,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            help="A further source, repeatable: a specimen that several deliver becomes one; --column is for the first."
        ),
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="Of a published dataset, where it isn't recognised: herbarium2022, inaturalist, …")
    ] = None,
    gbif: Annotated[
        str | None, typer.Option(help="Fetch this prepared GBIF download, by key or DOI, as a further source.")
    ] = None,
    gbif_request: Annotated[
        str | None,
        typer.Option(
            help="Order one GBIF download of these taxa, wait and fetch it: keys with commas, or a file with one a line."
        ),
    ] = None,
    basis: Annotated[
        list[str] | None, typer.Option(help="Of record, in the order to GBIF, such as PRESERVED_SPECIMEN; repeatable.")
    ] = None,
    downloads: Annotated[Path | None, typer.Option(help="Folder for GBIF's files; by default downloads/ beside OUT.")] = None,
    gbif_api: Annotated[str | None, typer.Option(help="Address of another service that speaks GBIF's calls.")] = None,
    vernacular: Annotated[
        Path | None, typer.Option(help="Checklist with the extension VernacularName, or a table, for the species' common names.")
    ] = None,
    language: Annotated[str, typer.Option(help="Of the vernacular names, such as en.")] = "en",
) -> None:
    """Read records and split them 70/10/20 by observation.

    An order at GBIF needs an account in GBIF_USER, GBIF_PWD and GBIF_EMAIL. Interrupted, the same command goes on with the same
    order and the same file.

    Example: taxakey records photographs/ work/records

    Example: taxakey records labels.csv work/records --column scientificName=label

    Example: taxakey records gbif.zip work/records --also idigbio.zip

    Example: taxakey records work/records --gbif 10.15468/dl.abc123
    """
    from dataclasses import asdict

    from taxakey import progress
    from taxakey.artifacts import Plan, kind_of
    from taxakey.records.reading.vernacular import read_vernacular, with_vernacular
    from taxakey.records.sources import read_sources, source_hash
    from taxakey.records.splits import SplitOptions, split

    columns = _mapping(column or [])
    options = SplitOptions(seed=seed)
    sources, out = _places(source, out, bool(gbif or gbif_request))
    fetched = _from_gbif(gbif, gbif_request, basis or [], downloads or out.parent / "downloads", gbif_api)
    sources += [*(also or []), *fetched]
    with progress.working(f"reading {', '.join(map(str, sources))}"):
        observations = read_sources(sources, columns, layout=layout)
        if vernacular is not None:
            observations = with_vernacular(observations, read_vernacular(vernacular, language))
        observations = split(observations, options)
    recipe: dict[str, Any] = {
        "columns": columns,
        "split": {key: value for key, value in asdict(options).items() if key != "seed"},
    }
    inputs = {"source" if not at else f"source {at + 1}": source_hash(path) for at, path in enumerate(sources)}
    if vernacular is not None:
        inputs["vernacular"] = source_hash(vernacular)
        recipe["language"] = language
    if layout is not None:
        recipe["layout"] = layout
    finished = kind_of(out) == "records"
    manifest = observations.write(out, Plan("records", inputs, recipe, seed))
    _summarise(manifest.counts, out, finished)


def _places(source: Path, out: Path | None, ordered: bool) -> tuple[list[Path], Path]:
    """The sources and where to write; a single place is the latter, and only right where GBIF delivers the source."""
    from taxakey.errors import BadInput

    if out is not None:
        return [source], out
    if not ordered:
        raise BadInput(f"{source}: only one place is given; name a source and the folder to write to (or --gbif KEY)")
    return [], source


def _from_gbif(key: str | None, taxa: str | None, basis: list[str], folder: Path, api: str | None) -> list[Path]:
    """Files fetched from GBIF: a prepared download, an order, both or none."""
    if key is None and taxa is None:
        return []
    from taxakey.records.gbif.fetching import fetch
    from taxakey.records.gbif.ordering import order, read_taxon_keys
    from taxakey.records.gbif.service import Gbif, GbifOptions

    files = []
    with Gbif(GbifOptions(api=api) if api else None) as service:
        found = [service.wait(key)] if key is not None else []
        if taxa is not None:
            found.append(order(service, read_taxon_keys(taxa), folder, basis))
        for download in found:
            files.append(fetch(service, download, folder))
            typer.echo(f"{files[-1]}: {download.citation()}")
    return files


def _mapping(pairs: list[str]) -> dict[str, str]:
    """["ours=theirs"] -> {"ours": "theirs"}; raises BadInput for anything else."""
    from taxakey.errors import BadInput

    columns = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not (ours.strip() and equals and theirs.strip()):
            raise BadInput(f"--column {pair}: not of the form ours=theirs, such as scientificName=label")
        columns[ours.strip()] = theirs.strip()
    return columns


def _summarise(counts: Mapping[str, int], out: Path, finished: bool) -> None:
    if finished:
        typer.echo(f"{out}: was finished before, nothing to do")
    typer.echo(f"{counts['images']:,} pictures of {counts['observations']:,} observations of {counts['species']:,} species")
    typer.echo(f"train {counts['train']:,}, validation {counts['validation']:,}, test {counts['test']:,} pictures")
    for name, number in counts.items():
        kind, _, fact = name.partition(": ")
        if fact:
            typer.echo(f"{kind} {number:,}: {fact}")
    if counts["rejected"]:
        typer.echo(f"rejected rows are listed in {out / 'rejected.parquet'}")
    typer.echo(f"records: {out}")
