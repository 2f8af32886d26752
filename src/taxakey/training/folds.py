"""The members of an ensemble from one recipe: a run for each fold, and the folder that holds them all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from taxakey import artifacts
from taxakey.artifacts import Manifest, Plan
from taxakey.dataset.folds import Fold, Pool
from taxakey.errors import BadRecipe
from taxakey.training.checkpoint import FOLDS, model_folder
from taxakey.training.loop import train
from taxakey.training.recipe import Recipe


def train_folds(
    dataset_folder: Path | str,
    recipe: Recipe,
    out: Path | str,
    *,
    members: int | None = None,
    pool: Pool = "all",
    embeddings_folder: Path | str | None = None,
    start_from: Path | str | None = None,
    device: str = "auto",
) -> Manifest:
    """Train member after member, each a run like any other in `out`/fold-1 …; interrupted, it goes on with the one cut off.

    `members` defaults to the recipe's `folds`. All members begin with the same seed: they differ by what they learn from.
    """
    members = members or recipe.folds
    if members < 2:
        raise BadRecipe(f"{recipe.name}: it says folds: {recipe.folds}; put folds: 5 into the recipe, say, or name --folds 5")
    out = Path(out)
    plan = Plan(FOLDS, _inputs(dataset_folder, embeddings_folder, start_from), {
        **recipe.to_dict(), "folds": members, "pool": pool, "backbone": {**recipe.to_dict()["backbone"], "weights": "by member"},
    }, recipe.seed)  # fmt: skip
    if artifacts.start(out, plan) == "finished":
        return artifacts.read_manifest(out, FOLDS)
    for number in range(1, members + 1):
        fold = Fold(number, members, pool)
        member = train(
            dataset_folder, recipe, out / f"fold-{number}", embeddings_folder=embeddings_folder, start_from=start_from, fold=fold,
            device=device,
        )  # fmt: skip
    return artifacts.finish(out, plan, counts={"members": members, "classes": member.counts["classes"]}, taxonomy=member.taxonomy)


def _inputs(dataset: Path | str, embeddings: Path | str | None, start_from: Path | str | None) -> Mapping[str, str]:
    inputs = {"dataset": artifacts.hash_of(dataset)}
    if embeddings is not None:
        inputs["embeddings"] = artifacts.hash_of(embeddings)
    if start_from is not None:
        inputs["from"] = artifacts.hash_of(model_folder(start_from) / "model.safetensors")
    return inputs
