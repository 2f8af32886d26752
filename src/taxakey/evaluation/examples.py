"""What is worth looking at: the pairs that are confused most, and observations named right and wrong, with small pictures."""

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from taxakey.dataset.reader import Part
from taxakey.evaluation.content import Answer, ConfusedPair, Example, Examples
from taxakey.evaluation.labels import Labelled, label
from taxakey.evaluation.sources import ANSWERS, Sources
from taxakey.metrics.confusion import confusions

PAIRS = 12
EXAMPLES = 6
"""Of each kind."""

THUMBNAIL_EDGE = 220
_QUALITY = 76  # about 8 kB a picture, so that a report with 42 of them stays below half a megabyte


def confused_pairs(sources: Sources, *, most: int = PAIRS) -> tuple[ConfusedPair, ...]:
    """Pairs true -> predicted at species by number of observations, then by share of the true species, then by name."""
    species = label(sources.observations, sources.taxonomy, "species")
    # Names rise with the labels inside the model, so that the labels break the last ties by name.
    found = confusions(species.label_O, species.predicted_O)
    confidence_O, first_image, training = (
        sources.observations.probability("species")[:, 0],
        _first_images(sources),
        _first_training(sources),
    )
    pairs = []
    for true, predicted, count, total in zip(
        *(column[:most].tolist() for column in (found.true, found.predicted, found.count, found.observations)), strict=True
    ):
        rows = np.flatnonzero((species.label_O == true) & (species.predicted_O == predicted))
        worst = int(rows[np.argmax(confidence_O[rows])])
        name, answer = species.names[true], species.names[predicted]
        pairs.append(
            ConfusedPair(
                name,
                answer,
                count,
                total,
                count / total,
                _kinship(sources, worst, predicted),
                image_id=first_image.get(_text(sources, "observation_id", worst)),
                predicted_image_id=training.get(answer),
            )
        )
    return tuple(pairs)


def _text(sources: Sources, column: str, row: int) -> str:
    """One cell; as a list a column of a million rows takes a second each time."""
    return str(sources.observations.table[column][row].as_py())


def _kinship(sources: Sources, row: int, predicted: int) -> str:
    for rank in ("genus", "family"):
        mine, theirs = sources.observations.table[f"true_{rank}"][row].as_py(), sources.taxonomy.column(rank)[predicted]
        if mine and mine == theirs:
            return f"same {rank}"
    return "other family" if mine and theirs else ""


def choose_examples(sources: Sources, *, most: int = EXAMPLES) -> Examples:
    """Right and sure, wrong and sure, and second by a hair; each list holds a species once, ties in the order of the table."""
    species = label(sources.observations, sources.taxonomy, "species")
    confidence_O = sources.observations.probability("species")[:, 0].astype(np.float64)
    gap_O = confidence_O - sources.observations.true_probability("species")
    right_O = species.rank_O == 1
    first_image = _first_images(sources)
    pick = partial(_one_a_species, species, most=most)
    describe = partial(_example, sources, first_image)
    return Examples(
        right=tuple(map(describe, pick(np.flatnonzero(right_O), -confidence_O))),
        wrong=tuple(map(describe, pick(np.flatnonzero(species.known_O & ~right_O), -confidence_O))),
        near=tuple(map(describe, pick(np.flatnonzero(species.rank_O == 2), gap_O))),
    )


def _one_a_species(species: Labelled, rows: NDArray[np.int64], key_O: NDArray[np.float64], *, most: int) -> list[int]:
    """The rows with the smallest keys, the best one of each species."""
    ordered = rows[np.argsort(key_O[rows], kind="stable")]
    _, first = np.unique(species.label_O[ordered], return_index=True)
    return ordered[np.sort(first)][:most].tolist()


def _example(sources: Sources, first_image: dict[str, str], row: int) -> Example:
    table, names = sources.observations, sources.taxonomy.names
    vernacular = sources.taxonomy.column("vernacularName")
    index, probability = table.index("species")[row, :ANSWERS], table.probability("species")[row, :ANSWERS]
    true = int(table.true_index("species")[row])
    observation = _text(sources, "observation_id", row)
    return Example(
        observation_id=observation,
        image_id=first_image.get(observation),
        images=int(table.values("images")[row]),
        true_name=_text(sources, "true_species", row),
        true_vernacular_name=vernacular[true] if true >= 0 else "",
        true_rank=int(table.true_rank("species")[row]),
        true_probability=float(table.true_probability("species")[row]),
        answers=tuple(
            Answer(names[taxon], vernacular[taxon], float(share)) for taxon, share in zip(index, probability, strict=True)
        ),
    )


# ---- pictures ----


def _first_images(sources: Sources) -> dict[str, str]:
    """observation_id -> its first image_id in the order of names."""
    pairs = zip(sources.images.strings("observation_id"), sources.images.strings("image_id"), strict=True)
    first: dict[str, str] = {}
    for observation, image in sorted((str(observation), str(image)) for observation, image in pairs if image is not None):
        first.setdefault(observation, image)
    return first


def _first_training(sources: Sources) -> dict[str, str]:
    """scientificName -> its first training image_id in the order of names; empty without a dataset."""
    if sources.dataset is None:
        return {}
    part = sources.dataset.part("train")
    first: dict[str, str] = {}
    for image, name in sorted(zip(part.image_ids, part.table.column("scientificName").to_pylist(), strict=True)):
        first.setdefault(name, image)
    return first


def thumbnails(sources: Sources, pairs: tuple[ConfusedPair, ...], examples: Examples) -> dict[str, bytes]:
    """image_id -> small JPEG, for every picture that the report shows and the dataset holds."""
    if sources.dataset is None or sources.part is None:
        return {}
    shown = [*examples.right, *examples.wrong, *examples.near]
    tested = {pair.image_id for pair in pairs} | {example.image_id for example in shown}
    trained = {pair.predicted_image_id for pair in pairs}
    return _small(sources.part, tested) | _small(sources.dataset.part("train"), trained)


def _small(part: Part, image_ids: Iterable[str | None]) -> dict[str, bytes]:
    position = {image: number for number, image in enumerate(part.image_ids)}
    wanted = sorted(image for image in image_ids if image is not None and image in position)
    return {image: thumbnail(part.image_bytes(position[image])) for image in wanted}


def thumbnail(data: bytes, edge: int = THUMBNAIL_EDGE) -> bytes:
    """A JPEG with its longer edge at most `edge` pixels, upright, without any metadata."""
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (2 * edge, 2 * edge))
        small = ImageOps.exif_transpose(image).convert("RGB")
    small.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=_QUALITY, optimize=True, exif=b"")
    return out.getvalue()
