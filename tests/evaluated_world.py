"""A small world for the tests of evaluation and report: a dataset of drawn pictures, a run, and predictions for its test part.

Species, training pictures and observations in the test part are written out here, so that figures can be worked out by hand.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from taxakey import artifacts
from taxakey.calibration import Calibration
from taxakey.dataset.build import BuildOptions, build
from taxakey.dataset.reader import Dataset
from taxakey.predictions import Predictions, Truth
from taxakey.records.table import Observations
from taxakey.taxonomy import Taxonomy

# name: family, training pictures, test observations
SPECIES = {
    "Acer campestre": ("Sapindaceae", 2, 3),
    "Fagus sylvatica": ("Fagaceae", 6, 4),
    "Quercus petraea": ("Fagaceae", 1, 4),
    "Quercus robur": ("Fagaceae", 12, 5),
    "Quercus ilex": ("Fagaceae", 0, 2),  # outside the model, its genus and family inside
    "Zea mays": ("Poaceae", 0, 1),  # nothing of it inside
}
RUN_NOTE = "trained from scratch because no pretrained weights were <at hand>"


@dataclass(frozen=True)
class World:
    """Folders of the three artifacts."""

    dataset: Path
    run: Path
    predictions: Path


def make_world(root: Path) -> World:
    """Everything below `root`."""
    world = World(root / "dataset", root / "run", root / "predictions")
    build(_records(root), world.dataset, BuildOptions(longest_edge=64), workers=1)
    dataset = Dataset.open(world.dataset)
    _make_run(world, dataset.taxonomy)
    make_predictions(world, world.predictions)
    return world


def _records(root: Path) -> Path:
    rows, generator = [], np.random.default_rng(0)
    (root / "pictures").mkdir(parents=True)
    for number, (name, (family, training, tested)) in enumerate(SPECIES.items()):
        for picture in range(training + 2 * tested):
            # Test observations of even number have two pictures, the others one.
            split = "train" if picture < training else "test"
            observation = picture if split == "train" else training + (picture - training) // 2
            if split == "test" and observation % 2 and (picture - training) % 2:
                continue
            image = f"{name.replace(' ', '_')}_{picture:02d}"
            colour = np.array([40 * number, 200 - 30 * number, 90]) + generator.integers(-30, 30, (48, 40, 3))
            path = root / "pictures" / f"{image}.jpg"
            Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8)).save(path)
            rows.append(
                {
                    "occurrenceID": f"{name}/{observation:02d}", "image_id": image, "path": str(path), "scientificName": name,
                    "genus": name.split()[0], "family": family, "vernacularName": f"<{name[:3]}>", "split": split,
                }
            )  # fmt: skip
    Observations.from_table(pa.Table.from_pylist(rows)).write(root / "records", artifacts.Plan("records"))
    return root / "records"


def _make_run(world: World, taxonomy: Taxonomy) -> None:
    plan = artifacts.Plan(
        "run", {}, {"name": "small", "backbone": {"weights": str(world.run / "secret" / "weights.safetensors")}}, 7
    )
    artifacts.start(world.run, plan)
    artifacts.write_parquet(world.run / "model" / "taxonomy.parquet", taxonomy.table)
    Calibration(1.0, 0.6, {"target_precision": 0.9, "precision": 0.91, "coverage": 0.8, "observations": 50}).write(
        world.run / "model" / "calibration.json"
    )
    artifacts.write_text(
        world.run / "curves.csv",
        "epoch,train_loss,validation_loss,validation_top_1,validation_macro_top_1,learning_rate\n"
        "0,2.5,2.25,0.25,0.125,0.01\n1,1.5,nan,0.5,0.375,0.01\n2,1.0,1.5,0.625,0.5,0.001\n",
    )
    artifacts.finish(world.run, plan, counts={"epochs": 3}, taxonomy=taxonomy.fingerprint, notes=(RUN_NOTE,))


def probabilities(species: list[str], taxonomy: Taxonomy) -> np.ndarray:
    """Made-up answers [O, C] by rule, the k-th observation of a species getting the k-th rule.

    Rules in turn: right with 0.9, right with 0.6, second behind the class before it (0.55 to 0.4), wrong with 0.8 for
    the next class. A species outside the model
    is taken for Quercus robur, with 0.7 and with 0.4 in turn. What is left is shared evenly.
    """
    rows, seen = [], {}
    classes = len(taxonomy)
    for name in species:
        turn = seen[name] = seen.get(name, -1) + 1
        if name not in taxonomy.names:
            heads = {taxonomy.names.index("Quercus robur"): (0.7, 0.4)[turn % 2]}
        else:
            true = taxonomy.names.index(name)
            before, after = (true - 1) % classes, (true + 1) % classes
            heads = ({true: 0.9}, {true: 0.6}, {before: 0.55, true: 0.4}, {after: 0.8})[turn % 4]
        row = np.full(classes, (1 - sum(heads.values())) / (classes - len(heads)))
        row[list(heads)] = list(heads.values())
        rows.append(row)
    return np.array(rows)


def make_predictions(world: World, out: Path, *, taxonomy: Taxonomy | None = None) -> None:
    """Predictions for the test part, one observation after the other in the order of their ids."""
    part = Dataset.open(world.dataset).part("test")
    taxonomy = taxonomy or part.taxonomy
    order = np.argsort(part.observation_ids, kind="stable")
    ids, first, observation_I, images_O = np.unique(
        [part.observation_ids[row] for row in order], return_index=True, return_inverse=True, return_counts=True
    )
    truth_I = part.truth()
    truth_O = Truth(*([names[order[row]] for row in first] for names in (truth_I.species, truth_I.genus, truth_I.family)))
    scores_OC = probabilities(list(truth_O.species), taxonomy)
    image_ids = [part.image_ids[row] for row in order]
    plan = artifacts.Plan(
        "predictions",
        {"dataset": artifacts.hash_of(world.dataset)},
        {"part": "test", "dataset": str(world.dataset), "model": str(world.run / "model")},
    )
    artifacts.start(out, plan)
    Predictions.from_probabilities(
        scores_OC,
        taxonomy,
        observation_ids=ids.tolist(),
        image_ids=[image_ids[row] if count == 1 else None for row, count in zip(first, images_O, strict=True)],
        images=images_O.tolist(),
        truth=truth_O,
    ).write(out / "observations.parquet")
    Predictions.from_probabilities(
        scores_OC[observation_I],
        taxonomy,
        observation_ids=ids[observation_I].tolist(),
        image_ids=image_ids,
        truth=Truth(*([names[row] for row in order] for names in (truth_I.species, truth_I.genus, truth_I.family))),
        level="image",
    ).write(out / "images.parquet")
    artifacts.write_parquet(out / "taxonomy.parquet", taxonomy.table)
    artifacts.finish(out, plan, counts={"observations": len(ids), "images": len(part)}, taxonomy=taxonomy.fingerprint)


def picture_size(data: bytes) -> tuple[int, int]:
    """Width and height of an encoded picture."""
    with Image.open(io.BytesIO(data)) as image:
        return image.size


# ---- a world with everything that a report can ask for ----

RICH_FAMILIES, RICH_GENERA, RICH_SPECIES = 4, 8, 32
RICH_OBSERVATIONS = 12
"""Of each species; every third has two pictures."""


@dataclass(frozen=True)
class RichWorld:
    """Folders of a dataset with institutions, organs and months, and of predictions for its two parts."""

    dataset: Path
    predictions: Path
    validation: Path


def make_rich_world(root: Path) -> RichWorld:
    """Thirty-two species, every fourth poisonous, with 2 to 90 training pictures; what is planted in the answers:

    rare species (fewer than 8 training pictures) are wrong in a third of the cases, others in a ninth; from institution "B" twice
    as often; a wrong answer is another species of the genus in one case of two, else of another family.
    """
    world = RichWorld(root / "dataset", root / "predictions", root / "validation")
    build(_rich_records(root), world.dataset, BuildOptions(longest_edge=32), workers=1)
    for part, out in (("test", world.predictions), ("validation", world.validation)):
        _rich_predictions(world, part, out)
    return world


def rich_species() -> list[tuple[str, str, str, int]]:
    """Name, genus, family and number of training pictures of each species."""
    rows = []
    for number in range(RICH_SPECIES):
        genus = f"Genus{number * RICH_GENERA // RICH_SPECIES}"
        family = f"Family{number * RICH_FAMILIES // RICH_SPECIES}aceae"
        rows.append((f"{genus} species{number:02d}", genus, family, 2 + number * 7 % 32 * (3 if number % 9 == 0 else 1)))
    return rows


def _rich_records(root: Path) -> Path:
    (root / "pictures").mkdir(parents=True)
    paths = [root / "pictures" / f"{colour}.png" for colour in ("green", "red")]
    for path in paths:
        Image.new("RGB", (32, 32), path.stem).save(path)
    rows = []
    for number, (name, genus, family, training) in enumerate(rich_species()):
        for split, count in (("train", training), ("validation", 2), ("test", RICH_OBSERVATIONS)):
            for observation in range(count):
                for picture in range(2 if split == "test" and observation % 3 == 0 else 1):
                    rows.append(
                        {
                            "occurrenceID": f"{split}/{number}/{observation}",
                            "image_id": f"{split}_{number}_{observation}_{picture}",
                            "path": str(paths[picture]), "scientificName": name, "genus": genus, "family": family, "split": split,
                            "order": "Plantales", "poisonous": number % 4 == 0, "institutionCode": "AB"[observation % 2],
                            "organ": ("leaf", "flower")[picture], "month": 5 + observation % 3,
                        }
                    )  # fmt: skip
    Observations.from_table(pa.Table.from_pylist(rows)).write(root / "records", artifacts.Plan("records"))
    return root / "records"


def _rich_predictions(world: RichWorld, part: str, out: Path) -> None:
    dataset = Dataset.open(world.dataset)
    rows, taxonomy = dataset.part(part), dataset.taxonomy
    counts, generator = dataset.train_counts(), np.random.default_rng(0)
    ids, first, observation_I, images_O = np.unique(
        rows.observation_ids, return_index=True, return_inverse=True, return_counts=True
    )
    institutions = rows.table["institutionCode"].to_pylist()
    scores_OC = np.full((len(ids), len(taxonomy)), 0.3 / (len(taxonomy) - 2))
    for observation, row in enumerate(first):
        true = int(rows.class_index[row])
        wrong = (1 / 2 if counts[true] < 8 else 1 / 6) * (1 if institutions[row] == "A" else 2)
        other = true ^ 1 if generator.random() < 0.5 else (true + 16) % len(taxonomy)
        answer, second = (other, true) if generator.random() < wrong * 2 / 3 else (true, other)
        scores_OC[observation, [answer, second]] = 0.5, 0.2
    truth = rows.truth()
    names_O = Truth(*([names[row] for row in first] for names in (truth.species, truth.genus, truth.family)))
    plan = artifacts.Plan("predictions", {}, {"part": part, "dataset": str(world.dataset), "model": "/nowhere/model"})
    artifacts.start(out, plan)
    Predictions.from_probabilities(
        scores_OC, taxonomy, observation_ids=ids.tolist(), images=images_O.tolist(), truth=names_O
    ).write(out / "observations.parquet")
    Predictions.from_probabilities(
        scores_OC[observation_I], taxonomy, observation_ids=rows.observation_ids, image_ids=rows.image_ids, truth=truth,
        level="image",
    ).write(out / "images.parquet")  # fmt: skip
    artifacts.write_parquet(out / "taxonomy.parquet", taxonomy.table)
    artifacts.finish(out, plan, counts={}, taxonomy=taxonomy.fingerprint)
