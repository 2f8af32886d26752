"""Class vectors in few bits."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from taxakey.models.quantised import GROUP, quantise_rows


@pytest.mark.parametrize(("bits", "error"), [(8, 1 / 254), (4, 1 / 14)])
@pytest.mark.parametrize("width", [8, 32, 100])
def test_every_number_is_off_by_half_a_level_at_most(bits: int, error: float, width: int) -> None:
    weight_Ed = torch.randn(50, width, generator=torch.Generator().manual_seed(width)) * 3
    stored = quantise_rows(weight_Ed, bits)
    padded = torch.nn.functional.pad(weight_Ed, (0, -width % GROUP)).unflatten(1, (-1, GROUP))
    allowed = (padded.abs().amax(2, keepdim=True) * error * 1.01).expand_as(padded).flatten(1)[:, :width]
    assert ((stored.rows() - weight_Ed).abs() <= allowed + 1e-6).all()
    assert_close(stored.rows(torch.tensor([7, 3])), stored.rows()[[7, 3]], rtol=0, atol=0)


@pytest.mark.parametrize(("bits", "expected"), [(8, 64 + 4), (4, 32 + 4)])
def test_bytes_are_those_of_codes_and_scales(bits: int, expected: int) -> None:
    assert quantise_rows(torch.randn(10, 64), bits).bytes == 10 * expected


def test_few_different_quadruples_are_kept_exactly() -> None:
    typical = torch.randn(20, 4)
    weight_Ed = torch.cat([typical[torch.randint(20, (300,))], typical[torch.randint(20, (300,))]], dim=1)
    stored = quantise_rows(weight_Ed, 2)
    assert stored.codes.shape == (300, 2)
    assert ((stored.rows() - weight_Ed).abs().amax(1) < 1e-5).float().mean() > 0.95  # k-means may merge a pair


def test_other_numbers_of_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="32, 8, 4 or 2"):
        quantise_rows(torch.zeros(2, 4), 3)
