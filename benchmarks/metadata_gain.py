"""What metadata add to frozen features: heads trained with them and without, on the same vectors, asked with them and without.

    python benchmarks/metadata_gain.py DATASET VECTORS OUT [--recipe recipes/herbarium-metadata.yaml] [--seeds 3] [--part test]
        [--only NAME …]

Each head is trained once a seed through `taxakey.training.loop.train`. Printed and written to OUT/results.json: top-1 of the
part's pictures, in percent, mean over seeds and each seed; "told nothing" asks the same model with everything unknown.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before timm

import numpy as np
import torch
from numpy.typing import NDArray

from taxakey.dataset.reader import Dataset, Part
from taxakey.dataset.vectors import Vectors
from taxakey.metadata.encoder import MetadataOptions
from taxakey.models.backbones import with_metadata
from taxakey.models.heads import LinearOptions
from taxakey.models.mlp import MlpOptions
from taxakey.training.checkpoint import Model, load_model
from taxakey.training.loop import train
from taxakey.training.recipe import Recipe, read_recipe


def variants(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe and what it is compared with."""
    mlp, given = MlpOptions(hidden=512, dropout=0.2), recipe.metadata or MetadataOptions()
    return {
        "linear, no metadata": replace(recipe, head=LinearOptions(), metadata=None),
        "mlp, no metadata": replace(recipe, head=mlp, metadata=None),
        "mlp": replace(recipe, head=mlp, metadata=given),
        "transformer": replace(recipe, metadata=given),
        "transformer, smooth place": replace(recipe, metadata=replace(given, place="sphere")),
        "transformer, nothing hidden": replace(recipe, metadata=replace(given, hide=0.0)),
    }


def top_1(model: Model, part: Part, vectors_ND: NDArray[np.float32], metadata_NM: NDArray[np.float32] | None) -> float:
    with torch.inference_mode():
        told = None if metadata_NM is None else torch.from_numpy(metadata_NM)
        named_N = model.network.head(with_metadata(torch.from_numpy(vectors_ND), told)).argmax(1).numpy()
    return 100 * float((named_N == part.class_index).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--recipe", default="recipes/herbarium-metadata.yaml")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--part", default="test")
    parser.add_argument("--only", nargs="*", help="names of heads, as they are printed; default: all")
    options = parser.parse_args()
    part = Dataset.open(options.dataset).part(options.part)
    vectors_ND = Vectors(options.vectors).part(part.name, part.image_ids)
    results: dict[str, list[float]] = {}
    for name, recipe in variants(read_recipe(options.recipe)).items():
        if options.only and name not in options.only:
            continue
        for seed in range(options.seeds):
            run = options.out / f"{name.replace(', ', '-').replace(' ', '_')}-{seed}"
            train(options.dataset, recipe.with_seed(seed), run, embeddings_folder=options.vectors, device="cpu")
            model = load_model(run)
            told_NM = None if model.metadata is None else model.metadata.encode(part.table)
            results.setdefault(name, []).append(top_1(model, part, vectors_ND, told_NM))
            if model.metadata is not None:
                nothing_NM = model.metadata.nothing_known(len(part))
                results.setdefault(f"{name}, told nothing", []).append(top_1(model, part, vectors_ND, nothing_NM))
    for name, values in results.items():
        print(f"{name:44} {statistics.mean(values):5.1f}   ({' '.join(f'{value:.1f}' for value in values)})")
    (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
