"""Batches from worker processes through memory that is used again and again. Shapes: B pictures, h, w of the network's input.

A DataLoader makes new shared memory for each batch, and the kernel must find and zero its pages: on the machine of docs/LOG.md a
third of what decoding costs. Here every worker has a few places of its own, writes its batches there in turn, and sends only the
number of the place; labels and the rest travel as plain arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

AHEAD = 2
"""Batches that each worker makes ahead of the one in use (DataLoader's `prefetch_factor`)."""
# The one that is being copied out and those ahead of it; a worker is sent on only once a batch of its has been asked for.
_PLACES = AHEAD + 1


class _Sent(NamedTuple):
    """What goes through the queue: the type of the batch, where its pixels are and how many, and its further fields."""

    kind: type
    worker: int
    place: int
    length: int
    others: tuple[Any, ...]


class SharedPixels:
    """A `collate_fn`: `read(indices, out)` writes pixels to `out`, [B, *shape] in the worker's memory, and gives the batch.

    A batch is a named tuple; its first field are the pixels [B, 3, h, w], the others tensors or None.
    """

    def __init__(
        self, read: Callable[[Sequence[int], Tensor], Any], shape: tuple[int, ...], dtype: torch.dtype, workers: int
    ) -> None:
        self.read, self.turn = read, 0
        self.memory = torch.empty((workers, _PLACES, *shape), dtype=dtype).share_memory_()

    def __call__(self, indices: Sequence[int]) -> _Sent:
        worker = get_worker_info()
        assert worker is not None
        place, self.turn = self.turn, (self.turn + 1) % _PLACES
        batch = self.read(indices, self.memory[worker.id, place, : len(indices)])
        others = tuple(None if other is None else other.numpy() for other in batch[1:])
        return _Sent(type(batch), worker.id, place, len(indices), others)

    def taken(self, sent: _Sent) -> Any:
        """The batch, copied out, so that nobody ever holds memory that a worker writes to."""
        pixels_BHW3 = self.memory[sent.worker, sent.place, : sent.length]
        copied = pixels_BHW3.pin_memory() if torch.cuda.is_available() else pixels_BHW3.clone()
        others = (None if other is None else torch.from_numpy(other) for other in sent.others)
        return sent.kind(copied.permute(0, 3, 1, 2), *others)


class SharedLoader(DataLoader):
    """A DataLoader whose `collate_fn` is a `SharedPixels`."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        assert isinstance(self.collate_fn, SharedPixels)
        for sent in super().__iter__():
            yield self.collate_fn.taken(sent)
