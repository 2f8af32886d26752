"""`taxakey size`: what a model will cost, before it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from taxakey.training.recipe import Recipe


def size(
    classes: Annotated[int | None, typer.Option(min=1, help="How many classes.")] = None,
    dataset: Annotated[Path | None, typer.Option(help="Or the classes of a finished dataset.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Any name of timm's; else the recipe's.")] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Side of the pictures in pixels; else the backbone's own.")
    ] = None,
    head: Annotated[list[str] | None, typer.Option(help="linear, bottleneck, tree …; may be repeated. Else these three.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Backbone, head, optimiser, batch from a recipe file or a built-in one.")
    ] = None,
    train: Annotated[str | None, typer.Option(help="head (on stored features) or all (on pictures); else the recipe's.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Pictures in a batch; else the recipe's.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw, sgd, lazy_adamw (sparse gradients) …; else the recipe's.")] = None,
    memory: Annotated[str | None, typer.Option(help="Also: how many classes fit into so much memory? 8GB, 24GiB …")] = None,
    paper: Annotated[bool, typer.Option("--paper", help="BioMachina's Table 1 beside our own count, and nothing else.")] = False,
    device: Annotated[
        Literal["cpu", "cuda", "auto"], typer.Option(help="Where it would train; this computer needn't have it.")
    ] = "auto",
    format: Annotated[Literal["table", "json"], typer.Option(help="table or json.")] = "table",
) -> None:
    """Parameters, bytes, work and training memory of heads side by side; nothing is built, downloaded or trained.

    Example: taxakey size --classes 80000 --backbone efficientnet_b4 --memory 8GB
    """
    from taxakey.models.backbones import quiet_timm

    quiet_timm()
    if paper:
        _show_paper(as_json=format == "json")
        return

    import json
    from dataclasses import replace

    import torch

    from taxakey.errors import BadInput
    from taxakey.size.comparison import compare, default_heads, head_by_kind, parse_bytes, with_controls
    from taxakey.size.memory import Training
    from taxakey.size.network import Backbone, ClassList
    from taxakey.size.tables import comparison_tables, print_tables

    if classes is not None and dataset is not None:
        raise BadInput("--classes and --dataset both say how many classes there are; give one")
    if classes is None and dataset is None and memory is None:
        raise BadInput("how many classes? say --classes 80000, --dataset FOLDER, or --memory 8GB to learn how many would fit")
    chosen = _recipe(recipe, backbone=backbone, image_size=image_size, train=train, batch=batch, optimizer=optimizer)
    sparse = chosen.optimizer.name == "lazy_adamw"
    if head:
        heads = tuple(head_by_kind(kind, sparse=sparse) for kind in head)
    else:
        heads = with_controls(chosen.head) if recipe else default_heads(sparse=sparse)
    training = Training(
        chosen.optimizer.build,
        chosen.loop.batch_size,
        chosen.loss,
        backbone=chosen.train == "all",
        precision=chosen.loop.precision,
        device=device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu",
    )
    listed = ClassList.of_dataset(dataset) if dataset else ClassList.numbered(classes) if classes else None
    if chosen.targets.wanted and (memory or not dataset):
        raise BadInput("the sizes of further targets hang on the taxonomy: name a dataset with --dataset, and leave --memory out")
    found = compare(
        Backbone(chosen.backbone, chosen.tuning),
        heads,
        training,
        classes=listed and replace(listed, targets=chosen.targets),
        budget=parse_bytes(memory) if memory else None,
    )
    if format == "json":
        print(json.dumps({**found.to_dict(), "optimizer": chosen.optimizer.name}, indent=2))
    else:
        print_tables(comparison_tables(found, chosen.optimizer.name))


def _recipe(
    source: str | None,
    *,
    backbone: str | None,
    image_size: int | None,
    train: str | None,
    batch: int | None,
    optimizer: str | None,
) -> Recipe:
    """The recipe, or one of defaults, with what was said on the command line in its place."""
    from taxakey.training.recipe import Recipe, read_recipe, recipe_from

    plain = (read_recipe(source) if source else Recipe(name="the command line")).to_dict()
    if backbone is not None:
        plain["backbone"] = {"name": backbone}
    if image_size is not None:
        plain["backbone"]["image_size"] = image_size
    if train is not None:
        plain["train"] = train
    if batch is not None:
        plain["loop"]["batch_size"] = batch
    if optimizer is not None:
        plain["optimizer"]["name"] = optimizer
    return recipe_from(plain, source or "the command line")


def _show_paper(*, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    from taxakey.size.paper import SOURCE, paper_table
    from taxakey.size.tables import paper_group, print_tables

    table = paper_table()
    if not as_json:
        print_tables(paper_group(table))
        return
    rows = [{"printed": asdict(printed), "counted": {**asdict(size), "total": size.total}} for printed, size in table.rows]
    control = {**asdict(table.control), "total": table.control.total}
    print(json.dumps({"source": SOURCE, "rows": rows, "control": control, "remarks": table.remarks}, indent=2))
