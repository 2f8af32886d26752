"""Trees and the distances between genera, by hand and by climbing from leaf to leaf."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxakey.errors import BadInput
from taxakey.records.phylogeny import APART, parse_newick, rank_distances, read_newick, tree_distances


def matrix(text: str, genera: list[str]) -> np.ndarray:
    return np.stack(list(tree_distances(parse_newick(text), genera)))


def test_distances_worked_out_by_hand() -> None:
    #        ,-- 1 -- Acer
    #   ,-2--+-- 3 -- Bellis
    # --+-- 4 -- Carex
    text = "((Acer:1,Bellis:3)clade:2,Carex:4)root:9;"
    expected = [[0, 4, 7], [4, 0, 9], [7, 9, 0]]
    assert matrix(text, ["Acer", "Bellis", "Carex"]).tolist() == expected
    assert matrix(text, ["Carex", "Acer"]).tolist() == [[0, 7], [7, 0]]


def test_species_of_a_genus_are_averaged() -> None:
    # Quercus: robur at 1 + 1 from the root, rubra at 3; Fagus at 2. Ways 2 + 2 = 4 and 3 + 2 = 5, mean 4.5.
    text = "((Quercus_robur:1):1,'Quercus rubra':3,Fagus_sylvatica:2);"
    assert matrix(text, ["Fagus", "Quercus"]).tolist() == [[0, 4.5], [4.5, 0]]


def test_a_genus_outside_the_tree_has_no_distance() -> None:
    found = matrix("(Acer:1,Bellis:1);", ["Acer", "Zea", "Bellis"])
    assert np.isnan(found[1]).all()
    assert np.isnan(found[:, 1]).all()
    assert (found[0, 2], found[0, 0]) == (2, 0)


def test_without_lengths_branches_are_counted() -> None:
    assert matrix("((A,B),C);", ["A", "B", "C"]).tolist() == [[0, 2, 3], [2, 0, 3], [3, 3, 0]]


@st.composite
def newicks(draw: st.DrawFn) -> tuple[str, dict[str, list[tuple[int, int]]]]:
    """A random tree, and for each leaf its way to the root as (node, length)."""
    counter = iter(range(10_000))
    ways: dict[str, list[tuple[int, int]]] = {}

    def node(way: list[tuple[int, int]], depth: int) -> str:
        length = draw(st.integers(0, 9))
        way = [*way, (next(counter), length)]
        if depth == 0 or draw(st.booleans()):
            name = f"G{len(ways) % 7} s{len(ways)}"
            ways[name] = way
            return f"{name.replace(' ', '_')}:{length}"
        return f"({','.join(node(way, depth - 1) for _ in range(draw(st.integers(1, 3))))})[a comment]:{length}"

    return f"({node([], 4)},{node([], 4)});", ways


@given(newicks())
def test_against_climbing_from_each_leaf(made: tuple[str, dict[str, list[tuple[int, int]]]]) -> None:
    text, ways = made
    genera = sorted({name.split()[0] for name in ways})
    found = matrix(text, genera)
    for row, first in enumerate(genera):
        for column, second in enumerate(genera):
            lengths = [
                sum(length for _, length in {*ways[one]} ^ {*ways[other]})
                for one in ways if one.split()[0] == first for other in ways if other.split()[0] == second
            ]  # fmt: skip
            assert found[row, column] == pytest.approx(0 if row == column else np.mean(lengths))


def test_a_tree_of_very_many_levels_and_leaves() -> None:
    levels = 20_000
    text = "(" * levels + "A:1" + "".join(f",B{n}:1):1" for n in range(levels)) + ";"
    assert matrix(text, ["A", "B0", f"B{levels - 1}"])[0].tolist() == [0, 2, levels + 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cut off"),
        ("(A:1,B:2)", "cut off"),
        ("((A:1,B:2);", "before all brackets"),
        ("(A:1,B:2));", "outside of all brackets"),
        ("(A:1,,B:2);", "without a name"),
        ("(A:1,B:2):1;(C:1,D:1);", "one tree is expected"),
        ("(A:1,B:x);", "'x' isn't a number"),
        ("(A:1,B:-2);", "isn't a number from 0 on"),
        ("(A:1,B:nan);", "isn't a number from 0 on"),
        ("(A:1,B);", "1 of 2 branches have no length"),
        ("(A:1,A:2);", "a second leaf 'A'"),
        ("(A:1,\n B:2 C);", "line 2, column 6"),
        ("(A:1,'B:2);", "never closed"),
        ("(A:1,[B:2);", "never closed"),
        ("A:1,B:2;", "outside of all brackets"),
        ("(A:1:2,B:1);", "a length without a node"),
        ("(A:1,B:2)(C:1);", "where ',' or ')'"),
    ],
)
def test_what_is_no_tree_says_where(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "tree.nwk").write_text(text)
    with pytest.raises(BadInput) as caught:
        read_newick(tmp_path / "tree.nwk")
    assert words in str(caught.value)
    assert "tree.nwk" in str(caught.value)


def test_ranks_by_hand() -> None:
    parents = {
        "family": ["Fagaceae", "Fagaceae", "Betulaceae", "Pinaceae", None],
        "order": ["Fagales", "Fagales", "Fagales", "Pinales", None],
        "class": ["M", "M", "M", "P", None],
        "phylum": ["T", "T", "T", "T", None],
        "kingdom": ["Plantae", "Plantae", "Plantae", "Plantae", None],
    }
    found = np.stack(list(rank_distances(parents, 5)))
    assert found[0].tolist() == [0, 1, 2, 4, APART]
    assert found[4].tolist() == [APART] * 4 + [0]
    assert (found == found.T).all()
