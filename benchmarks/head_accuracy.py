"""Are the economical heads as accurate? Many heads on the same vectors, trained alike, every row with its cost.

    python benchmarks/head_accuracy.py --on simulated:8000 --seeds 0 1 2 --out benchmarks/results/heads-simulated-8000.jsonl
    python benchmarks/head_accuracy.py --on real:DATASET,VECTORS --seeds 0 1 2 --out …     (folders of taxakey build and embed)
    python benchmarks/head_accuracy.py --on simulated:8000 --steps --out …                 (step times, on a quiet machine)

head_accuracy_plot.py makes tables, plots and paired comparisons of what this writes.

A row is one head with one way of training; a seed draws the flora (simulated) and the head's start and batches (both). Every
finished (row, seed) is a line of the file, and a run goes on where it stopped. Trained rows: LazyAdamW (which is AdamW for dense
gradients), cosine to 1 % of the peak after 5 % warm-up; rate, decay and smoothing as in `Setting`, chosen for the taxonomic tree
on the validation part of seed 0 (docs/LOG.md) and the same for all rows; `PHOTOGRAPHS` for real vectors. Rows "class means" take
no gradient step. Figures: macro-averaged over species, on test vectors that nothing else sees; the joint over all nodes unless
the row says otherwise. With --species each species' mean reciprocal rank is kept as well, for comparisons that resample species.

Shapes: C classes, D features, N vectors, B vectors of a batch.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from simulated_flora import Flora, FloraOptions, build

from taxakey.cpu_memory import keep_freed_memory
from taxakey.losses.cross_entropy import CrossEntropy
from taxakey.losses.decision import Answer
from taxakey.metrics.accuracy import class_mean
from taxakey.metrics.ranking import reciprocal_ranks
from taxakey.models.adaptive import AdaptiveOptions
from taxakey.models.class_means import FeatureStatistics
from taxakey.models.factorised import FactorisedOptions
from taxakey.models.hashed import HashedOptions
from taxakey.models.head_options import ClassFacts, HeadOptions, build_head
from taxakey.models.heads import BottleneckOptions, Head, LinearOptions
from taxakey.models.quantised import quantise_rows
from taxakey.models.sampled import SampledOptions
from taxakey.models.trees import TreeHead, TreeOptions
from taxakey.taxonomy import Taxonomy
from taxakey.training.lazy_adamw import LazyAdamW


@dataclass(frozen=True)
class Setting:
    """How a row is trained: no epochs leave the head as it starts."""

    epochs: int = 4
    batch: int = 256
    rate: float = 3e-3
    decay: float = 0.1
    smoothing: float = 0.0


PHOTOGRAPHS = Setting(epochs=20, batch=64, decay=1.0, smoothing=0.1)
"""For datasets of a few thousand photographs."""


@dataclass(frozen=True)
class Row:
    """`rule`: how a two-level tree answers: joint, or as the paper or its released code have it. `bits`: of stored weights."""

    options: HeadOptions
    setting: Setting
    rule: str = "joint"
    bits: int = 32


@dataclass(frozen=True, eq=False)
class World:
    """Vectors [N, D] and labels [N] of the three parts, what is known of the classes, and how to train here if not as usual."""

    taxonomy: Taxonomy
    parts: dict[str, tuple[Tensor, Tensor]]
    counts_C: NDArray[np.int64]
    setting: Setting | None = None

    def facts(self, seed: int) -> ClassFacts:
        vectors_ND, labels_N = (part.numpy() for part in self.parts["train"])
        blocks = ((vectors_ND[i : i + 65536], labels_N[i : i + 65536]) for i in range(0, len(labels_N), 65536))
        return ClassFacts(self.counts_C, FeatureStatistics.of(blocks, len(self.taxonomy)), seed)


# ---- worlds ----


def open_world(source: str, seed: int) -> World:
    """ "simulated:SPECIES" or "uneven:SPECIES" draw a flora by the seed; "real:DATASET,VECTORS" reads folders."""
    kind, _, what = source.partition(":")
    if kind in ("simulated", "uneven"):
        return _simulated(build(FloraOptions(species=int(what), sizes="uneven" if kind == "uneven" else "even", seed=seed)))
    if kind == "real":
        return _real(*what.split(","))
    raise SystemExit(f"{source}: neither simulated:SPECIES, uneven:SPECIES nor real:DATASET,VECTORS")


MEASURED_VECTORS = 40_000
"""Test vectors looked at in a simulated flora; in random order: all of 8,000 species', a tenth of 80,000's. Of validation, which
chooses nothing beyond 8,000 species, fewer the more species there are."""


def _simulated(flora: Flora) -> World:
    parts = {}
    measured = {"validation": MEASURED_VECTORS * 8_000 // max(8_000, flora.options.species), "test": MEASURED_VECTORS}
    for part in ("train", "validation", "test"):
        vectors_ND, labels_N = torch.from_numpy(flora.vectors(part)), torch.from_numpy(flora.labels(part))
        some = measured.get(part, len(labels_N))
        parts[part] = (vectors_ND[:some].clone() if some < len(labels_N) else vectors_ND), labels_N[:some]
    return World(flora.taxonomy(), parts, flora.counts_C)


def _real(dataset_folder: str, vectors_folder: str) -> World:
    from taxakey.dataset.reader import Dataset
    from taxakey.dataset.vectors import Vectors

    dataset, vectors = Dataset.open(dataset_folder), Vectors(vectors_folder)
    parts = {}
    for name in ("train", "validation", "test"):
        part = dataset.part(name)
        known = np.flatnonzero(part.class_index >= 0)
        vectors_ND = vectors.part(name, part.image_ids)[known]
        parts[name] = (torch.from_numpy(vectors_ND), torch.from_numpy(part.class_index[known]))
    counts_C = np.bincount(parts["train"][1].numpy(), minlength=len(dataset.taxonomy))
    return World(dataset.taxonomy, parts, counts_C, PHOTOGRAPHS)


# ---- training and measuring ----


def train(head: Head, world: World, setting: Setting, seed: int, say: Callable[[str], None]) -> None:
    vectors_ND, labels_N = world.parts["train"]
    optimizer = LazyAdamW(_groups(head, setting), lr=setting.rate, weight_decay=0.0, fused=True)
    steps = setting.epochs * math.ceil(len(labels_N) / setting.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share(step, steps))
    loss = CrossEntropy(label_smoothing=setting.smoothing)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(setting.epochs):
        begun, total = time.perf_counter(), 0.0
        for rows_B in torch.randperm(len(labels_N), generator=generator).split(setting.batch):
            optimizer.zero_grad(set_to_none=True)
            value = loss(Answer(head, vectors_ND[rows_B], labels_N[rows_B])).mean()
            value.backward()
            optimizer.step()
            schedule.step()
            total += float(value.detach()) * len(rows_B)
        say(f"epoch {epoch + 1} of {setting.epochs}: loss {total / len(labels_N):.3f}, {time.perf_counter() - begun:.0f} s")


def _groups(head: Head, setting: Setting) -> Iterator[dict[str, Any]]:
    """No decay on biases, as in taxakey.training."""
    parameters = list(head.parameters())
    yield {"params": [p for p in parameters if p.ndim > 1], "weight_decay": setting.decay}
    yield {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}


def _share(step: int, steps: int) -> float:
    warm = max(1, round(0.05 * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2


@torch.no_grad()
def true_ranks(head: Head, world: World, part: str, rule: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rank of the true class among all [N], from 1, and the classes [N]."""
    vectors_ND, labels_N = world.parts[part]
    ranks = []
    portion = max(1, 2**23 // head.classes)
    for vectors_BD, labels_B in zip(vectors_ND.split(portion), labels_N.split(portion), strict=True):
        scores_BC = head(vectors_BD).float() if rule == "joint" else _by_rule(head, vectors_BD, rule)
        true_B1 = scores_BC.gather(1, labels_B[:, None])
        earlier_BC = torch.arange(head.classes) < labels_B[:, None]  # equal scores stand in the order of the class index
        ranks.append(1 + (scores_BC > true_B1).sum(1) + ((scores_BC == true_B1) & earlier_BC).sum(1))
    return torch.cat(ranks).numpy(), labels_N.numpy()


def _by_rule(head: Head, vectors_BD: Tensor, rule: str) -> Tensor:
    """Scores [B, C] by what the paper says, or by what its released code does; both wrong outside the best node."""
    if not isinstance(head, TreeHead) or head.hierarchy.levels != 2:
        raise ValueError("these rules are for two-level trees")
    top_edge_C, edge_C = head.path_CL[:, 0], head.path_CL[:, 1]
    log_p_BE = head._edge_log_p(head.bottleneck(vectors_BD))
    top_BT = log_p_BE[:, : head.top]
    best_B1 = top_BT.argmax(1, keepdim=True)
    if rule == "paper":  # only the best node is opened
        return log_p_BE[:, edge_C].masked_fill(top_edge_C != best_B1, -torch.inf)
    # Released: every node's probability times the slots of the BEST node.
    slot_C = edge_C - head.first_N1[head.source_E[edge_C]]
    node_B1 = head.target_E[best_B1].long()
    slot_edge_BC = head.first_N1[node_B1] + torch.minimum(slot_C, head.fan_N[node_B1] - 1)
    return top_BT[:, top_edge_C] + log_p_BE.gather(1, slot_edge_BC) - top_BT.gather(1, best_B1)


def figures(ranks_N: NDArray[np.int64], labels_N: NDArray[np.int64], counts_C: NDArray[np.int64]) -> dict[str, float]:
    """MA-MRR@30, top-1 micro and macro, macro top-1 of the rarest and commonest third of the species."""
    right_N = (ranks_N == 1).astype(np.float64)
    third_C = np.argsort(np.argsort(counts_C, kind="stable")) * 3 // len(counts_C)
    rare_N, common_N = third_C[labels_N] == 0, third_C[labels_N] == 2
    return {
        "ma_mrr_30": class_mean(reciprocal_ranks(ranks_N), labels_N),
        "top_1": float(right_N.mean()),
        "macro_top_1": class_mean(right_N, labels_N),
        "macro_top_1_rare": class_mean(right_N[rare_N], labels_N[rare_N]),
        "macro_top_1_common": class_mean(right_N[common_N], labels_N[common_N]),
    }


def stored_bytes(head: Head, bits: int) -> int:
    """Bytes of the head's stored weights: all in 32 bits, or class vectors in fewer with a scale a row and the rest in 32."""
    if bits == 32:
        return 4 * sum(parameter.numel() for parameter in head.parameters())
    return sum(
        quantise_rows(parameter.detach(), bits).bytes if _quantised(name, parameter) else 4 * parameter.numel()
        for name, parameter in head.named_parameters()
    )


def _quantised(name: str, parameter: Tensor) -> bool:
    return parameter.ndim == 2 and "projection" not in name


@torch.no_grad()
def round_weights(head: Head, bits: int) -> None:
    """Replace class vectors by what is left of them in `bits`. What siblings have in common says nothing: taken out first."""
    if isinstance(head, TreeHead) and bits < 32:
        node_E = head.source_E[head.top :] - 1
        sums = torch.zeros(len(head.fan_N) - 1, head.width).index_add_(0, node_E, head.lower_weight_Ed)
        head.lower_weight_Ed -= (sums / head.fan_N[1:, None])[node_E]
        head.top_weight_Td -= head.top_weight_Td.mean(0)
    for name, parameter in head.named_parameters():
        if bits < 32 and _quantised(name, parameter):
            parameter.copy_(quantise_rows(parameter, bits).rows())


Trained = dict[tuple[HeadOptions, Setting], tuple[Head, float]]
"""Heads of one seed with the seconds they took: rows that differ only in how they answer share one."""


def measure(
    name: str, row: Row, world: World, facts: ClassFacts, seed: int, trained: Trained
) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """The row's line, and the mean reciprocal rank of each species [C] on test vectors (NaN: has none)."""
    key = (row.options, row.setting)
    if key not in trained:
        torch.manual_seed(seed)
        begun = time.perf_counter()
        head = build_head(row.options, world.parts["train"][0].shape[1], world.taxonomy, facts)
        if row.setting.epochs:
            train(head, world, row.setting, seed, lambda line: print(f"  {name}, {line}", flush=True))
        trained[key] = head, time.perf_counter() - begun
    head, seconds = copy.deepcopy(trained[key][0]), trained[key][1]
    round_weights(head, row.bits)
    head.eval()
    validation = figures(*true_ranks(head, world, "validation", row.rule), world.counts_C)
    ranks_N, labels_N = true_ranks(head, world, "test", row.rule)
    line = {
        "row": name,
        "seed": seed,
        "classes": head.classes,
        "features": head.in_features,
        "parameters": sum(parameter.numel() for parameter in head.parameters()),
        "bytes": stored_bytes(head, row.bits),
        "multiply_adds": head.multiply_adds(training=True),
        "seconds": round(seconds, 1),
        **{f"validation_{key}": value for key, value in validation.items()},
        **figures(ranks_N, labels_N, world.counts_C),
    }
    return line, _by_species(reciprocal_ranks(ranks_N), labels_N, head.classes)


def _by_species(values_N: NDArray[np.float64], labels_N: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    counts_C = np.bincount(labels_N, minlength=classes)
    sums_C = np.bincount(labels_N, weights=values_N, minlength=classes)
    return np.where(counts_C > 0, sums_C / np.maximum(counts_C, 1), np.nan).astype(np.float32)


# ---- the rows ----

_UNTRAINED = Setting(epochs=0)


def rows(classes: int, features: int, setting: Setting | None = None) -> dict[str, Row]:
    """The table for a world of so many classes, cheapest claims first to be checked."""
    even = math.ceil(math.sqrt(classes))
    slots = {8_000: 100, 80_000: 80}.get(classes, even)
    cube = math.ceil(classes ** (1 / 3))
    # A pass over 80,000 species takes flat heads half an hour; trees of one pass stand beside them.
    once = ", one pass" if classes >= 80_000 else ""
    base = setting or Setting()
    full = setting or Setting(epochs=1 if once else 4, batch=512)
    flat = Row(LinearOptions(), full)
    bottleneck = Row(BottleneckOptions(), full)
    tree = Row(TreeOptions(slots=slots, sparse=True), base)

    def shaped(**changes: Any) -> Row:
        return replace(tree, options=replace(tree.options, **changes))

    def from_means(row: Row, **changes: Any) -> Row:
        options = replace(row.options, start="class_means", **({"sparse": False} if isinstance(row.options, TreeOptions) else {}))
        return replace(row, options=options, setting=_UNTRAINED, **changes)

    def trained_on(row: Row) -> Row:
        """From class means, with small steps."""
        few = replace(row.setting, epochs=min(2, row.setting.epochs), rate=row.setting.rate / 10)
        return replace(row, options=replace(row.options, start="class_means"), setting=few)

    wide = shaped(width=None)
    table = {
        f"flat, all features{once}": flat,
        f"flat, bottleneck 128{once}": bottleneck,
        f"flat, bottleneck 128, ReLU{once}": replace(bottleneck, options=BottleneckOptions(activation="relu")),
        "tree 128, taxonomic, one pass": replace(tree, setting=replace(base, epochs=1)),
        "tree 128, family-genus-species, one pass": replace(shaped(nodes="taxa"), setting=replace(base, epochs=1)),
        "tree 128, taxonomic": tree,
        "tree 128, taxonomic, dense AdamW": shaped(sparse=False),
        "tree 128, taxonomic, ReLU": shaped(activation="relu"),
        "tree 128, taxonomic, paper's rule": replace(tree, rule="paper"),
        "tree 128, taxonomic, released rule": replace(tree, rule="released"),
        "tree 128, clustered": shaped(order="clustered"),
        "tree 128, listed": shaped(order="listed"),
        "tree 128, listed, paper's rule": replace(shaped(order="listed"), rule="paper"),
        "tree 128, listed, released rule": replace(shaped(order="listed"), rule="released"),
        "tree 128, random": shaped(order="random"),
        "tree 128, frequency": shaped(order="frequency"),
        "tree 128, Huffman": shaped(nodes="huffman"),
        "tree 128, uneven clusters": shaped(nodes="clusters"),
        "tree 128, family-genus-species": shaped(nodes="taxa"),
        "tree 128, genus-species": shaped(nodes="genera"),
        "tree 128, genus-species, one pass": replace(shaped(nodes="genera"), setting=replace(base, epochs=1)),
        "tree 128, family-genus-species, twelve passes": replace(shaped(nodes="taxa"), setting=replace(base, epochs=12)),
        "tree 128, three even levels, taxonomic": shaped(slots=(cube, cube)),
        "tree 64, taxonomic": shaped(width=64),
        "tree 256, taxonomic": shaped(width=256),
        "tree, all features, taxonomic": wide,
        "tree, all features, family-genus-species": shaped(width=None, nodes="taxa"),
        "tree, all features, genus-species": shaped(width=None, nodes="genera"),
        "sampled 128, a tenth": Row(SampledOptions(), base),
        f"factorised 128, genus{once}": Row(FactorisedOptions(rank=128, groups="genus"), full),
        f"adaptive 128{once}": Row(AdaptiveOptions(), full),
        "hashed 128": Row(HashedOptions(), base),
        "flat, all features, class means": from_means(flat),
        "flat, bottleneck 128, class means": from_means(bottleneck),
        "tree 128, taxonomic, class means": from_means(tree),
        "tree 128, clustered, class means": from_means(shaped(order="clustered")),
        "tree 128, family-genus-species, class means": from_means(shaped(nodes="taxa")),
        "tree 128, genus-species, class means": from_means(shaped(nodes="genera")),
        "tree 128, uneven clusters, class means": from_means(shaped(nodes="clusters", slots=min(even, 100))),
        "tree, all features, taxonomic, class means": from_means(wide),
        "tree, all features, clustered, class means": from_means(shaped(width=None, order="clustered")),
        "tree, all features, family-genus-species, class means": from_means(shaped(width=None, nodes="taxa")),
        "tree, all features, genus-species, class means": from_means(shaped(width=None, nodes="genera")),
        "tree, all features, genus-species, class means, 4 bits": from_means(shaped(width=None, nodes="genera"), bits=4),
        f"flat, all features, class means, trained on{once}": trained_on(flat),
        f"flat, bottleneck 128, class means, trained on{once}": trained_on(bottleneck),
        "tree 128, family-genus-species, class means, trained on": trained_on(shaped(nodes="taxa")),
        "tree, all features, family-genus-species, class means, trained on": trained_on(shaped(width=None, nodes="taxa")),
        "flat, all features, class means, 8 bits": from_means(flat, bits=8),
        "flat, all features, class means, 4 bits": from_means(flat, bits=4),
        **{
            f"tree {width}, family-genus-species, class means, {bits} bits": from_means(
                shaped(nodes="taxa", width=width), bits=bits
            )
            for width in (128, features * 3 // 4, features)
            for bits in (8, 4, 2)
        },
    }
    return table


# ---- the command ----


def run(source: str, seeds: list[int], wanted: str | None, out: Path, species: Path | None) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    done = {(line["row"], line.get("seed")) for line in results(out)}
    for seed in seeds:
        world = open_world(source, seed)
        facts = world.facts(seed)
        table = rows(len(world.taxonomy), world.parts["train"][0].shape[1], world.setting)
        trained: Trained = {}
        for name in table:
            if (name, seed) in done or not re.search(wanted or "", name):
                continue
            line, values_C = measure(name, table[name], world, facts, seed, trained)
            print(f"{name}, seed {seed}: MA-MRR@30 {line['ma_mrr_30']:.4f}, {line['seconds']:.0f} s", flush=True)
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            if species:
                species.mkdir(parents=True, exist_ok=True)
                np.save(species_file(species, name, seed), values_C)


def species_file(folder: Path, row: str, seed: int) -> Path:
    return folder / f"{re.sub('[^a-z0-9]+', '-', row.lower())}-{seed}.npy"


def results(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def time_steps(source: str, wanted: str | None, out: Path, *, batch: int = 64, rounds: int = 3) -> None:
    """Median milliseconds of a training step (forward, backward, optimiser) of every row's head, rows taking turns."""
    world = open_world(source, 0)
    facts = world.facts(0)
    vectors_ND, labels_N = world.parts["train"]
    times: dict[str, list[float]] = {}
    every = rows(len(world.taxonomy), vectors_ND.shape[1], world.setting)
    table = {name: row for name, row in every.items() if row.setting.epochs and re.search(wanted or "", name)}
    for _ in range(rounds):
        for name, row in table.items():
            head = build_head(row.options, vectors_ND.shape[1], world.taxonomy, facts)
            optimizer = LazyAdamW(_groups(head, row.setting), lr=1e-3, fused=True)
            for step in range(25):
                rows_B = torch.randint(len(labels_N), (batch,))
                begun = time.perf_counter()
                optimizer.zero_grad(set_to_none=True)
                CrossEntropy()(Answer(head, vectors_ND[rows_B], labels_N[rows_B])).mean().backward()
                optimizer.step()
                if step >= 5:
                    times.setdefault(name, []).append(1e3 * (time.perf_counter() - begun))
    with out.open("a", encoding="utf-8") as file:
        for name, taken in times.items():
            line = {
                "row": name,
                "step_ms": round(statistics.median(taken), 3),
                "batch": batch,
                "threads": torch.get_num_threads(),
            }
            file.write(json.dumps(line) + "\n")
            print(f"{name}: {line['step_ms']} ms", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", default="simulated:8000", help="simulated:SPECIES, uneven:SPECIES or real:DATASET,VECTORS")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", help="a pattern: only rows whose name contains it")
    parser.add_argument("--out", type=Path, required=True, help="file of results, one line a row and seed")
    parser.add_argument("--species", type=Path, help="folder for each species' mean reciprocal rank, a file a row and seed")
    parser.add_argument("--steps", action="store_true", help="measure step times instead and add them to the file")
    options = parser.parse_args()
    keep_freed_memory()
    if options.steps:
        time_steps(options.on, options.rows, options.out)
    else:
        run(options.on, options.seeds, options.rows, options.out, options.species)


if __name__ == "__main__":
    main()
