"""What a model says of pictures whose plant is painted over, and what a linear layer could learn from what is left.

Shapes: N pictures, D width of the backbone's features.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taxakey.dataset.blanking import Blanked, BlankOptions
from taxakey.dataset.reader import Dataset, Part
from taxakey.embeddings import features
from taxakey.errors import BadInput
from taxakey.training.checkpoint import load_model

MOST = 4000
"""Training pictures looked at, at most; test pictures half as many."""


@dataclass(frozen=True, eq=False)
class Blank:
    """`train`, `test`: the pictures that were looked at; `features_train_ND`, `features_test_ND`: what the backbone makes of
    them, painted over; `named_N`: class that the whole model names for each test picture, `named_whole_N` for the same as they
    are."""

    train: Blanked
    test: Blanked
    features_train_ND: NDArray[np.float32]
    features_test_ND: NDArray[np.float32]
    named_N: NDArray[np.int64]
    named_whole_N: NDArray[np.int64]


def look_at_blank(
    model_folder: Path | str,
    dataset_folder: Path | str,
    options: BlankOptions | None = None,
    *,
    part: str = "test",
    most: int = MOST,
    seed: int = 0,
    device: str = "cpu",
) -> Blank:
    """Paint over pictures of the training part and of `part`, and ask the model.

    At most `most` training pictures are looked at and half as many of the other part, of the model's species, drawn with `seed`.
    Raises BadInput for the training part, which can't be its own test, and for a model that takes metadata: those, and not the
    picture, might name the species.
    """
    model, dataset = load_model(model_folder, device), Dataset.open(dataset_folder)
    dataset.taxonomy.require_same(model.taxonomy.fingerprint, mine=dataset.folder, theirs=model.folder)
    if part == "train":
        raise BadInput("--part train: what is learnt from painted pictures must be tried on others; say test or validation")
    if model.metadata is not None:
        raise BadInput(
            f"{model.folder}: it takes metadata, which may name a species without any picture; test a run without them"
        )
    options = options or BlankOptions()
    asked = dataset.part(part)
    whole = _some(asked.only(np.flatnonzero(asked.class_index >= 0)), max(1, most // 2), seed)
    train, test = Blanked(_some(dataset.part("train"), most, seed), options), Blanked(whole, options)
    said = [
        features(model.network, pictures, range(len(pictures)), model.preprocess, device=device, description=what).argmax(axis=1)
        for pictures, what in ((test, "naming painted pictures"), (whole, "naming the same pictures"))
    ]
    backbone = model.network.backbone
    seen = [
        features(backbone, pictures, range(len(pictures)), model.preprocess, device=device, description="looking at what is left")
        for pictures in (train, test)
    ]
    return Blank(train, test, seen[0], seen[1], said[0], said[1])


def _some(part: Part, most: int, seed: int) -> Part:
    if len(part) <= most:
        return part
    return part.only(np.sort(np.random.default_rng(seed).permutation(len(part))[:most]))
