"""Whether a model lives off something else than the organism: the look of an institution's sheets, text, the background.

Shapes: O observations that both sides were measured on, N pictures.

Every difference is paired over observations; what is said of it in words is what its interval supports and no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taxakey.artifacts import Manifest, hash_of, read_manifest
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput, TaxonomyMismatch
from taxakey.evaluation.probes import probe
from taxakey.evaluation.shortcut_sentences import of_held_out, of_masked, of_painted
from taxakey.metrics.differences import Difference, paired_differences
from taxakey.metrics.intervals import RESAMPLES, Interval, Statistic, bootstrap, ratio_of
from taxakey.predictions import Predictions
from taxakey.taxonomy import Taxonomy

if TYPE_CHECKING:  # it loads torch, and figures can be made without
    from taxakey.prediction.blank import Blank


@dataclass(frozen=True)
class Finding:
    """One test. `figures`: what was measured on either side; `differences`: what it is about, paired; `says`: what the intervals
    support, in sentences; `observations`: how many were compared."""

    title: str
    observations: int
    figures: Mapping[str, Interval]
    differences: Mapping[str, Difference]
    says: tuple[str, ...]
    inputs: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Settings:
    """Of the bootstrap."""

    resamples: int = RESAMPLES
    seed: int = 0


# ---- an institution that was never seen ----


def held_out(
    seen: Path | str, unseen: Path | str, institution: str | None = None, *, dataset: Path | str | None = None,
    settings: Settings | None = None,
) -> Finding:  # fmt: skip
    """Two predictions of an institution's observations: by a model that learnt from others of its pictures (`seen`), and by one
    that learnt from none (`unseen`, of a dataset split with `--held-out`).

    Compared are observations that both named, of species that both hold. `dataset`: that of `unseen`, by default the one that
    its predictions name; `institution`: by default the only one that it has in the part and not in training.
    """
    found = _pair(Path(seen), Path(unseen), same_classes=False)
    held = Dataset.open(dataset or found.manifests[1].recipe.get("dataset", ""))
    code = _held_out_institution(held, str(found.manifests[1].recipe["part"]), institution)
    codes = dict(zip(*(_columns(held, found.manifests[1], "occurrenceID", "institutionCode")), strict=True))
    of_it = found.only(np.array([codes.get(name) == code for name in found.ids], dtype=bool))
    if not len(of_it.ids):
        raise BadInput(f"no observation of {code} was named by both models; its pictures must be in the part of both predictions")
    figures, differences = of_it.measured(("seen", "unseen"), settings)
    lost = differences["difference"]
    words = (*of_held_out(code, len(of_it.ids), figures, lost), *_left_out(found))
    return Finding(f"{code} seen and never seen", len(of_it.ids), figures, differences, words, of_it.inputs)


def _held_out_institution(dataset: Dataset, part: str, wanted: str | None) -> str:
    here, trained = (set(dataset.part(name).table["institutionCode"].to_pylist()) for name in (part, "train"))
    unseen = sorted(code for code in here - trained if code)
    if wanted is None and len(unseen) == 1:
        return unseen[0]
    if wanted is None:
        raise BadInput(
            f"{dataset.folder}: {len(unseen)} institutions are in {part} and not in training; make it with `taxakey split "
            "--held-out`, or name one of them"
        )
    if wanted not in unseen:
        where = "is in its training part too" if wanted in trained else f"has no picture in its {part} part"
        raise BadInput(f"{dataset.folder}: {wanted} {where}, so it isn't held out; split with --held-out {wanted}")
    return wanted


def _left_out(found: _Pair) -> tuple[str, ...]:
    return (
        (f"{found.classless:,} further observations are of species that one of the models doesn't hold.",)
        if found.classless
        else ()
    )


# ---- masked and unmasked ----


def masked_or_not(plain: Path | str, masked: Path | str, *, settings: Settings | None = None) -> Finding:
    """Two predictions of the same observations: from pictures as they are, and from pictures whose text was made unreadable."""
    found = _pair(Path(plain), Path(masked), same_classes=True)
    for manifest, wanted, what in zip(found.manifests, (False, True), ("has text masked", "has no text masked"), strict=True):
        dataset = Dataset.open(manifest.recipe.get("dataset", ""))
        if (dataset.manifest.recipe.get("mask") is not None) != wanted:
            raise BadInput(f"{dataset.folder}: this dataset {what}; name the predictions of the plain one first, then the masked")
    figures, differences = found.measured(("unmasked", "masked"), settings)
    words = of_masked(len(found.ids), figures, differences["difference"])
    return Finding("Text masked and unmasked", len(found.ids), figures, differences, words, found.inputs)


# ---- the plant painted over ----


@dataclass(frozen=True, eq=False)
class Left:
    """What was told of N test pictures without their plant. `observations_N`; `species_N` and `institutions_N`, the truth;
    `named_N`, `whole_N`: species that the model named, without and with the plant; `probed_species_N`, `probed_institutions_N`:
    what a linear layer told that had learnt from painted training pictures; `guessed_N`: the commonest training species of each
    picture's institution; `common_species`, `common_institution`: the commonest of training. None where there are no
    institutions to tell apart."""

    observations_N: Sequence[str]
    species_N: NDArray
    institutions_N: NDArray | None
    named_N: NDArray
    whole_N: NDArray
    probed_species_N: NDArray
    probed_institutions_N: NDArray | None
    guessed_N: NDArray | None
    common_species: str
    common_institution: str


def what_is_left(looked: Blank) -> Left:
    """Fit the linear layers on the painted training pictures and ask them about the others; records give the rest.

    A layer for institutions needs two of them; pictures that don't say theirs count as one more.
    """
    train, test = looked.train.table, looked.test.table
    species, trained = np.asarray(test["scientificName"].to_pylist()), train["scientificName"].to_pylist()
    house, houses = (np.asarray(pc.fill_null(table["institutionCode"], "").to_pylist()) for table in (test, train))
    several = len(set(houses)) > 1
    names = np.asarray(looked.test.taxonomy.names)
    commonest = {
        code: _commonest([name for name, own in zip(trained, houses, strict=True) if own == code]) for code in set(houses)
    }
    common = _commonest(trained)
    return Left(
        observations_N=looked.test.observation_ids,
        species_N=species,
        institutions_N=house if several else None,
        named_N=names[looked.named_N],
        whole_N=names[looked.named_whole_N],
        probed_species_N=probe(looked.features_train_ND, trained, looked.features_test_ND),
        probed_institutions_N=probe(looked.features_train_ND, houses.tolist(), looked.features_test_ND) if several else None,
        guessed_N=np.asarray([commonest.get(code, common) for code in house]) if several else None,
        common_species=common,
        common_institution=_commonest(houses.tolist()),
    )


def _commonest(names: Sequence[str]) -> str:
    """Ties go to the first in the alphabet."""
    counts = Counter(names)
    return min(counts, key=lambda name: (-counts[name], name))


def painted_over(left: Left, *, settings: Settings | None = None, inputs: Mapping[str, str] | None = None) -> Finding:
    """How far above always naming the commonest species the model is, and a linear layer could be, without the plant."""
    settings = settings or Settings()
    columns = {
        "model": left.named_N == left.species_N,
        "whole pictures": left.whole_N == left.species_N,
        "linear layer": left.probed_species_N == left.species_N,
        "commonest species": left.species_N == left.common_species,
    }
    pairs = {"model": "commonest species", "linear layer": "commonest species"}
    if left.institutions_N is not None and left.guessed_N is not None:
        columns["by institution"] = left.guessed_N == left.species_N
        columns["institution"] = left.probed_institutions_N == left.institutions_N
        columns["commonest institution"] = left.institutions_N == left.common_institution
        pairs["institution"] = "commonest institution"
    figures, differences = _over_observations(columns, pairs, left.observations_N, settings)
    return Finding(
        "The plant painted over",
        len(set(left.observations_N)),
        figures,
        differences,
        of_painted(figures, differences),
        inputs or {},
    )


def _over_observations(
    columns: Mapping[str, NDArray[np.bool_]], pairs: Mapping[str, str], observations_N: Sequence[str], settings: Settings
) -> tuple[dict[str, Interval], dict[str, Difference]]:
    """Shares of pictures, resampled by observation: pictures of one plant aren't independent."""
    _, row_N = np.unique(np.asarray(observations_N), return_inverse=True)
    pictures_O = np.bincount(row_N)
    shares: dict[str, Statistic] = {name: ratio_of(np.bincount(row_N, right_N), pictures_O) for name, right_N in columns.items()}
    both = {name: (shares[name], shares[other]) for name, other in pairs.items()}
    return (
        bootstrap(shares, len(pictures_O), resamples=settings.resamples, seed=settings.seed),
        paired_differences(both, len(pictures_O), resamples=settings.resamples, seed=settings.seed),
    )


# ---- two predictions of the same observations ----


@dataclass(frozen=True, eq=False)
class _Pair:
    """`right_2O`: whether each of both named it rightly."""

    ids: list[str]
    right_2O: NDArray[np.bool_]
    manifests: tuple[Manifest, Manifest]
    inputs: dict[str, str]
    classless: int

    def only(self, kept_O: NDArray[np.bool_]) -> _Pair:
        ids = [name for name, kept in zip(self.ids, kept_O, strict=True) if kept]
        return _Pair(ids, self.right_2O[:, kept_O], self.manifests, self.inputs, self.classless)

    def measured(self, names: tuple[str, str], settings: Settings | None) -> tuple[dict[str, Interval], dict[str, Difference]]:
        columns = dict(zip(names, self.right_2O, strict=True))
        figures, found = _over_observations(columns, {names[0]: names[1]}, self.ids, settings or Settings())
        return figures, {"difference": found[names[0]]}


def _pair(first: Path, second: Path, *, same_classes: bool) -> _Pair:
    """The observations that both have, of species that both models hold, in the order of their ids."""
    manifests = read_manifest(first, "predictions"), read_manifest(second, "predictions")
    said = [Predictions.read(folder / "observations.parquet") for folder in (first, second)]
    if same_classes and said[0].taxonomy_fingerprint != said[1].taxonomy_fingerprint:
        raise TaxonomyMismatch(f"{first} and {second} speak of different classes; make both datasets from the same records")
    names = [set(Taxonomy.read(folder / "taxonomy.parquet").names) for folder in (first, second)]
    tables = [_rights(each) for each in said]
    joined = tables[0].join(tables[1], "id", join_type="inner", right_suffix="_2").sort_by("id")
    if not len(joined):
        raise BadInput(f"{first} and {second} have no observation in common; predict the same pictures with both")
    if not joined["true"].equals(joined["true_2"]):
        raise BadInput(f"{first} and {second} give some observations different names; make both datasets from the same records")
    held_O = np.array([name in names[0] and name in names[1] for name in joined["true"].to_pylist()], dtype=bool)
    right_2O = np.stack([joined[name].to_numpy(zero_copy_only=False) for name in ("right", "right_2")]).astype(bool)
    inputs = {name: hash_of(folder) for name, folder in zip(("first", "second"), (first, second), strict=True)}
    whole = _Pair(joined["id"].to_pylist(), right_2O, manifests, inputs, int((~held_O).sum()))
    return whole.only(held_O)


def _rights(said: Predictions) -> pa.Table:
    right = pc.equal(said.table["true_species_rank"], 1)
    return pa.table({"id": said.table["observation_id"], "true": said.table["true_species"], "right": right})


def _columns(dataset: Dataset, manifest: Manifest, *names: str) -> list[list[Any]]:
    table = dataset.part(str(manifest.recipe["part"])).table
    return [table[name].to_pylist() for name in names]
