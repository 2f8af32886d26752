"""A model's answers for a part of a dataset: model + dataset -> predictions artifact.

Shapes: I images, O observations, C classes. Several images of one observation are averaged as calibrated probabilities, and so
are the members of an ensemble (a folder of folds).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taxakey import artifacts
from taxakey.calibration import mean_by_observation
from taxakey.calibration.told_shares import ESTIMATE
from taxakey.dataset.crops import CropOptions
from taxakey.dataset.partial import PARTIAL
from taxakey.dataset.reader import Dataset, Part, require_pictures
from taxakey.errors import BadInput, MissingArtifact
from taxakey.metadata.encoder import FILE as METADATA_FILE
from taxakey.prediction.bundle import Bundle, is_bundle
from taxakey.prediction.fusion import Fusion, Pictures
from taxakey.prediction.namer import Namer, PartNamer, folders_of
from taxakey.prediction.opened import fold_of, weights_of
from taxakey.prediction.shifted import corrected_for
from taxakey.predictions import Predictions, Truth, write_full
from taxakey.progress import track
from taxakey.taxonomy import Taxonomy

_IMAGES_AT_ONCE = 256
_SCORES_AT_ONCE = 20_000_000  # numbers held for one portion: 160 MB as float64, whatever the number of classes


def predict(
    model_folder: Path | str,
    dataset_folder: Path | str,
    out: Path | str,
    *,
    part: str = "test",
    embeddings_folder: Path | str | None = None,
    device: str = "cpu",
    full_scores: bool = False,
    crops: CropOptions | None = None,
    shares: str | None = None,
    unlabelled: bool = False,
) -> artifacts.Manifest:
    """Write `observations.parquet` and `images.parquet` (see `Predictions`), portion by portion; interrupted, it goes on.

    `full_scores` adds `full/*.arrow`: all C log-probabilities per observation as float16, for ensembles and calibration.
    `embeddings_folder` saves running the backbone; refused unless its vectors come from the model's own backbone.
    `crops`: several of each picture, their calibrated probabilities averaged. `shares`: correct for those of species in a file,
    or "estimate" them from the part's pictures, which are then looked at twice (`calibration.told_shares`); a note says so. A
    bundle of some of its model's species is asked about pictures of these alone. A folder of folds, asked about the training or
    validation part that its members learned from, answers each picture by the one that was kept from it. `unlabelled`: what the
    dataset says of species is left aside, so that it may have other ones than the model, as for pictures that a student learns
    from (`training.unlabelled`); so it always is of the part "partial".
    """
    if unlabelled and shares is not None:
        raise BadInput(
            "shares are corrected for where the dataset's species are the model's; leave out one of shares and unlabelled"
        )
    out, whole = Path(out), Dataset.open(dataset_folder)
    dataset = _asked_about(model_folder, whole)
    classes_of = None if unlabelled else dataset
    namer = Namer.open(model_folder, classes_of, device=device, embeddings_folder=embeddings_folder, crops=crops)
    rows = filled(dataset, part)
    rows = rows.unnamed() if unlabelled or part == PARTIAL else rows
    pictures = namer.at(rows)
    asked = Asked(pictures, full_scores)
    further: dict[str, object] = {"unlabelled": True} if unlabelled else {**_told(shares)}
    if pictures.kept_from_N is not None:
        further["out_of_fold"] = True
    plan = plan_of(namer, dataset, {"part": part, "full_scores": full_scores, **further})
    if artifacts.start(out, plan) == "finished":
        return artifacts.read_manifest(out, plan.kind)
    notes = (*_notes(pictures), *(() if dataset is whole else _left_out(whole, dataset, part)))
    if shares is None:
        return write_answers(asked, out, plan, notes)
    shifted, note = corrected_for(shares, namer, rows, asked.portions(), dataset.train_counts())
    return write_answers(replace(asked, pictures=shifted.at(rows)), out, plan, (*notes, note))


def _told(shares: str | None) -> dict[str, str]:
    """What a plan says of them: the file's content rather than its name."""
    if shares is None or shares == ESTIMATE:
        return {} if shares is None else {"shares": ESTIMATE}
    if not Path(shares).is_file():
        raise MissingArtifact(f"--shares {shares}: no such file; name a table of scientificName and share, or say {ESTIMATE}")
    return {"shares": artifacts.hash_of(Path(shares))}


def _asked_about(model_folder: Path | str, dataset: Dataset) -> Dataset:
    """What a bundle of some species can be judged on; of any other model the whole dataset."""
    if is_bundle(model_folder) and "only" in artifacts.read_manifest(model_folder, "bundle").recipe:
        return dataset.among(Taxonomy.read(Path(model_folder) / "taxonomy.parquet"))
    return dataset


def _notes(pictures: PartNamer) -> tuple[str, ...]:
    bundles = [model for model in pictures.namer.models if isinstance(model, Bundle)]
    notes = [f"Answers of an exported bundle ({bundle.precision})" for bundle in bundles]
    if pictures.kept_from_N is not None:
        by_all = int((pictures.kept_from_N < 0).sum())
        rest = f"; {by_all:,} that all learnt from are answered by all" if by_all else ""
        notes.append(f"Each picture is answered by the one member that was kept from it{rest}")
    return tuple(notes)


def _left_out(whole: Dataset, asked: Dataset, part: str) -> tuple[str, ...]:
    others = len(whole.part(part)) - len(asked.part(part))
    if not others:
        return ()
    return (f"{others:,} pictures of {part} left out, whose species isn't one of the bundle's {len(asked.taxonomy):,}",)


@dataclass(frozen=True, eq=False)
class Asked:
    """The pictures of a part, who names them, and what is kept of the answers."""

    pictures: PartNamer
    full_scores: bool = False
    fusion: Fusion | None = None

    def of_observations(self, probabilities_IC: NDArray[np.float64], images: NDArray[np.int64]) -> NDArray[np.float64]:
        """The answers to some pictures as one for each of their observations, in the order of the ids, [O, C]."""
        ids = [self.pictures.rows.observation_ids[image] for image in images]
        observations, first_I, observation_I = np.unique(ids, return_index=True, return_inverse=True)
        if self.fusion is None:
            return mean_by_observation(probabilities_IC, observation_I, len(observations))
        organs = self.pictures.rows.table["organ"].take(pa.array(images)).to_pylist()
        answers_OC = self.fusion.of_pictures(Pictures(probabilities_IC, observation_I, organs))
        return self.with_known(answers_OC, images[first_I])

    def with_known(self, probabilities_XC: NDArray[np.float64], images: NDArray[np.int64]) -> NDArray[np.float64]:
        """Answers with what is known of the picture of each, if anything is fused."""
        return (
            self.fusion.with_known(probabilities_XC, self.pictures.rows.table.take(images)) if self.fusion else probabilities_XC
        )

    def portions(self) -> list[NDArray[np.int64]]:
        """Row numbers, as many at a time as may be held."""
        crops = self.pictures.namer.crops
        scores_an_image = len(self.pictures.namer.taxonomy) * (crops.count if crops else 1)
        return list(_portions(self.pictures.rows, max(1, min(_IMAGES_AT_ONCE, _SCORES_AT_ONCE // scores_an_image))))


def filled(dataset: Dataset, part: str) -> Part:
    """A part of the dataset; BadInput where it has no pictures."""
    rows = dataset.part(part)
    require_pictures(rows)
    return rows


def write_answers(asked: Asked, out: Path, plan: artifacts.Plan, notes: tuple[str, ...] = ()) -> artifacts.Manifest:
    """Fill and finish an artifact that was started with this plan."""
    portions, namer = asked.portions(), asked.pictures.namer
    for number, images in enumerate(track(portions, f"naming {asked.pictures.rows.name}")):
        if not _portion_file(out, "observations", number).is_file():
            _name_portion(asked, images, out, number)
    counts = {level: _join(out, level, len(portions)) for level in ("observations", "images")}
    artifacts.write_parquet(out / "taxonomy.parquet", namer.taxonomy.table)
    if len(namer.models) > 1 and asked.pictures.kept_from_N is None:
        how = "mean" if namer.rule is None else f"mixture by {namer.rule.formula}, with weights of its own,"
        notes = (f"The {how} of {len(namer.models)} members' calibrated probabilities", *notes)
    manifest = artifacts.finish(out, plan, counts=counts, taxonomy=namer.taxonomy.fingerprint, notes=notes)
    shutil.rmtree(out / "portions")
    return manifest


def plan_of(namer: Namer, dataset: Dataset, recipe: Mapping[str, object]) -> artifacts.Plan:
    """The plan of predictions by these models of this dataset, with further options."""
    inputs = {"dataset": artifacts.hash_of(dataset.folder)}
    for number, model in enumerate(namer.models, 1):
        which = f" {number}" if len(namer.models) > 1 else ""
        for file in weights_of(model):
            inputs[f"model{which}{file.suffix if file.suffix == '.data' else ''}"] = artifacts.hash_of(file)
        if model.calibration is not None:
            inputs[f"calibration{which}"] = artifacts.hash_of(model.folder / "calibration.json")
        if model.metadata is not None:
            inputs[f"metadata{which}"] = artifacts.hash_of(model.folder / METADATA_FILE)
    if namer.ensemble is not None:
        inputs["ensemble"] = artifacts.hash_of(namer.ensemble.path)
    several: dict[str, object] = {"crops": asdict(namer.crops)} if namer.crops else {}
    if chosen := [model.only for model in namer.models if isinstance(model, Bundle) and model.only is not None]:
        several["only"] = chosen[0]  # such a bundle is alone: as a member it is asked about all species, and refused
    if not recipe.get("out_of_fold") and (folds := [fold for model in namer.models if (fold := fold_of(model))]):
        several["folds"] = folds  # so that no ensemble is fitted on validation pictures that these have seen
    whose = {**folders_of(namer.models), "dataset": str(dataset.folder.resolve())}
    return artifacts.Plan("predictions", inputs, {**recipe, **whose, **several})


def _portions(rows: Part, size: int) -> Iterator[NDArray[np.int64]]:
    """Row numbers in portions of about `size`, never with an observation in two of them."""
    order = np.argsort(np.array(rows.observation_ids), kind="stable")
    observations = np.array(rows.observation_ids)[order]
    begins = np.flatnonzero(np.append(True, observations[1:] != observations[:-1]))
    first = 0
    for begin, end in zip(begins, np.append(begins[1:], len(order)), strict=True):
        if end - first >= size or end == len(order):
            yield order[first:end]
            first = int(end)
        assert begin < end


def _name_portion(asked: Asked, images: NDArray[np.int64], out: Path, number: int) -> None:
    rows, taxonomy = asked.pictures.rows, asked.pictures.namer.taxonomy
    probabilities_IC, logsumexp_I = asked.pictures.probabilities(images)
    ids = [rows.observation_ids[image] for image in images]
    observations, first_I, observation_I = np.unique(ids, return_index=True, return_inverse=True)
    images_O = np.bincount(observation_I)
    probabilities_OC = asked.of_observations(probabilities_IC, images)
    image_ids = [rows.image_ids[image] for image in images]
    by_image = Predictions.from_probabilities(
        asked.with_known(probabilities_IC, images),
        taxonomy,
        observation_ids=ids,
        image_ids=image_ids,
        truth=_pick(rows.truth(), images),
        logsumexp_O=logsumexp_I,
        level="image",
    )
    by_observation = Predictions.from_probabilities(
        probabilities_OC,
        taxonomy,
        observation_ids=observations.tolist(),
        image_ids=[image_ids[first] if count == 1 else None for first, count in zip(first_I, images_O, strict=True)],
        images=images_O.tolist(),
        truth=_pick(rows.truth(), images[first_I]),
        logsumexp_O=mean_by_observation(logsumexp_I[:, None], observation_I, len(observations))[:, 0],
    )
    if asked.full_scores:
        write_full(out / "full" / f"{number:05d}.arrow", observations.tolist(), probabilities_OC)
    by_image.write(_portion_file(out, "images", number))
    by_observation.write(_portion_file(out, "observations", number))  # last: its presence says that the portion is done


def _pick(truth: Truth, images: NDArray[np.int64]) -> Truth:
    return Truth(*([names[image] for image in images] for names in (truth.species, truth.genus, truth.family)))


def _portion_file(out: Path, level: str, number: int) -> Path:
    return out / "portions" / f"{level}-{number:05d}.parquet"


def _join(out: Path, level: str, portions: int) -> int:
    joined = Predictions.concat([Predictions.read(_portion_file(out, level, number)) for number in range(portions)])
    joined.write(out / f"{level}.parquet")
    return len(joined)
