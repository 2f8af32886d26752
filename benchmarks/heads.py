"""Classification heads side by side, from a thousand to a million classes: training steps, memory and answers, in one run.

    python benchmarks/heads.py [--classes 1000 10000 …] [--heads tree flat …] [--rounds 2] [--device cuda] [--out RESULT.json]
    python benchmarks/heads.py --classes 80000 --heads tree:40 tree:80 tree:20,40     which shape of a tree is quickest

Every head at every number of classes is a cell, measured in a process of its own, because memory settings and peaks hold for a
process. The heads take turns in every round, so that a busy machine slows all of them; printed is the median of all steps, and
beside it how many times the tree's that is. "Tree, lazy" is `taxakey train`'s way: sparse gradients and the optimiser
LazyAdamW.

What is equal for all: 1792 features (EfficientNet-B4's), float32, freed memory kept (src/taxakey/cpu_memory.py), all cores,
AdamW by torch's fused kernel, on a CPU four times as fast as its default. A step is forward, backward, optimiser; clipping is
left out. Labels are drawn evenly from all classes: the worst case for lazy heads, which live on rows that a batch leaves alone,
and for the adaptive softmax, which lives on common classes. Peak memory is the growth of the process's largest resident size,
weights and optimiser included, after a small run of the same kind has loaded what torch loads; on a GPU what its allocator
handed out. A cell that would need over 70 % of the memory available shows its computed bytes: weights, gradients and two
moments, and three times the scores of the larger batch. A quantity that takes over a minute ends its cell; a cell of over half
a minute has one round.

Answers are the five most probable classes, timed for one image and for 256, each on images not seen shortly before. A tree
opens few nodes where it is sure, so it must be asked as it answers when trained. The weights aren't trained but set to what
training on nested Gaussians tends to: a family to a node, genera in it and species in them, with the deviations of
benchmarks/simulated_flora.py, and images blurred by a log-normal factor. Every edge of a tree and every class of a flat head
has the linear discriminant of the mean below it, and all scores are doubled, because training leaves heads over-sure: two trees
of 8,000 classes that were really trained, on that simulated flora, opened 5.01 and 5.06 nodes an image, the root included, and
gave their first class 0.63 and 0.50 where they were right in 0.45 and 0.38; one whose weights were set opened 5.04 and gave
0.85 where it was right in 0.67. "Before training" is the contrary: random weights, nearly even scores, most nodes opened. Other
heads score all classes whatever their weights are. "Leanest" is a flat head's answer without the order among equal scores that
`Head.top_k` promises: logits, their log Σ exp, torch.topk.

Shapes: B images, D features, d bottleneck width, C classes, E edges, P images in the pool, S a batch of the pool.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import itertools
import json
import math
import os
import platform
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from taxakey.cpu_memory import keep_freed_memory
from taxakey.losses.cross_entropy import CrossEntropy
from taxakey.losses.decision import Answer
from taxakey.models.adaptive import AdaptiveHead
from taxakey.models.factorised import FactorisedHead
from taxakey.models.hashed import HashedHead
from taxakey.models.heads import Bottleneck, BottleneckHead, Head, LinearHead, Ranked
from taxakey.models.hierarchies import Hierarchy
from taxakey.models.sampled import SampledHead
from taxakey.models.trees import TreeHead
from taxakey.training.lazy_adamw import LazyAdamW

FEATURES, WIDTH, ANSWERS = 1792, 128, 5
BATCHES, ANSWERED = (64, 256), (1, 256)
CLASSES = (1_000, 10_000, 80_000, 400_000, 1_000_000)
MEMORY_SHARE = 0.7
LIMIT_S = 60.0
"""Longest that one quantity may take, loading and building included in the first."""
ONE_ROUND_S = 30.0
POOL = 512
"""Images drawn for answers, each not asked again before the others were."""
SPREADS = (0.42, 0.34, 0.25)
"""Deviation of families, of genera in a family, of species in a genus; an image's is 1."""
BLUR = 0.5
"""Deviation of the logarithm of an image's own deviation."""
SURENESS = 2.0
"""Scores are so many times those of the best guess: training without label smoothing leaves heads as over-sure."""
UNTRAINED_SCORES = 2**25
"""Largest B·C that an untrained tree is asked for: it opens all nodes for all images at once."""
IMAGE_VARIANCE = math.exp(2 * BLUR**2)
"""Mean square deviation of images from their species' mean."""

AIMING = ("tree", "tree-three")
"""The ways that are held against what the trees were built for."""
KINDS = ("step", "answer", "leanest", "untrained")

Slots = tuple[int, ...]
Cell = dict[str, Any]
Optimizers = list[torch.optim.Optimizer]
TopK = Callable[[Tensor, int], Ranked]


def two_levels(classes: int) -> Slots:
    """Classes to a node: the paper's 1000 x 80 at 80,000 and its proportion, 12.5 nodes to a slot, everywhere else."""
    return (math.ceil(math.sqrt(classes / 12.5)),)


def three_levels(classes: int) -> Slots:
    """Nodes to a node and classes to a node, both a quarter of the cube root of C: at the top an edge costs far less."""
    lower = max(2, math.ceil(classes ** (1 / 3) / 4))
    return (lower, lower)


# ---- the heads ----


def adamw(head: nn.Module) -> Optimizers:
    return [torch.optim.AdamW(_groups(head.parameters()), lr=1e-3, fused=True)]


def slow_adamw(head: nn.Module) -> Optimizers:
    """torch's default, one pass over all weights for each operation."""
    return [torch.optim.AdamW(_groups(head.parameters()), lr=1e-3)]


def lazy_adamw(head: nn.Module) -> Optimizers:
    return [LazyAdamW(_groups(head.parameters()), lr=1e-3, fused=True)]


def sparse_adam(head: nn.Module) -> Optimizers:
    """torch's way with sparse gradients; it takes no dense ones, so the rest has an AdamW."""
    lower = [parameter for name, parameter in head.named_parameters() if name.startswith("lower_")]
    others = [parameter for name, parameter in head.named_parameters() if not name.startswith("lower_")]
    return [torch.optim.SparseAdam(lower, lr=1e-3), torch.optim.AdamW(_groups(others), lr=1e-3, fused=True)]


def _groups(parameters: Any) -> list[dict[str, Any]]:
    """Weights decay, biases don't, as in training."""
    every = list(parameters)
    return [
        {"params": [parameter for parameter in every if parameter.ndim > 1], "weight_decay": 0.01},
        {"params": [parameter for parameter in every if parameter.ndim == 1], "weight_decay": 0.0},
    ]


class PackageHead(Head):
    """The hierarchicalsoftmax package on the same tree and the same bottleneck.

    `own_layer`: its own linear layer, as its manual has it; or torch's, which computes all scores and is faster on a CPU, because
    each of the own layer's slices brings a gradient as large as the tree.
    """

    def __init__(self, classes: int, slots: Slots, *, own_layer: bool) -> None:
        super().__init__()
        import taxakey.torchvision_guard  # noqa: F401  the package imports torchvision

        import hierarchicalsoftmax

        self.in_features, self.classes = FEATURES, classes
        (fan,) = slots
        root = hierarchicalsoftmax.SoftmaxNode("root")
        nodes = [hierarchicalsoftmax.SoftmaxNode(f"node {n}", parent=root) for n in range(math.ceil(classes / fan))]
        leaves = [hierarchicalsoftmax.SoftmaxNode(f"class {c}", parent=nodes[c // fan]) for c in range(classes)]
        root.set_indexes()
        self.root, self.leaf_C = root, torch.tensor(root.get_node_ids(leaves))
        self.bottleneck = Bottleneck(FEATURES, WIDTH)
        layer = hierarchicalsoftmax.HierarchicalSoftmaxLinear(root=root, in_features=WIDTH)
        self.layer = layer if own_layer else nn.Linear(WIDTH, root.layer_size)
        self.loss = hierarchicalsoftmax.HierarchicalSoftmaxLoss(root=root)

    def forward(self, features_BD: Tensor) -> Tensor:
        from hierarchicalsoftmax.inference import leaf_probabilities

        z_Bd = self.bottleneck(features_BD)
        scores = nn.functional.linear(z_Bd, self.layer.weight, self.layer.bias)
        return leaf_probabilities(scores, self.root).log()

    def top_k(self, features_BD: Tensor, k: int) -> Ranked:
        return Ranked(*self(features_BD).topk(k, dim=1), torch.ones(len(features_BD)))


def decisions_loss(head: Any, features_BD: Tensor, labels_B: Tensor) -> Tensor:
    return CrossEntropy()(Answer(head, features_BD, labels_B)).mean()


def package_loss(head: Any, features_BD: Tensor, labels_B: Tensor) -> Tensor:
    return head.loss(head.layer(head.bottleneck(features_BD)), head.leaf_C[labels_B.cpu()].to(labels_B.device))


def liger_loss(head: Any, features_BD: Tensor, labels_B: Tensor) -> Tensor:
    """Linear layer and cross-entropy in one GPU kernel that never holds all logits."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    z = head.bottleneck(features_BD) if isinstance(head, BottleneckHead) else features_BD
    return LigerFusedLinearCrossEntropyLoss()(head.linear.weight, z, labels_B, head.linear.bias)


@dataclass(frozen=True)
class Way:
    """A head and how it is trained. `scored`: whether a step scores all classes; `needs`: the package that it lives on."""

    title: str
    build: Callable[[int, Slots], Head]
    slots: Callable[[int], Slots] | None = None
    optimizers: Callable[[nn.Module], Optimizers] = adamw
    loss: Callable[[Any, Tensor, Tensor], Tensor] = decisions_loss
    scored: bool = True
    needs: str | None = None
    gpu_only: bool = False

    @property
    def bytes_a_parameter(self) -> int:
        """Weight and two moments; a dense gradient as well; two intermediate results of an optimiser that isn't fused."""
        return {adamw: 16, slow_adamw: 24}.get(self.optimizers, 12)


def _flat(classes: int, _: Slots) -> Head:
    return LinearHead(FEATURES, classes)


def _bottleneck(classes: int, _: Slots) -> Head:
    return BottleneckHead(FEATURES, classes, width=WIDTH)


def _tree(*, sparse: bool, width: int | None = WIDTH) -> Callable[[int, Slots], Head]:
    def build(classes: int, slots: Slots) -> Head:
        return TreeHead(FEATURES, Hierarchy.even(np.arange(classes), slots), width=width, sparse=sparse)

    return build


WAYS: dict[str, Way] = {
    "flat": Way("flat, 1792 features", _flat),
    "flat-slow": Way("flat, torch's default AdamW", _flat, optimizers=slow_adamw),
    "flat-liger": Way("flat, Liger's fused loss", _flat, loss=liger_loss, scored=False, needs="liger_kernel", gpu_only=True),
    "bottleneck": Way("flat, bottleneck 128", _bottleneck),
    "bottleneck-slow": Way("bottleneck, torch's default AdamW", _bottleneck, optimizers=slow_adamw),
    "bottleneck-liger": Way(
        "bottleneck, Liger's fused loss", _bottleneck, loss=liger_loss, scored=False, needs="liger_kernel", gpu_only=True
    ),
    "factorised": Way("factorised, rank 64", lambda c, _: FactorisedHead(FEATURES, np.arange(c) // 100)),
    "adaptive": Way("adaptive softmax", lambda c, _: AdaptiveHead(FEATURES, np.ones(c, dtype=np.int64), width=WIDTH)),
    "sampled": Way(
        "sampled, a tenth, lazy", lambda c, _: SampledHead(FEATURES, c, width=WIDTH, sparse=True), None, lazy_adamw, scored=False
    ),
    "hashed": Way("hashed, 4 hashes", lambda c, _: HashedHead(FEATURES, c, width=WIDTH), scored=False),
    "package": Way(
        "hierarchicalsoftmax", lambda c, s: PackageHead(c, s, own_layer=True), two_levels,
        loss=package_loss, scored=False, needs="hierarchicalsoftmax",
    ),
    "package-linear": Way(
        "hierarchicalsoftmax, nn.Linear", lambda c, s: PackageHead(c, s, own_layer=False), two_levels,
        loss=package_loss, needs="hierarchicalsoftmax",
    ),
    "tree": Way("tree, lazy", _tree(sparse=True), two_levels, lazy_adamw, scored=False),
    "tree-dense": Way("tree, dense gradients", _tree(sparse=False), two_levels, scored=False),
    "tree-sparseadam": Way("tree, torch's SparseAdam", _tree(sparse=True), two_levels, sparse_adam, scored=False),
    "tree-full": Way("tree on 1792 features, lazy", _tree(sparse=True, width=None), two_levels, lazy_adamw, scored=False),
    "tree-three": Way("tree, three levels, lazy", _tree(sparse=True), three_levels, lazy_adamw, scored=False),
}  # fmt: skip


def way_of(name: str) -> Way:
    """One of WAYS, or the lazy tree of a shape: tree:80, tree:20,40."""
    if name in WAYS:
        return WAYS[name]
    kind, _, shape = name.partition(":")
    try:
        slots = tuple(int(number) for number in shape.split(","))
    except ValueError:
        slots = ()
    if kind != "tree" or not slots or min(slots) < 1:
        raise SystemExit(f"there is no head {name}; there are: {', '.join(WAYS)}, and tree:SLOTS, e.g. tree:80 or tree:20,40")
    return Way(f"tree of {shape} slots, lazy", _tree(sparse=True), lambda _: slots, lazy_adamw, scored=False)


def obstacle(way: Way, device: str) -> str | None:
    """Why this head can't be measured here."""
    if way.gpu_only and device == "cpu":
        return "needs a GPU"
    if way.needs and importlib.util.find_spec(way.needs) is None:
        return f"{way.needs} isn't installed"
    return None


def computed_bytes(way: Way, classes: int, batch: int) -> int:
    """Weights, gradients and moments, and logits with their log-softmax and gradient."""
    scores = 3 * batch * classes * 4 if way.scored else 0
    return parameters(way, classes) * way.bytes_a_parameter + scores


def parameters(way: Way, classes: int) -> int:
    """Counted on the head without memory; the package's is the tree's."""
    build = _tree(sparse=True) if way.loss is package_loss else way.build
    with torch.device("meta"):
        head = build(classes, way.slots(classes) if way.slots else ())
    return sum(parameter.numel() for parameter in head.parameters())


def shape(way: Way, classes: int) -> list[int] | None:
    """Nodes at the top, children of a node below it, and so on."""
    if way.slots is None:
        return None
    slots = way.slots(classes)
    return [math.ceil(classes / math.prod(slots)), *slots]


# ---- what is measured, in a process of its own ----


class Images(NamedTuple):
    features_PD: Tensor
    labels_P: Tensor


@dataclass(frozen=True)
class Flora:
    """Means of classes in bottleneck space, nested, and the directions of feature space that they lie in."""

    means_Cd: Tensor
    projection_dD: Tensor

    @classmethod
    def draw(cls, classes: int, slots: Slots, device: str) -> Flora:
        """A family to each node below the root of a tree of these slots; a genus to each lower one, or else to a tenth of it."""
        deviation_d = torch.arange(1, WIDTH + 1.0) ** -0.3  # variances fall with the 0.6th power, as in simulated_flora.py
        deviation_d /= deviation_d.square().mean().sqrt()
        family, genus, species = SPREADS
        means_Cd = torch.randn(classes, WIDTH) * species
        for spread, size in ((genus, slots[-1] if len(slots) > 1 else max(2, slots[0] // 10)), (family, math.prod(slots))):
            means_Cd += (spread * torch.randn(classes // size + 1, WIDTH))[torch.arange(classes) // size]
        means_Cd *= deviation_d
        projection_dD = torch.linalg.qr(torch.randn(FEATURES, WIDTH)).Q.t().contiguous()
        return cls(means_Cd.to(device), projection_dD.to(device))

    def images(self) -> Images:
        labels_P = torch.randint(len(self.means_Cd), (POOL,))
        blur_P = (BLUR * torch.randn(POOL, 1)).exp()
        z_Pd = self.means_Cd.cpu()[labels_P] + blur_P * torch.randn(POOL, WIDTH)
        device = self.means_Cd.device
        return Images(z_Pd.to(device) @ self.projection_dD, labels_P.to(device))

    @torch.no_grad()
    def fill(self, head: TreeHead | LinearHead | BottleneckHead) -> None:
        """Give a head the weights that training tends to."""
        precision = SURENESS / IMAGE_VARIANCE
        bias_C = self.means_Cd.square().sum(1) * precision / -2
        if isinstance(head, TreeHead):
            self._fill_tree(head)
        elif isinstance(head, LinearHead):
            torch.mm(self.means_Cd * precision, self.projection_dD, out=head.linear.weight)
            head.linear.bias.copy_(bias_C)
        else:
            self._fill_projection(head.bottleneck)
            head.linear.weight.copy_(self.means_Cd * precision)
            head.linear.bias.copy_(bias_C)

    def _fill_projection(self, bottleneck: nn.Module) -> None:
        assert isinstance(bottleneck, Bottleneck)
        bottleneck.projection.weight.copy_(self.projection_dD)
        bottleneck.projection.bias.zero_()

    def _fill_tree(self, head: TreeHead) -> None:
        """Of each edge the discriminant of the mean below it, against the deviation of images from that mean."""
        edges = head.hierarchy.edges
        weight_Ed, bias_E = self.means_Cd.new_zeros(edges, WIDTH), self.means_Cd.new_zeros(edges)
        for edge_C in head.path_CL.T:
            reached_C = (edge_C >= 0).nonzero()[:, 0]
            edge_R, means_Rd = edge_C[reached_C], self.means_Cd[reached_C]
            here_E = edge_R.unique()
            count_E = torch.bincount(edge_R, minlength=edges)
            sums_Ed = torch.zeros_like(weight_Ed).index_add_(0, edge_R, means_Rd)
            mean_Ed = sums_Ed[here_E] / count_E[here_E, None]
            between = (count_E[here_E, None] * mean_Ed.square()).sum() / means_Rd.numel()
            precision = SURENESS / (IMAGE_VARIANCE + means_Rd.square().mean() - between)
            weight_Ed[here_E] = mean_Ed * precision
            bias_E[here_E] = mean_Ed.square().sum(1) * precision / -2
        if isinstance(head.bottleneck, nn.Identity):
            torch.mm(weight_Ed[: head.top], self.projection_dD, out=head.top_weight_Td)
            torch.mm(weight_Ed[head.top :], self.projection_dD, out=head.lower_weight_Ed)
        else:
            self._fill_projection(head.bottleneck)
            head.top_weight_Td.copy_(weight_Ed[: head.top])
            head.lower_weight_Ed.copy_(weight_Ed[head.top :])
        head.top_bias_T.copy_(bias_E[: head.top])
        head.lower_bias_E.copy_(bias_E[head.top :])


class Memory:
    """The most memory that came into use since this object was made."""

    def __init__(self, device: str) -> None:
        self.device = device
        gc.collect()
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            self.before = _status("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")

    def peak(self) -> int:
        most = torch.cuda.max_memory_allocated() if self.device == "cuda" else _status("VmHWM")
        return most - self.before


def _status(key: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))


def timed(call: Callable[[Any], object], inputs: Iterator[Any], seconds: float, device: str) -> list[float]:
    """Seconds of each call, after a few that don't count: at least three of them, or one where one takes over five seconds."""
    begun = time.perf_counter()
    first = _once(call, next(inputs), device)
    while time.perf_counter() - begun < min(seconds, 3 * first):
        _once(call, next(inputs), device)
    times = [_once(call, next(inputs), device)]
    while first < 5 and (sum(times) < seconds or len(times) < 3):
        times.append(_once(call, next(inputs), device))
    return times


def _once(call: Callable[[Any], object], argument: Any, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    call(argument)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def train(way: Way, head: Head, optimizers: Optimizers, size: int, seconds: float) -> list[float]:
    """Times of steps on batches of a size."""

    def step(batch: Images) -> None:
        for optimizer in optimizers:
            optimizer.zero_grad()
        way.loss(head, *batch).backward()
        for optimizer in optimizers:
            optimizer.step()

    device = next(head.parameters()).device.type
    features_BD = torch.randn(size, FEATURES, device=device)
    batches = (Images(features_BD, torch.randint(head.classes, (size,)).to(device)) for _ in itertools.count())
    return timed(step, batches, seconds, device)


def answer(top_k: TopK, images: Images, size: int, seconds: float, device: str) -> Cell:
    """Times of answers, the share whose first class is right, and how many nodes were opened for an image."""
    given: list[tuple[Ranked, Tensor]] = []

    def batches() -> Iterator[Images]:
        while True:
            yield from map(Images, images.features_PD.split(size), images.labels_P.split(size))

    times = timed(lambda batch: given.append((top_k(batch.features_PD, ANSWERS), batch.labels_P)), batches(), seconds, device)
    right = torch.cat([ranked.classes[:, 0] == labels_S for ranked, labels_S in given])
    opened = torch.cat([ranked.opened for ranked, _ in given])
    return {"times": times, "first_right": float(right.float().mean()), "opened": float(opened.float().mean())}


def leanest(head: Head) -> TopK:
    """A flat head's answer by plain torch."""

    def top_k(features_SD: Tensor, k: int) -> Ranked:
        logits_SC = head(features_SD)
        scores, classes = logits_SC.topk(k, dim=1)
        return Ranked(scores - logits_SC.logsumexp(1, keepdim=True), classes, torch.ones(len(classes)))

    return top_k


def measure(name: str, classes: int, seconds: float, device: str) -> Iterator[Cell]:
    """All quantities of a cell, each announced before; to be called once in a process."""
    keep_freed_memory()
    torch.manual_seed(0)
    way = way_of(name)
    small = _built(way, 300, device)
    train(way, small, way.optimizers(small), BATCHES[0], 0.0)
    del small
    memory = Memory(device)
    head = _built(way, classes, device)
    yield {"what": "built", "parameters": sum(parameter.numel() for parameter in head.parameters())}
    optimizers = way.optimizers(head)
    for size in BATCHES:
        yield {"what": "at", "at": f"a step of {size}"}
        times = train(way, head, optimizers, size, seconds)
        yield {"what": "step", "batch": size, "times": times, "peak_bytes": memory.peak()}
    for parameter in head.parameters():
        parameter.grad = None
    del optimizers
    yield from measure_answers(way, head, seconds, device)


@torch.inference_mode()
def measure_answers(way: Way, head: Head, seconds: float, device: str) -> Iterator[Cell]:
    flora = Flora.draw(head.classes, (way.slots or two_levels)(head.classes), device)
    images = flora.images()
    if isinstance(head, TreeHead):
        head = _built(way, head.classes, device)
        for size in ANSWERED:
            if size == 1 or size * head.classes <= UNTRAINED_SCORES:
                yield {"what": "at", "at": f"an answer to {size} before training"}
                yield {"what": "untrained", "batch": size, **answer(head.top_k, images, size, seconds, device)}
    known = isinstance(head, TreeHead | LinearHead | BottleneckHead)
    if known:
        flora.fill(head)
    for kind in ("answer", "leanest") if isinstance(head, LinearHead | BottleneckHead) else ("answer",):
        for size in ANSWERED:
            yield {"what": "at", "at": f"an answer to {size}"}
            report = answer(head.top_k if kind == "answer" else leanest(head), images, size, seconds, device)
            yield {"what": kind, "batch": size, **report} if known else {"what": kind, "batch": size, "times": report["times"]}


def _built(way: Way, classes: int, device: str) -> Head:
    slots = way.slots(classes) if way.slots else ()
    if way.build is not _flat:
        return way.build(classes, slots).to(device)
    with torch.device("meta"):
        head = way.build(classes, slots)
    return _with_repeated_numbers(head.to_empty(device=device))


@torch.no_grad()
def _with_repeated_numbers(head: Head) -> Head:
    """A few random numbers over and over: to draw the weights of hundreds of thousands of classes takes longer than to train."""
    for parameter in head.parameters():
        numbers = torch.randn(min(2**14 - 3, parameter.numel()), device=parameter.device) * 0.01
        for part in parameter.view(-1).split(len(numbers)):
            part.copy_(numbers[: len(part)])
    return head


# ---- all cells, and what is printed ----


def new_cell(name: str, classes: int, device: str, memory: int) -> Cell:
    """What is known before it is measured, and whether it can be."""
    way = way_of(name)
    computed = {str(size): computed_bytes(way, classes, size) for size in BATCHES}
    note = obstacle(way, device)
    if note is None and computed[str(BATCHES[-1])] > MEMORY_SHARE * memory:
        sizes = " and ".join(f"{needed / 1e9:.1f} GB at batch {size}" for size, needed in computed.items())
        note = f"not run: needs {sizes}, computed"
    return {
        "head": name, "title": way.title, "classes": classes, "shape": shape(way, classes), "computed_bytes": computed,
        "rounds": 0, "note": note, "over": None, "done": note is not None, **{kind: {} for kind in KINDS},
    }  # fmt: skip


def run_cell(cell: Cell, options: argparse.Namespace) -> None:
    """One round of a cell, added to what earlier rounds said."""
    command = [sys.executable, __file__, "--cell", cell["head"], str(cell["classes"])]
    command += ["--device", options.device, "--seconds", str(options.seconds), "--threads", str(options.threads)]
    begun = time.perf_counter()
    at = "building it"
    for report in reports(command):
        match report.pop("what"):
            case "over":
                cell |= {"over": at, "note": f"{at} takes over {LIMIT_S:.0f} s"}
            case "failed":
                cell["note"] = f"failed: {report['why']}"
            case "at":
                at = report["at"]
            case "built":
                cell |= report
            case kind:
                _add(cell[kind].setdefault(str(report.pop("batch")), {}), report)
    cell["rounds"] += 1
    cell["done"] = cell["note"] is not None or time.perf_counter() - begun > ONE_ROUND_S


def _add(quantity: Cell, report: Cell) -> None:
    """Times of all rounds together, the highest peak, and of the rest what the last round said."""
    times = quantity.get("times", []) + report["times"]
    if "peak_bytes" in report:
        report["peak_bytes"] = max(report["peak_bytes"], quantity.get("peak_bytes", 0))
    quantity |= report | {"times": times}


def reports(command: list[str]) -> Iterator[Cell]:
    """What a cell's process says, line by line; one that is silent for too long is ended."""
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, bufsize=0) as process,
    ):
        assert process.stdout is not None
        while select.select([process.stdout], [], [], LIMIT_S)[0]:
            line = process.stdout.readline()
            if not line:
                break
            yield json.loads(line)
        else:
            process.kill()
            yield {"what": "over"}
            return
        if process.wait():
            complaints.seek(0)
            last = complaints.read().decode().strip().splitlines()[-1:] or [f"ended with {process.returncode}"]
            yield {"what": "failed", "why": last[0]}


def summarise(cell: Cell) -> None:
    """Medians in the place of times."""
    del cell["done"]
    for kind in KINDS:
        for quantity in cell[kind].values():
            times = quantity.pop("times")
            quantity |= {"median_s": median(times), "fastest_s": min(times), "times": len(times)}


def seconds_of(cell: Cell | None, kind: str, batch: int) -> float | None:
    return cell[kind].get(str(batch), {}).get("median_s") if cell else None


HEADER = (
    "", "step 64", "times", "step 256", "times", "MB at 64", "at 256", "1 image", "times", "256", "times", "opened", "right",
)  # fmt: skip


def table(cells: list[Cell]) -> list[str]:
    """Cells of one number of classes: milliseconds, and how many times the reference's (the tree's, or else the first head's)."""
    reference = next((cell for cell in cells if cell["head"] == "tree"), cells[0])
    rows = [HEADER]
    for cell in (cell for cell in cells if any(cell[kind] for kind in KINDS)):
        row = [_with_shape(cell)]
        for size in BATCHES:
            row += _milliseconds(cell, "step", size, reference)
        row += [f"{cell['step'][str(size)]['peak_bytes'] / 1e6:,.0f}" if str(size) in cell["step"] else "" for size in BATCHES]
        rows.append((*row, *_answers(cell, "answer", reference)))
        for kind, title in (("leanest", "   leanest answer"), ("untrained", "   before training")):
            if cell[kind]:
                rows.append((title, *[""] * (len(HEADER) - 7), *_answers(cell, kind, reference)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [
        row[0].ljust(widths[0]) + "".join(f"  {text:>{width}}" for text, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    return lines + [f"{_with_shape(cell)}: {cell['note']}" for cell in cells if cell["note"]]


def _with_shape(cell: Cell) -> str:
    return cell["title"] + (f", {'×'.join(map(str, cell['shape']))}" if cell["shape"] else "")


def _answers(cell: Cell, kind: str, reference: Cell) -> list[str]:
    one = cell[kind].get("1", {})
    shares = [f"{one[key]:.3g}" if key in one else "" for key in ("opened", "first_right")]
    return [*_milliseconds(cell, kind, 1, reference), *_milliseconds(cell, kind, 256, reference), *shares]


def _milliseconds(cell: Cell, kind: str, batch: int, reference: Cell) -> list[str]:
    seconds = seconds_of(cell, kind, batch)
    compared = seconds_of(reference, "step" if kind == "step" else "answer", batch)
    if seconds is None:
        return ["", ""]
    return [f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:,.0f}", f"{seconds / compared:.3g}" if compared else ""]


# ---- aims ----


class Aim(NamedTuple):
    """`at_least`: whether the figure should be high. `figure` is None where it wasn't measured."""

    text: str
    bound: float
    at_least: bool
    figure: float | None

    @property
    def met(self) -> bool | None:
        if self.figure is None:
            return None
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound

    def __str__(self) -> str:
        if self.figure is None:
            return f"not measured  {self.text}"
        bound = f"at {'least' if self.at_least else 'most'} {self.bound:g}"
        return f"{'met' if self.met else 'MISSED':12}  {self.text}: {self.figure:.3g} ({bound})"


def aims(cells: list[Cell], tree: str = "tree") -> list[Aim]:
    """What the trees were built for, on two cores, and how far this one of the ways came."""
    by_name = {(cell["head"], cell["classes"]): cell for cell in cells}

    def step(head: str, classes: int) -> float | None:
        cell = by_name.get((head, classes))
        over = cell is not None and cell["over"] == "a step of 64"
        return LIMIT_S if over else seconds_of(cell, "step", 64)

    at_80k = step(tree, 80_000)
    one = seconds_of(by_name.get((tree, 80_000)), "answer", 1)
    million = by_name.get((tree, 1_000_000))
    peak = max((quantity["peak_bytes"] / 1e9 for quantity in million["step"].values()), default=None) if million else None
    growth = _ratio(step(tree, 1_000_000), step(tree, 10_000))
    answer = _worst_answer(by_name, tree)
    at_least = [
        ("flat on 1792 features, times the tree's step, 80,000 classes, batch 64", 200, _ratio(step("flat", 80_000), at_80k)),
        ("flat on the bottleneck, times the tree's step there", 20, _ratio(step("bottleneck", 80_000), at_80k)),
        ("hierarchicalsoftmax, times the tree's step there", 300, _ratio(step("package", 80_000), at_80k)),
    ]
    at_most = [
        ("milliseconds to the top 5 of one image there", 1, one and one * 1e3),
        ("slowest answer from 10,000 classes on, as a share of flat's on the bottleneck", 1, answer),
        ("growth of the tree's step from 10,000 to 1,000,000 classes", 12, growth),
        ("GB to train a million classes", 2, peak),
    ]
    return [
        *(Aim(text, bound, True, figure) for text, bound, figure in at_least),
        *(Aim(text, bound, False, figure) for text, bound, figure in at_most),
    ]


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above and below else None


def _worst_answer(by_name: dict[tuple[str, int], Cell], tree: str) -> float | None:
    """Against the quicker of the product's and the leanest, for one image and for 256."""
    ratios = []
    for (head, classes), cell in by_name.items():
        rival = by_name.get(("bottleneck", classes))
        for size in ANSWERED if head == tree and classes >= 10_000 else ():
            flat = [seconds for kind in ("answer", "leanest") if (seconds := seconds_of(rival, kind, size))]
            ratios.append(_ratio(seconds_of(cell, "answer", size), min(flat, default=None)))
    return max((ratio for ratio in ratios if ratio), default=None)


# ---- the command ----


def available_memory(device: str) -> int:
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))


def machine(device: str) -> Cell:
    with open("/proc/cpuinfo") as file:
        processor = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), platform.machine())
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    return {"processor": processor, "cores": os.cpu_count(), "gpu": gpu, "system": platform.platform(terse=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=CLASSES)
    parser.add_argument("--heads", nargs="+", default=list(WAYS), help=f"of {', '.join(WAYS)}, tree:SLOTS[,SLOTS…]")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each quantity in each round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.cell:
        for report in measure(options.cell[0], int(options.cell[1]), options.seconds, options.device):
            print(json.dumps(report), flush=True)
        return
    result = run(options)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def run(options: argparse.Namespace) -> Cell:
    begun = time.perf_counter()
    cells: list[Cell] = []
    memory = available_memory(options.device)
    for classes in options.classes:
        here = [new_cell(name, classes, options.device, memory) for name in options.heads]
        for _ in range(options.rounds):
            for cell in here:
                if not cell["done"]:
                    run_cell(cell, options)
        for cell in here:
            summarise(cell)
        print(f"\n{classes:,} classes: milliseconds, and times the tree's", *table(here), sep="\n", flush=True)
        cells += here
    reached = {way_of(tree).title: aims(cells, tree) for tree in AIMING}
    for title, those in reached.items():
        print(f"\n{title}:", *those, sep="\n")
    return {
        "date": datetime.now(UTC).date().isoformat(), "machine": machine(options.device), "memory_available_bytes": memory,
        "torch": torch.__version__, "python": platform.python_version(), "threads": options.threads, "device": options.device,
        "rounds": options.rounds, "seconds_a_quantity": options.seconds, "whole_run_s": round(time.perf_counter() - begun),
        "cells": cells, "aims": {tree: [aim._asdict() | {"met": aim.met} for aim in those] for tree, those in reached.items()},
    }  # fmt: skip


if __name__ == "__main__":
    main()
