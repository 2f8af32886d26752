"""Which rows each of several processes learns from and measures, and where in an epoch a resumed run goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch.utils.data import BatchSampler, Sampler


@dataclass(frozen=True)
class Process:
    """One of the `world` processes of a run; `on_this_machine`: how many of them share its cores."""

    rank: int = 0
    world: int = 1
    on_this_machine: int = 1


ALONE = Process()


class Batches(BatchSampler):
    """A process's share of each batch of an epoch: rows are dealt out in turn, none is lost and none dealt twice.

    Every process gets as many batches, because they add up their gradients after each: rows too few for a batch of their own on
    every process join the last one. So `world` processes with batches of `size` see what one with `world * size` sees.
    """

    def __init__(self, sampler: Sampler[int], size: int, process: Process = ALONE, *, drop_last: bool = False) -> None:
        super().__init__(sampler, size, drop_last)
        self.process, self.skipped = process, 0

    def go_on_at(self, epoch: int, batch: int) -> None:
        """Begin the next epoch to be drawn, number `epoch`, behind its first `batch` batches."""
        self.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        self.skipped = batch

    def __len__(self) -> int:
        rows, part = len(self.sampler) // self.process.world, 0 if self.drop_last else 1  # type: ignore[arg-type]
        return max((rows - part) // self.batch_size + part, part) if rows else 0

    def __iter__(self) -> Iterator[list[int]]:
        first, self.skipped = self.skipped, 0
        rows = list(self.sampler)[self.process.rank :: self.process.world]
        for number in range(first, last := len(self)):
            end = None if number == last - 1 and not self.drop_last else (number + 1) * self.batch_size
            yield rows[number * self.batch_size : end]


class Share(Sampler[int]):
    """A process's share of all rows in order, for measuring. A negative row only fills up: all processes get as many."""

    def __init__(self, length: int, process: Process = ALONE) -> None:
        self.length, self.process = length, process

    def __len__(self) -> int:
        return -(-self.length // self.process.world)

    def __iter__(self) -> Iterator[int]:
        own = range(self.process.rank, self.length, self.process.world)
        yield from own
        yield from [-1] * (len(self) - len(own))
