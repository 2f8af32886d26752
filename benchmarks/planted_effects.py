"""Effects that are planted in the simulated herbarium: is each one found, and does the interval of its size hold the truth?

    TAXAKEY_DATA=… python benchmarks/planted_effects.py OUT [--sheets 2400] [--species 40] [--seed 1] [--folds 5]

Draws a herbarium with wrong labels, unknown species and a shift of class shares (beside what it always has: species that live
in one institution, flower in their season, grow on their island and may be poisonous), trains linear heads on a frozen
MobileNetV2 that sees the whole sheet, and prints a line for each effect: planted, estimated, 95 % interval, inside or not. The
estimates use the labels that a user would have; `truth.csv` and the generator are asked only for the truth. OUT/results.json
holds the same. An interrupted run goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before timm

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray

from taxakey.artifacts import Plan, write_json
from taxakey.calibration import Calibration, mean_by_observation
from taxakey.calibration.shares import corrected, estimate_shares
from taxakey.calibration.told_shares import CAUTION
from taxakey.dataset.build import BuildOptions, build
from taxakey.dataset.reader import Dataset, Part
from taxakey.dataset.vectors import Vectors
from taxakey.embeddings import embed, features
from taxakey.evaluation.probes import probe
from taxakey.evaluation.shortcuts import painted_over, what_is_left
from taxakey.evaluation.suspects import find_suspects
from taxakey.metrics.detection import auroc
from taxakey.metrics.differences import paired_differences
from taxakey.metrics.intervals import Interval, bootstrap, mean_of
from taxakey.prediction.blank import look_at_blank
from taxakey.prediction.out_of_fold import predict_out_of_fold
from taxakey.records.sample import INSTITUTIONS, Collection, SampleOptions, sample
from taxakey.records.sample.collection import ISLANDS
from taxakey.records.sample.options import stream
from taxakey.records.sample.sheet import mount, photograph
from taxakey.records.sources import read_source
from taxakey.records.splits import split
from taxakey.training.checkpoint import Model, load_model
from taxakey.training.folds import train_folds
from taxakey.training.loop import train
from taxakey.training.recipe import Recipe, read_recipe

RESAMPLES = 500
OWN_ISLAND = 0.8 + 0.2 / len(ISLANDS)  # collection.py: its own island in four of five cases, else any
SEASON = 28.0  # days; collection.py


@dataclass(frozen=True)
class Effect:
    """`planted` None: the generator says that it is there, not how large it must look."""

    effect: str
    planted: float | None
    estimated: float
    low: float
    high: float
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.planted is None:
            return "found" if self.low > 0 else "NOT found"
        return "inside" if self.low <= self.planted <= self.high else "OUTSIDE"


def effect(name: str, planted: float | None, found: Interval | object, note: str = "") -> Effect:
    return Effect(name, planted, found.value, found.low, found.high, note)  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False)
class World:
    """The artifacts, and the truth by occurrenceID."""

    out: Path
    options: SampleOptions
    recipe: Recipe
    dataset: Dataset
    truth: dict[str, dict[str, str]]
    collection: Collection

    @property
    def model(self) -> Model:
        return load_model(self.out / "run")

    def vectors(self, part: Part) -> NDArray[np.float32]:
        return Vectors(self.out / "vectors").part(part.name, part.image_ids)


def make_world(out: Path, options: SampleOptions, folds: int) -> World:
    sample(out / "herbarium", options)
    if not (out / "records" / "manifest.json").is_file():
        split(read_source(out / "herbarium" / "archive.zip")).write(out / "records", Plan("records"))
    build(out / "records", out / "dataset", BuildOptions(longest_edge=224))
    recipe = read_recipe("recipes/flowers102-linear.yaml").resolved()
    recipe = replace(recipe, backbone=replace(recipe.backbone, crop_pct=1.0, crop_mode="squash"))
    embed(out / "dataset", recipe.backbone, out / "vectors")
    train(out / "dataset", recipe, out / "run", embeddings_folder=out / "vectors", device="cpu")
    train_folds(out / "dataset", recipe, out / "folds", members=folds, embeddings_folder=out / "vectors", device="cpu")
    with open(out / "herbarium" / "truth.csv", encoding="utf-8") as file:
        truth = {row["occurrenceID"]: row for row in csv.DictReader(file)}
    return World(out, options, recipe, Dataset.open(out / "dataset"), truth, Collection(options))


# ---- wrong labels ----


def wrong_labels(world: World) -> list[Effect]:
    """Out-of-fold over training and validation."""
    predict_out_of_fold(
        world.out / "folds", world.out / "dataset", world.out / "out-of-fold", embeddings_folder=world.out / "vectors"
    )
    found = find_suspects(world.out / "out-of-fold", world.out / "dataset", resamples=RESAMPLES)
    ids = {name for part in ("train", "validation") for name in known(world.dataset.part(part)).observation_ids}
    wrong = {name for name in ids if world.truth[name]["wrongLabel"] == "true"}
    listed = found.table["observation_id"].to_pylist()
    hits = [name in wrong for name in listed]
    named = [
        world.truth[name]["trueName"] == other for name, other in zip(listed, found.table["suspected"].to_pylist(), strict=True)
    ]
    print(
        f"suspects: {len(listed)} of {len(ids)} observations, {len(wrong)} wrong; precision {np.mean(hits):.3f}, recall "
        f"{sum(hits) / len(wrong):.3f}, precision of the first {len(wrong) // 2} {np.mean(hits[: len(wrong) // 2]):.3f}; the "
        f"likelier name is the true one for {np.mean(np.array(named)[hits]):.3f} of the hits"
    )
    share = len(wrong) / len(ids)
    return [
        effect("share of wrong labels, among the surest third", share, found.share_among_surest),
        effect("share of wrong labels, confident learning", share, found.share, "counts what the model confuses"),
    ]


def known(part: Part) -> Part:
    """The pictures of the model's species."""
    return part.only(np.flatnonzero(part.class_index >= 0))


# ---- institutions ----


def institutions(world: World) -> list[Effect]:
    """Painted sheets against what the records say of institutions; an institution left out against the same plants redrawn."""
    looked = look_at_blank(world.out / "run", world.out / "dataset", most=1200)
    found = painted_over(what_is_left(looked), settings=None)
    print("\n".join(found.says))
    by_institution = found.figures["by institution"].value
    note = "planted: right by the commonest species of the institution"
    return [
        effect("institution told from painted sheets, above the commonest", None, found.differences["institution"]),
        effect("species told from painted sheets, above the commonest", None, found.differences["linear layer"]),
        effect("species told from painted sheets", by_institution, found.figures["linear layer"], note),
        effect("plant-trained model on painted sheets, above the commonest", None, found.differences["model"]),
        *held_out(world),
    ]


def held_out(world: World) -> list[Effect]:
    """Heads with and without an institution's pictures, the first with as few of each species as the second. The truth is their
    difference on fresh sheets of the same species, drawn three times; and what the look alone is worth to the first one shows on
    the same plants mounted by another institution."""
    learn, test = known(world.dataset.part("train")), known(world.dataset.part("test"))
    codes = np.asarray(learn.table["institutionCode"].to_pylist())
    tested = np.asarray(test.table["institutionCode"].to_pylist())
    code = max((each.code for each in INSTITUTIONS), key=lambda each: int((tested == each).sum()))
    names, vectors_ND = np.asarray(learn.table["scientificName"].to_pylist()), world.vectors(learn)
    without = np.flatnonzero(codes != code)
    rng, control = np.random.default_rng(world.options.seed), []
    for name in np.unique(names[without]):
        own = rng.permutation(np.flatnonzero(names == name))
        control += own[: (names[without] == name).sum()].tolist()
    asked = test.only(np.flatnonzero((tested == code) & np.isin(test.table["scientificName"].to_pylist(), names[without])))
    given = np.asarray(asked.table["scientificName"].to_pylist())

    def right(rows: NDArray | list[int], asked_ND: NDArray[np.float32]) -> NDArray[np.bool_]:
        return probe(vectors_ND[rows], names[rows].tolist(), asked_ND) == given

    seen, unseen = (right(rows, world.vectors(asked)) for rows in (control, without))
    fresh = [redrawn(world, asked, code, again) for again in (1, 2, 3)]
    planted = float(np.mean([right(control, each).mean() - right(without, each).mean() for each in fresh]))
    here, moved = right(control, fresh[0]), right(control, redrawn(world, asked, _other(code, codes), 1))
    print(f"{code}: {len(asked)} pictures, {len(without)} to learn from; seen {seen.mean():.3f}, unseen {unseen.mean():.3f}; "
          f"the first on fresh sheets {here.mean():.3f}, mounted elsewhere {moved.mean():.3f}")  # fmt: skip
    rows = Rows(asked.observation_ids)
    pairs = {"held out": (rows.mean(seen), rows.mean(unseen)), "look": (rows.mean(here), rows.mean(moved))}
    found = paired_differences(pairs, rows.count, resamples=RESAMPLES)
    return [
        effect(f"drop when {code} is held out", planted, found["held out"], "planted: on fresh sheets"),
        effect(f"drop when {code}'s plants are mounted elsewhere", None, found["look"]),
    ]


def _other(code: str, codes: NDArray) -> str:
    """The institution with most training pictures, but for this one."""
    return max((each.code for each in INSTITUTIONS if each.code != code), key=lambda other: int((codes == other).sum()))


@dataclass(frozen=True, eq=False)
class Drawn:
    """Pictures in memory that `features` can read."""

    pictures: list[bytes]

    def image_bytes(self, index: int) -> bytes:
        return self.pictures[index]


def redrawn(world: World, asked: Part, code: str, again: int) -> NDArray[np.float32]:
    """Vectors of another plant in place of each picture's specimen, of its species, mounted as `code` would have done."""
    house = next(each for each in INSTITUTIONS if each.code == code)
    pictures, options = [], world.options
    for name in asked.observation_ids:
        number = int(name.rsplit(":", 1)[1][4:]) - 1_000_000
        specimen = world.collection.specimen(number)
        species = world.collection.flora.species[specimen.species]
        sheet = mount(species, specimen, house, options.size, stream(options.seed, "plant", number, again))
        picture = photograph(sheet, house, options.size, stream(options.seed, "photograph", number, again, 0))
        pictures.append(simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=90, colorspace="RGB"))
    model = world.model
    return features(model.network.backbone, Drawn(pictures), range(len(pictures)), model.preprocess)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Rows:
    """Means over pictures, resampled by observation."""

    observations: list[str]

    @property
    def count(self) -> int:
        return len(set(self.observations))

    def mean(self, values_N: NDArray) -> Callable:
        from taxakey.metrics.intervals import ratio_of

        _, row_N = np.unique(self.observations, return_inverse=True)
        return ratio_of(np.bincount(row_N, values_N), np.bincount(row_N))


# ---- full probabilities by observation ----


@dataclass(frozen=True, eq=False)
class Named:
    """`probabilities_OC`, calibrated; `class_O`: −1 for unknown species; `rows_O`: the first picture of each observation."""

    part: Part
    ids: list[str]
    probabilities_OC: NDArray[np.float64]
    class_O: NDArray[np.int64]
    rows_O: NDArray[np.int64]

    def only(self, kept_O: NDArray[np.bool_]) -> Named:
        ids = [name for name, kept in zip(self.ids, kept_O, strict=True) if kept]
        return Named(self.part, ids, self.probabilities_OC[kept_O], self.class_O[kept_O], self.rows_O[kept_O])


def named(world: World, part: Part) -> Named:
    model = world.model
    with torch.inference_mode():
        scores_IC = model.network.head(torch.from_numpy(world.vectors(part))).float().numpy()
    probabilities_IC = (model.calibration or Calibration()).bind(model.taxonomy).probabilities(scores_IC)
    ids, rows_O, observation_I = np.unique(part.observation_ids, return_index=True, return_inverse=True)
    return Named(
        part, ids.tolist(), mean_by_observation(probabilities_IC, observation_I, len(ids)), part.class_index[rows_O], rows_O
    )


# ---- season and place ----


def _spread(away_N: NDArray[np.float64], other_M: NDArray[np.float64], wrong: float) -> float:
    """Deviation of a normal, from absolute deviations of which the share `wrong` are like the others: 1.4826 times the median of
    the rest. Their median alone says 4 to 8 per cent too much with 6 per cent of wrong labels."""
    sorted_N = np.sort(away_N)
    below_N = np.arange(1, len(sorted_N) + 1) / len(sorted_N)
    others_N = np.searchsorted(np.sort(other_M), sorted_N, side="right") / len(other_M)
    own_N = (below_N - wrong * others_N) / (1 - wrong)
    return 1.4826 * float(sorted_N[np.argmax(own_N >= 0.5)])


def season_and_place(world: World, test: Named, wrong: float) -> list[Effect]:
    """How far each species keeps to its island and season, and what that gains in naming, learnt against the generator's own.

    `wrong`: share of wrong labels, as estimated.
    """
    learn = named(world, known(world.dataset.part("train")))
    told, asked = Told.of(learn), Told.of(test)
    classes = len(world.dataset.taxonomy)
    island_C = np.array(
        [np.bincount(told.island[learn.class_O == each], minlength=len(ISLANDS)).argmax() for each in range(classes)]
    )
    own = asked.island == island_C[test.class_O]
    learnt = Signal.learnt(told, learn.class_O, classes)
    truth = Signal.planted(world)
    middle_C = np.array([np.nanmedian(told.day[learn.class_O == each]) for each in range(classes)])
    dated_C = np.array([np.isfinite(told.day[learn.class_O == each]).sum() for each in range(classes)])
    # A median of n is itself off by a deviation of sqrt(π / 2n) of the spread, which is taken away again.
    away = np.abs(asked.day - middle_C[test.class_O]) / np.sqrt(1 + np.pi / 2 / dated_C[test.class_O])
    away = away[np.isfinite(away)]
    # Robust, and without what wrong labels bring: other species' seasons, which lie as far away as those of species drawn anyhow.
    other = np.abs(asked.day - middle_C[np.random.default_rng(0).permutation(test.class_O)])
    season = resampled(lambda rows: _spread(away[rows], other[np.isfinite(other)], wrong), len(away))
    right = {
        name: _fused(test, signal, asked).argmax(1) == test.class_O for name, signal in (("learnt", learnt), ("truth", truth))
    }
    plain = test.probabilities_OC.argmax(1) == test.class_O
    gain = paired_differences({"gain": (mean_of(right["learnt"]), mean_of(plain))}, len(plain), resamples=RESAMPLES)["gain"]
    print(f"season and place: top-1 {plain.mean():.3f} alone, {right['learnt'].mean():.3f} with the learnt signal, "
          f"{right['truth'].mean():.3f} with the planted one")  # fmt: skip
    return [
        effect(
            "share on the species' own island", OWN_ISLAND, bootstrap({"o": mean_of(own)}, len(own), resamples=RESAMPLES)["o"]
        ),
        Effect("spread of the season in days, robust", SEASON, *season),
        effect("top-1 gained by season and place", float(right["truth"].mean() - plain.mean()), gain, "planted: the true signal"),
    ]


@dataclass(frozen=True, eq=False)
class Told:
    """Of each observation: island, day of the year (NaN: not known), place against the island's centre in degrees."""

    island: NDArray[np.int64]
    day: NDArray[np.float64]
    place_O2: NDArray[np.float64]

    @classmethod
    def of(cls, found: Named) -> Told:
        rows = found.part.table.take(found.rows_O).to_pylist()
        island = np.array([[code for _, code, _, _ in ISLANDS].index(row["countryCode"]) for row in rows])
        days = [date(2001, row["month"], min(row["day"], 28)).timetuple().tm_yday if row["day"] else np.nan for row in rows]
        places = [
            [row[name] if row[name] is not None else np.nan for name in ("decimalLatitude", "decimalLongitude")] for row in rows
        ]
        centres = np.array([centre for *_, north, east in ISLANDS for centre in [(north, east)]])
        return cls(island, np.array(days), np.array(places) - centres[island])


@dataclass(frozen=True, eq=False)
class Signal:
    """Log-likelihood of what is told under each class; what isn't known counts for nothing."""

    island_CI: NDArray[np.float64]
    day_C: NDArray[np.float64]
    days: float
    place_C2: NDArray[np.float64]
    degrees_2: NDArray[np.float64]

    @classmethod
    def learnt(cls, told: Told, class_O: NDArray[np.int64], classes: int) -> Signal:
        """Medians, because some labels are wrong; half an observation of each island beforehand."""
        own = [class_O == each for each in range(classes)]
        island_CI = np.array([np.bincount(told.island[rows], minlength=len(ISLANDS)) + 0.5 for rows in own])
        day_C = np.array([np.nanmedian(told.day[rows]) for rows in own])
        place_C2 = np.array([np.nanmedian(told.place_O2[rows], axis=0) for rows in own])
        days = 1.4826 * float(np.nanmedian(np.abs(told.day - day_C[class_O])))
        degrees = 1.4826 * np.nanmedian(np.abs(told.place_O2 - place_C2[class_O]), axis=0)
        return cls(island_CI / island_CI.sum(1, keepdims=True), day_C, days, place_C2, degrees)

    @classmethod
    def planted(cls, world: World) -> Signal:
        flora = {each.name.canonical: each for each in world.collection.flora.species}
        species = [flora[name] for name in world.dataset.taxonomy.names]
        island_CI = np.full((len(species), len(ISLANDS)), 0.2 / len(ISLANDS))
        island_CI[np.arange(len(species)), [each.island for each in species]] += 0.8
        homes = np.array([each.home for each in species]) * np.array([1.2, 1.6])
        return cls(island_CI, np.array([each.flowering for each in species]), SEASON, homes, 0.2 * np.array([1.2, 1.6]))

    def log_likelihood(self, told: Told) -> NDArray[np.float64]:
        day_OC = -0.5 * ((told.day[:, None] - self.day_C) / self.days) ** 2
        place_OC = -0.5 * (((told.place_O2[:, None] - self.place_C2) / self.degrees_2) ** 2).sum(2)
        return np.log(self.island_CI[:, told.island].T) + np.nan_to_num(day_OC) + np.nan_to_num(place_OC)


def _fused(test: Named, signal: Signal, told: Told) -> NDArray[np.float64]:
    return np.log(np.maximum(test.probabilities_OC, 1e-12)) + np.maximum(signal.log_likelihood(told), -12)


# ---- unknown species ----


def unknown_species(world: World, test: Named) -> list[Effect]:
    """Without the sheets of the shift, as if it hadn't been asked for; and with them, which make the known look less sure."""
    numbers = [int(name.rsplit(":", 1)[1][4:]) - 1_000_000 for name in test.ids]
    main = test.only(np.array([number not in world.collection.shifted for number in numbers], dtype=bool))
    return [*_unknown(world, main, "without shift"), *_unknown(world, test, "with shift")]


def _unknown(world: World, test: Named, which: str) -> list[Effect]:
    """AUROC of the greatest probability; the share of unknown in test from the share below a threshold, validation saying how
    often known and unknown ones lie below it."""
    validation = named(world, world.dataset.part("validation"))
    sure_V, known_V = validation.probabilities_OC.max(1), validation.class_O >= 0
    sure_O, known_O = test.probabilities_OC.max(1), test.class_O >= 0
    found = resampled(lambda rows: auroc(sure_O[rows], known_O[rows]), len(sure_O))
    # The threshold that parts validation best; chosen once.
    threshold = max(np.unique(sure_V), key=lambda t: (sure_V[~known_V] < t).mean() - (sure_V[known_V] < t).mean())
    rng, whole = np.random.default_rng(1), np.arange(len(sure_O))

    def share(rows: NDArray[np.int64]) -> float:
        """Of a resample of test, with one of validation."""
        again = np.arange(len(sure_V)) if np.array_equal(rows, whole) else _drawn(rng, len(sure_V))
        below = sure_V[again] < threshold
        hit, false = below[~known_V[again]].mean(), below[known_V[again]].mean()
        return float(np.clip(((sure_O[rows] < threshold).mean() - false) / (hit - false), 0, 1))

    return [
        Effect(f"AUROC of unknown species above one half, {which}", None, *(bound - 0.5 for bound in found)),
        Effect(f"share of unknown species in test, {which}", float((~known_O).mean()), *resampled(share, len(sure_O))),
    ]


def resampled(figure: Callable[[NDArray[np.int64]], float], observations: int) -> tuple[float, float, float]:
    """A figure of rows and its percentile interval."""
    rng = np.random.default_rng(0)
    values = [figure(_drawn(rng, observations)) for _ in range(RESAMPLES)]
    return (figure(np.arange(observations)), *(float(bound) for bound in np.quantile(values, [0.025, 0.975])))


def _drawn(rng: np.random.Generator, observations: int) -> NDArray[np.int64]:
    return rng.integers(0, observations, observations)


# ---- shares of classes ----


def shifted_shares(world: World, test: Named) -> list[Effect]:
    """Of the rarest third of the species in training, together, and of the poisonous; and what knowing the shares gains."""
    count_C = world.dataset.train_counts()
    share_C = count_C / count_C.sum()
    rare_C = np.argsort(np.argsort(count_C, kind="stable")) < len(count_C) // 3
    poisonous_C = world.dataset.taxonomy.poisonous()
    assert poisonous_C is not None
    names = np.array(world.dataset.taxonomy.index_of([world.truth[name]["trueName"] for name in test.ids]))
    p_OC = test.probabilities_OC
    estimated_C = estimate_shares(p_OC, share_C)
    rare = resampled(lambda rows: float(estimate_shares(p_OC[rows], share_C)[rare_C].sum()), len(p_OC))
    poisonous = resampled(lambda rows: float(estimate_shares(p_OC[rows], share_C)[poisonous_C].sum()), len(p_OC))
    true_C = np.bincount(names, minlength=len(count_C)) / len(names)
    print(f"shares: training has {share_C[rare_C].sum():.3f} of the rare third, {share_C[poisonous_C].sum():.3f} poisonous; "
          f"half the sum of differences from the true shares {np.abs(share_C - true_C).sum() / 2:.3f}, after EM "
          f"{np.abs(estimated_C - true_C).sum() / 2:.3f}")  # fmt: skip
    cautious_C = estimate_shares(p_OC, share_C, prior_observations=CAUTION * len(p_OC))
    better = corrected(p_OC, share_C, cautious_C).argmax(1) == test.class_O
    best = corrected(p_OC, share_C, np.maximum(true_C, 1e-6)).argmax(1) == test.class_O
    plain = p_OC.argmax(1) == test.class_O
    gain = paired_differences({"gain": (mean_of(better), mean_of(plain))}, len(plain), resamples=RESAMPLES)["gain"]
    return [
        Effect("share of the rarest third in test, by EM", float(true_C[rare_C].sum()), *rare),
        Effect("share of poisonous species in test, by EM", float(true_C[poisonous_C].sum()), *poisonous),
        effect("top-1 gained by the estimated shares", float(best.mean() - plain.mean()), gain, "planted: with the true shares"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sheets", type=int, default=2400)
    parser.add_argument("--species", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folds", type=int, default=5)
    given = parser.parse_args()
    options = SampleOptions(
        sheets=given.sheets, species=given.species, size=256, seed=given.seed, wrong_labels=0.06, unknown_species=8, shift=0.25
    )
    world = make_world(given.out, options, given.folds)
    everything = named(world, world.dataset.part("test"))
    test = everything.only(everything.class_O >= 0)
    labels = wrong_labels(world)
    effects = [
        *labels,
        *institutions(world),
        *season_and_place(world, test, labels[0].estimated),
        *unknown_species(world, everything),
        *shifted_shares(world, test),
    ]
    for each in effects:
        planted = "     —" if each.planted is None else f"{each.planted:6.3f}"
        print(f"{each.effect:60} {planted} {each.estimated:7.3f} [{each.low:.3f}, {each.high:.3f}] {each.verdict:9} {each.note}")
    results = [{**asdict(each), "verdict": each.verdict} for each in effects]
    write_json(given.out / "results.json", {"options": json.loads(json.dumps(asdict(options))), "effects": results})


if __name__ == "__main__":
    main()
