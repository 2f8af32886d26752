"""`taxakey fuse`: several pictures of an observation, and what is known besides, without training anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def fuse(
    model: Annotated[Path, typer.Argument(help="A run, its model/ folder, or a folder of folds, whose members are averaged.")],
    dataset: Annotated[Path, typer.Argument(help="The dataset that it was trained on.")],
    out: Annotated[Path, typer.Argument(help="Folder for fusion.json and the predictions made with it.")],
    names: Annotated[
        str | None,
        typer.Option(
            "--with",
            help="What to try: log-mean, quality, organ; five-crops, 20-crops; place (and season); any column of words: month, "
            "habitat … By default all that the dataset holds, without crops.",
        ),
    ] = None,
    part: Annotated[str, typer.Option(help="What to predict: test, or train.")] = "test",
    embeddings: Annotated[Path | None, typer.Option(help="Vectors of the model's own backbone, to save computing them.")] = None,
    beside_model: Annotated[
        bool,
        typer.Option("--beside-model", help="Also put fusion.json beside the model: identify and serve then use it."),
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the parts of validation and of the resamples.")] = 0,
) -> None:
    """Try on validation what may gain without training, keep what does, and predict a part with it.

    Example: taxakey fuse run/ dataset/ fused/ --with log-mean,quality,month,habitat,place
    """
    from taxakey.cli.device import resolve_device
    from taxakey.errors import BadInput
    from taxakey.prediction.fuse import FuseOptions, install
    from taxakey.prediction.fuse import fuse as compute
    from taxakey.prediction.fusion.judging import line

    wanted = None if names is None else tuple(name.strip() for name in names.split(","))
    options = FuseOptions(wanted, part, seed)
    if beside_model and options.crops():
        raise BadInput("--beside-model: identify and the server look at whole pictures; leave the crops out of --with")
    manifest, fusion = compute(model, dataset, out, options, embeddings_folder=embeddings, device=resolve_device(device))
    for found in fusion.judged:
        print(line(found))
    if not fusion.judged:
        print("nothing to try: no observation has several pictures, and nothing is known besides; name what to try by --with")
    counts = manifest.counts
    print(f"{out}: answers for {counts['observations']:,} observations, {counts['images']:,} pictures of {part}")
    if beside_model:
        print(f"beside the model: {install(fusion, model)}")
