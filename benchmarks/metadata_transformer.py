"""A training step of DS@GT's metadata transformer (46,940,443 parameters) on stored embeddings, beside its bare matrix products.

    python benchmarks/metadata_transformer.py [--rows 320000] [--rounds 7] [--device cpu] [--precision 32-true] [--out FILE]

Every matrix product that a step's forward and backward pass ask of torch is written down with its shapes and strides and
computed again on random numbers, and nothing else: no bias, norm, activation, loss, clipping or optimiser. Rounds take turns:
data path (the loader's batch), step (all of it but the data path), products. Printed: medians, and the ratios that matter. On a
CPU the processor's time is measured, on one thread, so that other work on the machine counts little; on a GPU the clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from taxakey.models.backbones import Network
from taxakey.models.head_options import build_head
from taxakey.models.heads import Head
from taxakey.models.metadata import MetadataTransformerOptions
from taxakey.taxonomy import Taxonomy
from taxakey.training.batches import Batch, StoredFeatures, feature_loader
from taxakey.training.module import TrainingModule
from taxakey.training.recipe import LoopOptions, Recipe
from taxakey.training.samplers import TrainingPart
from taxakey.training.schedule import OptimizerOptions

WIDTH, CLASSES, GROUPS = 1024, 1717, (4, 7, 73)
PARAMETERS = 46_940_443
PAPER_ROWS, PAPER_SECONDS = 320_000, 67
OPTIONS = MetadataTransformerOptions(token_hidden=(512, 896, 584))

Product = tuple[Any, tuple[tuple[tuple[int, ...], tuple[int, ...]], ...], torch.dtype]
"""An operator, shape and stride of its two factors, and their type."""


class Products(TorchDispatchMode):
    """Counts the matrix products that are computed inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[Product] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten = torch.ops.aten
        bare = {aten.mm.default: aten.mm.default, aten.bmm.default: aten.bmm.default, aten.addmm.default: aten.mm.default}
        if function in bare:
            factors = args[1:3] if function is aten.addmm.default else args[:2]
            layout = tuple((tuple(factor.shape), factor.stride()) for factor in factors)
            self.found[bare[function], layout, factors[0].dtype] += 1
        return function(*args, **(kwargs or {}))


def multiply_adds(products: Counter[Product]) -> int:
    """Of all products together."""
    each = {product: int(np.prod(product[1][0][0])) * product[1][1][0][-1] for product in products}
    return sum(each[product] * times for product, times in products.items())


def bare(products: Counter[Product], device: str) -> Callable[[], None]:
    """A function that computes the products on random numbers of the same layout."""
    work = []
    for (operator, layout, dtype), times in products.items():
        factors = [torch.empty_strided(shape, stride, dtype=dtype, device=device).normal_() for shape, stride in layout]
        work += [(operator, factors)] * times

    def run() -> None:
        for operator, factors in work:
            operator(*factors)

    return run


def batches(rows: int, batch: int, classes: int, seed: int = 0) -> Iterator[Batch]:
    """Batches of random embeddings from the loader that training uses, epoch after epoch."""
    rng = np.random.default_rng(seed)
    stored = StoredFeatures(
        rng.standard_normal((rows, WIDTH), dtype=np.float32),
        rng.integers(classes, size=rows),
        rng.standard_normal((rows, sum(GROUPS)), dtype=np.float32),
    )
    recipe = Recipe(name="benchmark", loop=LoopOptions(batch_size=batch))
    draw = recipe.sampler.build(TrainingPart(stored.labels_N.numpy(), np.ones(classes, dtype=np.int64), recipe.seed))
    loader = feature_loader(stored, recipe, draw)
    while True:
        yield from loader


def transformer(classes: int = CLASSES) -> Head:
    taxonomy = Taxonomy.from_rows({"scientificName": f"Species {number:05d}"} for number in range(classes))
    return build_head(OPTIONS, WIDTH, taxonomy, metadata=GROUPS)


class Step:
    """What training does with a batch: loss, gradients, clipping, optimiser. `precision` as in a recipe."""

    def __init__(self, head: Head, device: str, precision: str) -> None:
        warnings.filterwarnings("ignore", message=".*self.log.*")  # there is no trainer to log to
        recipe = Recipe(name="benchmark", optimizer=OptimizerOptions(rate=1e-4))
        self.module = TrainingModule(Network(nn.Identity(), head), replace(recipe, train="head")).to(device).train()
        self.optimizer = recipe.optimizer.build(None, self.module.head)
        self.device, self.half = device, precision == "bf16-mixed"

    def gradients(self, batch: Batch) -> None:
        moved = Batch(*(part.to(self.device, non_blocking=True) if isinstance(part, Tensor) else part for part in batch))
        with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
            loss = self.module.training_step(moved, 0)
        loss.backward()

    def __call__(self, batch: Batch) -> None:
        self.gradients(batch)
        nn.utils.clip_grad_norm_(self.module.head.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def seconds(work: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Of the processor on a CPU, of the clock on a GPU; and what the work gave."""
    if device == "cuda":
        torch.cuda.synchronize()
    clock = time.perf_counter if device == "cuda" else time.process_time
    begun = clock()
    result = work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - begun, result


def measure(rows: int, batch: int, rounds: int, device: str, precision: str) -> dict[str, Any]:
    """Medians over rounds, the first one left out."""
    torch.manual_seed(0)
    loader, step = batches(rows, batch, CLASSES), Step(transformer(), device, precision)
    assert sum(parameter.numel() for parameter in step.module.parameters()) == PARAMETERS
    with Products() as products:
        step.gradients(next(loader))
    step(next(loader))
    again = bare(products.found, device)
    taken: dict[str, list[float]] = {"data": [], "step": [], "products": []}
    for _ in range(rounds + 1):
        data, given = seconds(lambda: next(loader), device)
        taken["data"].append(data)
        taken["step"].append(seconds(lambda given=given: step(given), device)[0])  # type: ignore[misc]
        taken["products"].append(seconds(again, device)[0])
    medians = {name: statistics.median(values[1:]) for name, values in taken.items()}
    return {
        "parameters": PARAMETERS, "rows": rows, "batch": batch, "rounds": rounds, "device": device, "precision": precision,
        "threads": torch.get_num_threads(), "torch": torch.__version__, "multiply_adds": multiply_adds(products.found),
        **{f"{name}_seconds": median for name, median in medians.items()},
        "step_by_products": medians["step"] / medians["products"], "data_by_step": medians["data"] / medians["step"],
        "epoch_seconds": (medians["step"] + medians["data"]) * PAPER_ROWS / batch, "all": taken,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=PAPER_ROWS)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.rows, options.batch, options.rounds, options.device, options.precision)
    operations, share = 2e-9 * found["multiply_adds"], 100 * found["data_by_step"]
    print(f"products   {found['products_seconds']:8.3f} s, {operations:,.0f} thousand million operations")
    print(f"step       {found['step_seconds']:8.3f} s, {found['step_by_products']:.2f} times the products (at most 1.43)")
    print(f"data path  {found['data_seconds']:8.4f} s, {share:.2f} % of the step (below 5)")
    print(f"epoch      {found['epoch_seconds']:8.1f} s for {PAPER_ROWS:,} rows (the paper's: {PAPER_SECONDS} s on its GPU)")
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
