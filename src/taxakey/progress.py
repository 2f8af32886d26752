"""Progress of long work, shown only when the command line asked for it.

Stages wrap their loops in `track` and what can't be counted in `working`; as a library Taxakey stays silent, the command switches
the display on with `show`. On a terminal it is a bar; elsewhere (a log file, CI) a line every ten seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
_SECONDS_BETWEEN_LINES = 10.0
_shown = False


def show(on: bool = True) -> None:
    """Switch the display on (or off) for this process."""
    global _shown
    _shown = on


def shown() -> bool:
    """Whether progress is displayed, for libraries that draw their own bar (Lightning)."""
    return _shown


def track(items: Iterable[Item], description: str, *, total: int | None = None, done: int = 0) -> Iterator[Item]:
    """Yield the items and show how many are through. `done`: how many an earlier, interrupted run had finished."""
    if not _shown:
        yield from items
        return
    if total is None and hasattr(items, "__len__"):
        total = len(items) + done  # type: ignore[arg-type]
    if sys.stderr.isatty():
        yield from _bar(items, description, total, done)
    else:
        yield from _lines(items, description, total, done)


@contextmanager
def working(description: str) -> Iterator[None]:
    """Show that one long step is under way which can't be counted: a turning sign on a terminal, a line elsewhere."""
    if not _shown:
        yield
    elif sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(f"{description} …"):
            yield
    else:
        print(f"{description} …", file=sys.stderr, flush=True)
        yield


def _bar(items: Iterable[Item], description: str, total: int | None, done: int) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total, completed=done)
        for item in items:
            yield item
            progress.advance(task)


def _lines(items: Iterable[Item], description: str, total: int | None, done: int) -> Iterator[Item]:
    begun = printed = time.monotonic()
    of = f" of {total:,}" if total is not None else ""
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - printed >= _SECONDS_BETWEEN_LINES:
            print(f"{description}: {done:,}{of} ({now - begun:.0f} s)", file=sys.stderr, flush=True)
            printed = now
    if printed > begun:
        print(f"{description}: {done:,} done ({time.monotonic() - begun:.0f} s)", file=sys.stderr, flush=True)
