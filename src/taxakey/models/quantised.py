"""Class vectors in 8, 4 or 2 bits a number. Shapes: E vectors, d their width, K groups of neighbouring numbers in a vector.

8 and 4 bits: the numbers of a group share a scale (float16) and are rounded to as many levels; a group is 32 numbers wide. 2
bits: product quantisation (Jégou and others, 2011): four neighbouring numbers become one of 256 typical quadruples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from taxakey.models.groupings import similar_groups

GROUP = 32
"""Numbers that share a scale: 16 bits on 32 numbers cost half a bit each."""
_QUADRUPLE = 4
_CODEWORDS = 256


@dataclass(frozen=True, eq=False)
class QuantisedRows:
    """Vectors as they are stored. `codes` [E, …] uint8; `table`: scales [E, K] float16, or codewords [d/4, 256, 4] float32."""

    codes: Tensor
    table: Tensor
    width: int
    bits: int

    @property
    def bytes(self) -> int:
        """What codes and table take."""
        return self.codes.numel() + self.table.numel() * self.table.element_size()

    def rows(self, index_R: Tensor | None = None) -> Tensor:
        """The vectors [R, d] in float32, all of them or some."""
        codes = self.codes if index_R is None else self.codes[index_R]
        if self.bits == 2:
            places = torch.arange(len(self.table))
            return self.table[places, codes.long()].flatten(1)[:, : self.width]
        if self.bits == 4:
            codes = torch.stack([codes & 15, codes >> 4], dim=2).flatten(1)
        scale = self.table if index_R is None else self.table[index_R]
        levels = codes.float() - 2 ** (self.bits - 1)
        grouped = levels.unflatten(1, (-1, GROUP)) * scale.float()[:, :, None]
        return grouped.flatten(1)[:, : self.width]


def quantise_rows(weight_Ed: Tensor, bits: int) -> QuantisedRows:
    """Round vectors [E, d] to 8, 4 or 2 bits a number; raises ValueError for other numbers of bits."""
    if bits == 2:
        return _product_quantised(weight_Ed)
    if bits not in (8, 4):
        raise ValueError(f"{bits} bits: class vectors are stored in 32, 8, 4 or 2")
    width = weight_Ed.shape[1]
    grouped = _widened(weight_Ed, GROUP).unflatten(1, (-1, GROUP))
    highest = 2 ** (bits - 1) - 1
    scale = (grouped.abs().amax(2) / highest).clamp(min=1e-7).half()
    levels = (grouped / scale.float()[:, :, None]).round().clamp(-highest - 1, highest).flatten(1) + highest + 1
    codes = levels.to(torch.uint8)
    if bits == 4:
        codes = codes[:, 0::2] | (codes[:, 1::2] << 4)
    return QuantisedRows(codes, scale, width, bits)


def _product_quantised(weight_Ed: Tensor) -> QuantisedRows:
    places = _widened(weight_Ed, _QUADRUPLE).unflatten(1, (-1, _QUADRUPLE)).numpy()
    words = min(_CODEWORDS, len(weight_Ed))
    codes = np.empty(places.shape[:2], dtype=np.uint8)
    table = np.zeros((places.shape[1], _CODEWORDS, _QUADRUPLE), dtype=np.float32)
    for place in range(places.shape[1]):
        points = np.ascontiguousarray(places[:, place])
        codes[:, place] = similar_groups(points, words, seed=place)
        present, starts, counts = np.unique(np.sort(codes[:, place]), return_index=True, return_counts=True)
        order = np.argsort(codes[:, place], kind="stable")
        table[place, present] = np.add.reduceat(points[order], starts) / counts[:, None]
    return QuantisedRows(torch.from_numpy(codes), torch.from_numpy(table), weight_Ed.shape[1], 2)


def _widened(weight_Ed: Tensor, multiple: int) -> Tensor:
    return torch.nn.functional.pad(weight_Ed.float(), (0, -weight_Ed.shape[1] % multiple))
