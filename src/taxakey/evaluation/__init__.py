"""Evaluation: predictions, the pictures they were made for and the run behind them -> Report."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from taxakey.artifacts import hash_of, package_versions
from taxakey.errors import BadInput
from taxakey.evaluation.afterwards import analyse
from taxakey.evaluation.answer_sets import fit_thresholds
from taxakey.evaluation.content import Report
from taxakey.evaluation.examples import choose_examples, confused_pairs, thumbnails
from taxakey.evaluation.figures import Settings, measure
from taxakey.evaluation.meanings import DEFINITIONS, how_intervals_were_made
from taxakey.evaluation.sources import Sources, command_of, open_sources, validation_facts
from taxakey.metrics.intervals import LEVEL, RESAMPLES

__all__ = ["Report", "evaluate"]


def evaluate(
    predictions_folder: Path | str,
    *,
    dataset_folder: Path | str | None = None,
    run_folder: Path | str | None = None,
    validation_folder: Path | str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Report:
    """Measure a predictions artifact whose true names are known.

    The dataset (training counts, pictures) and the run (learning curves, calibration) default to those that the predictions
    name; where they don't exist any more the report goes without them and says so. Intervals are bootstrap intervals over
    observations with `resamples` and `seed`. `validation_folder`: the same model's predictions for the validation part, from
    which the thresholds of average-k accuracy come; without them there is none. Raises BadInput where no observation has a
    known species, TaxonomyMismatch where the artifacts speak of different class lists.
    """
    sources = open_sources(predictions_folder, dataset_folder=dataset_folder, run_folder=run_folder)
    named = sum(name is not None for name in sources.observations.strings("true_species"))
    if not named:
        raise BadInput(
            f"{sources.folder}: none of its {len(sources.observations):,} observations has a known species, "
            "so nothing can be measured; predict a part whose records are named"
        )
    settings = Settings(resamples, LEVEL, seed)
    thresholds = None if validation_folder is None else fit_thresholds(validation_folder, sources)
    measured = measure(sources, settings)
    pairs, examples = confused_pairs(sources), choose_examples(sources)
    return Report(
        title=_title(sources),
        part=str(sources.manifest.recipe.get("part", "")),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        notes=(*sources.notes, *(thresholds.notes if thresholds else ())),
        counts=measured.counts,
        figures=measured.figures,
        single_photographs=measured.single_photographs,
        calibration=measured.calibration,
        by_train_images=measured.by_train_images,
        curves=sources.curves,
        confused=pairs,
        examples=examples,
        species=measured.species,
        analyses=analyse(sources, settings, thresholds),
        sources=sources.facts if validation_folder is None else (*sources.facts, validation_facts(validation_folder)),
        definitions=DEFINITIONS,
        intervals=how_intervals_were_made(resamples, LEVEL, seed),
        inputs=sources.inputs if validation_folder is None else sources.inputs | {"validation": hash_of(validation_folder)},
        settings={"resamples": resamples, "level": LEVEL, "seed": seed},
        command=command_of(sources, validation_folder, resamples=resamples, seed=seed),
        packages=package_versions(),
        thumbnails=thumbnails(sources, pairs, examples),
    )


def _title(sources: Sources) -> str:
    """The run's recipe by its name, else the folder of the run or the predictions."""
    facts = next(facts for kind in ("run", "predictions") for facts in sources.facts if facts.kind == kind)
    return str(facts.recipe.get("name") or facts.name)
