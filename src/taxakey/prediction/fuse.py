"""What a trained model gains without training: fitted on validation, applied to another part -> predictions artifact.

Shapes: N rows of a part, I images, O observations.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taxakey import artifacts
from taxakey.dataset.crops import CropOptions
from taxakey.dataset.reader import Dataset, Part
from taxakey.errors import BadInput
from taxakey.metadata.observation import terms
from taxakey.prediction.fusion import FILE, Fusion, Pictures
from taxakey.prediction.fusion.fitting import Training, Validation, choose_evidence, choose_rule, only_best
from taxakey.prediction.fusion.judging import Judge, Judged
from taxakey.prediction.fusion.pictures import RULES, Rule, RuleName
from taxakey.prediction.fusion.season_place import NAME as PLACE
from taxakey.prediction.fusion.stored import Evidence
from taxakey.prediction.namer import Namer
from taxakey.prediction.predict import Asked, filled, plan_of, write_answers
from taxakey.progress import track

OFFERED = ("log-mean", "quality", "organ", "month", "habitat", "substrate", "metasubstrate", PLACE)
"""What is tried where nothing is named, as far as the dataset holds it."""

_CROPS = re.compile(r"(five|\d+)-crops")
_IMAGES_AT_ONCE = 256
_SCORES_HELD = 20_000_000  # numbers of one table of answers to validation; a dozen such are held at a time


@dataclass(frozen=True)
class FuseOptions:
    """`names`: what to try, in any order: mean, log-mean, quality, organ; five-crops, 20-crops …; place (and season); any column
    of words, such as month, habitat, substrate. None: `OFFERED`, as far as the dataset holds it. `part`: what is predicted."""

    names: tuple[str, ...] | None = None
    part: str = "test"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.names is not None and (not self.names or len(set(self.names)) < len(self.names)):
            raise BadInput(f"--with {','.join(self.names)}: name one thing or more, each once")
        if self.part == "validation":
            raise BadInput("fusion is fitted on validation, so its answers to that part would flatter it; predict another part")

    def crops(self) -> dict[str, CropOptions]:
        found = {name: _CROPS.fullmatch(name) for name in self.names or ()}
        return {name: CropOptions.named(match[1]) for name, match in found.items() if match}

    def rules(self) -> list[RuleName]:
        """All but today's, which everything is measured against."""
        return [name for name in RULES if name != "mean" and name in (OFFERED if self.names is None else self.names)]

    def columns(self) -> list[str]:
        """`place` and the columns of words."""
        names = OFFERED if self.names is None else self.names
        return [name for name in names if name not in RULES and not _CROPS.fullmatch(name)]


def fuse(
    model_folder: Path | str,
    dataset_folder: Path | str,
    out: Path | str,
    options: FuseOptions | None = None,
    *,
    embeddings_folder: Path | str | None = None,
    device: str = "cpu",
) -> tuple[artifacts.Manifest, Fusion]:
    """Fit on validation what gains there (counts on train), and write `fusion.json` and the part's predictions with it.

    Interrupted, it goes on. Raises BadInput for what is named and can't be had from this dataset.
    """
    options, out, dataset = options or FuseOptions(), Path(out), Dataset.open(dataset_folder)
    namer = Namer.open(model_folder, dataset, device=device, embeddings_folder=embeddings_folder)
    rows = filled(dataset, options.part)
    tried = list(options.names) if options.names is not None else "all"
    recipe = {"part": options.part, "full_scores": False, "fusion": {"with": tried, "seed": options.seed}}
    plan = plan_of(namer, dataset, recipe)
    if artifacts.start(out, plan) == "finished":
        return artifacts.read_manifest(out, plan.kind), Fusion.read(out / FILE)
    if not (out / FILE).is_file():
        fit_fusion(namer, dataset, options).write(out / FILE)
    fusion = Fusion.read(out / FILE)  # as it will be read by others
    asked = Asked(_with_crops(namer, fusion.crops).at(rows), fusion=fusion)
    return write_answers(asked, out, plan, notes=(_note(fusion),)), fusion


def install(fusion: Fusion, model_folder: Path | str) -> Path:
    """Put `fusion.json` beside a model, where `taxakey identify` and the server look for it."""
    folder = Path(model_folder)
    folder = folder / "model" if (folder / "model" / "model.safetensors").is_file() else folder
    if not (folder / "model.safetensors").is_file():
        raise BadInput(f"{folder}: one model alone can be told of its fusion; name a run or its model/ folder")
    if fusion.crops:
        raise BadInput("identify and the server look at whole pictures; fuse without crops to put the fusion beside the model")
    fusion.write(folder / FILE)
    return folder / FILE


def _note(fusion: Fusion) -> str:
    kept = [str(found["name"]) for found in fusion.judged if found["kept"]]
    return f"Fused without training: {', '.join(kept)}; gains on validation in {FILE}" if kept else "Nothing gained on validation"


# ---- fitting ----


def fit_fusion(namer: Namer, dataset: Dataset, options: FuseOptions) -> Fusion:
    """From the training part (counts) and the validation part (what gains, weights); no other part is opened."""
    rows = filled(dataset, "validation")
    images = known_images(rows, len(dataset.taxonomy), options.seed)
    training = training_of(dataset)
    candidates = {name: found for name in _columns(namer, options) if (found := _evidence(training, name, options)) is not None}
    rules = [name for name in options.rules() if options.names is not None or _offered(name, rows, images)]
    judge = Judge(_truth(rows, images), len(options.crops()) + len(rules) + len(candidates), options.seed)
    validation, crops, judged = _choose_crops(namer, rows, images, options, judge)
    rule, of_rules = choose_rule(validation, rules, judge)
    evidence, exponents, of_evidence = choose_evidence(rule.combined(validation.pictures), validation, candidates, judge)
    everything = tuple(found.to_json() for found in (*judged, *of_rules, *of_evidence))
    return Fusion(dataset.taxonomy.fingerprint, rule, tuple(evidence), tuple(exponents), crops, everything)


def known_images(rows: Part, classes: int, seed: int) -> NDArray[np.int64]:
    """Pictures whose class the model holds, by observation; of as many observations, drawn by the seed, as can be held."""
    names = np.array(rows.observation_ids)
    known = np.flatnonzero(rows.class_index >= 0)
    if not len(known):
        raise BadInput("no validation observation belongs to a class of the model, so nothing can be fitted on it")
    observations, observation_I = np.unique(names[known], return_inverse=True)
    most = max(2, _SCORES_HELD // classes)
    drawn_O = np.zeros(len(observations), dtype=bool)
    drawn_O[np.random.default_rng(seed).permutation(len(observations))[:most]] = True
    kept = drawn_O[observation_I]
    return known[kept][np.argsort(observation_I[kept], kind="stable")]


def _observations(rows: Part, images: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Position of each image's observation [I], and the first image of each observation [O]."""
    _, first_O, observation_I = np.unique(np.array(rows.observation_ids)[images], return_index=True, return_inverse=True)
    return observation_I.astype(np.int64), images[first_O]


def _truth(rows: Part, images: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows.class_index[_observations(rows, images)[1]]


def training_of(dataset: Dataset) -> Training:
    """An observation counts once, however often it was photographed."""
    rows = dataset.part("train")
    _, first = np.unique(np.array(rows.observation_ids), return_index=True)
    return Training(rows.table.take(pa.array(first)), rows.class_index[first], len(dataset.taxonomy))


def _columns(namer: Namer, options: FuseOptions) -> list[str]:
    """Without those that the model was trained with, which it would be told twice; BadInput where such a one is named."""
    taken = {name for model in namer.models for name in terms(model.metadata)}
    taken |= {"month", PLACE} if "eventDate" in taken else set()
    taken |= {PLACE} if "decimalLatitude" in taken else set()
    if options.names is not None and (twice := [name for name in options.columns() if name in taken]):
        raise BadInput(f"the model was trained with {twice[0]} and would be told it twice; leave `{twice[0]}` out")
    return [name for name in options.columns() if name not in taken]


def _evidence(training: Training, name: str, options: FuseOptions) -> Evidence | None:
    """None for what wasn't named and isn't there."""
    try:
        return training.evidence(name, options.seed)
    except BadInput:
        if options.names is not None:
            raise
        return None


def _offered(name: RuleName, rows: Part, images: NDArray[np.int64]) -> bool:
    """Whether a rule could make a difference: some observation has several pictures, and for `organ` some say which."""
    several = len(_observations(rows, images)[1]) < len(images)
    return several and (name != "organ" or any(rows.table["organ"].take(pa.array(images)).to_pylist()))


def _choose_crops(
    namer: Namer, rows: Part, images: NDArray[np.int64], options: FuseOptions, judge: Judge
) -> tuple[Validation, CropOptions | None, list[Judged]]:
    """The answers to validation with those crops that gain most over whole pictures, or to whole pictures."""
    looked: dict[str | None, Validation] = {None: named(namer, rows, images)}
    whole_OC = Rule().combined(looked[None].pictures)
    judged = []
    for name, crops in options.crops().items():
        looked[name] = named(_with_crops(namer, crops), rows, images)
        judged.append(judge.compare(name, Rule().combined(looked[name].pictures), whole_OC))
    best, judged = only_best(judged)
    return looked[best], None if best is None else options.crops()[best], judged


def _with_crops(namer: Namer, crops: CropOptions | None) -> Namer:
    """Crops are looked at anew: stored vectors are of whole pictures."""
    return namer if crops is None else replace(namer, crops=crops, embeddings_folder=None)


def named(namer: Namer, rows: Part, images: NDArray[np.int64]) -> Validation:
    """Answers to some pictures of a part, ordered by observation as `known_images` has them."""
    pictures, size = namer.at(rows), max(1, _IMAGES_AT_ONCE // (namer.crops.count if namer.crops else 1))
    portions: Sequence[NDArray[np.int64]] = [images[first : first + size] for first in range(0, len(images), size)]
    found = [pictures.probabilities(portion)[0] for portion in track(portions, f"naming {rows.name}")]
    observation_I, first_O = _observations(rows, images)
    organs = cast("list[str | None]", rows.table["organ"].take(pa.array(images)).to_pylist())
    answers = Pictures(np.concatenate(found), observation_I, organs if any(organs) else ())
    return Validation(answers, rows.class_index[first_O], rows.table.take(pa.array(first_O)))
