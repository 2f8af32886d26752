"""Authors compared: pairs from WCVP and the IUCN list, and that the comparison has no direction."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

import taxakey.records.naming.authorship
from taxakey.records.naming.authorship import compare_authors

SAME = [
    ("T.Tang &amp; F.T.Wang", "Tang & F.T.Wang"), ("(Boit.) Boit.", "(Boiteau) Boiteau"), ("Whitm.", "Whitmore"),
    ("(Muell.Arg.) Radlk.", "(Müll.Arg.) Radlk."), ("Krassn.", "Krasn."), ("Rchb.", "Reichenbach"), ("Linnaeus", "L."),
    ("Hook. f.", "Hook.f."), ("Tomm. ex Freyn", "Freyn"), ("Tomm. ex Freyn", "Tomm."), ("Foo in Bar", "Foo"),
    ("Mill.", "Miller, 1768"),
    ("(Linnaeus, 1758)", "Linnaeus, 1758"), ("(Welw.) Pellegr.", "(Welw. ex C.DC.) Pellegr."),
    ("A.Smith, B.Lee & Kim", "A.Smith & al."),
    ("Aubr�v. &amp; Pellegr.", "Aubrév. & Pellegr."), ("(Weihler) L.E.Skog", "(Wiehler) L.E.Skog"), ("de Candolle", "DC."),
    ("Waldst. et Kit.", "Waldst. & Kit."), ("(L.) Mill.", "Mill."),
]  # fmt: skip
OTHERS = [
    ("L.", "Labill."), ("Hook.", "Hook.f."), ("D.Don", "G.Don"), ("(L.) Mill.", "(DC.) Mill."),
    ("(Baker) Christ", "(Hill.) Christ"),
    ("Smith, 1900", "Smith, 1950"), ("Roxb.", "Poir."), ("Schinz", "Abedin"), ("(O.Berg) Nied.", "Cambess."),
]  # fmt: skip
NAMES = st.sampled_from(sorted({name for pair in SAME + OTHERS for name in pair}))


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_people(one: str, other: str) -> None:
    assert compare_authors(one, other) in ("equal", "compatible")


@pytest.mark.parametrize(("one", "other"), OTHERS)
def test_other_people(one: str, other: str) -> None:
    assert compare_authors(one, other) == "differs"


@pytest.mark.parametrize(("one", "other"), [(None, "L."), ("L.", None), (None, None), ("", "L."), ("hort.", "L.")])
def test_nobody_decides_nothing(one: str | None, other: str | None) -> None:
    assert compare_authors(one, other) == "unknown"


@given(NAMES | st.text(max_size=30), NAMES | st.text(max_size=30))
def test_the_comparison_has_no_direction(one: str, other: str) -> None:
    assert compare_authors(one, other) == compare_authors(other, one)


@given(NAMES)
def test_everyone_is_themselves(name: str) -> None:
    assert compare_authors(name, name) == "equal"
    assert compare_authors(name, name.replace(" & ", " et ")) == "equal"


def test_examples_in_the_docstrings() -> None:
    assert doctest.testmod(taxakey.records.naming.authorship).failed == 0
