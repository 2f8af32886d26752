"""The command `taxakey`. Exit status: 0 done, 1 a bug (with a traceback), 2 the input was bad (with one line that says how)."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated

import typer

from taxakey import __version__, progress
from taxakey.cli.add_species import add_species
from taxakey.cli.audit import audit
from taxakey.cli.build import build
from taxakey.cli.calibrate import calibrate
from taxakey.cli.challenge import challenge
from taxakey.cli.compare import compare
from taxakey.cli.compile import compile_dataset
from taxakey.cli.embed import embed
from taxakey.cli.ensemble import ensemble
from taxakey.cli.evaluate import evaluate
from taxakey.cli.explore import explore
from taxakey.cli.export import export
from taxakey.cli.fetch import fetch
from taxakey.cli.folds import folds
from taxakey.cli.frontier import frontier
from taxakey.cli.fuse import fuse
from taxakey.cli.identify import identify
from taxakey.cli.import_model import import_model
from taxakey.cli.import_predictions import import_predictions
from taxakey.cli.inspect import inspect
from taxakey.cli.journey import journey
from taxakey.cli.map import embedding_map
from taxakey.cli.names import drift, names
from taxakey.cli.predict import predict
from taxakey.cli.publish import publish
from taxakey.cli.records import records
from taxakey.cli.rescore import rescore
from taxakey.cli.router import router
from taxakey.cli.sample import sample
from taxakey.cli.select import select, split
from taxakey.cli.serve import serve
from taxakey.cli.shortcuts import shortcuts
from taxakey.cli.size import size
from taxakey.cli.study import study
from taxakey.cli.suspects import suspects
from taxakey.cli.train import train
from taxakey.cli.tune import tune
from taxakey.errors import TaxakeyError

_EXTRA_OF = {
    **dict.fromkeys(("torch", "torchvision", "timm", "lightning", "safetensors", "tensorboard", "huggingface_hub"), "train"),
    **dict.fromkeys(("fastapi", "starlette", "uvicorn", "onnxruntime", "python_multipart"), "serve"),
    **dict.fromkeys(("onnx", "onnxscript"), "export"),
    "executorch": "phone",
    **{"rapidocr": "mask", "pyspark": "spark", "optuna": "tune", "peft": "lora", "wandb": "wandb", "mlflow": "mlflow"},
    **{"sklearn": "maps", "umap": "umap"},
}
"""Which extra brings a package that a plain installation doesn't have."""

app = typer.Typer(
    help="From records and photographs of organisms to a model that names new photographs, says how sure it is, and serves "
    "the answer. The stages, in order: sample or your own data, records, build, embed, train, predict, evaluate, export, serve; "
    "journey walks them all in one go. From downloads to a dataset: names, select, fetch, inspect, split, audit, explore, "
    "publish; compile. Many runs: folds, tune, compare, ensemble, router, frontier, study. Believe it? calibrate, suspects, "
    "shortcuts, map. Gains without training: fuse. For organisers: challenge.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: readable in logs, and faster to start
    pretty_exceptions_enable=False,  # a bug shows Python's own traceback
)

app.add_typer(challenge, name="challenge")
app.command("compile")(compile_dataset)
app.command("map")(embedding_map)
for _command in (
    *(journey, sample, records, names, drift, select, split, fetch, inspect, build, audit, explore, publish),
    *(embed, size, train, folds, tune, add_species, import_model, calibrate, predict, import_predictions, fuse, rescore),
    *(evaluate, compare, suspects, shortcuts, ensemble, router, frontier, study, identify, export, serve),
):
    app.command()(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"taxakey {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    progress.show()


def main() -> None:
    """Run the command; an error meant for people is one line on stderr and status 2."""
    try:
        app()
    except TaxakeyError as error:
        print(f"taxakey: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        print(f"taxakey: the package {error.name} isn't installed; run: pip install 'taxakey[{extra}]'", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        print(f"taxakey: {error.filename or 'disk'}: {error.strerror}; name another place, or make room or way", file=sys.stderr)
        sys.exit(2)
