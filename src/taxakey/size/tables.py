"""Sizes as tables for a terminal, with the sentences that say what was counted."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from taxakey.models.head_options import HeadOptions
from taxakey.size.comparison import Comparison, Row
from taxakey.size.memory import MOST_CLASSES
from taxakey.size.network import NetworkSize
from taxakey.size.paper import CLASSES, SOURCE, PaperTable, Printed, printed_precision

_NARROWEST, _WIDEST = 100, 118
"""Columns on a terminal, as far as it has them; the widest where there is none. Narrower, numbers would be cut."""

_PRECISIONS = {"32-true": "32-bit numbers", "bf16-mixed": "mixed precision (bfloat16)", "16-mixed": "mixed precision (float16)"}


def print_tables(content: RenderableType) -> None:
    """To standard output; as wide as the terminal, where it is one."""
    console = Console(highlight=False)
    columns = console.width if console.is_terminal else _WIDEST
    Console(highlight=False, width=min(max(columns, _NARROWEST), _WIDEST)).print(content)


def comparison_tables(found: Comparison, optimizer: str) -> Group:
    """Parameters, work and memory of every head, and how many classes fit; `optimizer` is its name."""
    backbone, training = found.backbone, found.training
    _, height, width = backbone.input_size
    what = "The whole network is trained on pictures" if training.backbone else "The head alone is trained, on stored features"
    if training.backbone and backbone.learning != backbone.parameters:
        what = f"The head and {backbone.learning:,} numbers for the backbone are trained on pictures"
    heading = f"{backbone.name}: {backbone.features:,} features from pictures of {height}×{width}."
    setting = f"{what}, {training.batch:,} at a time, with {optimizer}, {_PRECISIONS[training.precision]}."
    parts: list[RenderableType] = []
    if found.rows:
        parts += [_parameters(found.rows), Text(), *_work(found), *_memory(found)]
        heading = f"{found.rows[0].classes:,} classes on {heading}"
    if found.budget is not None:
        parts += _fitting(found, found.budget)
    return Group(Text(heading), Text(setting), Text(), *parts)


def paper_group(paper: PaperTable) -> Group:
    """The paper's table with the counts made here, and where they part."""
    table = _table(
        f"The paper's models, {CLASSES:,} classes: parameters and megabytes as printed, and as counted here", "model", ""
    )
    for name in ("backbone", "projec-\ntion", "last layers", "total", "32-bit\nMB", "16-bit\nMB", "MA-\nMRR"):
        table.add_column(name, justify="right")
    for printed, size in paper.rows:
        table.add_row(printed.model, "printed", *_printed_cells(printed, size))
        table.add_row(f"  {printed.pretraining}", "counted", *_counted_cells(size))
        table.add_row()
    table.add_row("B4, flat on", "(control)")
    table.add_row("  the bottleneck", "counted", *_counted_cells(paper.control))
    remarks = [Text(f"{number}. {remark}") for number, remark in enumerate(paper.remarks, start=1)]
    legend = "MB: millions of bytes. Printed megabytes stand where they belong. The control isn't in the paper."
    return Group(Text(f"Printed figures: {SOURCE}."), Text(), table, _note(legend), Text(), *remarks)


def _parameters(rows: Sequence[Row]) -> Table:
    table = _table("Parameters, and bytes of the stored model", "head")
    for name in ("backbone", "projection", "last layers", "total", "in 32-bit", "in 16-bit"):
        table.add_column(name, justify="right")
    for row in rows:
        size = row.network
        counts = (_count(number) for number in (size.backbone, size.projection, size.classifier, size.total))
        table.add_row(title(row.head), *counts, human_bytes(size.bytes_at("32-bit")), human_bytes(size.bytes_at("16-bit")))
    return table


def _work(found: Comparison) -> list[RenderableType]:
    table = _table("Work for one picture, in millions of multiply-adds", "head")
    for name in ("backbone", "head,\nall classes", "naming\na picture", "head,\nin training", "training\nstep"):
        table.add_column(name, justify="right")
    for row in found.rows:
        size = row.network
        step = size.training(backbone=found.training.backbone)
        work = (size.backbone_multiply_adds, size.naming_multiply_adds, size.naming, size.training_multiply_adds, step)
        table.add_row(title(row.head), *(f"{number / 1e6:,.1f}" for number in work))
    trained = "backbone and head" if found.training.backbone else "the head (the backbone's features were computed before)"
    part = found.training.backbone and found.backbone.learning != found.backbone.parameters
    frozen = ", as if nothing of it were frozen" if part else ""
    note = (
        "Products in convolutions, linear layers and attention; not norms and activations. Head, in training: forward, for "
        f"what one picture must decide. Training step: forward and backward, 3 times the forward pass of {trained}{frozen}."
    )
    return [table, _note(note), Text()]


def _memory(found: Comparison) -> list[RenderableType]:
    table = _table("Memory of a training step, at the moment when most is needed", "head")
    for name in ("weights", "gradients", "optimiser", "temporary", "peak"):
        table.add_column(name, justify="right")
    table.add_column("when")
    for row in found.rows:
        memory = row.memory
        parts = (memory.weights, memory.gradients, memory.optimizer, memory.temporary, memory.peak)
        table.add_row(title(row.head), *map(human_bytes, parts), memory.moment)
    return [table, _note(_not_counted(found)), Text()]


def _not_counted(found: Comparison) -> str:
    counted = "Temporary: the batch, what the backward pass needs of the forward pass, copies that the optimiser makes."
    if found.training.device == "cuda":
        others = "CUDA itself, the convolutions' workspaces, and what torch's allocator holds back"
    else:
        others = "Python and torch themselves, about 0.5 GB; freed memory that the process holds back, up to as much again"
    if not found.training.backbone:
        others += f"; the stored features, {4 * found.backbone.features:,} bytes a picture"
    return f"{counted} Not counted: {others}."


def _fitting(found: Comparison, budget: int) -> list[RenderableType]:
    table = _table(f"Most classes whose training fits into {human_bytes(budget)}", "head")
    for name in ("classes", "parameters", "peak"):
        table.add_column(name, justify="right")
    for head, row in zip(found.heads, found.fitting, strict=True):
        if row is None:
            table.add_row(title(head), "none", "", "not even one class")
        else:
            more = "over " if row.classes == MOST_CLASSES else ""
            table.add_row(title(head), f"{more}{row.classes:,}", f"{row.network.total:,}", human_bytes(row.memory.peak))
    return [table, _note("Three digits, rounded down. Peak: that of a training step, as above, with so many classes.")]


def _printed_cells(printed: Printed, size: NetworkSize) -> list[str]:
    memory = {"32-bit": "", "16-bit": "", printed_precision(printed, size): f"{printed.memory}"}
    return [
        f"{printed.backbone} M",
        "",
        f"{printed.final_layer} M",
        f"{printed.total} M",
        *memory.values(),
        f"{printed.ma_mrr:.3f}",
    ]


def _counted_cells(size: NetworkSize) -> list[str]:
    counts = [_count(number) for number in (size.backbone, size.projection, size.classifier, size.total)]
    return [*counts, *(f"{size.bytes_at(precision) / 1e6:.1f}" for precision in ("32-bit", "16-bit")), ""]


def title(head: HeadOptions) -> str:
    """A head in a few words.

    >>> from taxakey.models.trees import TreeOptions
    >>> title(TreeOptions(sparse=True))
    'tree, width 128, sparse'
    """
    width = getattr(head, "width", None)
    return head.kind + (f", width {width}" if width else "") + (", sparse" if getattr(head, "sparse", False) else "")


def human_bytes(count: int) -> str:
    """In millions or thousands of millions of bytes.

    >>> human_bytes(643_954_464), human_bytes(2_468_100_000)
    ('644.0 MB', '2.47 GB')
    """
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _count(number: int) -> str:
    return f"{number:,}" if number else "–"


def _table(heading: str, *columns: str) -> Table:
    table = Table(
        title=heading,
        title_justify="left",
        title_style="bold",
        header_style="",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _note(text: str) -> Text:
    return Text(text, style="dim")
