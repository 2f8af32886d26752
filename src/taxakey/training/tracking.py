"""Who is told of a run's figures: TensorBoard always, Weights & Biases and MLflow when the recipe says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import taxakey.torchvision_guard  # noqa: F401  before Lightning

from taxakey.artifacts import hash_of, write_text
from taxakey.errors import needs_extra
from taxakey.training.scale import first_process

if TYPE_CHECKING:  # Lightning takes seconds to load, and whoever reads a recipe doesn't need it
    from lightning.pytorch.loggers import Logger


@dataclass(frozen=True)
class TrackingOptions:
    """`curves.csv`, `steps.csv` and `tensorboard/` are written always; here are the others.

    `wandb`: a project of Weights & Biases; `mlflow`: an experiment of MLflow, which `mlflow_store` keeps (an address,
    `file:FOLDER` or `sqlite:///FILE`; null for `mlruns/` in the run's folder). Keys and passwords come from these programs' own
    environment variables, never from a recipe.
    """

    wandb: str | None = None
    mlflow: str | None = None
    mlflow_store: str | None = None

    def __post_init__(self) -> None:
        if self.mlflow_store is not None and self.mlflow is None:
            raise ValueError("mlflow_store needs the name of an experiment in mlflow")
        if "" in (self.wandb, self.mlflow, self.mlflow_store):
            raise ValueError("an empty name is none; leave the key out")

    def build(self, run: Path, name: str, recipe: Mapping[str, Any]) -> list[Logger]:
        """The loggers; `recipe`: what they show as the run's parameters. Raises MissingExtra with the line that installs one."""
        from lightning.pytorch.loggers import TensorBoardLogger

        loggers: list[Logger] = [TensorBoardLogger(run / "tensorboard", name="", version="")]
        if self.wandb is not None:
            loggers.append(_wandb(self.wandb, run, name))
        if self.mlflow is not None:
            loggers.append(_mlflow(self.mlflow, self.mlflow_store or (run / "mlruns").resolve().as_uri(), run, name))
        for logger in loggers[1:]:
            logger.log_hyperparams(dict(recipe))
        return loggers


def _wandb(project: str, run: Path, name: str) -> Logger:
    with needs_extra("wandb"):
        import_module("wandb")
    from lightning.pytorch.loggers import WandbLogger

    # The plan tells runs apart, and a resumed one goes on in the same place.
    return WandbLogger(
        name=name, project=project, save_dir=run, id=hash_of(run / "plan.json")[:32], resume="allow", log_model=False
    )


def _mlflow(experiment: str, store: str, run: Path, name: str) -> Logger:
    with needs_extra("mlflow"):
        import_module("mlflow")
    from lightning.pytorch.loggers import MLFlowLogger

    begun = run / "mlflow_run.txt"  # MLflow chooses the name itself; a resumed run must find it again
    known = begun.read_text(encoding="utf-8").strip() if begun.is_file() else None
    logger = MLFlowLogger(experiment_name=experiment, run_name=name, tracking_uri=store, run_id=known)
    if known is None and first_process():
        write_text(begun, f"{logger.run_id}\n")
    return logger
