"""What each loss costs on given logits, beside torch's plain cross-entropy, in one run.

    python benchmarks/losses.py [--classes 1000 10000 80000] [--rounds 15] [--device cpu|cuda] [--out RESULT.json]

A step is forward and backward from logits [64, C] to their gradient; a head's and an optimiser's work, the same for all losses,
are left out, so that this is the worst case. Freed memory is kept, as in training (src/taxakey/cpu_memory.py). On a CPU one
thread is timed by the processor's clock, which other programs slow but don't stop; the losses take turns in every round, and
a quotient is the median over rounds of a loss's time over that of cross-entropy in the same round. Buffers:
what torch's allocator handed out at most beside logits and gradient, as multiples of the logits; what torch's operations use
within themselves is in it. Labels follow the classes' counts, a Zipf law from 1,000 images down to 1. "Seesaw by a table" is the
same formula with its C×C matrix of mitigation factors, as it is often written; it is left out where the table is over 2 GB.

Shapes: B images, C classes.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from taxakey.cpu_memory import keep_freed_memory
from taxakey.losses.class_weighted import ClassWeightedOptions
from taxakey.losses.cross_entropy import CrossEntropyOptions
from taxakey.losses.decision import Answer, Decision
from taxakey.losses.facts import LossFacts
from taxakey.losses.focal import FocalOptions
from taxakey.losses.logit_adjusted import LogitAdjustedOptions
from taxakey.losses.loss_options import LossOptions, build_loss
from taxakey.losses.marginal import MarginalOptions
from taxakey.losses.poisonous import PoisonousOptions
from taxakey.losses.seesaw import SeesawOptions
from taxakey.losses.weighted_triplet import WeightedTripletOptions
from taxakey.taxonomy import SCHEMA, Taxonomy

B = 64
PLAIN = "torch's cross-entropy"
TABLE = "Seesaw by a table"
MOST_OF_A_TABLE = 2 * 10**9
LOSSES: dict[str, tuple[LossOptions, ...]] = {
    "cross_entropy": (CrossEntropyOptions(),),
    "cross_entropy, smoothed": (CrossEntropyOptions(label_smoothing=0.1),),
    "class_weighted": (ClassWeightedOptions(),),
    "focal": (FocalOptions(),),
    "focal, smoothed": (FocalOptions(label_smoothing=0.1),),
    "logit_adjusted": (LogitAdjustedOptions(),),
    "seesaw": (SeesawOptions(),),
    "seesaw, smoothed": (SeesawOptions(label_smoothing=0.1),),
    "cross_entropy + poisonous": (CrossEntropyOptions(), PoisonousOptions(weight=0.1)),
    "seesaw + poisonous": (SeesawOptions(), PoisonousOptions(weight=0.1)),
    "cross_entropy + marginal": (CrossEntropyOptions(), MarginalOptions()),
    "cross_entropy + weighted_triplet": (CrossEntropyOptions(), WeightedTripletOptions()),
}
Step = Callable[[], Tensor]


class Row(NamedTuple):
    loss: str
    milliseconds: float
    times_plain: float
    buffers: float


class GivenLogits:
    """A head whose logits are there; a triplet loss has 128 other features to look at."""

    flat, metadata = True, 0

    def __init__(self, logits_BC: Tensor) -> None:
        self.logits_BC = logits_BC
        self.counts: Tensor | None = None

    def set_counts(self, counts_C: np.ndarray) -> None:
        self.counts = torch.as_tensor(counts_C, dtype=torch.float32, device=self.logits_BC.device)

    def decisions(self, features_BD: Tensor, labels_B: Tensor) -> list[Decision]:
        return [Decision(self.logits_BC, labels_B, self.counts)]

    def __call__(self, features_BD: Tensor) -> Tensor:
        return self.logits_BC


def facts_of(classes: int) -> LossFacts:
    """Genera of ten species, families of ten genera, every thirtieth species poisonous."""
    number_C = np.arange(classes)
    columns = {field.name: pa.nulls(classes, field.type) for field in SCHEMA}
    columns |= {"class_index": pa.array(number_C, pa.int32()), "poisonous": pa.array(number_C % 30 == 0)}
    for name, size in (("scientificName", 1), ("genus", 10), ("family", 100)):
        columns[name] = pa.array(np.char.zfill((number_C // size).astype(str), 7))
    counts_C = np.maximum(1, 1000 / (1 + np.random.default_rng(0).permutation(classes))).astype(np.int64)
    return LossFacts(counts_C, Taxonomy(pa.table(columns, schema=SCHEMA)))


def steps_of(classes: int, device: str) -> tuple[dict[str, Step], Tensor]:
    """For each loss what computes its mean, and the logits that all of them read."""
    facts = facts_of(classes)
    generator = torch.Generator().manual_seed(0)
    share_C = torch.as_tensor(facts.counts("benchmark"), dtype=torch.float64)
    labels_B = torch.multinomial(share_C, B, replacement=True, generator=generator).to(device)
    logits_BC = torch.randn(B, classes, generator=generator).to(device).requires_grad_()
    features_BD = torch.randn(B, 128, generator=generator).to(device)
    steps: dict[str, Step] = {PLAIN: lambda: torch.nn.functional.cross_entropy(logits_BC, labels_B)}
    for name, losses in LOSSES.items():
        head = GivenLogits(logits_BC)
        loss = build_loss(losses, head, facts).to(device)
        steps[name] = lambda loss=loss, head=head: loss(Answer(head, features_BD, labels_B)).mean()  # type: ignore[misc]
    if 4 * classes**2 <= MOST_OF_A_TABLE:
        steps[TABLE] = seesaw_by_a_table(logits_BC, labels_B, share_C.float().to(device))
    return steps, logits_BC


def seesaw_by_a_table(logits_BC: Tensor, labels_B: Tensor, counts_C: Tensor) -> Step:
    table_CC = (counts_C / counts_C[:, None]).clamp_(max=1).pow_(0.8)

    def step() -> Tensor:
        s_BC = logits_BC.detach().softmax(1)
        ratio_BC = s_BC / s_BC.gather(1, labels_B[:, None]).clamp(min=1e-2)
        factor_BC = table_CC[labels_B] * torch.where(ratio_BC > 1, ratio_BC**2, 1)
        return torch.nn.functional.cross_entropy(logits_BC + factor_BC.log(), labels_B)

    return step


def seconds(step: Step, logits_BC: Tensor) -> float:
    logits_BC.grad = None
    if not logits_BC.is_cuda:
        start = time.process_time()
        step().backward()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    step().backward()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def buffers(step: Step, logits_BC: Tensor) -> float:
    """The most that is allocated at once in a step beside the gradient, as a multiple of the logits."""
    logits_BC.grad = None
    if logits_BC.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step().backward()
        allocated = torch.cuda.max_memory_allocated() - before
    else:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            step().backward()
        events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
        allocated = int(np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]).max())
    return allocated / logits_BC.nbytes - 1


def measure(classes: int, rounds: int, device: str) -> list[Row]:
    steps, logits_BC = steps_of(classes, device)
    for step in steps.values():
        seconds(step, logits_BC)
    gc.collect()
    times = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(seconds(step, logits_BC))
    quotients = {name: median(own / plain for own, plain in zip(times[name], times[PLAIN], strict=True)) for name in steps}
    return [Row(name, 1000 * median(times[name]), quotients[name], buffers(steps[name], logits_BC)) for name in steps]


def table(results: dict[int, list[Row]]) -> str:
    lines = [f"{'':34}" + "".join(f"{classes:>28,}" for classes in results)]
    lines.append(f"{'':34}" + f"{'ms':>10}{'times':>8}{'buffers':>10}" * len(results))
    rows = {classes: {row.loss: row for row in found} for classes, found in results.items()}
    for name in dict.fromkeys(row.loss for found in results.values() for row in found):
        cells = (found.get(name) for found in rows.values())
        shown = (f"{c.milliseconds:10.2f}{c.times_plain:8.2f}{c.buffers:10.2f}" if c else f"{'too large':>28}" for c in cells)
        lines.append(f"{name:34}" + "".join(shown))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[1_000, 10_000, 80_000])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    torch.set_num_threads(1)
    results = {classes: measure(classes, options.rounds, options.device) for classes in options.classes}
    print(table(results))
    if options.out:
        setting = {
            "made": datetime.now(UTC).date().isoformat(), "batch": B, "rounds": options.rounds, "device": options.device,
            "machine": platform.machine(), "torch": torch.__version__,
        }  # fmt: skip
        found = {str(classes): [row._asdict() for row in rows] for classes, rows in results.items()}
        options.out.write_text(json.dumps({**setting, "classes": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
