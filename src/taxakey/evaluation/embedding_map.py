"""Where pictures of the commonest species lie in the space of a backbone's vectors, for one backbone or two side by side.

Shapes: N pictures, D width, K methods. Extra `maps` (scikit-learn), for UMAP `umap`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxakey.artifacts import hash_of
from taxakey.dataset.reader import Dataset, JoinedPart, Part
from taxakey.dataset.vectors import Vectors
from taxakey.errors import BadInput, needs_extra
from taxakey.evaluation.probes import FOLDS, cross_validated
from taxakey.metrics.differences import Difference, paired_differences
from taxakey.metrics.intervals import RESAMPLES, Interval, Statistic, bootstrap, ratio_of
from taxakey.progress import working

METHODS = ("pca", "tsne", "umap")
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class MapOptions:
    """`species`: so many of the commonest; `pictures`: of each at most, chosen by a hash of their ids; `parts`: where from;
    `methods`: of `METHODS`."""

    species: int = 5
    pictures: int = 80
    parts: tuple[str, ...] = PARTS
    methods: tuple[str, ...] = ("pca", "tsne")
    seed: int = 0
    resamples: int = RESAMPLES

    def __post_init__(self) -> None:
        if not (2 <= self.species <= 10 and FOLDS <= self.pictures <= 500):
            raise BadInput(f"{self.species} species (2 to 10) and {self.pictures} pictures of each ({FOLDS} to 500)")
        if strange := [name for name in self.methods if name not in METHODS] or not self.methods:
            raise BadInput(f"methods {strange or 'none'}: one or more of {', '.join(METHODS)}")
        if not self.parts or set(self.parts) - set(PARTS):
            raise BadInput(f"parts {', '.join(self.parts) or 'none'}: one or more of {', '.join(PARTS)}")


@dataclass(frozen=True, eq=False)
class Mapped:
    """One backbone. `places`: method -> [N, 2], each axis from -1 to 1; `silhouette`: mean over pictures of the silhouette by
    species, cosine distance of the whole vectors (Rousseeuw, 1987); `probe`: share of pictures that a linear layer names
    rightly, cross-validated."""

    name: str
    places: Mapping[str, NDArray[np.float64]]
    silhouette: Interval
    probe: Interval


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """`part`: the pictures [N]; `species`: the commonest first; `backbones` as given; `differences`: the first minus the second,
    paired; empty for one."""

    part: Part
    species: tuple[str, ...]
    backbones: tuple[Mapped, ...]
    differences: Mapping[str, Difference]
    observations: int
    options: MapOptions
    inputs: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """The figures and every picture's place as plain JSON values."""
        return {
            "species": list(self.species),
            "observations": self.observations,
            "options": asdict(self.options),
            "inputs": dict(self.inputs),
            "differences": {name: asdict(found) for name, found in self.differences.items()},
            "backbones": [
                {
                    "name": each.name,
                    "silhouette": asdict(each.silhouette),
                    "probe": asdict(each.probe),
                    "places": {method: places.round(4).tolist() for method, places in each.places.items()},
                }
                for each in self.backbones
            ],
            "pictures": self.part.image_ids,
            "scientificName": self.part.table["scientificName"].to_pylist(),
        }


def make_map(dataset_folder: Path | str, vectors: Sequence[Path | str], options: MapOptions | None = None) -> EmbeddingMap:
    """Choose the pictures, lay each backbone's vectors out in the plane, and measure how far species lie apart.

    Raises BadInput for more than two backbones, two of one name, or too few observations; MissingExtra without scikit-learn.
    """
    options, dataset = options or MapOptions(), Dataset.open(dataset_folder)
    names = [Path(folder).resolve().name for folder in vectors]
    if not 1 <= len(names) <= 2 or len(set(names)) < len(names):
        raise BadInput(f"{', '.join(names) or 'no vectors'}: name one or two, in folders of different names")
    part, species = choose(dataset, options)
    labels = part.table["scientificName"].to_pylist()
    found, statistics = [], []
    for folder, name in zip(vectors, names, strict=True):
        vectors_ND = Vectors(folder).part(part.name, part.image_ids).astype(np.float64)
        with working(f"laying out {name}"):
            places = {method: _scaled(_layout(method, vectors_ND, options.seed)) for method in options.methods}
            right_N = cross_validated(vectors_ND, labels, part.observation_ids, seed=options.seed)
            apart_N = _silhouettes(vectors_ND, labels)
        statistics.append({"silhouette": _over_pictures(apart_N, part), "probe": _over_pictures(right_N, part)})
        found.append((name, places))
    observations = len(set(part.observation_ids))
    measured = [bootstrap(each, observations, resamples=options.resamples, seed=options.seed) for each in statistics]
    pairs = {key: (statistics[0][key], statistics[1][key]) for key in statistics[0]} if len(statistics) == 2 else {}
    return EmbeddingMap(
        part=part,
        species=species,
        backbones=tuple(
            Mapped(name, places, figures["silhouette"], figures["probe"])
            for (name, places), figures in zip(found, measured, strict=True)
        ),
        differences=paired_differences(pairs, observations, resamples=options.resamples, seed=options.seed) if pairs else {},
        observations=observations,
        options=options,
        inputs={
            "dataset": hash_of(dataset.folder),
            **{name: hash_of(folder) for name, folder in zip(names, vectors, strict=True)},
        },
    )


def choose(dataset: Dataset, options: MapOptions) -> tuple[JoinedPart, tuple[str, ...]]:
    """Pictures of the commonest classes of some parts, and these species; ties by name, pictures by a hash of their ids."""
    parts = [dataset.part(name) for name in options.parts]
    names = [name for part in parts for name in part.table["scientificName"].to_pylist()]
    ids = [image for part in parts for image in part.image_ids]
    counts = Counter(name for name in names if name in set(dataset.taxonomy.names))
    species = sorted(counts, key=lambda name: (-counts[name], name))[: options.species]
    if len(species) < 2:
        raise BadInput(f"{dataset.folder}: {len(species)} species in {', '.join(options.parts)}; a map needs two")
    rows = []
    for name in species:
        own = [row for row, other in enumerate(names) if other == name]
        rows += sorted(own, key=lambda row: hashlib.md5(ids[row].encode(), usedforsecurity=False).hexdigest())[: options.pictures]
    return JoinedPart(parts, np.array(sorted(rows), dtype=np.int64)), tuple(species)


def _layout(method: str, vectors_ND: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """[N, 2]. t-SNE and UMAP start from the first two principal components, so that a seed gives one picture."""
    with needs_extra("maps"):
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
    if method == "tsne":
        perplexity = min(30.0, (len(vectors_ND) - 1) / 3)
        return TSNE(2, perplexity=perplexity, init="pca", metric="euclidean", random_state=seed).fit_transform(_unit(vectors_ND))
    if method == "umap":
        with needs_extra("umap"):
            from umap import UMAP  # type: ignore[import-not-found, import-untyped, unused-ignore]
        return UMAP(n_components=2, metric="cosine", random_state=seed, n_jobs=1).fit_transform(vectors_ND)
    return PCA(2, random_state=seed).fit_transform(_unit(vectors_ND))


def _unit(vectors_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of length 1: then the square of a Euclidean distance is twice the cosine distance."""
    return vectors_ND / np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12)


def _scaled(places_N2: NDArray[np.floating]) -> NDArray[np.float64]:
    """Centred, both axes by one factor, so that shapes stay as they are."""
    centred_N2 = places_N2 - (places_N2.max(axis=0) + places_N2.min(axis=0)) / 2
    return np.asarray(centred_N2 / max(float(np.abs(centred_N2).max()), 1e-12), dtype=np.float64)


def _silhouettes(vectors_ND: NDArray[np.float64], labels: Sequence[str]) -> NDArray[np.float64]:
    with needs_extra("maps"):
        from sklearn.metrics import silhouette_samples
    return np.asarray(silhouette_samples(vectors_ND, labels, metric="cosine"))


def _over_pictures(values_N: NDArray, part: Part) -> Statistic:
    """Mean over pictures in resamples of observations."""
    _, row_N = np.unique(np.asarray(part.observation_ids), return_inverse=True)
    return ratio_of(np.bincount(row_N, values_N), np.bincount(row_N))
