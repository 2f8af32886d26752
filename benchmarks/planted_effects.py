"""Effects that are planted in the simulated herbarium: is each one found, and does the interval of its size hold the truth?

    TAXAKEY_DATA=… python benchmarks/planted_effects.py OUT [--sheets 2400] [--species 40] [--seed 1] [--folds 5]

Draws a herbarium with wrong labels, unknown species and a shift of class shares (beside what it always has: species that live
in one institution, flower in their season, grow on their island and may be poisonous), trains linear heads on a frozen
MobileNetV2 that sees the whole sheet, and prints a line for each effect: planted, estimated, 95 % interval, inside or not. The
estimates use the labels that a user would have; `truth.csv` and the generator are asked only for the truth, which is that of the
very quantity estimated (docs/suspicions.md names them). OUT/results.json holds the same. An interrupted run goes on.

Shapes: O observations, C classes, V labelled ones that a member of the folds didn't learn from, U of unknown species, M members.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before timm

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import simplejpeg
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit, logsumexp

from taxakey.artifacts import Plan, write_json
from taxakey.calibration import Calibration, mean_by_observation
from taxakey.calibration.bias_corrected import fit_bias_corrected
from taxakey.calibration.shares import corrected, estimate_shares
from taxakey.calibration.told_shares import told_shares
from taxakey.dataset.build import BuildOptions, build
from taxakey.dataset.folds import Fold
from taxakey.dataset.reader import Dataset, Part
from taxakey.dataset.vectors import Vectors
from taxakey.embeddings import embed, features
from taxakey.evaluation.probes import probe
from taxakey.evaluation.shortcuts import Left, painted_over, what_is_left
from taxakey.evaluation.suspects import find_suspects
from taxakey.metrics.detection import auroc
from taxakey.metrics.differences import paired_differences
from taxakey.metrics.intervals import Interval, bootstrap, mean_of
from taxakey.prediction.blank import Blank, look_at_blank
from taxakey.prediction.fuse import FuseOptions, fit_fusion
from taxakey.prediction.namer import Namer
from taxakey.prediction.out_of_fold import predict_out_of_fold
from taxakey.progress import track
from taxakey.records.sample import INSTITUTIONS, Collection, SampleOptions, sample
from taxakey.records.sample.collection import ISLANDS, Specimen
from taxakey.records.sample.options import stream
from taxakey.records.sample.sheet import mount, photograph
from taxakey.records.sources import read_source
from taxakey.records.splits import split
from taxakey.training.checkpoint import Model, load_model, members_of
from taxakey.training.folds import train_folds
from taxakey.training.loop import train
from taxakey.training.recipe import Recipe, read_recipe

RESAMPLES = 500
REFITS = 200
"""Resamples in which a calibration is fitted anew."""
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

    bound: bool = False
    """An estimate from above: nothing is said but that the truth isn't greater than its interval."""

    @property
    def verdict(self) -> str:
        if self.planted is None:
            return "found" if self.low > 0 else "NOT found"
        if self.bound:
            return "bounded" if self.planted <= self.high else "EXCEEDED"
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
        replace(effect("names that confident learning contests", share, found.share, "from above"), bound=True),
    ]


def known(part: Part) -> Part:
    """The pictures of the model's species."""
    return part.only(np.flatnonzero(part.class_index >= 0))


# ---- institutions ----


def institutions(world: World) -> list[Effect]:
    """Painted sheets against what the records say of institutions; an institution left out against the same plants redrawn."""
    looked = look_at_blank(world.out / "run", world.out / "dataset", most=600)
    left = what_is_left(looked)
    found = painted_over(left, settings=None)
    print("\n".join(found.says))
    through = through_institution(world, looked, left)
    return [
        effect("institution told from painted sheets, above the commonest", None, found.differences["institution"]),
        effect("species told from painted sheets, above the commonest", None, found.differences["linear layer"]),
        through,
        effect("plant-trained model on painted sheets, above the commonest", None, found.differences["model"]),
        *held_out(world),
    ]


def through_institution(world: World, looked: Blank, left: Left) -> Effect:
    """What the look of a sheet is worth: name the commonest training species of the institution that a linear layer tells from
    the painted sheet. The truth: each plant's chance to lie in an institution whose commonest species bears its name."""
    assert left.probed_institutions_N is not None
    table, houses = looked.train.table, [each.code for each in INSTITUTIONS]
    pairs = Counter(zip(table["institutionCode"].to_pylist(), table["scientificName"].to_pylist(), strict=True))
    commonest = {code: max((count, name) for (own, name), count in pairs.items() if own == code)[1] for code in set(houses)}
    right_N = np.array([commonest[code] for code in left.probed_institutions_N]) == left.species_N
    rows = Rows(list(left.observations_N))
    interval = bootstrap({"r": rows.mean(right_N)}, rows.count, resamples=RESAMPLES)["r"]
    collection = world.collection
    houses_SI = collection._houses[: len(collection.flora.known)]
    drawn_S = np.bincount(collection.species[: collection.main], minlength=len(houses_SI))
    best_I = [collection.flora.species[index].name.canonical for index in (drawn_S[:, None] * houses_SI).argmax(axis=0)]
    chance_N = [
        houses_SI[collection.species[number_of(name)]] @ (np.array(best_I) == species)
        for name, species in zip(left.observations_N, left.species_N, strict=True)
    ]
    return effect("species told from painted sheets, by way of the institution", float(np.mean(chance_N)), interval)


def number_of(observation: str) -> int:
    """The specimen's number, from its occurrenceID."""
    return int(observation.rsplit(":", 1)[1][4:]) - 1_000_000


def held_out(world: World) -> list[Effect]:
    """Heads with and without an institution's pictures, the first with as few of each species as the second. The truth is their
    difference on fresh sheets of the same species, drawn four times; and what the look alone is worth to the first one shows on
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
    fresh = [redrawn(world, asked, code, again) for again in range(1, 5)]
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


def redrawn(world: World, asked: Part, code: str | None, again: int) -> NDArray[np.float32]:
    """Vectors of another plant in place of each picture's specimen, of its species, mounted as `code` would have done; None: by
    its own institution."""
    pictures, options, seen = [], world.options, Counter[str]()
    for name in asked.observation_ids:
        seen[name] += 1
        number = number_of(name)
        specimen = world.collection.specimen(number)
        house = next(each for each in INSTITUTIONS if each.code == (code or specimen.institution_code))
        species = world.collection.flora.species[specimen.species]
        sheet = mount(species, specimen, house, options.size, stream(options.seed, "plant", number, again))
        picture = photograph(sheet, house, options.size, stream(options.seed, "photograph", number, again, seen[name]))
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
    """How far each species keeps to its island and season, and what fusing them gains in naming.

    `wrong`: share of wrong labels, as estimated; it speaks of the sheets without the shift, so the first two are of these.
    """
    learn, main = named(world, known(world.dataset.part("train"))), test.only(~shifted(world, test))
    told, asked = Told.of(learn), Told.of(main)
    classes = len(world.dataset.taxonomy)
    island_C = np.array(
        [np.bincount(told.island[learn.class_O == each], minlength=len(ISLANDS)).argmax() for each in range(classes)]
    )
    # Wrong labels bring what other species do, which is what species drawn anyhow show.
    stranger_O = np.random.default_rng(0).permutation(main.class_O)
    own_O, other_O = (asked.island == island_C[class_O] for class_O in (main.class_O, stranger_O))
    island = bootstrap({"o": mean_of((own_O - wrong * other_O) / (1 - wrong))}, len(own_O), resamples=RESAMPLES)["o"]
    middle_C = np.array([np.nanmedian(told.day[learn.class_O == each]) for each in range(classes)])
    dated_C = np.array([np.isfinite(told.day[learn.class_O == each]).sum() for each in range(classes)])
    # A median of n is itself off by a deviation of sqrt(π / 2n) of the spread, which is taken away again.
    away = np.abs(asked.day - middle_C[main.class_O]) / np.sqrt(1 + np.pi / 2 / dated_C[main.class_O])
    away = away[np.isfinite(away)]
    other = np.abs(asked.day - middle_C[stranger_O])
    season = resampled(lambda rows: _spread(away[rows], other[np.isfinite(other)], wrong), len(away))
    return [
        effect("share on the species' own island", OWN_ISLAND, island),
        Effect("spread of the season in days, robust", SEASON, *season),
        gained_by_fusion(world, test),
    ]


def gained_by_fusion(world: World, test: Named) -> Effect:
    """Top-1 that `taxakey fuse --with place` adds. The truth: what it adds to the same answers when the generator draws date and
    place of each plant anew, thirty times. What the generator's own densities would gain is printed: more than can be learnt.
    """
    namer = Namer.open(world.out / "run", world.dataset, embeddings_folder=world.out / "vectors")
    fusion = fit_fusion(namer, world.dataset, FuseOptions(names=("place",)))
    plain = test.probabilities_OC.argmax(1) == test.class_O

    def right(table: pa.Table) -> NDArray[np.bool_]:
        return np.asarray(fusion.with_known(test.probabilities_OC, table).argmax(1) == test.class_O)

    table = test.part.table.take(test.rows_O)
    fused = right(table)
    planted = float(np.mean([right(moved(world, test, table, again)).mean() for again in range(1, 31)]) - plain.mean())
    ideal = _fused(test, Signal.planted(world), Told.of(test)).argmax(1) == test.class_O
    print(
        f"season and place: top-1 {plain.mean():.3f} alone, {fused.mean():.3f} fused, {ideal.mean():.3f} with the planted signal"
    )
    gain = paired_differences({"gain": (mean_of(fused), mean_of(plain))}, len(plain), resamples=RESAMPLES)["gain"]
    return effect("top-1 gained by season and place", planted, gain, "planted: date and place drawn anew")


def moved(world: World, test: Named, table: pa.Table, again: int) -> pa.Table:
    """The table with date and place of another plant of the species, in the stage that the picture shows; what wasn't known
    still isn't."""
    drawn = [_collected_again(world, number_of(name), again) for name in test.ids]
    columns = {
        "month": [each.collected.month for each in drawn],
        "day": [each.collected.day for each in drawn],
        "decimalLatitude": [each.latitude for each in drawn],
        "decimalLongitude": [each.longitude for each in drawn],
    }
    for name, values in columns.items():
        place, field = table.column_names.index(name), table.schema.field(name)
        here = pc.if_else(pc.is_valid(table[name]), pa.array(values).cast(field.type), pa.scalar(None, field.type))
        table = table.set_column(place, field, here)
    return table


def _collected_again(world: World, number: int, again: int) -> Specimen:
    collection = world.collection
    first = collection.specimen(number)
    for time in range(1000):
        rng = stream(world.options.seed, "specimen", number, again, time)
        drawn = collection._collected(rng, number, first.species, first.named, first.institution, first.institution_code)
        if drawn.stage == first.stage:
            return drawn
    raise AssertionError(f"{first.stage} never drawn for specimen {number}")


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


# ---- shares of classes, and of what is none of them ----


@dataclass(frozen=True, eq=False)
class Judges:
    """Raw scores by the members of the folds, means over an observation's pictures. `own_VC`, `given_V`: of training and
    validation, each by the member that didn't learn from it; `unknown_MUC`: validation's unknown species, by all members;
    `test_MOC`: of the test part, in the order of `named`."""

    own_VC: NDArray[np.float64]
    given_V: NDArray[np.int64]
    unknown_MUC: NDArray[np.float64]
    test_MOC: NDArray[np.float64]

    @classmethod
    def of(cls, world: World) -> Judges:
        members = [load_model(folder) for folder in members_of(world.out / "folds")]
        own, given = [], []
        for number, member in enumerate(members, 1):
            held = known(Fold(number, len(members)).of(world.dataset, 0).part("validation"))
            scores_OC, class_O = mean_scores(member, held, Vectors(world.out / "vectors").part(held.name, held.image_ids))
            own.append(scores_OC)
            given.append(class_O)
        parts = [world.dataset.part(name) for name in ("validation", "test")]
        both = [[mean_scores(member, part, world.vectors(part)) for member in members] for part in parts]
        unknown_U = both[0][0][1] < 0
        validation_MOC, test_MOC = (np.stack([scores_OC for scores_OC, _ in each]) for each in both)
        return cls(np.concatenate(own), np.concatenate(given), validation_MOC[:, unknown_U], test_MOC)

    def shares(
        self, rows_V: NDArray[np.int64], rows_U: NDArray[np.int64], *asked: NDArray[np.int64]
    ) -> list[NDArray[np.float64]]:
        """Of the classes and, last, of unknown species, among each of the `asked` rows of the test part [C + 1].

        Probabilities are bias-corrected out of fold, that of an unknown species comes from a logistic regression on how sure they
        are, and the shares of all C + 1 follow by expectation-maximisation, the members' answers counting alike.
        """
        basis = fit_bias_corrected(self.own_VC[rows_V], self.given_V[rows_V])
        log_share_C = np.log(basis.share)

        def signs(scores_OC: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            p_OC = basis.probabilities(scores_OC)
            sure_O = np.clip(p_OC.max(axis=1), 1e-4, 1 - 1e-4)
            return p_OC, np.column_stack([logit(sure_O), logsumexp(scores_OC, axis=1), p_OC @ log_share_C])

        unknown_UC = self.unknown_MUC[:, rows_U].reshape(-1, self.own_VC.shape[1])
        signs_XF = np.concatenate([signs(self.own_VC[rows_V])[1], signs(unknown_UC)[1]])
        weights_X = np.repeat([1.0, 1 / len(self.test_MOC)], [len(rows_V), len(unknown_UC)])
        chance = logistic(signs_XF, np.arange(len(signs_XF)) >= len(rows_V), weights_X)
        unknown = len(rows_U) / (len(rows_U) + len(rows_V))
        old_share_D = np.append((1 - unknown) * np.array(basis.share), unknown)
        found = []
        for rows in asked:
            p_OC, signs_OF = signs(self.test_MOC[:, rows].reshape(-1, self.own_VC.shape[1]))
            unknown_O = chance(signs_OF)
            p_OD = np.column_stack([(1 - unknown_O)[:, None] * p_OC, unknown_O])
            found.append(estimate_shares(p_OD, old_share_D, tolerance=1e-5))
        return found


def mean_scores(model: Model, part: Part, vectors_ND: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean raw scores of each observation [O, C], in the order of the ids, and its class."""
    with torch.inference_mode():
        scores_IC = model.network.head(torch.from_numpy(vectors_ND)).float().numpy()
    ids, first_O, observation_I = np.unique(part.observation_ids, return_index=True, return_inverse=True)
    return mean_by_observation(scores_IC, observation_I, len(ids)), part.class_index[first_O]


def logistic(
    signs_XF: NDArray[np.float64], true_X: NDArray[np.bool_], weights_X: NDArray[np.float64]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """A logistic regression on standardised signs, slopes held back a little, as a function of signs."""
    centre_F, spread_F = signs_XF.mean(axis=0), signs_XF.std(axis=0)

    def rows(signs: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack([np.ones(len(signs)), (signs - centre_F) / spread_F])

    x, y = rows(signs_XF), true_X.astype(np.float64)

    def loss(slopes: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        held = np.append(0.0, slopes[1:]) * 0.01
        value = (weights_X * (np.logaddexp(0, x @ slopes) - y * (x @ slopes))).sum() + held @ slopes
        return float(value), x.T @ (weights_X * (expit(x @ slopes) - y)) + 2 * held

    slopes = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
    return lambda signs: expit(rows(signs) @ slopes)


def shifted(world: World, test: Named) -> NDArray[np.bool_]:
    return np.array([number_of(name) in world.collection.shifted for name in test.ids], dtype=bool)


def unknown_and_shares(world: World, test: Named) -> list[Effect]:
    """How well unknown species are told, their share, and those of training's rarest third of the species and of the poisonous.

    In each resample the calibration, too, is fitted anew, on a resample of what it is fitted on: without that the intervals are
    too narrow.
    """
    judges, rng = Judges.of(world), np.random.default_rng(0)
    true_O = np.full(len(test.ids), len(world.dataset.taxonomy))
    names = [world.truth[name]["trueName"] for name in test.ids]
    index_O = world.dataset.taxonomy.index_of(names)
    true_O[index_O >= 0] = index_O[index_O >= 0]
    whole, main = np.arange(len(test.ids)), np.flatnonzero(~shifted(world, test))
    everything = (np.arange(len(judges.given_V)), np.arange(judges.unknown_MUC.shape[1]), main, whole)
    estimated = judges.shares(*everything)
    drawn = [judges.shares(*(rng.choice(rows, len(rows)) for rows in everything)) for _ in track(range(REFITS), "refitting")]
    count_C, poisonous_C = world.dataset.train_counts(), world.dataset.taxonomy.poisonous()
    assert poisonous_C is not None
    rare_C = np.argsort(np.argsort(count_C, kind="stable")) < len(count_C) // 3
    unknown_D = np.append(np.zeros(len(count_C), dtype=bool), True)
    asked = {
        "share of unknown species in test, without shift": (0, main, unknown_D),
        "share of unknown species in test, with shift": (1, whole, unknown_D),
        "share of the rarest third in test": (1, whole, np.append(rare_C, False)),
        "share of poisonous species in test": (1, whole, np.append(poisonous_C, False)),
    }
    effects = []
    for which, rows in (("without shift", main), ("with shift", whole)):
        sure_O, known_O = test.probabilities_OC.max(1)[rows], test.class_O[rows] >= 0
        area = resampled(lambda some, sure_O=sure_O, known_O=known_O: auroc(sure_O[some], known_O[some]), len(rows))
        effects.append(Effect(f"AUROC of unknown species above one half, {which}", None, *(bound - 0.5 for bound in area)))
    for name, (which, rows, wanted_D) in asked.items():
        values = [float(shares[which][wanted_D].sum()) for shares in drawn]
        low, high = (float(bound) for bound in np.quantile(values, [0.025, 0.975]))
        planted = float(wanted_D[true_O[rows]].mean())
        effects.append(Effect(name, planted, float(estimated[which][wanted_D].sum()), low, high))
    return effects


def resampled(figure: Callable[[NDArray[np.int64]], float], observations: int) -> tuple[float, float, float]:
    """A figure of rows and its percentile interval."""
    rng = np.random.default_rng(0)
    values = [figure(_drawn(rng, observations)) for _ in range(RESAMPLES)]
    return (figure(np.arange(observations)), *(float(bound) for bound in np.quantile(values, [0.025, 0.975])))


def _drawn(rng: np.random.Generator, observations: int) -> NDArray[np.int64]:
    return rng.integers(0, observations, observations)


# ---- what estimated shares gain ----


def gained_by_shares(world: World, test: Named) -> Effect:
    """Top-1 that `taxakey predict --shares estimate` adds to the model's answers. The truth: what the same correction adds on
    fresh sheets of the same species. What the true shares would add is printed: as much can't be had from an estimate.
    """
    model, part = world.model, test.part.only(np.flatnonzero(np.isin(test.part.observation_ids, test.ids)))
    assert model.decisions is not None
    basis, taxonomy, plain = model.decisions.shares, model.taxonomy, model.calibration or Calibration()
    assert basis is not None
    observation_I = np.unique(part.observation_ids, return_inverse=True)[1]

    def scores(vectors_ID: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(model.network.head(torch.from_numpy(vectors_ID)).float().numpy())

    def right(probabilities_IC: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.asarray(mean_by_observation(probabilities_IC, observation_I, len(test.ids)).argmax(1) == test.class_O)

    here_IC, fresh_IC = scores(world.vectors(part)), scores(redrawn(world, part, None, 5))
    told = told_shares("estimate", plain, taxonomy, world.dataset.train_counts(), here_IC, observation_I, basis)
    print(told.meaning)
    before, after = plain.bind(taxonomy), told.calibration.bind(taxonomy)
    pair = {"gain": tuple(mean_of(right(each.probabilities(here_IC))) for each in (after, before))}
    gain = paired_differences(pair, len(test.ids), resamples=RESAMPLES)["gain"]
    planted = right(after.probabilities(fresh_IC)).mean() - right(before.probabilities(fresh_IC)).mean()
    true_C = np.bincount(taxonomy.index_of([world.truth[name]["trueName"] for name in test.ids]), minlength=len(taxonomy))
    best = right(corrected(basis.probabilities(here_IC), np.array(basis.share), np.maximum(true_C, 0.01)))
    print(f"the true shares would add {best.mean() - right(before.probabilities(here_IC)).mean():+.3f}")
    return effect("top-1 gained by the estimated shares", float(planted), gain, "planted: on fresh sheets")


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
        *unknown_and_shares(world, everything),
        gained_by_shares(world, test),
    ]
    sized = [each for each in effects if each.planted is not None and not each.bound]
    print(f"{sum(each.verdict == 'inside' for each in sized)} of {len(sized)} sized effects lie inside their interval")
    for each in effects:
        planted = "     —" if each.planted is None else f"{each.planted:6.3f}"
        print(f"{each.effect:60} {planted} {each.estimated:7.3f} [{each.low:.3f}, {each.high:.3f}] {each.verdict:9} {each.note}")
    results = [{**asdict(each), "verdict": each.verdict} for each in effects]
    write_json(given.out / "results.json", {"options": json.loads(json.dumps(asdict(options))), "effects": results})


if __name__ == "__main__":
    main()
