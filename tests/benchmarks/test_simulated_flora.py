"""The simulated flora of the benchmarks: the same at every call, of the sizes asked, with the variances asked."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from loaded import load

sf = load("simulated_flora")
SMALL = sf.FloraOptions(species=300, features=24, seed=3)


@pytest.fixture(scope="module")
def flora():
    return sf.build(SMALL)


def test_two_floras_of_one_seed_are_equal_and_another_seed_is_another_flora(flora):
    again, other = sf.build(SMALL), sf.build(replace(SMALL, seed=4))
    for part in sf.PARTS:
        np.testing.assert_array_equal(again.vectors(part), flora.vectors(part))
        np.testing.assert_array_equal(again.labels(part), flora.labels(part))
    assert again.taxonomy().names == flora.taxonomy().names != other.taxonomy().names
    assert not np.array_equal(other.labels("train"), flora.labels("train"))


def test_parts_share_no_vector(flora):
    seen = np.concatenate([flora.vectors(part)[:, 0] for part in sf.PARTS])
    assert len(np.unique(seen)) > 0.999 * len(seen)


def test_every_part_holds_as_many_vectors_of_each_species_as_said(flora):
    np.testing.assert_array_equal(np.bincount(flora.labels("train")), flora.counts_C)
    np.testing.assert_array_equal(np.bincount(flora.labels("validation")), np.full(300, 2))
    np.testing.assert_array_equal(np.bincount(flora.labels("test")), np.full(300, 5))
    assert flora.vectors("test").shape == (1500, 24)
    assert flora.vectors("test").dtype == np.float32


def test_blocks_are_the_vectors_cut_and_training_means_are_theirs(monkeypatch):
    monkeypatch.setattr(sf, "BLOCK", 1000)
    flora = sf.build(SMALL)
    vectors_ND, labels_N = flora.vectors("train"), flora.labels("train")
    pieces = list(flora.blocks("train"))
    assert [len(vectors_BD) for vectors_BD, _ in pieces[:-1]] == [1000] * (len(pieces) - 1)
    np.testing.assert_array_equal(np.concatenate([vectors_BD for vectors_BD, _ in pieces]), vectors_ND)
    assert all(not np.array_equal(one[:100], two[:100]) for (one, _), (two, _) in pairwise(pieces))
    by_hand = np.stack([vectors_ND[labels_N == c].mean(0) for c in range(300)])
    np.testing.assert_allclose(flora.training_means(), by_hand, atol=1e-5)


def test_training_counts_have_the_tail_asked(flora):
    assert (flora.counts_C.min(), flora.counts_C.max()) == (5, 99)  # even quantiles of 300 stop short of 100
    assert sf.build(replace(SMALL, species=8000)).counts_C.mean() == pytest.approx(25, abs=0.5)
    # a = 1 makes the logarithm of the count uniform: the median is the geometric mean of the ends.
    assert np.median(sf.build(replace(SMALL, tail=1.0)).counts_C) == pytest.approx(np.sqrt(500), abs=1)


def test_even_sizes_are_those_of_the_sketch():
    flora = sf.build(sf.FloraOptions(features=2))
    np.testing.assert_array_equal(np.bincount(flora.genus_C), np.full(800, 10))
    np.testing.assert_array_equal(np.bincount(flora.family_C), np.full(80, 100))


def test_uneven_sizes_have_many_small_genera_and_few_large_ones():
    flora = sf.build(sf.FloraOptions(features=2, sizes="uneven"))
    sizes_G = np.bincount(flora.genus_C)
    assert len(sizes_G) == 800
    assert sizes_G.min() == 1
    assert np.mean(sizes_G == 1) > 0.2
    assert 350 < sizes_G.max() < 600
    assert len(np.bincount(flora.family_C)) == 80


@pytest.mark.parametrize("sizes", ["even", "uneven"])
def test_taxonomy_names_the_same_genera_and_families_in_class_order(sizes):
    flora = sf.build(replace(SMALL, sizes=sizes))
    taxonomy = flora.taxonomy()
    assert len(taxonomy) == 300
    np.testing.assert_array_equal(taxonomy.codes("genus"), flora.genus_C)
    np.testing.assert_array_equal(taxonomy.codes("family"), flora.family_C)


def test_class_order_carries_no_taxonomy():
    # Of 7,999 neighbours in class order about 9 in 7,999 share the genus by chance, and 99 the family.
    flora = sf.build(sf.FloraOptions(features=2))
    assert np.sum(np.diff(flora.genus_C) == 0) < 30
    assert 50 < np.sum(np.diff(flora.family_C) == 0) < 160
    assert abs(np.corrcoef(np.arange(8000), flora.family_C)[0, 1]) < 0.05
    assert abs(np.corrcoef(flora.counts_C, flora.family_C)[0, 1]) < 0.05


def _within(values_ND, groups_N):
    """Unbiased variance within groups, mean over features, and the means of the groups."""
    count_G = np.bincount(groups_N)
    means_GD = np.stack([values_ND[groups_N == group].mean(0) for group in range(len(count_G))])
    return ((values_ND - means_GD[groups_N]) ** 2).sum(0).mean() / (len(values_ND) - len(count_G)), means_GD


def test_nested_variances_come_out_as_asked():
    spreads = {"family_spread": 1.5, "genus_spread": 0.7, "species_spread": 0.4, "image_spread": 2.0}
    flora = sf.build(replace(SMALL, species=8000, features=16, **spreads))
    image_variance = np.mean((flora.vectors("test") - flora.means_CD[flora.labels("test")]) ** 2)
    species_variance, means_GD = _within(flora.means_CD.astype(np.float64), flora.genus_C)
    family_G = np.arange(800) // 10
    genus_variance, means_FD = _within(means_GD, family_G)  # holds a tenth of the species' variance too
    assert np.sqrt(image_variance) == pytest.approx(2.0, rel=0.02)
    assert np.sqrt(species_variance) == pytest.approx(0.4, rel=0.02)
    assert np.sqrt(genus_variance - species_variance / 10) == pytest.approx(0.7, rel=0.05)
    assert np.sqrt((means_FD**2).mean() - genus_variance / 10) == pytest.approx(1.5, rel=0.15)


def test_directions_have_the_spectra_asked_and_no_axis_is_special():
    flora = sf.build(replace(SMALL, decay_within=1.0))
    np.testing.assert_allclose(flora.rotation_DD @ flora.rotation_DD.T, np.eye(24), atol=1e-5)
    noise_ND = flora.vectors("train") - flora.means_CD[flora.labels("train")]
    measured_D = (noise_ND @ flora.rotation_DD.T).var(0)
    np.testing.assert_allclose(measured_D, flora.within_D, rtol=0.1)
    assert flora.within_D[0] / flora.within_D[-1] == pytest.approx(24)
    assert noise_ND.var(0).max() < 0.6 * measured_D.max()


def test_known_means_rank_like_a_slow_loop_of_distances(flora):
    vectors_ND, labels_N = flora.vectors("test")[:200], flora.labels("test")[:200]
    axes_Dd = flora.rotation_DD[:10].T / np.sqrt(flora.within_D[:10])
    nearest_N = np.array([np.argmin((((vector_D - flora.means_CD) @ axes_Dd) ** 2).sum(1)) for vector_D in vectors_ND])
    by_class = [np.mean(nearest_N[labels_N == c] == c) for c in np.unique(labels_N)]
    assert sf.bayes_scores(flora, 10, vectors=200).top_1 == pytest.approx(np.mean(by_class))


def test_learnt_means_rank_like_the_posterior_of_each_species(flora):
    from scipy.stats import norm

    vectors_ND, labels_N = flora.vectors("test")[:100], flora.labels("test")[:100]
    turned_CD = flora.training_means() @ flora.rotation_DD.T
    weight_CD = flora.between_D / (flora.between_D + flora.within_D / flora.counts_C[:, None])
    spread_CD = np.sqrt(flora.within_D + weight_CD * flora.within_D / flora.counts_C[:, None])
    density_NC = norm.logpdf((vectors_ND @ flora.rotation_DD.T)[:, None], turned_CD * weight_CD, spread_CD).sum(2)
    by_class = [np.mean(density_NC[labels_N == c].argmax(1) == c) for c in np.unique(labels_N)]
    assert sf.learnt_scores(flora, 24, vectors=100).top_1 == pytest.approx(np.mean(by_class))


def test_more_width_and_more_knowledge_never_hurt(flora):
    narrow, wide = sf.bayes_accuracy(flora, 6), sf.bayes_accuracy(flora, 24)
    assert 0.02 < narrow < wide
    assert sf.learnt_scores(flora, 24).top_1 < wide
    with pytest.raises(ValueError, match="width is 25"):
        sf.bayes_accuracy(flora, 25)


def test_saved_files_can_be_memory_mapped(flora, tmp_path):
    flora.save(tmp_path, dtype="float16")
    stored_ND = np.load(tmp_path / "test_vectors.npy", mmap_mode="r")
    assert stored_ND.dtype == np.float16
    np.testing.assert_allclose(stored_ND, flora.vectors("test"), atol=5e-3)
    np.testing.assert_array_equal(np.load(tmp_path / "train_labels.npy"), flora.labels("train"))
    assert sf.Taxonomy.read(tmp_path / "taxonomy.parquet").names == flora.taxonomy().names


def test_the_table_names_what_was_drawn(flora):
    table = sf.facts(flora, widths=(8, 32), vectors=300)
    assert "300 species, 30 genera, 3 families" in table
    assert table.splitlines()[-1].split()[:2] == ["24", "100.0%"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": "odd"}, "even, uneven"),
        ({"species": 0}, "species is 0"),
        ({"image_spread": 0.0}, "above 0"),
        ({"most": 4}, "below fewest"),
    ],
)
def test_impossible_options_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)
