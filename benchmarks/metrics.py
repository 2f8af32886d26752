"""How long all metrics of a table of predictions take, and with how much memory.

    python benchmarks/metrics.py [--rows 1000000] [--answers 100] [--classes 80000] [--resamples 1000] [--out RESULT.json]

The table is made here and written as Parquet: for each observation the 100 most probable of 80,000 species, the rank and the
probability of the true one (three in four are first), the tail and the log-sum-exp. Species are of 8,000 genera and 400
families, 1 in 20 is poisonous, 1 in 30 observations is of a species outside the model. It is then read portion by portion in a
process of its own, genera and families are summed from the stored species, and every metric is computed; memory is the peak of
that process's resident pages (VmHWM). Timed apart: a report's bootstrap intervals of six figures at each of three ranks, for
which everything is computed a thousand times.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from taxakey.evaluation.figures import statistics_of
from taxakey.evaluation.labels import Labelled
from taxakey.metrics import accuracy, average_k, bins, calibration_error, costs, detection, long_tail, ranking, taxonomic
from taxakey.metrics.intervals import Interval, bootstrap
from taxakey.predictions import Predictions

BLOCK = 20_000
GENERA, FAMILIES = 8_000, 400
KS = (1, 3, 5, 10)


# ---- the table ----


def write_predictions(file: Path, rows: int, answers: int, classes: int) -> None:
    rng = np.random.default_rng(0)
    writer = None
    for first in range(0, rows, BLOCK):
        table = block(rng, min(BLOCK, rows - first), answers, classes)
        writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
        writer.write_table(table)
    assert writer is not None
    writer.close()


def block(rng: np.random.Generator, rows: int, answers: int, classes: int) -> pa.Table:
    # Falling like exp(-sharpness·j); the stored part of a row sums to 0.9 at least.
    share_Ok = np.exp(-rng.uniform(0.02, 0.3, (rows, 1)) * np.arange(answers))
    share_Ok *= rng.uniform(0.9, 1, (rows, 1)) / share_Ok.sum(axis=1, keepdims=True)
    # Either neighbours, of one genus or two, or classes far apart; a step without a divisor in common with the number of classes
    # never meets a class twice.
    step = rng.choice([1, 7919], (rows, 1))
    start = np.minimum(rng.zipf(1.2, (rows, 1)) - 1, classes - 1)
    index_Ok = (start + step * np.arange(answers)) % classes
    rank_O = np.where(rng.random(rows) < 0.75, 1, rng.integers(2, 2 * answers, rows))
    outside_O = rng.random(rows) < 1 / 30
    place_O = np.minimum(rank_O, answers) - 1
    true_O = np.where(outside_O, -1, index_Ok[np.arange(rows), place_O])
    probability_O = np.where(outside_O, 0, share_Ok[np.arange(rows), place_O] / np.where(rank_O > answers, 2, 1))
    lists = {"species_index": index_Ok.astype(np.int32), "species_probability": share_Ok.astype(np.float32)}
    columns = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), answers) for name, values in lists.items()
    } | {
        "true_species_index": pa.array(true_O.astype(np.int32)),
        "true_species_rank": pa.array(np.where(outside_O, 0, rank_O).astype(np.int32)),
        "true_species_probability": pa.array(probability_O.astype(np.float32)),
        "tail": pa.array((1 - share_Ok.sum(axis=1)).astype(np.float32)),
        "logsumexp": pa.array(rng.normal(np.where(outside_O, 10, 12), 1).astype(np.float32)),
    }
    return pa.table(columns).replace_schema_metadata({"taxakey.taxonomy": "made", "taxakey.level": "observation"})


# ---- one pass over the table, then the metrics ----


class Columns:
    """What the metrics need of each row, gathered portion by portion; all [O]."""

    def __init__(self, file: Path, classes: int) -> None:
        self.classes = classes
        self.genus_C = np.arange(classes) * GENERA // classes
        self.family_C = self.genus_C * FAMILIES // GENERA
        self.poisonous_C = np.arange(classes) % 20 == 0
        self.images_C = (3 + 1000 * (1 - np.arange(classes) / classes) ** 3).astype(np.int64)
        rows = pq.read_metadata(file).num_rows
        self.thresholds = average_k.AverageK(rows, KS, classes=classes)
        parts = [self._of(portion) for portion in Predictions.portions(file)]
        self.column = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        self.threshold = {k: self.thresholds.threshold(k) for k in KS}
        sizes = [
            [average_k.set_sizes(portion.probability("species"), self.threshold[k], classes=classes).sum() for k in KS]
            for portion in Predictions.portions(file)
        ]
        self.sizes = dict(zip(KS, (np.sum(sizes, axis=0) / rows).tolist(), strict=True))

    def _of(self, portion: Predictions) -> dict[str, np.ndarray]:
        index_Ok, probability_Ok = portion.index("species"), portion.probability("species")
        self.thresholds.add(probability_Ok)
        found = {
            "first": index_Ok[:, 0].copy(),
            "confidence": probability_Ok[:, 0].copy(),
            **{name: portion.values(f"true_species_{name}") for name in ("index", "rank", "probability")},
            "logsumexp": portion.values("logsumexp"),
        }
        for rank, codes_C in (("genus", self.genus_C), ("family", self.family_C)):
            found[rank] = taxonomic.taxon_sums(index_Ok, probability_Ok, codes_C, most=1)[0][:, 0]
        brier = calibration_error.brier(probability_Ok, found["probability"], portion.values("tail"), tolerance=0.01)
        return found | {"brier": np.full(len(portion), brier)}


def distances(genera: int) -> Iterator[np.ndarray]:
    """Row by row, as `records.phylogeny` gives them: 0 to itself, 1 within the family, 2 to all others."""
    family_G = np.arange(genera) * FAMILIES // genera
    for genus in range(genera):
        row_G = np.where(family_G == family_G[genus], 1.0, 2.0)
        row_G[genus] = 0.0
        yield row_G


def figures(c: Columns) -> dict[str, Callable[[], object]]:
    """Every metric, by name."""
    column, rank_O = c.column, c.column["rank"]
    known_O = column["index"] >= 0
    true_O = np.where(known_O, column["index"], c.classes)  # outside the model: a class of its own
    first_O, probability_O = column["first"], column["probability"]
    right_O = accuracy.hits(rank_O, 1)
    true_genus, true_family = (np.where(known_O, codes[column["index"]], -1) for codes in (c.genus_C, c.family_C))
    poisonous_L = np.append(c.poisonous_C, False)
    each: dict[str, Callable[[], object]] = {f"top_{k}": lambda k=k: accuracy.top_k(rank_O, k) for k in KS}
    each |= {f"macro_top_{k}": lambda k=k: accuracy.macro_top_k(rank_O, true_O, k) for k in KS}
    each |= {f"average_{k}": lambda k=k: average_k.average_k(probability_O, rank_O, c.threshold[k]) for k in KS}
    each |= {
        f"macro_average_{k}": lambda k=k: average_k.macro_average_k(probability_O, rank_O, true_O, c.threshold[k]) for k in KS
    }
    each |= {f"set_size_{k}": lambda k=k: c.sizes[k] for k in KS}
    each |= {
        "macro_f1": lambda: long_tail.macro_f1(true_O, first_O),
        "macro_f1_present": lambda: long_tail.macro_f1_present(true_O, first_O),
        "ma_mrr": lambda: ranking.ma_mrr(rank_O, true_O),
        "track1": lambda: costs.track1(column["index"], first_O),
        "track2": lambda: costs.track2(column["index"], first_O, poisonous_L),
        "track3": lambda: costs.track3(column["index"], first_O, poisonous_L),
        "track4": lambda: costs.track4(column["index"], first_O),
        "poison_accuracy": lambda: costs.poison_accuracy(true_O, first_O, poisonous_L),
        "poison_confusion": lambda: costs.poison_confusion(true_O, first_O, poisonous_L),
        "edible_confusion": lambda: costs.edible_confusion(true_O, first_O, poisonous_L),
        "ece": lambda: calibration_error.expected_calibration_error(column["confidence"], right_O),
        "nll": lambda: calibration_error.negative_log_likelihood(probability_O[known_O]),
        "brier": lambda: float(column["brier"].mean()),
        "auroc": lambda: detection.auroc(column["logsumexp"], known_O),
        "fpr_at_95_tpr": lambda: detection.fpr_at_tpr(column["logsumexp"], known_O),
        "genus top_1": lambda: float((true_genus == column["genus"])[known_O].mean()),
        "genus macro_f1": lambda: long_tail.macro_f1(true_genus, column["genus"]),
        "family top_1": lambda: float((true_family == column["family"])[known_O].mean()),
        "family macro_f1": lambda: long_tail.macro_f1(true_family, column["family"]),
        "taxonomic_distance": lambda: taxonomic.mean_taxonomic_distance(
            taxonomic.genus_distance(true_genus, c.genus_C[first_O], distances(GENERA)), known_O & (right_O == 0)
        ),
        "ancestor_height": lambda: float(
            taxonomic.ancestor_height(column["index"][known_O], first_O[known_O], [c.genus_C, c.family_C]).mean()
        ),
        "classes above 90 %": lambda: bins.classes_above(bins.per_class(true_O, first_O).recall),
        "bins": lambda: [
            each.mean for each in bins.by_bin(right_O, column["index"], bins.bin_of(c.images_C, bins.NAFLORA_EDGES))
        ],
        "thirds": lambda: [each.mean for each in bins.by_bin(right_O, column["index"], bins.quantile_bin_of(c.images_C, 3))],
    }
    return each


def intervals_of(c: Columns, resamples: int) -> dict[str, Interval]:
    """Of the figures of a report's first table."""
    column, known_O = c.column, c.column["index"] >= 0
    species_O = np.where(known_O, column["index"], c.classes)
    statistics = statistics_of(Labelled((), species_O, column["rank"].astype(np.int64), column["first"].astype(np.int64)))
    for rank, codes_C in (("genus", c.genus_C), ("family", c.family_C)):
        label_O = np.where(known_O, codes_C[species_O % c.classes], -1)
        right_O = label_O == column[rank]
        rows = Labelled((), label_O, np.where(right_O, 1, 1 + column["rank"]).astype(np.int64), column[rank].astype(np.int64))
        statistics |= {f"{rank} {name}": each for name, each in statistics_of(rows).items()}
    centred = [name for name in statistics if name.endswith("macro_f1")]
    return bootstrap(statistics, len(known_O), resamples=resamples, centred=centred)


def measure(file: Path, classes: int, resamples: int, answers: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    begun, processor = time.perf_counter(), time.process_time()
    columns = Columns(file, classes)
    reading = time.perf_counter() - begun
    found = {name: figure() for name, figure in figures(columns).items()}
    seconds, processor = time.perf_counter() - begun, time.process_time() - processor
    begun, used = time.perf_counter(), time.process_time()
    of_figures = intervals_of(columns, resamples) if resamples else {}
    intervals = {"seconds": round(time.perf_counter() - begun, 2), "processor_seconds": round(time.process_time() - used, 2)}
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    answers.put(
        {
            "seconds": round(seconds, 2),
            "processor_seconds": round(processor, 2),
            "seconds_of_reading_and_sums": round(reading, 2),
            "peak_MB": round(int(peak.split()[1]) / 1000),
            "resamples": resamples,
            "intervals": intervals | {name: [each.value, each.low, each.high] for name, each in of_figures.items()},
            "figures": found,
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--answers", type=int, default=100)
    parser.add_argument("--classes", type=int, default=80_000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "observations.parquet"
        write_predictions(file, given.rows, given.answers, given.classes)
        size = file.stat().st_size / 1e6
        context = multiprocessing.get_context("spawn")
        answers = context.Queue()
        process = context.Process(target=measure, args=(file, given.classes, given.resamples, answers))
        process.start()
        result = answers.get()
        process.join()
    print(f"{given.rows:,} rows of {given.answers} answers among {given.classes:,} species, {size:,.0f} MB on disk")
    times = f"{result['seconds']} s ({result['processor_seconds']} s of the processor)"
    print(f"{len(result['figures'])} figures in {times}, {result['peak_MB']:,} MB")
    print(f"{given.resamples:,} resamples of a report's figures: {result['intervals']['seconds']} s")
    for name, value in result["figures"].items():
        print(f"  {name:20} {value if isinstance(value, list) else f'{value:.6g}'}")
    if given.out:
        facts = {
            "date": datetime.now(UTC).date().isoformat(), "machine": platform.machine(), "rows": given.rows,
            "answers": given.answers, "classes": given.classes, "file_MB": round(size),
        }  # fmt: skip
        given.out.write_text(json.dumps(facts | result, indent=2) + "\n")


if __name__ == "__main__":
    main()
