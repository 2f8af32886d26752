"""What each kind of fusion gains alone, whether or not it would be kept: fitted on validation, measured on test.

    python benchmarks/fusion.py RUN DATASET [--embeddings VECTORS] [--with log-mean,quality,month,habitat,place] [--seed 0]

Everything is compared with the mean over an observation's photographs, one photograph of each too; "all" multiplies everything
named, each with its exponent. Printed: figures of test in per cent and paired differences with 95 % intervals (1,000 resamples
of observations), of observations whose species the model holds; "kept" is what `taxakey fuse` keeps of it, one after the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before timm

import numpy as np
from numpy.typing import NDArray

from taxakey.dataset.reader import Dataset
from taxakey.metrics.differences import paired_differences
from taxakey.metrics.intervals import Statistic, macro_f1_of, macro_mean_of, mean_of
from taxakey.prediction.fuse import FuseOptions, fit_fusion, known_images, named, training_of
from taxakey.prediction.fusion.exponents import fit_exponents, fused
from taxakey.prediction.fusion.fitting import Validation
from taxakey.prediction.fusion.pictures import Rule, fit_rule
from taxakey.prediction.namer import Namer

Answers = NDArray[np.float64]


def figures(answers_OC: Answers, true_O: NDArray[np.integer]) -> Mapping[str, Statistic]:
    named_O = answers_OC.argmax(axis=1)
    right_O = (named_O == true_O).astype(float)
    log_p_O = np.log(np.maximum(answers_OC[np.arange(len(true_O)), true_O], 1e-300))
    return {
        "top-1": mean_of(right_O),
        "macro top-1": macro_mean_of(right_O, true_O),
        "macro F1": macro_f1_of(true_O, named_O),
        "log-likelihood": mean_of(log_p_O),
    }


def first_pictures(part: Validation) -> Answers:
    _, first = np.unique(part.pictures.observation_I, return_index=True)
    return part.pictures.probabilities_IC[first]


def alone(namer: Namer, dataset: Dataset, options: FuseOptions) -> tuple[Validation, dict[str, Answers]]:
    """The test part, and its answers by each of the names."""
    validation, test = (
        named(namer, dataset.part(part), known_images(dataset.part(part), len(dataset.taxonomy), options.seed))
        for part in ("validation", "test")
    )
    answers = {"mean": Rule().combined(test.pictures), "one photograph": first_pictures(test)}
    fitted_OC, training = Rule().combined(validation.pictures), training_of(dataset)
    for name in options.rules():
        rule = fit_rule(name, validation.pictures, validation.true_O)
        answers[name] = rule.combined(test.pictures)
        print(f"{name}: {dict(rule.slopes)}")
    evidence = {name: training.evidence(name, options.seed) for name in options.columns()}
    ratios = {name: (one.log_ratio(validation.known), one.log_ratio(test.known)) for name, one in evidence.items()}
    for names in (*([name] for name in ratios), [*ratios]):
        exponents = fit_exponents(fitted_OC, [ratios[name][0] for name in names], validation.true_O)
        answers[names[0] if len(names) == 1 else "all"] = fused(answers["mean"], [ratios[name][1] for name in names], exponents)
        print(f"{', '.join(names)}: exponents {', '.join(f'{exponent:.2f}' for exponent in exponents)}")
    return test, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--embeddings", type=Path)
    parser.add_argument("--with", dest="names", default="log-mean,quality,month,habitat,substrate,place")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    dataset, options = Dataset.open(given.dataset), FuseOptions(tuple(given.names.split(",")), seed=given.seed)
    namer = Namer.open(given.run, dataset, embeddings_folder=given.embeddings)
    test, answers = alone(namer, dataset, options)
    fusion = fit_fusion(namer, dataset, options)
    answers["as kept"] = fusion.with_known(fusion.of_pictures(test.pictures), test.known)
    kept = {found["name"] for found in fusion.judged if found["kept"]}
    several = int((np.bincount(test.pictures.observation_I) > 1).sum())
    print(f"{len(test.true_O):,} observations of test, {several:,} of them with several photographs")
    base = figures(answers["mean"], test.true_O)
    for name, answers_OC in answers.items():
        own = figures(answers_OC, test.true_O)
        found = paired_differences({key: (own[key], base[key]) for key in own}, len(test.true_O), centred=["macro F1"])
        cells = []
        for key, difference in found.items():
            value, scale = float(own[key](np.ones((1, len(test.true_O))))[0]), 1 if key == "log-likelihood" else 100
            low, high, gain = (scale * number for number in (difference.low, difference.high, difference.value))
            cells.append(f"{key} {scale * value:.2f} ({gain:+.2f} [{low:+.2f}, {high:+.2f}])")
        print(f"{name:15}{' kept ' if name in kept else '      '}{'  '.join(cells)}")


if __name__ == "__main__":
    main()
