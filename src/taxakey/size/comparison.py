"""Heads side by side on one backbone: what each costs, and how many classes each could hold within a memory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from taxakey import progress
from taxakey.errors import BadInput
from taxakey.models.head_options import HeadOptions
from taxakey.models.heads import BottleneckOptions, LinearOptions
from taxakey.models.trees import TreeOptions
from taxakey.size.memory import Memory, StepMemory, Training, classes_that_fit
from taxakey.size.network import BYTES_PER_NUMBER, Backbone, ClassList, NetworkSize, meta_head, network_size

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


@dataclass(frozen=True)
class Row:
    """One head for so many classes: the network's size, and the memory of a training step."""

    head: HeadOptions
    classes: int
    network: NetworkSize
    memory: Memory


@dataclass(frozen=True)
class Comparison:
    """`rows`: the heads for the classes asked for. `fitting`: for as many as fit into `budget` bytes; None where none does."""

    backbone: Backbone
    training: Training
    rows: tuple[Row, ...]
    budget: int | None
    fitting: tuple[Row | None, ...]
    heads: tuple[HeadOptions, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; sizes in bytes, work in multiply-adds of one picture."""
        setting = {
            "backbone": self.backbone.name,
            "features": self.backbone.features,
            "learning_parameters": self.backbone.learning if self.training.backbone else 0,
            "input_size": list(self.backbone.input_size),
            "trained": "all" if self.training.backbone else "head",
            "batch_size": self.training.batch,
            "precision": self.training.precision,
            "device": self.training.device,
        }
        rows = [self._row_dict(row) for row in self.rows]
        if self.budget is None:
            return {**setting, "heads": rows}
        fitting = [
            {"head": asdict(head), "classes": 0} if row is None else self._row_dict(row)
            for head, row in zip(self.heads, self.fitting, strict=True)
        ]
        return {**setting, "heads": rows, "memory_budget": self.budget, "fitting": fitting}

    def _row_dict(self, row: Row) -> dict[str, Any]:
        size, memory = row.network, row.memory
        return {
            "head": asdict(row.head),
            "classes": row.classes,
            "parameters": {
                "backbone": size.backbone, "projection": size.projection, "classifier": size.classifier, "total": size.total,
            },
            "bytes": {precision: size.bytes_at(precision) for precision in BYTES_PER_NUMBER},
            "multiply_adds": {
                "backbone_forward": size.backbone_multiply_adds,
                "head_forward_in_training": size.training_multiply_adds,
                "head_forward_all_classes": size.naming_multiply_adds,
                "naming_a_picture": size.naming,
                "training_step": size.training(backbone=self.training.backbone),
            },
            "training_memory": {**asdict(memory), "peak": memory.peak},
        }  # fmt: skip


def compare(
    backbone: Backbone,
    heads: Sequence[HeadOptions],
    training: Training,
    *,
    classes: ClassList | None = None,
    budget: int | None = None,
) -> Comparison:
    """Size every head for the classes, if any are given, and find how many would fit into `budget` bytes of training memory."""

    def row(head: HeadOptions, classes: ClassList) -> Row:
        size = network_size(backbone, meta_head(classes, head, backbone.features))
        return Row(head, len(classes), size, memory.of(classes, head))

    def fitting(head: HeadOptions, budget: int) -> Row | None:
        most = classes_that_fit(
            budget, lambda number: memory.of(ClassList.numbered(number), head).peak, least=least(head, training)
        )
        return row(head, ClassList.numbered(three_digits(most))) if most else None

    with progress.working("following a training step"):
        memory = StepMemory(backbone, training)
        rows = tuple(row(head, classes) for head in heads) if classes is not None else ()
    fits = tuple(fitting(head, budget) for head in progress.track(heads, "how many fit")) if budget is not None else ()
    return Comparison(backbone, training, rows, budget, fits, tuple(heads))


def least(head: HeadOptions, training: Training) -> int:
    """The fewest classes that head and losses can be built for: two where they part rare from common, or poisonous from not."""
    parts = head.kind == "adaptive" or any(options.kind == "poisonous" for options in training.losses)
    return 2 if parts else 1


def three_digits(number: int) -> int:
    """Rounded down, since the estimate isn't sharper.

    >>> three_digits(184_288), three_digits(992)
    (184000, 992)
    """
    unit = 10 ** max(len(str(number)) - 3, 0)
    return number // unit * unit


def default_heads(*, sparse: bool = False) -> tuple[HeadOptions, ...]:
    """What one chooses from: flat, flat on a bottleneck (the control for every claim about trees), a tree on the same."""
    return LinearOptions(), BottleneckOptions(), TreeOptions(sparse=sparse)


def with_controls(head: HeadOptions) -> tuple[HeadOptions, ...]:
    """A head, the flat one, and the flat one on the same bottleneck."""
    width = getattr(head, "width", None) or BottleneckOptions().width
    controls = (LinearOptions(), BottleneckOptions(width=width))
    return (head, *(control for control in controls if control.kind != head.kind))


def head_by_kind(kind: str, *, sparse: bool = False) -> HeadOptions:
    """A head with its default options; with gradients of the touched rows only, where it has them and `sparse` is asked for.

    Raises BadInput for a kind that isn't there.
    """
    kinds = {options().kind: options() for options in get_args(HeadOptions)}
    if kind not in kinds:
        raise BadInput(f"no head is called {kind!r}; one of {', '.join(kinds)}")
    head = kinds[kind]
    return replace(head, sparse=True) if sparse and hasattr(head, "sparse") else head


def parse_bytes(text: str) -> int:
    """8GB is 8 · 10⁹ bytes, 8GiB 8 · 2³⁰; raises BadInput for what isn't a size.

    >>> parse_bytes("8GB"), parse_bytes("1.5 GiB"), parse_bytes("500m")
    (8000000000, 1610612736, 500000000)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", text.lower())
    if match is None or not (count := float(match[1]) * _UNITS[match[2] or ""]) >= 1:
        raise BadInput(f"{text!r} is no size of memory; write 8GB (8 · 10⁹ bytes) or 8GiB (8 · 2³⁰)")
    return int(count)
