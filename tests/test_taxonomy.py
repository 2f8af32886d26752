"""Classes, their order and fingerprint, and sums of probabilities over ranks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxakey.artifacts import write_parquet
from taxakey.errors import BadInput, MissingArtifact, TaxonomyMismatch
from taxakey.taxonomy import Taxonomy


def flora(parents: list[tuple[int, int]]) -> Taxonomy:
    """Species with the numbers of their genus and family, -1 unknown. A genus decides on its family; genus 5 has none."""
    rows = []
    for species, (genus, family) in enumerate(parents):
        number = family if genus < 0 else -1 if genus == 5 else genus % 3
        name = f"F{number}" if number >= 0 else ""
        rows.append({"scientificName": f"S{species:02d}", "genus": f"G{genus}" if genus >= 0 else None, "family": name})
    return Taxonomy.from_rows(rows)


floras = st.lists(st.tuples(st.integers(-1, 5), st.integers(-1, 2)), min_size=1, max_size=20).map(flora)


@given(floras, st.sampled_from(["species", "genus", "family", "order"]), st.integers(0, 1000))
def test_a_taxon_is_as_probable_as_its_species_together(taxonomy: Taxonomy, rank: str, seed: int) -> None:
    probabilities_OC = np.random.default_rng(seed).dirichlet(np.ones(len(taxonomy)), 3)
    sums_OG = taxonomy.sum_over(rank, probabilities_OC)
    names = taxonomy.column("scientificName" if rank == "species" else rank)
    expected = [
        [sum(row[c] for c, name in enumerate(names) if name == taxon) for taxon in taxonomy.taxa(rank)]
        for row in probabilities_OC
    ]
    assert sums_OG.shape == (3, len(taxonomy.taxa(rank)))
    assert np.allclose(sums_OG, np.array(expected).reshape(sums_OG.shape), atol=1e-12)
    known = np.array([bool(name) for name in names])
    assert np.allclose(sums_OG.sum(1), probabilities_OC[:, known].sum(1))


@given(floras, st.integers(0, 1000))
def test_a_family_is_as_probable_as_its_genera_together(taxonomy: Taxonomy, seed: int) -> None:
    probabilities_OC = np.random.default_rng(seed).dirichlet(np.ones(len(taxonomy)), 2)
    genera, families = taxonomy.sum_over("genus", probabilities_OC), taxonomy.sum_over("family", probabilities_OC)
    family_of = dict(zip(taxonomy.column("genus"), taxonomy.column("family"), strict=True))
    for number, family in enumerate(taxonomy.taxa("family")):
        inside = [genus for genus, name in enumerate(taxonomy.taxa("genus")) if family_of[name] == family]
        without_genus = [
            c for c in range(len(taxonomy)) if not taxonomy.column("genus")[c] and taxonomy.column("family")[c] == family
        ]
        assert np.allclose(families[:, number], genera[:, inside].sum(1) + probabilities_OC[:, without_genus].sum(1))


@given(st.permutations(range(5)))
def test_the_order_of_rows_changes_nothing(order: list[int]) -> None:
    rows = [{"scientificName": name, "genus": name[0]} for name in ("Ab", "Ac", "Ba", "Bb", "Ca")]
    assert Taxonomy.from_rows([rows[place] for place in order]).table == Taxonomy.from_rows(rows).table


def test_the_fingerprint_knows_names_and_nothing_else() -> None:
    first = Taxonomy.from_rows([{"scientificName": "Abies alba"}, {"scientificName": "Picea abies"}])
    assert (
        first.fingerprint
        == Taxonomy.from_rows(
            [{"scientificName": "Picea abies", "family": "Pinaceae"}, {"scientificName": "Abies alba"}]
        ).fingerprint
    )
    assert (
        first.fingerprint != Taxonomy.from_rows([{"scientificName": "Abies alba"}, {"scientificName": "Picea abie"}]).fingerprint
    )
    # A name can't run over into the next one.
    assert (
        Taxonomy.from_rows([{"scientificName": "ab"}, {"scientificName": "c"}]).fingerprint
        != Taxonomy.from_rows([{"scientificName": "a"}, {"scientificName": "bc"}]).fingerprint
    )


def test_a_mismatch_names_both_artifacts_and_both_lists() -> None:
    mine, theirs = Taxonomy.from_rows([{"scientificName": "Abies alba"}]), Taxonomy.from_rows([{"scientificName": "Picea abies"}])
    mine.require_same(mine.fingerprint, mine="here", theirs="there")
    with pytest.raises(TaxonomyMismatch) as caught:
        mine.require_same(theirs.fingerprint, mine="runs/alps", theirs="predictions/jura")
    for part in ("runs/alps", "predictions/jura", mine.fingerprint, theirs.fingerprint):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "at least one class"),
        ([{"scientificName": " "}], "empty scientificName"),
        ([{"scientificName": "A b"}, {"scientificName": "A b"}], "'A b' stands twice"),
        (
            [{"scientificName": "A b", "genus": "A", "family": "X"}, {"scientificName": "A c", "genus": "A", "family": "Y"}],
            "'A' stands in two families, 'X' and 'Y'",
        ),
    ],
)
def test_bad_classes_are_refused(rows: list[dict[str, str]], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Taxonomy.from_rows(rows)


def test_names_are_found_at_each_rank() -> None:
    taxonomy = Taxonomy.from_rows(
        [
            {"scientificName": "B b", "genus": "B", "family": "X"},
            {"scientificName": "A a", "genus": "A", "family": "X"},
            {"scientificName": "C c"},
        ]
    )
    assert taxonomy.names == ("A a", "B b", "C c")
    assert taxonomy.index_of(["B b", None, "", "Z z"]).tolist() == [1, -1, -1, -1]
    assert taxonomy.index_of(["B", "A", "X"], "genus").tolist() == [1, 0, -1]
    assert taxonomy.codes("family").tolist() == [0, 0, -1]
    with pytest.raises(BadInput, match="unknown rank 'tribe'"):
        taxonomy.taxa("tribe")


def test_poisonous_is_known_only_where_somebody_said_so() -> None:
    assert Taxonomy.from_rows([{"scientificName": "A a"}]).poisonous() is None
    mask = Taxonomy.from_rows(
        [{"scientificName": "A a"}, {"scientificName": "B b", "poisonous": True}, {"scientificName": "C c", "poisonous": False}]
    ).poisonous()
    assert mask is not None
    assert mask.tolist() == [False, True, False]


def test_a_file_is_read_as_it_was_written(tmp_path) -> None:
    taxonomy = flora([(0, 0), (1, 1), (-1, -1)])
    write_parquet(tmp_path / "taxonomy.parquet", taxonomy.table)
    assert Taxonomy.read(tmp_path / "taxonomy.parquet").table == taxonomy.table


def test_bad_files_are_named(tmp_path) -> None:
    file = tmp_path / "taxonomy.parquet"
    with pytest.raises(MissingArtifact, match=r"taxonomy\.parquet"):
        Taxonomy.read(file)
    taxonomy = flora([(0, 0), (1, 1)])
    write_parquet(file, taxonomy.table.drop_columns(["genus"]))
    with pytest.raises(BadInput, match=r"taxonomy.parquet: lacks the columns genus"):
        Taxonomy.read(file)
    write_parquet(file, taxonomy.table.take([1, 0]))
    with pytest.raises(BadInput, match="aren't sorted"):
        Taxonomy.read(file)
