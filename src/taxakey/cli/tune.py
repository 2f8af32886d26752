"""`taxakey tune`: a search for better values in a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def tune(
    recipe: Annotated[str, typer.Argument(help="A recipe file or the name of a built-in one: where the search begins.")],
    dataset: Annotated[Path, typer.Argument(help="A finished dataset; its test part is never opened.")],
    out: Annotated[Path, typer.Argument(help="Folder for the search: best.yaml, trials, plots.")],
    space: Annotated[str, typer.Option(help="What to vary: a YAML file of keys and values, or rates, or fine-tuning.")],
    trials: Annotated[int, typer.Option(min=1, help="How many in all; asked for more later, the search goes on.")] = 20,
    embeddings: Annotated[Path | None, typer.Option(help="Vectors (from `taxakey embed`), for `train: head`.")] = None,
    start_from: Annotated[Path | None, typer.Option("--from", help="A finished run that each trial goes on from.")] = None,
    weights: Annotated[str | None, typer.Option(help="Pretrained weights: a file, `hub` or `none`; else the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed than the recipe's.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Search for better values with Optuna, judged on validation; killed, the same command goes on where it stopped.

    Example: taxakey tune frozen-linear dataset/ search/ --space rates --trials 30 --embeddings vectors/
    """
    from taxakey.cli.device import resolve_device
    from taxakey.models.backbones import quiet_timm
    from taxakey.report.search_page import write_search_page
    from taxakey.training.recipe import read_recipe
    from taxakey.training.search import search
    from taxakey.training.search_space import read_space

    quiet_timm()
    chosen = read_recipe(recipe).with_weights(weights).with_seed(seed)
    manifest = search(
        dataset,
        chosen,
        read_space(space, chosen),
        out,
        trials=trials,
        embeddings_folder=embeddings,
        start_from=start_from,
        device=resolve_device(device),
    )
    page = write_search_page(out, chosen.loop.best_by)
    counts = manifest.counts
    print((out / "best.yaml").read_text(encoding="utf-8"))
    print(f"{counts['trials']} trials, {counts['pruned']} given up early, {counts['fail']} failed; {out / 'trials.csv'}, {page}")
