from __future__ import annotations

import numpy as np

from taxakey.report.coastlines import coastlines


def test_windows_hold_the_coasts_that_pass_through_them() -> None:
    assert coastlines(-100, -90, 40, 45) == []  # the middle of North America
    crete = np.concatenate(coastlines(23, 27, 34.5, 36))
    assert crete[:, 0].min() < 24
    assert crete[:, 0].max() > 26
    assert np.abs(np.concatenate(coastlines(-180, 180, -90, 90))).max(axis=0).tolist() <= [180.0, 90.0]


def test_lines_go_one_point_beyond_the_window_and_never_across_it() -> None:
    for line in coastlines(-12, 3, 49, 61):
        inside = (line[:, 0] >= -12) & (line[:, 0] <= 3) & (line[:, 1] >= 49) & (line[:, 1] <= 61)
        assert inside[1:-1].all() or len(line) == 2
        assert np.abs(np.diff(line, axis=0)).max() < 5
