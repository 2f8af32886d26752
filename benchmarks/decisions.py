"""What calibration and decisions are worth on real photographs, with strangers among them.

    python benchmarks/decisions.py RECORDS DATASET VECTORS --recipe RECIPE.yaml --out WORK --strangers NAME=FOLDER …

DATASET and VECTORS are those of RECORDS (`taxakey build`, `taxakey embed`). Two models are trained: one as the recipe says, and
one that never sees every sixth species, which stay in validation and test as unknown. Everything is fitted on validation and
measured on test; intervals by bootstrap over observations (95 %). Writes WORK/decisions.json.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before timm

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from taxakey.artifacts import Plan, write_json
from taxakey.calibration import METHODS, BoundCalibration
from taxakey.calibration.decisions import SURENESSES, Decisions, Sureness, sureness
from taxakey.calibration.likeness import Likeness, learn_likeness
from taxakey.calibration.roll_up import roll_up
from taxakey.calibration.validation import DecisionOptions, first_of_rank, learn_from_validation, raw_signs
from taxakey.dataset.build import BuildOptions, build
from taxakey.dataset.reader import Dataset, Part
from taxakey.embeddings import embed
from taxakey.metrics.calibration_error import expected_calibration_error
from taxakey.metrics.costs import track4
from taxakey.metrics.detection import auroc, fpr_at_tpr
from taxakey.metrics.intervals import Interval, bootstrap
from taxakey.prediction.calibrate import raw_scores
from taxakey.records.table import Observations
from taxakey.training.checkpoint import Model, load_model
from taxakey.training.loop import train
from taxakey.training.recipe import Recipe, read_recipe

EVERY = 6
STRANGE_PICTURES = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("records", "dataset", "vectors"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--strangers", nargs="*", default=[], metavar="NAME=FOLDER", help="pictures of something else")
    parser.add_argument("--most", type=int, default=150, help="of each folder of strangers")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    recipe = replace(read_recipe(given.recipe), seed=0)
    found: dict[str, Any] = {"all species": {}}
    train(given.dataset, recipe, given.out / "run", embeddings_folder=given.vectors, device="cpu")
    model, dataset = load_model(given.out / "run"), Dataset.open(given.dataset)
    found["all species"] = known_species(model, dataset, given.vectors)
    pictures = {
        name: _pictures(Path(folder), given.most) for name, _, folder in (item.partition("=") for item in given.strangers)
    }
    pictures |= {**_drawn(), "pages of text": _text()}
    found["no organism"] = no_organism(model, dataset, given.vectors, pictures)
    _print(found)
    found["some species unknown"] = some_unknown(given.records, recipe, given.out)
    write_json(given.out / "decisions.json", found)
    _print({"some species unknown": found["some species unknown"]})


# ---- a model that knows all species ----


def known_species(model: Model, dataset: Dataset, vectors: Path) -> dict[str, Any]:
    scores = {name: raw_scores(model, dataset.part(name), vectors, "cpu") for name in ("validation", "test")}
    learnt = {method: _learn(scores["validation"], dataset.part("validation"), model, method) for method in METHODS}
    test = dataset.part("test")
    found: dict[str, Any] = {
        "calibration": {"none": _calibration(torch.softmax(torch.from_numpy(scores["test"]), 1).numpy(), test)}
    }
    for method, (bound, _) in learnt.items():
        found["calibration"][method] = _calibration(bound.probabilities(scores["test"]), test)
    bound, decisions = learnt["temperature"]
    probabilities_OC = bound.probabilities(scores["test"])
    found["roll-up at 95 %"] = _roll_up(decisions, probabilities_OC, test, np.zeros(len(test), dtype=bool))
    found["promised"] = {rank: rule.precision for rank, rule in decisions.roll_up.items()}
    for coverage in (0.8, 0.9, 0.95):
        options = DecisionOptions(coverage=coverage)
        decisions = _learn(scores["validation"], dataset.part("validation"), model, options=options)[1]
        found[f"sets at {coverage:.0%}"] = _sets(decisions, probabilities_OC, test)
    by_species = _learn(
        scores["validation"], dataset.part("validation"), model, options=DecisionOptions(coverage=0.75, by_species=True)
    )
    found["sets at 75 % by species"] = _sets(by_species[1], probabilities_OC, test)
    return found


def _learn(
    scores_IC: NDArray[np.float32],
    part: Part,
    model: Model,
    method: Any = "temperature",
    options: DecisionOptions = DecisionOptions(),
    likeness: Likeness | None = None,
) -> tuple[BoundCalibration, Decisions]:
    calibration, decisions = learn_from_validation(
        scores_IC, part.observation_ids, part.truth(), model.taxonomy, method=method, options=options, likeness=likeness
    )
    return calibration.bind(model.taxonomy), decisions


def _calibration(probabilities_OC: NDArray[np.floating], part: Part) -> dict[str, str]:
    """ECE and NLL, where each observation of the part is one picture."""
    assert len(set(part.observation_ids)) == len(part), "several pictures of an observation: average them first"
    true_O = part.class_index
    nll_O = -np.log(np.maximum(probabilities_OC[np.arange(len(true_O)), true_O], 1e-38))
    right_O, top_O = probabilities_OC.argmax(1) == true_O, probabilities_OC.max(1)

    def error(weights_RO: NDArray[np.floating]) -> NDArray[np.float64]:
        rows = [np.repeat(np.arange(len(true_O)), weights_O.astype(int)) for weights_O in weights_RO]
        return np.array([expected_calibration_error(top_O[row], right_O[row]) for row in rows])

    found = bootstrap({"nll": _mean(nll_O), "ece": error}, len(true_O))
    return {name: str(interval) for name, interval in found.items()}


def _roll_up(
    decisions: Decisions, probabilities_OC: NDArray[np.floating], part: Part, flagged_O: NDArray[np.bool_]
) -> dict[str, Any]:
    """Share answered at each rank, and how many of those answers are right."""
    taxonomy, truth = part.taxonomy, part.truth()
    first = {rank: first_of_rank(np.asarray(probabilities_OC, dtype=np.float64), taxonomy, rank) for rank in decisions.ranks}
    names = {"species": truth.species, "genus": truth.genus, "family": truth.family}
    probability_RO = [first[rank][1] for rank in decisions.ranks]
    probability_RO[0] = np.where(flagged_O, -1.0, probability_RO[0])
    rank_O, taxon_O = roll_up(
        list(decisions.rules(taxonomy).values()), [first[rank][0] for rank in decisions.ranks], probability_RO
    )
    found: dict[str, Any] = {}
    right_O = np.zeros(len(part), dtype=bool)
    for place, rank in enumerate(decisions.ranks):
        here_O = rank_O == place
        right_O |= here_O & (taxon_O == taxonomy.index_of(names[rank], rank))
        found[rank] = _answered(here_O, right_O)
    found["any"] = _answered(rank_O >= 0, right_O)
    found["always to the species"] = _answered(
        np.ones(len(part), dtype=bool), first["species"][0] == taxonomy.index_of(truth.species)
    )
    return found


def _answered(here_O: NDArray[np.bool_], right_O: NDArray[np.bool_]) -> dict[str, str]:
    def precision(weights_RO: NDArray[np.floating]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            return (weights_RO @ (here_O & right_O)) / (weights_RO @ here_O)

    if not here_O.any():
        return {"answered": "0", "right": "none was answered"}
    found = bootstrap({"answered": _mean(here_O), "right": precision}, len(here_O))
    return {**{name: str(interval) for name, interval in found.items()}, "observations": str(int(here_O.sum()))}


def _sets(decisions: Decisions, probabilities_OC: NDArray[np.floating], part: Part) -> dict[str, str]:
    inside_OC = decisions.sets(part.taxonomy).contains(probabilities_OC)
    covered_O = inside_OC[np.arange(len(part)), part.class_index]
    found = bootstrap({"covered": _mean(covered_O), "species": _mean(inside_OC.sum(1))}, len(part))
    return {name: str(interval) for name, interval in found.items()}


def _mean(values_O: NDArray[Any]) -> Any:
    values_O = values_O.astype(np.float64)
    return lambda weights_RO: weights_RO @ values_O / weights_RO.sum(axis=1)


# ---- strangers ----


def no_organism(model: Model, dataset: Dataset, vectors: Path, pictures: dict[str, list[Any]]) -> dict[str, Any]:
    """AUROC and FPR at 95 % TPR of each sureness for each kind of stranger, and how many a rule on it flags."""
    validation, test = dataset.part("validation"), dataset.part("test")
    likeness = _likeness(model, dataset, vectors)
    assert likeness is not None
    checked = raw_scores(model, validation, vectors, "cpu")
    bound, decisions = _learn(checked, validation, model, likeness=likeness)
    assert decisions.organism is not None

    def sure(kind: Sureness, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        return sureness(kind, bound.probabilities(scores), *raw_signs(scores, model.taxonomy, likeness).T)

    # The rule's own place among the sorted, so that each sureness would flag as many of validation.
    place = int(np.floor(len(validation) * (1 - DecisionOptions().kept) + 1e-9))
    least = {kind: np.sort(sure(kind, checked))[place] for kind in SURENESSES}
    own = raw_scores(model, test, vectors, "cpu")
    found: dict[str, Any] = {"rule": decisions.organism.sureness, "images": likeness.images}
    found["test"] = {kind: _interval(sure(kind, own) < least[kind]) for kind in SURENESSES}
    for name, shown in pictures.items():
        scores = _scores(model, shown)
        known_O = np.arange(len(own) + len(scores)) < len(own)
        found[name] = {"pictures": len(scores)}
        for kind in SURENESSES:
            values_O = sure(kind, np.concatenate([own, scores]))
            flagged = _interval(values_O[~known_O] < least[kind])
            found[name][kind] = (
                f"flagged {flagged}, AUROC {auroc(values_O, known_O):.3f}, FPR95 {fpr_at_tpr(values_O, known_O):.3f}"
            )
    return found


def _likeness(model: Model, dataset: Dataset, vectors: Path) -> Likeness | None:
    train = dataset.part("train")
    return learn_likeness(lambda some: raw_scores(model, train.only(some), vectors, "cpu"), train.class_index, model.taxonomy)


def _interval(values_O: NDArray[np.bool_]) -> str:
    return str(bootstrap({"share": _mean(values_O)}, len(values_O))["share"])


def _scores(model: Model, pictures: list[Any]) -> NDArray[np.float32]:
    found = []
    for start in range(0, len(pictures), 16):
        pixels_BCHW = np.stack([model.preprocess.load(picture) for picture in pictures[start : start + 16]])
        with torch.inference_mode():
            found.append(model.network(torch.from_numpy(pixels_BCHW)).numpy())
    return np.concatenate(found)


def _pictures(folder: Path, most: int) -> list[Any]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return files[:: max(1, len(files) // most)][:most]


def _drawn() -> dict[str, list[Any]]:
    """Noise of single pixels, of patches, plain colours, gradients and checkerboards."""
    generator = np.random.default_rng(0)
    colour = lambda: generator.integers(0, 256, 3)  # noqa: E731
    kinds = {
        "noise": lambda: generator.integers(0, 256, (224, 224, 3)),
        "noise of patches": lambda: generator.integers(0, 256, (7, 7, 3)).repeat(32, 0).repeat(32, 1),
        "plain colours": lambda: np.broadcast_to(colour(), (224, 224, 3)),
        "gradients": lambda: np.linspace(colour(), colour(), 224)[:, None].repeat(224, 1),
        "checkerboards": lambda: _board(colour(), colour(), int(generator.integers(4, 57))),
    }
    return {
        name: [_png(Image.fromarray(draw().astype(np.uint8))) for _ in range(STRANGE_PICTURES)] for name, draw in kinds.items()
    }


def _board(dark: NDArray[Any], light: NDArray[Any], side: int) -> NDArray[Any]:
    fields = np.arange(224) // side
    return np.where(((fields[:, None] + fields) % 2)[..., None], dark, light)


def _text() -> list[Any]:
    generator = np.random.default_rng(1)
    pages = []
    for _ in range(STRANGE_PICTURES):
        page = Image.new("RGB", (400, 560), tuple(generator.integers(225, 256, 3).tolist()))
        for y in range(20, 540, 18):
            words = [
                "".join(chr(97 + letter) for letter in generator.integers(0, 26, generator.integers(2, 9))) for _ in range(9)
            ]
            ImageDraw.Draw(page).text((20, y), " ".join(words), fill=(30, 30, 30))
        pages.append(_png(page))
    return pages


def _png(picture: Image.Image) -> bytes:
    import io

    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


# ---- a model that doesn't know all species ----


def some_unknown(records: Path, recipe: Recipe, out: Path) -> dict[str, Any]:
    dataset_folder, vectors = out / "unknown-dataset", out / "unknown-vectors"
    _without_some(records, out / "unknown-records")
    build(out / "unknown-records", dataset_folder, BuildOptions(longest_edge=512))
    embed(dataset_folder, recipe.resolved().backbone, vectors, device="cpu")
    train(dataset_folder, recipe, out / "unknown-run", embeddings_folder=vectors, device="cpu")
    model, dataset = load_model(out / "unknown-run"), Dataset.open(dataset_folder)
    validation, test = dataset.part("validation"), dataset.part("test")
    likeness = _likeness(model, dataset, vectors)
    bound, decisions = _learn(raw_scores(model, validation, vectors, "cpu"), validation, model, likeness=likeness)
    scores = raw_scores(model, test, vectors, "cpu")
    probabilities_OC, raw_O2, true_O = bound.probabilities(scores), raw_signs(scores, model.taxonomy, likeness), test.class_index
    assert decisions.unknown is not None
    flagged_O = decisions.unknown.flags(probabilities_OC, *raw_O2.T)
    known_O, answer_O = true_O >= 0, probabilities_OC.argmax(1)
    found: dict[str, Any] = {"classes": len(model.taxonomy), "known": int(known_O.sum()), "unknown": int((~known_O).sum())}
    for kind in SURENESSES:
        found[kind] = _detection(sureness(kind, probabilities_OC, *raw_O2.T), known_O)
    found["chosen"] = decisions.unknown.sureness
    found["known flagged"], found["unknown flagged"] = _interval(flagged_O[known_O]), _interval(flagged_O[~known_O])
    found["track 4"] = {
        "always answered": track4(true_O, answer_O),
        "with the threshold": track4(true_O, np.where(flagged_O, -1, answer_O)),
    }
    found["roll-up at 95 %"] = _roll_up(decisions, probabilities_OC, test, flagged_O)
    found["unknown, answered at a rank"] = _roll_up(
        decisions, probabilities_OC[~known_O], test.only(np.flatnonzero(~known_O)), flagged_O[~known_O]
    )
    return found


def _detection(sureness_O: NDArray[np.float64], known_O: NDArray[np.bool_]) -> dict[str, str]:
    def area(weights_RO: NDArray[np.floating]) -> NDArray[np.float64]:
        rows = [np.repeat(np.arange(len(known_O)), weights_O.astype(int)) for weights_O in weights_RO]
        return np.array([auroc(sureness_O[row], known_O[row]) for row in rows])

    interval: Interval = bootstrap({"auroc": area}, len(known_O))["auroc"]
    return {"auroc": str(interval), "fpr95": f"{fpr_at_tpr(sureness_O, known_O):.3f}"}


def _without_some(records: Path, out: Path) -> None:
    """The same records, but no training picture of every sixth species."""
    observations = Observations.read(records)
    names = observations.table["scientificName"].to_pylist()
    left_out = set(sorted(set(names))[::EVERY])
    split = observations.table["split"].to_pylist()
    kept = [name not in left_out or part != "train" for name, part in zip(names, split, strict=True)]
    Observations.from_table(observations.table.filter(kept)).write(out, Plan("records"))


def _print(found: dict[str, Any], depth: int = 0) -> None:
    for name, value in found.items():
        if isinstance(value, dict):
            print(f"{'  ' * depth}{name}")
            _print(value, depth + 1)
        else:
            print(f"{'  ' * depth}{name}: {value}")


if __name__ == "__main__":
    main()
