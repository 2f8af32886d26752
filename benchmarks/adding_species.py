"""How well do species do that were added without retraining, and what does it cost the old ones? Rules on the same heads.

    python benchmarks/adding_species.py --on simulated:2000 --seeds 1 --examples 5
    python benchmarks/adding_species.py --on real:DATASET,VECTORS --seeds 2 3 4 --examples 5
                                             (folders of taxakey build and embed)

A tenth of the species (a fifth of a real set) is held out, heads are trained on the rest, and the held-out ones are added with
the first few of their training vectors. Figures are means over species on test vectors (a real set's validation and test parts:
nothing is chosen on either): top-1 and reciprocal rank (0 beyond 30) of the old species, of the new ones, and of all together.
"trained anew" is a head of the same kind trained on everything, the new species with the same few examples. Rules differ in the
weight of the new edge only. LENGTH, REACH and ODDS were chosen on simulated seed 0 and real seeds 0 and 1.

Shapes: C classes, K new ones, D features, d width, N vectors, E edges, S siblings.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent))
from simulated_flora import FloraOptions, build

from taxakey.metrics.accuracy import class_mean
from taxakey.metrics.ranking import ma_mrr
from taxakey.models import additions
from taxakey.models.additions import LENGTH, ODDS, REACH, _Edges, add_classes
from taxakey.models.class_means import FeatureStatistics
from taxakey.models.head_options import ClassFacts, HeadOptions, build_head
from taxakey.models.heads import BottleneckOptions, Head, LinearOptions
from taxakey.models.trees import TreeOptions
from taxakey.taxonomy import Taxonomy

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """Training and test vectors of all species, the species that are held out, and how to train."""

    taxonomy: Taxonomy
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    new_K: Ints
    epochs: int
    batch: int
    rate: float
    decay: float


def simulated(species: int, seed: int) -> Task:
    flora = build(FloraOptions(species=species, seed=seed))
    parts = [(torch.from_numpy(flora.vectors(part)), torch.from_numpy(flora.labels(part))) for part in ("train", "test")]
    new_K = np.sort(np.random.default_rng(seed).choice(species, species // 10, replace=False))
    return Task(flora.taxonomy(), parts[0], parts[1], new_K, epochs=6, batch=512, rate=2e-3, decay=0.01)


def real(dataset_folder: str, vectors_folder: str, seed: int) -> Task:
    from taxakey.dataset.reader import Dataset
    from taxakey.dataset.vectors import Vectors

    dataset, vectors = Dataset.open(dataset_folder), Vectors(vectors_folder)

    def of(*names: str) -> tuple[Tensor, Tensor]:
        parts = [dataset.part(name) for name in names]
        labels_N = np.concatenate([part.class_index for part in parts])
        vectors_ND = np.concatenate([vectors.part(part.name, part.image_ids) for part in parts])
        return torch.from_numpy(vectors_ND[labels_N >= 0]), torch.from_numpy(labels_N[labels_N >= 0])

    classes = len(dataset.taxonomy)
    new_K = np.sort(np.random.default_rng(seed).choice(classes, classes // 5, replace=False))
    return Task(dataset.taxonomy, of("train"), of("validation", "test"), new_K, epochs=20, batch=64, rate=3e-3, decay=0.3)


HEADS: dict[str, HeadOptions] = {
    "linear": LinearOptions(),
    "bottleneck": BottleneckOptions(),
    "tree, even": TreeOptions(),
    "tree, taxa": TreeOptions(nodes="taxa"),
    "linear, class means": LinearOptions(start="class_means"),
    "bottleneck, class means": BottleneckOptions(start="class_means"),
    "tree, taxa, class means": TreeOptions(nodes="taxa", start="class_means"),
}


def trained(options: HeadOptions, task: Task, taxonomy: Taxonomy, vectors_ND: Tensor, labels_N: Tensor, seed: int) -> Head:
    """A head started from class means takes no gradient step."""
    torch.manual_seed(seed)
    statistics = FeatureStatistics.of([(vectors_ND.numpy(), labels_N.numpy())], len(taxonomy))
    head = build_head(options, vectors_ND.shape[1], taxonomy, ClassFacts(statistics.counts_C, statistics, seed))
    if getattr(options, "start", "random") == "class_means":
        return head.eval()
    optimizer = torch.optim.AdamW(head.parameters(), lr=task.rate, weight_decay=task.decay)
    steps = task.epochs * -(-len(labels_N) // task.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, task.rate, total_steps=steps)
    for _ in range(task.epochs):
        for rows in torch.randperm(len(labels_N)).split(task.batch):
            decisions = head.decisions(vectors_ND[rows], labels_N[rows])
            loss = torch.stack([F.cross_entropy(decision.logits, decision.labels) for decision in decisions]).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return head.eval()


# ---- rules: examples z of each new class [M, d], nodes [K], edges -> weights [K, d], biases [K] ----

Rule = Callable[[list[Tensor], Ints, _Edges], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Sides:
    """What every rule knows of one new class."""

    z_d: Tensor
    u_d: Tensor
    mean_d: Tensor
    weight_Sd: Tensor
    bias_S: Tensor
    length: Tensor
    noise: Tensor
    """Share of |u|² that is the scatter of the few examples."""

    @property
    def logits_S(self) -> Tensor:
        return self.weight_Sd @ self.z_d + self.bias_S

    @property
    def even(self) -> Tensor:
        """The logit that has even odds against all siblings together."""
        return self.logits_S.logsumexp(0)


def each(one: Callable[[Sides], tuple[Tensor, Tensor]]) -> Rule:
    def rule(z: list[Tensor], nodes_K: Ints, edges: _Edges) -> tuple[Tensor, Tensor]:
        mean_Nd = edges.node_means()
        apart_Ed = edges.weight_Ed - mean_Nd[torch.from_numpy(edges.hierarchy.source_E)]
        basis_dr = additions._seen_directions(apart_Ed)
        length, scatter = additions._median_distance(apart_Ed, edges.hierarchy), additions._scatter(z, basis_dr)
        found = []
        for z_Md, node in zip(z, nodes_K.tolist(), strict=True):
            z_d = z_Md.mean(0)
            u_d = basis_dr @ (basis_dr.T @ additions._without_path(z_d, node, apart_Ed, edges.hierarchy))
            noise = (scatter / (len(z_Md) * u_d.square().sum())).clamp(max=1)
            among = edges.siblings(node)
            found.append(one(Sides(z_d, u_d, mean_Nd[node], edges.weight_Ed[among], edges.bias_E[among], length, noise)))
        return torch.stack([w for w, _ in found]), torch.stack([b for _, b in found])

    return rule


def published(s: Sides) -> tuple[Tensor, Tensor]:
    """Imprinting as it stands: the mean's own direction, the others' median length, the others' mean bias."""
    return s.mean_d + s.length * F.normalize(s.z_d, dim=0), s.bias_S.mean()


def centred(s: Sides) -> tuple[Tensor, Tensor]:
    return s.mean_d + s.length * F.normalize(s.u_d, dim=0), s.bias_S.mean()


def uncentred(s: Sides) -> tuple[Tensor, Tensor]:
    return _reached(s, s.z_d, LENGTH)


def full_length(s: Sides) -> tuple[Tensor, Tensor]:
    return _reached(s, s.u_d, 1.0)


def _reached(s: Sides, u_d: Tensor, share: float) -> tuple[Tensor, Tensor]:
    w_d, gain = s.mean_d + share * s.length * F.normalize(u_d, dim=0), share * s.length * u_d.norm()
    least, greatest = (s.even + math.log(odds) for odds in ODDS)
    unseen = (s.logits_S.mean() + (REACH - s.noise) * gain).clamp(min=least, max=greatest)
    return w_d, unseen + s.noise * gain - w_d @ s.z_d


def without_bounds(s: Sides) -> tuple[Tensor, Tensor]:
    w_d, gain = _built(s)
    return w_d, s.logits_S.mean() + REACH * gain - w_d @ s.z_d


def flattered(s: Sides) -> tuple[Tensor, Tensor]:
    """As built, but taking the examples' mean for a typical image."""
    w_d, gain = _built(s)
    least, greatest = (s.even + math.log(odds) for odds in ODDS)
    return w_d, (s.logits_S.mean() + REACH * gain).clamp(min=least, max=greatest) - w_d @ s.z_d


def even_odds(s: Sides) -> tuple[Tensor, Tensor]:
    w_d, gain = _built(s)
    return w_d, s.even + s.noise * gain - w_d @ s.z_d


def one_to_three(s: Sides) -> tuple[Tensor, Tensor]:
    w_d, b = even_odds(s)
    return w_d, b - math.log(3)


def _built(s: Sides) -> tuple[Tensor, Tensor]:
    return s.mean_d + LENGTH * s.length * F.normalize(s.u_d, dim=0), LENGTH * s.length * s.u_d.norm()


def tangent(s: Sides) -> tuple[Tensor, Tensor]:
    """The plane that touches the siblings' log Σ exp at the mean, raised to odds of 3: wins where the head wavers as there."""
    w_d = s.logits_S.softmax(0) @ s.weight_Sd
    return w_d, s.even + 1.1 - w_d @ s.z_d


def ridge(s: Sides) -> tuple[Tensor, Tensor]:
    """Logistic regression of the mean against the siblings, penalty |w - mean|²/(2 m²), bias the siblings' mean; Newton's method.

    The best w lies at mean + t·z, so t is all there is to solve for.
    """
    return _fitted(s, s.z_d)


def centred_ridge(s: Sides) -> tuple[Tensor, Tensor]:
    return _fitted(s, s.u_d)


def _fitted(s: Sides, along_d: Tensor) -> tuple[Tensor, Tensor]:
    square, behind = along_d @ along_d, s.even - s.mean_d @ s.z_d - s.bias_S.mean()
    t = torch.zeros(())
    for _ in range(50):
        wrong = torch.sigmoid(behind - t * square)
        slope = wrong * square - t * square / s.length**2
        t = t + slope / (wrong * (1 - wrong) * square**2 + square / s.length**2)
    return s.mean_d + t * along_d, s.bias_S.mean()


RULES: dict[str, Rule] = {
    "as built": additions._imprinted,
    "full length": each(full_length),
    "not centred": each(uncentred),
    "examples' scatter ignored": each(flattered),
    "odds without bounds": each(without_bounds),
    "odds always 1:1": each(even_odds),
    "odds always 1:3": each(one_to_three),
    "imprinting as published": each(published),
    "imprinting, centred": each(centred),
    "ridge regression": each(ridge),
    "ridge regression, centred": each(centred_ridge),
    "tangent, odds 3:1": each(tangent),
}


# ---- figures ----


def ranks(head: Head, vectors_ND: Tensor, labels_N: Tensor) -> Ints:
    found = []
    with torch.inference_mode():
        for vectors_BD, labels_B in zip(vectors_ND.split(1000), labels_N.split(1000), strict=True):
            scores_BC = head(vectors_BD)
            found.append(1 + (scores_BC > scores_BC.gather(1, labels_B[:, None])).sum(1))
    return torch.cat(found).numpy()


def row(name: str, rank_N: Ints, labels_N: Ints, new_K: Ints, head: str) -> None:
    new_N = np.isin(labels_N, new_K)
    cells = [
        f"{class_mean(rank_N[part] == 1, labels_N[part]):.3f} {ma_mrr(rank_N[part], labels_N[part]):.3f}"
        for part in (~new_N, new_N, np.ones_like(new_N))
    ]
    print(f"| {head} | {name} | {' | '.join(cells)} |", flush=True)


def compare(task: Task, head_name: str, each: int, seed: int, rules: list[str]) -> None:
    options, taxonomy, (vectors_ND, labels_N) = HEADS[head_name], task.taxonomy, task.train
    old_C = np.setdiff1d(np.arange(len(taxonomy)), task.new_K)
    rows = taxonomy.table.to_pylist()
    old = Taxonomy.from_rows([rows[index] for index in old_C])
    position_C = torch.full((len(taxonomy),), -1)
    position_C[torch.from_numpy(old_C)] = torch.arange(len(old_C))
    known_N = position_C[labels_N] >= 0
    head = trained(options, task, old, vectors_ND[known_N], position_C[labels_N[known_N]], seed)
    few = {index: (labels_N == index).nonzero()[:each, 0] for index in task.new_K.tolist()}
    examples = {taxonomy.names[index]: vectors_ND[some] for index, some in few.items()}

    test_ND, test_N = task.test
    is_old_N = position_C[test_N] >= 0
    before = ranks(head, test_ND[is_old_N], position_C[test_N[is_old_N]])
    everywhere = np.full(len(test_N), 10**6)
    everywhere[is_old_N.numpy()] = before
    row("before", everywhere, test_N.numpy(), task.new_K, head_name)
    for name in rules:
        additions._imprinted = RULES[name]
        after = add_classes(head, old, taxonomy, examples)
        row(name, ranks(after, test_ND, test_N), test_N.numpy(), task.new_K, head_name)
    kept = torch.cat([known_N.nonzero()[:, 0], *few.values()])
    anew = trained(options, task, taxonomy, vectors_ND[kept], labels_N[kept], seed)
    row("trained anew", ranks(anew, test_ND, test_N), test_N.numpy(), task.new_K, head_name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", default="simulated:2000")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--examples", type=int, default=5)
    parser.add_argument("--heads", nargs="+", default=list(HEADS), choices=list(HEADS))
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=list(RULES))
    arguments = parser.parse_args()
    kind, _, what = arguments.on.partition(":")
    for seed in arguments.seeds:
        task = simulated(int(what), seed) if kind == "simulated" else real(*what.split(","), seed)
        print(f"\n{arguments.on}, seed {seed}, {arguments.examples} examples of each of {len(task.new_K)} new species\n")
        print("| head | rule | old: top-1, MRR | new: top-1, MRR | all: top-1, MRR |\n|---|---|---|---|---|")
        for head_name in arguments.heads:
            compare(task, head_name, arguments.examples, seed, arguments.rules)


if __name__ == "__main__":
    main()
