"""`taxakey build`: records -> a dataset of checked pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def build(
    records: Annotated[Path, typer.Argument(help="Folder that `taxakey records` wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder to write the dataset to.")],
    pictures: Annotated[
        Path | None, typer.Option(help="Folder that `taxakey fetch` wrote, for pictures that have no file.")
    ] = None,
    longest_edge: Annotated[int, typer.Option(help="Pictures are made no larger than this, in pixels.")] = 512,
    mask_text: Annotated[
        bool,
        typer.Option("--mask-text", help="Fill the text on herbarium sheets with noise (about a second a sheet)."),
    ] = False,
    mask_labels: Annotated[
        bool, typer.Option("--mask-labels", help="As --mask-text, and whole blocks of text, stamps and scale bars too.")
    ] = False,
    engine: Annotated[
        Literal["local", "spark"],
        typer.Option(help="spark: master by its own settings; all its machines see the same files."),
    ] = "local",
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Keep pictures known only to genus or family too, for training with the loss `marginal`."),
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads (processes when masking); by default as many as cores.")
    ] = None,
) -> None:
    """Decode, check and shrink the pictures of records into Parquet shards; an interrupted build goes on where it stopped.

    Example: taxakey build work/records work/dataset --longest-edge 384 --mask-text

    Example: taxakey build work/records work/dataset --pictures work/pictures
    """
    from taxakey.dataset.build import BuildOptions
    from taxakey.dataset.build import build as build_dataset
    from taxakey.dataset.masking import MaskOptions

    mask = MaskOptions(what="labels" if mask_labels else "text") if mask_text or mask_labels else None
    options = BuildOptions(longest_edge=longest_edge, mask=mask, partial=partial)
    counts = build_dataset(records, out, options, pictures=pictures, engine=engine, workers=workers).counts
    typer.echo(f"train {counts['train']:,}, validation {counts['validation']:,}, test {counts['test']:,} pictures")
    typer.echo(f"{counts['classes']:,} classes")
    if mask is not None:
        typer.echo(f"text was masked on {counts['masked']:,} pictures")
    if partial:
        typer.echo(
            f"{counts['partial']:,} pictures known to genus or family, {counts['partial_of_no_class']:,} of them above no class"
        )
    if counts["untrained_species"]:
        typer.echo(f"{counts['untrained_species']:,} species have no training picture and are no classes")
    if counts["failures"]:
        typer.echo(f"{counts['failures']:,} pictures can't be used:")
        for reason, number in _reasons(out):
            typer.echo(f"  {number:,}: {reason}")
        typer.echo(f"they are listed in {out / 'failures.parquet'}")
    typer.echo(f"dataset: {out}")


def _reasons(out: Path) -> list[tuple[str, int]]:
    """The five most frequent reasons; numbers in them, which differ from picture to picture, don't make them different."""
    import re
    from collections import Counter

    import pyarrow.parquet as pq

    reasons = pq.read_table(out / "failures.parquet", columns=["reason"])["reason"].to_pylist()
    return Counter(re.sub(r"\d[\d,.]*", "…", reason.split(" (")[0].split(";")[0]) for reason in reasons).most_common(5)
