"""Distances of errors and sums over taxa: trees and ranks of records, slow loops, dense sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxakey.errors import BadInput
from taxakey.metrics.taxonomic import ancestor_height, genus_distance, mean_taxonomic_distance, taxon_sums
from taxakey.predictions import top_k
from taxakey.records.phylogeny import parse_newick, rank_distances, tree_distances


def test_distances_from_a_tree_and_from_ranks() -> None:
    genera = ["Acer", "Fagus", "Quercus", "Zea"]
    tree = parse_newick("((Fagus:1,Quercus:2):3,Acer:4);")
    true_O, predicted_O = np.array([1, 0, 2, 2, 3, -1]), np.array([2, 2, 2, 0, 1, 0])
    distance_O = genus_distance(true_O, predicted_O, tree_distances(tree, genera))
    assert np.array_equal(distance_O, [3, 9, 0, 9, np.nan, np.nan], equal_nan=True)
    wrong_O = np.array([True, True, False, True, True, True])
    assert mean_taxonomic_distance(distance_O, wrong_O) == 7
    parents = {
        "family": ["Sapindaceae", "Fagaceae", "Fagaceae", "Poaceae"],
        "order": ["Sapindales", "Fagales", "Fagales", "Poales"],
        "class": ["Magnoliopsida", "Magnoliopsida", "Magnoliopsida", "Liliopsida"],
        "phylum": ["Tracheophyta"] * 4,
        "kingdom": ["Plantae"] * 4,
    }
    by_rank_O = genus_distance(true_O, predicted_O, rank_distances(parents, 4))
    assert np.array_equal(by_rank_O, [1, 3, 0, 3, 4, np.nan], equal_nan=True)


@given(st.integers(0, 9999), st.integers(1, 6))
def test_distances_are_those_of_a_slow_loop(seed: int, genera: int) -> None:
    generator = np.random.default_rng(seed)
    table = generator.random((genera, genera))
    true_O, predicted_O = generator.integers(-1, genera, 20), generator.integers(-1, genera, 20)
    slow = [table[t, p] if t >= 0 and p >= 0 else np.nan for t, p in zip(true_O, predicted_O, strict=True)]
    assert np.array_equal(genus_distance(true_O, predicted_O, iter(table)), slow, equal_nan=True)


def test_a_mean_of_no_error_is_not_0() -> None:
    with pytest.raises(BadInput, match="no error"):
        mean_taxonomic_distance([0.0, np.nan], [False, True])
    with pytest.raises(BadInput, match="ends before genus number 1"):
        genus_distance([0, 1], [0, 0], [[0.0, 1.0]])


@given(st.integers(0, 9999))
def test_the_last_common_ancestor_is_that_of_a_slow_loop(seed: int) -> None:
    generator = np.random.default_rng(seed)
    codes_L = [generator.integers(-1, 4, 8), generator.integers(-1, 2, 8)]
    true_O, predicted_O = generator.integers(0, 8, 30), generator.integers(0, 8, 30)
    for true, predicted, height in zip(true_O, predicted_O, ancestor_height(true_O, predicted_O, codes_L), strict=True):
        lineages = [[label, *(codes[label] for codes in codes_L)] for label in (true, predicted)]
        shared = [above for above, (mine, theirs) in enumerate(zip(*lineages, strict=True)) if mine == theirs and mine >= 0]
        assert height == (shared[0] if shared else 3)


@given(st.integers(0, 9999), st.integers(1, 8))
def test_sums_of_stored_answers_are_dense_sums(seed: int, k: int) -> None:
    generator = np.random.default_rng(seed)
    codes_C = generator.integers(-1, 4, 8)
    probability_OC = generator.integers(1, 5, (6, 8)) / 64  # sums are exact, so ties are ties
    index_Ok = top_k(probability_OC, k)
    taxa_Ot, sums_Ot = taxon_sums(index_Ok, np.take_along_axis(probability_OC, index_Ok, axis=1), codes_C)
    assert taxa_Ot.shape == sums_Ot.shape == (6, k)
    two, their_sums = taxon_sums(index_Ok, np.take_along_axis(probability_OC, index_Ok, axis=1), codes_C, most=2)
    assert np.array_equal(two, taxa_Ot[:, :2])
    assert np.array_equal(their_sums, sums_Ot[:, :2])
    for row in range(6):
        dense: dict[int, float] = {}
        for taxon in index_Ok[row]:
            if codes_C[taxon] >= 0:
                dense[codes_C[taxon]] = dense.get(codes_C[taxon], 0) + probability_OC[row, taxon]
        held = taxa_Ot[row] >= 0
        expected = sorted(dense.items(), key=lambda item: (-item[1], item[0]))
        assert not held[len(expected) :].any()
        assert list(zip(taxa_Ot[row][held], sums_Ot[row][held], strict=True)) == expected
        assert not sums_Ot[row][~held].any()


def test_rows_without_a_known_taxon_or_without_answers() -> None:
    taxa_Ot, sums_Ot = taxon_sums(np.array([[0, 1]]), np.array([[0.5, 0.5]]), np.array([-1, -1]))
    assert (taxa_Ot.tolist(), sums_Ot.tolist()) == ([[-1, -1]], [[0.0, 0.0]])
    taxa_Ot, sums_Ot = taxon_sums(np.zeros((2, 0), dtype=int), np.zeros((2, 0)), np.array([0]))
    assert taxa_Ot.shape == sums_Ot.shape == (2, 0)
