"""`taxakey journey`: the whole way in one command, from a folder per species (or a table, or an archive) to a served answer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taxakey.cli.build import build
from taxakey.cli.evaluate import evaluate
from taxakey.cli.export import export
from taxakey.cli.records import records
from taxakey.errors import BadInput

if TYPE_CHECKING:
    from taxakey.training.recipe import Recipe

WITH_WEIGHTS = "frozen-linear"
FROM_SCRATCH = "scratch-small"


def journey(
    source: Annotated[Path, typer.Argument(help="A folder with a folder per species, a CSV, or a Darwin Core Archive.")],
    out: Annotated[Path, typer.Argument(help="Folder for everything that is made.")],
    recipe: Annotated[
        str | None, typer.Option(help=f"A recipe file or a built-in one; by default {WITH_WEIGHTS}, see above.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Pretrained weights of the recipe's backbone: a file, `hub` or `none`.")
    ] = None,
    seed: Annotated[int, typer.Option(help="For the split and the training.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
) -> None:
    """Walk the whole way: records, dataset, training, evaluation, report, export, and one question to the real server.

    Without --recipe and --weights a frozen backbone with pretrained weights from the hub is taken, and only a linear layer is
    trained on it. Where the hub can't be reached, a small network is trained from scratch instead, which needs many more
    photographs for the same accuracy; it says so, here, in the report and in the model card. Name a file of weights with
    --weights FILE (for another backbone than the recipe's: copy the recipe and change its `backbone`).

    Every step is a command of its own; an interrupted journey goes on where it stopped.

    Example: taxakey journey my-photographs/ my-model/
    """
    from taxakey.artifacts import read_manifest
    from taxakey.cli.device import resolve_device
    from taxakey.embeddings import embed
    from taxakey.models.backbones import quiet_timm
    from taxakey.prediction.predict import predict
    from taxakey.training.loop import train

    quiet_timm()
    device = resolve_device(device)
    begun = time.monotonic()

    def say(step: str) -> None:
        print(f"\n[{time.monotonic() - begun:4.0f} s] {step}", flush=True)

    chosen, notes = choose_recipe(recipe, weights, seed)
    for note in notes:
        print(f"Note: {note}")
    say(f"records from {source}")
    records(source, out / "records", seed=seed)
    say("dataset: every picture decoded, checked, made small")
    build(out / "records", out / "dataset")
    if not read_manifest(out / "dataset", "dataset").counts["test"]:
        raise BadInput(f"{source}: no species has enough photographs for a test part (three or more), so nothing can be measured")
    vectors = out / "embeddings" if chosen.train == "head" else None
    if vectors is not None:
        say(f"embeddings of every picture by {chosen.backbone.name}")
        embed(out / "dataset", chosen.resolved().backbone, vectors, device=device)
    say(f"training by the recipe {chosen.name}")
    train(out / "dataset", chosen, out / "run", embeddings_folder=vectors, device=device, notes=notes)
    say("naming the test part, which nothing has seen yet")
    predict(out / "run", out / "dataset", out / "predictions", embeddings_folder=vectors, device=device)
    say("evaluation and report")
    evaluate(out / "predictions", out / "report", dataset=out / "dataset", run=out / "run", seed=seed)
    say("export to ONNX, its answers compared with the trained network's")
    export(out / "run", out / "bundle")
    say("one unseen photograph, asked of the real server over HTTP")
    _ask(out)
    say("done")
    print(f"report: {out / 'report' / 'report.html'}\nmodel:  {out / 'run' / 'model'}\nbundle: {out / 'bundle'}")
    print(f"next:   taxakey serve {out / 'bundle'}\n        taxakey identify {out / 'bundle'} PHOTO…")


def choose_recipe(recipe: str | None, weights: str | None, seed: int) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe, and what must be said about it. Only where neither was named do missing weights lead to another recipe."""
    from taxakey.errors import WeightsUnavailable
    from taxakey.models.backbones import NO_WEIGHTS, build_backbone
    from taxakey.training.recipe import read_recipe

    scratch = read_recipe(FROM_SCRATCH).with_seed(seed)
    if recipe is None and weights == NO_WEIGHTS:
        return scratch, ("trained from scratch, as --weights none asked.",)
    chosen = read_recipe(recipe or WITH_WEIGHTS).with_weights(weights).with_seed(seed)
    try:
        build_backbone(chosen.resolved().backbone)
    except WeightsUnavailable as error:
        if recipe is not None or weights is not None:
            raise
        return scratch, (
            f"trained from scratch, because {error}. From scratch a network needs many more photographs for the same accuracy.",
        )
    return chosen, ()


def _ask(out: Path) -> None:
    from taxakey.cli.ask import ask_a_real_server
    from taxakey.dataset.reader import Dataset

    part = Dataset.open(out / "dataset").part("test")
    answer = ask_a_real_server(out / "bundle", [part.image_bytes(0)], top=5)
    print(f"{part.image_ids[0]}, which is {part.truth().species[0]}; the server says:")
    for result in answer["results"]:
        species = result["species"]
        print(f"  {result['score']:6.1%}  {species['scientificNameWithoutAuthor']}  ({species['family']['scientificName']})")
