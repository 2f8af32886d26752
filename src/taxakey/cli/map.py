"""`taxakey map`: pictures in the space of a backbone's vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def embedding_map(
    context: typer.Context,
    dataset: Annotated[Path, typer.Argument(help="The dataset.")],
    vectors: Annotated[
        list[Path], typer.Argument(help="Vectors of its pictures (from `taxakey embed`); two are laid side by side.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for map.html and map.json.")],
    species: Annotated[int, typer.Option(help="So many of the commonest species.")] = 5,
    pictures: Annotated[int, typer.Option(help="Of each species at most.")] = 80,
    part: Annotated[
        list[str] | None,
        typer.Option(help="train, validation or test, repeatable; by default all. Of a fine-tuned backbone: test."),
    ] = None,
    method: Annotated[list[str] | None, typer.Option(help="pca, tsne or umap, repeatable; by default pca and tsne.")] = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples behind each interval.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of layouts, folds and resamples.")] = 0,
) -> None:
    """Draw the commonest species in the plane, and measure how far they lie apart for one backbone or two.

    Example: taxakey map dataset/ mobilenet/ --out map/

    Example: taxakey map dataset/ mobilenet/ dinov2/ --out map/ --part test --method pca --method umap
    """
    from taxakey.cli.again import again
    from taxakey.evaluation.embedding_map import MapOptions, make_map
    from taxakey.report.map_page import says, write_map

    chosen = {name: tuple(values) for name, values in {"parts": part, "methods": method}.items() if values}
    options = MapOptions(species=species, pictures=pictures, seed=seed, resamples=resamples, **chosen)
    found = make_map(dataset, vectors, options)
    page = write_map(found, out, again(context))
    for each in found.backbones:
        typer.echo(f"{each.name}: named by a linear layer {each.probe}, silhouette {each.silhouette}")
    for sentence in says(found):
        typer.echo(sentence)
    typer.echo(f"map: {page}")
