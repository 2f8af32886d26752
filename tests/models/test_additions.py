"""Species added to a trained head: what stays, where they hang, whether they are recognised, what is refused."""

from __future__ import annotations

import math
from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from taxakey.errors import BadInput
from taxakey.models.additions import LENGTH, ODDS, REACH, add_classes, extended_taxonomy
from taxakey.models.head_options import build_head
from taxakey.models.heads import BottleneckHead, BottleneckOptions, Head, LinearHead, LinearOptions
from taxakey.models.hierarchies import Hierarchy
from taxakey.models.sampled import SampledOptions
from taxakey.models.trees import TreeHead, TreeOptions
from taxakey.taxonomy import Taxonomy

WIDTH = 24
FAMILY = {"Acer": "Sapindaceae", "Aesculus": "Sapindaceae", "Bellis": "Asteraceae", "Aster": "Asteraceae", "Quercus": "Fagaceae"}
OLD = [
    *(f"Acer {name}" for name in ("campestre", "opalus", "rubrum")),
    *(f"Bellis {name}" for name in ("annua", "perennis")),
    *(f"Aster {name}" for name in ("alpinus", "amellus", "tripolium")),
    *("Aesculus indica", "Quercus robur"),
]
NEW = ["Acer ginnala", "Aesculus glabra", "Bellis hybrida", "Quercus rubra", "Urtica dioica"]
"""A congener, one beside a genus' only species, another congener, one beside a family's only species, one without relatives."""
HEADS = {
    "linear": LinearOptions(dropout=0.5),
    "bottleneck": BottleneckOptions(width=12, activation="relu"),
    "tree, taxa": TreeOptions(width=12, nodes="taxa"),
    "tree, even": TreeOptions(width=None, slots=3),
    "tree, deep": TreeOptions(width=12, slots=(2, 3)),
}


def flora(names: list[str]) -> Taxonomy:
    genera = [name.split()[0] for name in names]
    return Taxonomy.from_rows(
        {"scientificName": name, "genus": genus, "family": FAMILY.get(genus, f"{genus}aceae")}
        for name, genus in zip(names, genera, strict=True)
    )


BEFORE, AFTER = flora(OLD), flora(OLD + NEW)


def centres() -> dict[str, Tensor]:
    """Where the photographs of each species lie: near their genus, which lies near its family."""
    generator = torch.Generator().manual_seed(1)
    draw: dict[str, Tensor] = {}

    def of(name: str) -> Tensor:
        return draw.setdefault(name, torch.randn(WIDTH, generator=generator))

    return {name: of(family) + of(genus) + of(name) for name, genus, family in _lineages(AFTER)}


def _lineages(taxonomy: Taxonomy) -> list[tuple[str, str, str]]:
    return list(zip(taxonomy.names, taxonomy.column("genus"), taxonomy.column("family"), strict=True))


def photographs(taxonomy: Taxonomy, each: int, seed: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    labels_N = torch.arange(len(taxonomy)).repeat_interleave(each)
    where = centres()
    return torch.stack([where[taxonomy.names[label]] for label in labels_N]) + 0.4 * torch.randn(len(labels_N), WIDTH), labels_N


@cache
def trained(kind: str) -> Head:
    torch.manual_seed(0)
    head = build_head(HEADS[kind], WIDTH, BEFORE)
    vectors_ND, labels_N = photographs(BEFORE, 20, seed=2)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.02, weight_decay=0.1)
    for _ in range(60):
        decisions = head.decisions(vectors_ND, labels_N)
        loss = torch.stack([torch.nn.functional.cross_entropy(one.logits, one.labels) for one in decisions]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head.eval()


def examples(names: list[str] = NEW, each: int = 5, seed: int = 3) -> dict[str, Tensor]:
    vectors_ND, labels_N = photographs(AFTER, each, seed)
    return {name: vectors_ND[labels_N == AFTER.names.index(name)] for name in names}


@pytest.fixture(scope="module", params=list(HEADS))
def heads(request: pytest.FixtureRequest) -> tuple[Head, Head]:
    """A trained head, and the one with the new species."""
    before = trained(request.param)
    return before, add_classes(before, BEFORE, AFTER, examples())


def log_prob(head: Head, taxonomy: Taxonomy, names: list[str]) -> Tensor:
    vectors_ND, _ = photographs(AFTER, 3, seed=5)
    with torch.no_grad():
        return head.log_prob_all(vectors_ND)[:, [taxonomy.names.index(name) for name in names]]


def node_of(head: Head, taxonomy: Taxonomy, name: str) -> int:
    assert isinstance(head, TreeHead)
    return int(head.hierarchy.source_E[head.hierarchy.leaf_edge_C[taxonomy.names.index(name)]])


def edges_of(head: Head) -> tuple[Tensor, Tensor]:
    if isinstance(head, TreeHead):
        return torch.cat([head.top_weight_Td, head.lower_weight_Ed]), torch.cat([head.top_bias_T, head.lower_bias_E])
    assert isinstance(head, LinearHead | BottleneckHead)
    return head.linear.weight, head.linear.bias


def edge_of(head: Head, taxonomy: Taxonomy, name: str) -> int:
    place = taxonomy.names.index(name)
    return int(head.hierarchy.leaf_edge_C[place]) if isinstance(head, TreeHead) else place


# ---- what stays ----


def test_old_weights_stay_bit_by_bit_under_their_names(heads: tuple[Head, Head]) -> None:
    before, after = heads
    (weight, bias), (weight_after, bias_after) = edges_of(before), edges_of(after)
    for name in OLD:
        edge, edge_after = edge_of(before, BEFORE, name), edge_of(after, AFTER, name)
        assert torch.equal(weight[edge], weight_after[edge_after])
        assert torch.equal(bias[edge], bias_after[edge_after])
    bottleneck = {key: value for key, value in before.state_dict().items() if key.startswith("bottleneck")}
    assert all(torch.equal(value, after.state_dict()[key]) for key, value in bottleneck.items())
    assert type(after) is type(before)
    assert after.classes == len(AFTER)
    assert after.training == before.training


def test_a_tree_keeps_its_nodes_and_its_inner_edges() -> None:
    for kind in ("tree, taxa", "tree, even", "tree, deep"):
        before = trained(kind)
        after = add_classes(before, BEFORE, AFTER, examples())
        assert isinstance(before, TreeHead)
        assert isinstance(after, TreeHead)
        assert after.hierarchy.nodes == before.hierarchy.nodes
        assert after.hierarchy.edges == before.hierarchy.edges + len(NEW)
        (weight, _), (weight_after, _) = edges_of(before), edges_of(after)
        above, above_after = before.hierarchy.parent_edge_N[1:], after.hierarchy.parent_edge_N[1:]
        assert torch.equal(weight[above], weight_after[above_after])
        assert np.array_equal(before.hierarchy.source_E[above], after.hierarchy.source_E[above_after])


def test_old_classes_keep_their_ratios_within_a_node_and_share_its_loss(heads: tuple[Head, Head]) -> None:
    before, after = heads
    change_NC = log_prob(after, AFTER, OLD) - log_prob(before, BEFORE, OLD)
    assert (change_NC < 1e-5).all()  # nobody gains
    nodes = [node_of(before, BEFORE, name) if isinstance(before, TreeHead) else 0 for name in OLD]
    for node in set(nodes):
        own_NM = change_NC[:, [place for place, other in enumerate(nodes) if other == node]]
        assert_close(own_NM, own_NM[:, :1].expand_as(own_NM), rtol=0, atol=2e-5)


def test_classes_in_other_nodes_dont_change() -> None:
    before = trained("tree, taxa")
    after = add_classes(before, BEFORE, flora([*OLD, "Acer ginnala"]), examples(["Acer ginnala"]))
    others = [name for name in OLD if not name.startswith("Acer")]
    change = log_prob(after, flora([*OLD, "Acer ginnala"]), others) - log_prob(before, BEFORE, others)
    assert change.abs().max() < 1e-5  # the last bits of a sum of floats depend on the shape of the matrix


def test_probabilities_sum_to_one(heads: tuple[Head, Head]) -> None:
    _, after = heads
    vectors_ND, _ = photographs(AFTER, 2, seed=4)
    total_N = after.log_prob_all(vectors_ND).exp().sum(1)
    assert_close(total_N, torch.ones_like(total_N), rtol=0, atol=1e-5)


def test_nothing_is_shared_with_the_old_head(heads: tuple[Head, Head]) -> None:
    before, after = heads
    storages = [{value.untyped_storage().data_ptr() for value in head.state_dict().values()} for head in (before, after)]
    assert not storages[0] & storages[1]
    assert len(storages[1]) == len(after.state_dict())  # nor among its own parameters, or it couldn't be saved
    assert all(parameter.requires_grad for parameter in after.parameters())


# ---- what comes ----


def test_new_species_are_recognised_and_old_ones_still_are(heads: tuple[Head, Head]) -> None:
    before, after = heads
    vectors_ND, labels_N = photographs(AFTER, 20, seed=6)
    is_new_N = torch.tensor([AFTER.names[label] in NEW for label in labels_N])
    with torch.no_grad():
        right_N = after(vectors_ND).argmax(1) == labels_N
        own_ND, own_N = photographs(BEFORE, 20, seed=6)
        right_before = (before(own_ND).argmax(1) == own_N).double().mean()
    assert right_N[is_new_N].double().mean() > 0.4  # of fifteen species
    assert right_N[~is_new_N].double().mean() > right_before - 0.1


@pytest.mark.parametrize("kind", list(HEADS))
def test_with_a_single_example_its_odds_against_its_siblings_there_are_within_bounds(kind: str) -> None:
    for name, vectors_MD in examples(each=1).items():
        extended = flora([*OLD, name])
        after = add_classes(trained(kind), BEFORE, extended, {name: vectors_MD})
        with torch.no_grad():
            decisions = after.decisions(vectors_MD, torch.tensor([extended.names.index(name)]))
        among = [one for one in decisions if one.logits.isfinite().sum() > 1][-1]  # a short path ends in choices among one
        share = float(among.logits.softmax(1)[0, among.labels[0]])
        assert ODDS[0] * 0.999 < share / (1 - share) < ODDS[1] * 1.001


@pytest.mark.parametrize(("at", "bounded"), [(1.0, False), (6.0, True)])
def test_weight_and_bias_as_worked_out_by_hand(at: float, bounded: bool) -> None:
    """Two old classes at ±1 on the first axis, 1 from their mean; nothing looks at the second axis, so it doesn't count."""
    head = LinearHead(2, 2)
    with torch.no_grad():
        head.linear.weight.copy_(torch.tensor([[1.0, 5.0], [-1.0, 5.0]]))
        head.linear.bias.copy_(torch.tensor([0.5, -0.5]))
    old, extended = flora(["Acer opalus", "Acer rubrum"]), flora(["Acer opalus", "Acer pictum", "Acer rubrum"])
    two = torch.tensor([[at - 0.5, 2.0], [at + 0.5, 12.0]])  # mean (at, 7), scatter 2·½²/1 = ½ along the first axis
    after = add_classes(head, old, extended, {"Acer pictum": two})
    assert isinstance(after, LinearHead)
    assert_close(after.linear.weight[1], torch.tensor([LENGTH, 5.0]))
    assert torch.equal(after.linear.weight[[0, 2]], head.linear.weight)
    logits = [at + 35 + 0.5, -at + 35 - 0.5]
    flattery = LENGTH * 0.5 / (2 * at)
    unseen = 35 + LENGTH * REACH * at - flattery
    if bounded:  # log Σ exp of 41.5 and 28.5 is far above 38.3
        unseen = math.log(ODDS[0]) + math.log(sum(math.exp(value) for value in logits))
    assert_close(after.linear.bias[1], torch.tensor(unseen + flattery - LENGTH * at - 35), rtol=0, atol=1e-4)


def test_what_tells_a_node_from_others_isnt_taken_for_a_difference_of_siblings() -> None:
    """Two nodes along the first axis, two classes in each along the second: the new weight lies along the second only."""
    head = TreeHead(3, Hierarchy.even(np.arange(4), 2), width=None)
    with torch.no_grad():
        head.top_weight_Td.copy_(torch.tensor([[2.0, 0, 0], [-2.0, 0, 0]]))
        head.lower_weight_Ed.copy_(torch.tensor([[0.0, 1, 0], [0, -1, 0], [0, 1, 0], [0, -1, 0]]))
    names = ["Acer a", "Acer c", "Bellis a", "Bellis b"]
    after = add_classes(head, flora(names), flora([*names, "Acer b"]), {"Acer b": torch.tensor([[9.0, 4.0, 6.0]])})
    assert isinstance(after, TreeHead)
    assert_close(after.lower_weight_Ed[2], torch.tensor([0.0, LENGTH, 0.0]))  # the median of 2, 2, 1, 1, 1, 1 is 1


# ---- where a new class hangs ----


def test_in_a_tree_of_taxa_a_new_class_hangs_with_its_relatives() -> None:
    after = add_classes(trained("tree, taxa"), BEFORE, AFTER, examples())
    assert node_of(after, AFTER, "Acer ginnala") == node_of(after, AFTER, "Acer rubrum")
    assert node_of(after, AFTER, "Bellis hybrida") == node_of(after, AFTER, "Bellis annua")
    assert node_of(after, AFTER, "Aesculus glabra") == node_of(after, AFTER, "Aesculus indica")
    assert node_of(after, AFTER, "Quercus rubra") == node_of(after, AFTER, "Quercus robur") == 0
    assert node_of(after, AFTER, "Urtica dioica") == 0  # a new family is a new branch of the root


def test_a_new_genus_hangs_below_its_family() -> None:
    names = ["Aster alpinus", "Aster amellus", "Bellis annua", "Bellis perennis", "Acer opalus", "Acer rubrum"]
    old = flora(names)
    extended = Taxonomy.from_rows(
        [*old.table.to_pylist(), {"scientificName": "Senecio vulgaris", "genus": "Senecio", "family": "Asteraceae"}]
    )
    head = build_head(TreeOptions(width=4, nodes="taxa"), WIDTH, old)
    after = add_classes(head, old, extended, {"Senecio vulgaris": torch.randn(3, WIDTH)})
    node = node_of(after, extended, "Senecio vulgaris")
    assert isinstance(after, TreeHead)
    assert node != 0
    assert (after.hierarchy.target_E[after.hierarchy.source_E == node] >= 0).sum() == 2  # beside the nodes Aster and Bellis


@pytest.mark.parametrize("kind", ["tree, even", "tree, deep"])
def test_without_a_branch_a_new_class_hangs_in_the_lowest_node_that_the_head_finds_most_probable(kind: str) -> None:
    before = trained(kind)
    assert isinstance(before, TreeHead)
    vectors_MD = examples(["Urtica dioica"])["Urtica dioica"]
    extended = flora([*OLD, "Urtica dioica"])
    after = add_classes(before, BEFORE, extended, {"Urtica dioica": vectors_MD})
    nodes = before.hierarchy.source_E[before.hierarchy.leaf_edge_C]
    with torch.no_grad():
        probability = before.log_prob_all(vectors_MD.mean(0, keepdim=True)).exp()[0].numpy()
    by_node = np.bincount(nodes, weights=probability)
    assert node_of(after, extended, "Urtica dioica") == by_node.argmax()


# ---- again and again ----


def test_a_tree_that_got_classes_can_be_stored_and_built_again() -> None:
    after = add_classes(trained("tree, taxa"), BEFORE, AFTER, examples())
    stored = after.state_dict()
    hierarchy = Hierarchy(*(stored[name].numpy().astype(np.int64) for name in ("first_N1", "target_E")))
    again = build_head(HEADS["tree, taxa"], WIDTH, AFTER, hierarchy=hierarchy)
    again.load_state_dict(stored)
    vectors_ND, _ = photographs(AFTER, 1, seed=0)
    assert torch.equal(again(vectors_ND), after(vectors_ND))
    top = after.top_k(vectors_ND, 4)
    assert_close(top.log_prob, after(vectors_ND).topk(4, dim=1).values, rtol=0, atol=1e-5)


def test_adding_in_two_calls_gives_the_same_tree_up_to_the_order_of_siblings() -> None:
    """And nearly the same weights: the classes of the first call are siblings like others for the second."""
    before, given = trained("tree, taxa"), examples()
    halfway = flora(OLD + NEW[3:])
    first = add_classes(before, BEFORE, halfway, {name: given[name] for name in NEW[3:]})
    twice = add_classes(first, halfway, AFTER, {name: given[name] for name in NEW[:3]})
    once = add_classes(before, BEFORE, AFTER, given)
    assert isinstance(once, TreeHead)
    assert isinstance(twice, TreeHead)
    for node in range(once.hierarchy.nodes):
        children = [set(head.hierarchy.target_E[head.hierarchy.source_E == node].tolist()) for head in (once, twice)]
        assert children[0] == children[1]
    (weight, _), (weight_twice, _) = edges_of(once), edges_of(twice)
    for name in AFTER.names:
        w, w_twice = weight[edge_of(once, AFTER, name)], weight_twice[edge_of(twice, AFTER, name)]
        assert torch.equal(w, w_twice) if name in OLD else torch.cosine_similarity(w, w_twice, dim=0) > 0.95


def test_the_order_in_which_examples_are_named_changes_nothing() -> None:
    before, given = trained("tree, even"), examples()
    vectors_ND, _ = photographs(AFTER, 1, seed=0)
    backwards = add_classes(before, BEFORE, AFTER, dict(reversed(given.items())))
    assert torch.equal(add_classes(before, BEFORE, AFTER, given)(vectors_ND), backwards(vectors_ND))


def test_double_precision_stays() -> None:
    before = deepcopy(trained("bottleneck")).double()
    after = add_classes(before, BEFORE, AFTER, examples())
    assert {parameter.dtype for parameter in after.parameters()} == {torch.float64}


# ---- the taxonomy ----


def test_a_taxonomy_is_extended_by_new_rows_and_families_are_filled_in() -> None:
    added = Taxonomy.from_rows(
        [
            {"scientificName": "Acer rubrum", "genus": "Acer", "family": "Aceraceae"},  # known already: stays as it is
            {"scientificName": "Acer ginnala", "genus": "Acer"},
            {"scientificName": "Urtica dioica", "genus": "Urtica", "vernacularName": "Nettle"},
        ]
    )
    extended = extended_taxonomy(BEFORE, added)
    assert extended.names == tuple(sorted([*OLD, "Acer ginnala", "Urtica dioica"]))
    rows = {row["scientificName"]: row for row in extended.table.to_pylist()}
    assert rows["Acer rubrum"]["family"] == rows["Acer ginnala"]["family"] == "Sapindaceae"
    assert rows["Urtica dioica"]["family"] == ""
    assert rows["Urtica dioica"]["vernacularName"] == "Nettle"


def test_a_genus_in_two_families_is_refused() -> None:
    added = Taxonomy.from_rows([{"scientificName": "Acer ginnala", "genus": "Acer", "family": "Aceraceae"}])
    with pytest.raises(BadInput, match="'Acer' stands in two families"):
        extended_taxonomy(BEFORE, added)


# ---- what is refused ----


def test_errors_name_the_species() -> None:
    head, given = trained("linear"), examples()
    with pytest.raises(BadInput, match="Acer rubrum: the model knows this name already"):
        add_classes(head, BEFORE, AFTER, {**given, "Acer rubrum": torch.zeros(1, WIDTH)})
    with pytest.raises(BadInput, match="Quercus robur: a species of the model that the extended taxonomy lacks"):
        add_classes(head, BEFORE, flora([*OLD[:-1], *NEW]), given)
    with pytest.raises(BadInput, match="Acer ginnala and 1 more: a new species without an example"):
        add_classes(head, BEFORE, AFTER, {name: given[name] for name in NEW[1:-1]})
    with pytest.raises(BadInput, match=r"Acer ginnala: its examples have the shape \(2, 7\), where vectors of the head's 24"):
        add_classes(head, BEFORE, AFTER, {**given, "Acer ginnala": torch.zeros(2, 7)})
    with pytest.raises(BadInput, match="Acer ginnala: a new species without an example"):
        add_classes(head, BEFORE, AFTER, {**given, "Acer ginnala": torch.zeros(0, WIDTH)})
    with pytest.raises(BadInput, match="Bellis hybrida: one of its vectors isn't finite"):
        add_classes(head, BEFORE, AFTER, {**given, "Bellis hybrida": torch.full((2, WIDTH), torch.nan)})
    with pytest.raises(BadInput, match="Zea mays: examples of a species that the extended taxonomy lacks"):
        add_classes(head, BEFORE, AFTER, {**given, "Zea mays": torch.zeros(1, WIDTH)})
    with pytest.raises(BadInput, match="no new species"):
        add_classes(head, BEFORE, BEFORE, {})


def test_other_heads_and_a_single_class_are_refused() -> None:
    with pytest.raises(BadInput, match="SampledHead: species can be added to a linear, a bottleneck and a tree head only"):
        add_classes(build_head(SampledOptions(width=4), WIDTH, BEFORE), BEFORE, AFTER, examples())
    one = flora(OLD[:1])
    with pytest.raises(BadInput, match="knows one class only"):
        add_classes(LinearHead(WIDTH, 1), one, flora([OLD[0], NEW[0]]), examples(NEW[:1]))
