"""`taxakey import-model`: somebody else's checkpoint as a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_model(
    file: Annotated[Path, typer.Argument(help="Weights: .safetensors, or what torch saved (.pth, .pt, .tar), tensors only.")],
    out: Annotated[Path, typer.Argument(help="Folder for the run: everything that takes a run takes it.")],
    classes: Annotated[
        Path,
        typer.Option(
            help="Names of the classes in the model's order: one a line, a JSON list, or Pl@ntNet-300K's species_id_2_name.json."
        ),
    ],
    architecture: Annotated[
        str | None, typer.Option(help="timm's name of the network, such as resnet50.tv_in1k, where the file doesn't say it.")
    ] = None,
    mean: Annotated[str | None, typer.Option(help="Mean of red, green, blue, such as 0.485,0.456,0.406.")] = None,
    std: Annotated[str | None, typer.Option(help="Their standard deviations.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the picture that the network is given.")] = None,
    crop: Annotated[float | None, typer.Option(help="Share of the resized picture's side that is cut from its middle.")] = None,
    interpolation: Annotated[str | None, typer.Option(help="bilinear or bicubic.")] = None,
) -> None:
    """Take over a model that others trained: timm's, torchvision's, or Pl@ntNet-300K's. No code in the file is run.

    Example: taxakey import-model resnet50_weights_best_acc.tar run/ --classes plantnet300K_species_id_2_name.json
    --architecture resnet50.tv_in1k
    """
    from taxakey.models.backbones import quiet_timm
    from taxakey.training.importing import ImportOptions
    from taxakey.training.importing import import_model as take_over

    quiet_timm()
    options = ImportOptions(architecture, three(mean, "--mean"), three(std, "--std"), image_size, crop, interpolation)
    take_over(file, classes, out, options)
    print((out / "model" / "README.md").read_text(encoding="utf-8"))
    print(f"model: {out / 'model'}")


def three(text: str | None, option: str) -> tuple[float, float, float] | None:
    """Three numbers, divided by commas."""
    from taxakey.errors import BadInput

    if text is None:
        return None
    try:
        red, green, blue = (float(number) for number in text.split(","))
    except ValueError:
        raise BadInput(f"{option} {text}: three numbers are needed, such as 0.485,0.456,0.406") from None
    return red, green, blue
