"""New classes for a trained head, from the features of a few examples of each: no training, and none of the old data.

Shapes: C old classes, K new ones, D features, d width (of the bottleneck; D without one), E edges, N inner nodes, S siblings,
M examples of a class, r directions.

A flat head is a tree of one node here. A new class becomes one more edge below a node (`_nodes_of`); every old weight stays as it
is, bit by bit, so in every node the old classes keep their ratios, and lose together what the new one takes.

The new edge's weight follows imprinting (Qi, Brown and Lowe, CVPR 2018: the direction of the examples' mean, at the others'
length), with what a softmax needs besides. A weight says how a class differs from its SIBLINGS, so the mean z is centred first,
as well as the head alone can tell: without its part along the edges that lead to the node, which all siblings share, and without
what no weight of the head looks at, such as the features' common mean. What is left, u, is laid on the mean of the siblings:

    w = mean(w_s) + l · u/|u|       l: LENGTH times the median distance of the head's edges from the mean of their siblings

The bias says how soon the class wins, and the examples flatter it: their mean holds their own scatter v (pooled over the new
classes, of M examples each), so w·z is higher by l·v/(M·|u|) than it will be for the class's other images. For THOSE the logit is
meant to be mean(w_s·z + b_s) + l · (REACH · |u| - v/(M·|u|)), and its odds against all siblings together are kept within ODDS.

All of this was measured against alternatives on the simulated flora and on flowers102, with heads of every kind: docs/LOG.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taxakey.errors import BadInput
from taxakey.models.heads import BottleneckHead, Head, LinearHead
from taxakey.models.hierarchies import Hierarchy
from taxakey.models.trees import TreeHead, branches
from taxakey.taxonomy import Taxonomy

Ints = NDArray[np.int64]

LENGTH = 0.7
"""Of a new weight, in median lengths of the head's. Between 0.6 and 0.8 little changes; at 1 old species lose more than new ones
gain, since u is a guess from few examples."""

REACH = 0.8
"""Below 1, so that at the middle of the siblings a new class starts 1 - REACH of what its weight gives below their average."""

ODDS = (1 / 7, 3.0)
"""Least and greatest odds of a new class against all its siblings at a typical image of its own. What the head can't centre away
makes a new class reach too far, worst in nodes of few classes; against thousands of siblings it wouldn't reach far enough."""

_SEEN = 1e-3
"""Directions in which the weights vary less than this share of their largest variance are noise of the training, or nothing."""


def add_classes(head: Head, taxonomy: Taxonomy, extended: Taxonomy, examples: Mapping[str, Tensor]) -> Head:
    """A head for the classes of `extended`: those of `taxonomy`, found again by name, and new ones from their examples.

    `examples`: feature vectors [M, D] of each new class, by scientificName; five do well, one does badly. A tree keeps its nodes;
    a new class hangs below the branch that is its genus (beside a genus's only class), else that is its family; else at the root,
    where all known families are branches; else below the lowest node that the head finds most probable. Classes of one call don't
    know of each other; those of an earlier call count as trained ones.

    Raises BadInput for a head of another kind, an old name that `extended` lacks, no new name, and a new class without examples
    or with some of another width or not finite.
    """
    new = _new_names(taxonomy, extended, examples)
    _check(new, examples, head.in_features)
    with torch.no_grad():
        edges = _Edges.of(head)
        bottleneck = nn.Identity() if isinstance(head, LinearHead) else head.get_submodule("bottleneck")
        z = [bottleneck(examples[name].detach().to(edges.weight_Ed)).float() for name in new]
        nodes_K = _nodes_of(new, torch.stack([z_Md.mean(0) for z_Md in z]), edges, taxonomy, extended)
        weight_Kd, bias_K = _imprinted(z, nodes_K, edges)
        old_C, new_K = extended.index_of(taxonomy.names), extended.index_of(new)
        return _rebuilt(head, edges.extended(nodes_K, weight_Kd, bias_K, old_C, new_K))


def extended_taxonomy(taxonomy: Taxonomy, added: Taxonomy) -> Taxonomy:
    """The classes of both; one that stands in both keeps the row of `taxonomy`. A new species without a family gets its genus's.

    Raises BadInput where the two put a genus into different families.
    """
    family_of = dict(zip(taxonomy.column("genus"), taxonomy.column("family"), strict=True))
    known = set(taxonomy.names)
    rows = [row for row in added.table.to_pylist() if row["scientificName"] not in known]
    for row in rows:
        row["family"] = row["family"] or (family_of.get(row["genus"], "") if row["genus"] else "")
    return Taxonomy.from_rows([*taxonomy.table.to_pylist(), *rows])


# ---- what comes in ----


def _new_names(taxonomy: Taxonomy, extended: Taxonomy, examples: Mapping[str, Tensor]) -> list[str]:
    known = set(taxonomy.names)
    if already := sorted(known & examples.keys()):
        raise BadInput(f"{_some(already)}: the model knows this name already; give examples of new species only")
    if lost := sorted(known - set(extended.names)):
        raise BadInput(f"{_some(lost)}: a species of the model that the extended taxonomy lacks; it must hold all old names")
    new = [name for name in extended.names if name not in known]
    if without := [name for name in new if name not in examples]:
        raise BadInput(f"{_some(without)}: a new species without an example; give at least one photograph of each")
    if strange := sorted(examples.keys() - set(new)):
        raise BadInput(f"{_some(strange)}: examples of a species that the extended taxonomy lacks; add its row")
    if not new:
        raise BadInput("no new species to add: the extended taxonomy is the model's own")
    return new


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1:,} more"


def _check(new: list[str], examples: Mapping[str, Tensor], width: int) -> None:
    for name in new:
        shape = tuple(examples[name].shape)
        if len(shape) != 2 or shape[1] != width:
            raise BadInput(
                f"{name}: its examples have the shape {shape}, where vectors of the head's {width} features are needed; compute "
                "them with the model's own backbone"
            )
        if not shape[0]:
            raise BadInput(f"{name}: a new species without an example; give at least one photograph of each")
        if not examples[name].isfinite().all():
            raise BadInput(f"{name}: one of its vectors isn't finite; leave out the photograph that it comes from")


# ---- any head as edges below nodes ----


@dataclass(frozen=True, eq=False)
class _Edges:
    """The weights of a head by the edges of its hierarchy; a flat head has one node."""

    hierarchy: Hierarchy
    weight_Ed: Tensor
    bias_E: Tensor

    @classmethod
    def of(cls, head: Head) -> _Edges:
        match head:
            case TreeHead():
                weight_Ed = torch.cat([head.top_weight_Td, head.lower_weight_Ed])
                return cls(head.hierarchy, weight_Ed, torch.cat([head.top_bias_T, head.lower_bias_E]))
            case LinearHead() | BottleneckHead():
                flat = Hierarchy(np.array([0, head.classes]), -1 - np.arange(head.classes))
                return cls(flat, head.linear.weight, head.linear.bias)
        raise BadInput(
            f"{type(head).__name__}: species can be added to a linear, a bottleneck and a tree head only; train this one anew, "
            "with the new species in the dataset"
        )

    def siblings(self, node: int) -> slice:
        return slice(int(self.hierarchy.first_N1[node]), int(self.hierarchy.first_N1[node + 1]))

    def node_means(self) -> Tensor:
        """Mean weight of each node's children [N, d]."""
        source_E = torch.from_numpy(self.hierarchy.source_E).to(self.weight_Ed.device)
        sums_Nd = self.weight_Ed.new_zeros(self.hierarchy.nodes, self.weight_Ed.shape[1], dtype=torch.float32)
        sums_Nd.index_add_(0, source_E, self.weight_Ed.float())
        return sums_Nd / torch.from_numpy(self.hierarchy.fan_N).to(sums_Nd)[:, None]

    def extended(self, nodes_K: Ints, weight_Kd: Tensor, bias_K: Tensor, old_C: Ints, new_K: Ints) -> _Edges:
        """With K more edges behind the last child of their nodes. `old_C`, `new_K`: index of each class from now on."""
        hierarchy, edges = self.hierarchy, self.hierarchy.edges
        ends_K = hierarchy.first_N1[nodes_K + 1]
        target_E = np.where(hierarchy.target_E >= 0, hierarchy.target_E, -1 - old_C[-1 - np.minimum(hierarchy.target_E, -1)])
        target = np.insert(target_E, ends_K, -1 - new_K)
        added_N = np.bincount(nodes_K, minlength=hierarchy.nodes)
        first_N1 = hierarchy.first_N1 + np.concatenate([[0], np.cumsum(added_N)])
        # Old nodes keep their numbers: breadth first stays breadth first when only leaves are added.
        row = torch.from_numpy(np.insert(np.arange(edges), ends_K, edges + np.arange(len(nodes_K)))).to(self.weight_Ed.device)
        weight = torch.cat([self.weight_Ed, weight_Kd.to(self.weight_Ed)])[row]
        return _Edges(Hierarchy(first_N1, target), weight, torch.cat([self.bias_E, bias_K.to(self.bias_E)])[row])


def _rebuilt(head: Head, edges: _Edges) -> Head:
    """A head of the same kind with these edges and the same bottleneck; nothing is shared with the old one."""
    if isinstance(head, TreeHead):
        width = None if isinstance(head.bottleneck, nn.Identity) else head.width
        tree = TreeHead(head.in_features, edges.hierarchy, width=width, sparse=head.sparse)
        tree.bottleneck = deepcopy(head.bottleneck)
        top = tree.top
        # Copies: two parameters in one storage can't be saved.
        for name, rows in (("top_weight_Td", slice(top)), ("lower_weight_Ed", slice(top, None))):
            setattr(tree, name, nn.Parameter(edges.weight_Ed[rows].clone()))
        tree.top_bias_T = nn.Parameter(edges.bias_E[:top].clone())
        tree.lower_bias_E = nn.Parameter(edges.bias_E[top:].clone())
        return tree.to(edges.weight_Ed.device).train(head.training)
    assert isinstance(head, LinearHead | BottleneckHead)
    flat = deepcopy(head)
    flat.classes = edges.hierarchy.classes
    edge_C = torch.from_numpy(edges.hierarchy.leaf_edge_C).to(edges.weight_Ed.device)
    flat.linear = nn.Linear(edges.weight_Ed.shape[1], flat.classes, device="meta")
    flat.linear.weight, flat.linear.bias = nn.Parameter(edges.weight_Ed[edge_C]), nn.Parameter(edges.bias_E[edge_C])
    return flat.train(head.training)


# ---- where a new class hangs ----


def _nodes_of(new: list[str], z_Kd: Tensor, edges: _Edges, taxonomy: Taxonomy, extended: Taxonomy) -> Ints:
    """The node below which each new class will hang [K]."""
    hierarchy = edges.hierarchy
    rows_K = extended.index_of(new)
    node_K = _most_probable(z_Kd, edges)
    for rank in ("family", "genus"):
        edge_G = branches(hierarchy, taxonomy.codes(rank))
        if not len(edge_G):
            continue
        if rank == "family" and (edge_G >= 0).all():
            node_K[:] = 0
        parents_C = extended.column(rank)
        taxon_K = taxonomy.index_of([parents_C[row] for row in rows_K], rank)
        edge_K = np.where(taxon_K >= 0, edge_G[taxon_K], -1)
        # A taxon of one class is that class's own edge: the new one hangs beside it.
        within_K = np.where(hierarchy.target_E[edge_K] >= 0, hierarchy.target_E[edge_K], hierarchy.source_E[edge_K])
        node_K = np.where(edge_K >= 0, within_K, node_K)
    return node_K


def _most_probable(z_Kd: Tensor, edges: _Edges) -> Ints:
    """Of the nodes that hold nothing but classes, the one that the head reaches most probably [K]."""
    hierarchy = edges.hierarchy
    logits_KE = nn.functional.linear(z_Kd, edges.weight_Ed.float(), edges.bias_E.float())
    reached_KN = logits_KE.new_zeros(len(z_Kd), hierarchy.nodes)
    for node in range(1, hierarchy.nodes):  # breadth first: the node above has been filled in
        edge = int(hierarchy.parent_edge_N[node])
        above = int(hierarchy.source_E[edge])
        given_K = logits_KE[:, edge] - logits_KE[:, edges.siblings(above)].logsumexp(1)
        reached_KN[:, node] = reached_KN[:, above] + given_K
    inner = np.unique(hierarchy.source_E[hierarchy.target_E >= 0])
    reached_KN[:, torch.from_numpy(inner).to(z_Kd.device)] = -torch.inf
    return reached_KN.argmax(1).cpu().numpy()


# ---- the weight of a new class ----


def _imprinted(z: list[Tensor], nodes_K: Ints, edges: _Edges) -> tuple[Tensor, Tensor]:
    """Weights [K, d] and biases [K] of edges below the given nodes to classes with the examples z [M, d]."""
    mean_Nd = edges.node_means()
    apart_Ed = edges.weight_Ed.float() - mean_Nd[torch.from_numpy(edges.hierarchy.source_E).to(mean_Nd.device)]
    basis_dr = _seen_directions(apart_Ed)
    length = LENGTH * _median_distance(apart_Ed, edges.hierarchy)
    scatter = _scatter(z, basis_dr)
    weights, biases = [], []
    for z_Md, node in zip(z, nodes_K.tolist(), strict=True):
        z_d = z_Md.mean(0)
        u_d = basis_dr @ (basis_dr.T @ _without_path(z_d, node, apart_Ed, edges.hierarchy))
        distance = u_d.norm().clamp(min=torch.finfo(u_d.dtype).tiny)
        w_d = mean_Nd[node] + length * u_d / distance
        among = edges.siblings(node)
        logits_S = edges.weight_Ed[among].float() @ z_d + edges.bias_E[among].float()
        flattery = length * distance * (scatter / (len(z_Md) * distance**2)).clamp(max=1)
        least, greatest = (logits_S.logsumexp(0) + math.log(odds) for odds in ODDS)
        unseen = (logits_S.mean() + REACH * length * distance - flattery).clamp(min=least, max=greatest)
        weights.append(w_d)
        biases.append(unseen + flattery - w_d @ z_d)
    return torch.stack(weights), torch.stack(biases)


def _median_distance(apart_Ed: Tensor, hierarchy: Hierarchy) -> Tensor:
    with_siblings_E = hierarchy.fan_N[hierarchy.source_E] > 1
    if not with_siblings_E.any():
        raise BadInput("the model knows one class only: there is nothing to tell a new one from; train it anew with both")
    return apart_Ed[torch.from_numpy(with_siblings_E).to(apart_Ed.device)].norm(dim=1).median()


def _scatter(z: list[Tensor], basis_dr: Tensor) -> Tensor:
    """Mean squared distance of an image from its class's mean along the directions; 0 where every class has a single example.

    Pooled: measured to be better than each class's own, which a handful of examples can't tell.
    """
    free = sum(len(z_Md) - 1 for z_Md in z)
    squares = torch.stack([((z_Md - z_Md.mean(0)) @ basis_dr).square().sum() for z_Md in z]).sum()
    return squares / max(1, free)


def _seen_directions(apart_Ed: Tensor) -> Tensor:
    """An orthonormal basis [d, r] of what the weights, each less its siblings' mean, look at."""
    variance_d, directions_dd = torch.linalg.eigh(apart_Ed.T @ apart_Ed)
    return directions_dd[:, variance_d > _SEEN * variance_d[-1]]


def _without_path(z_d: Tensor, node: int, apart_Ed: Tensor, hierarchy: Hierarchy) -> Tensor:
    """z less its part along the edges from the root to the node: what tells the node from others tells no siblings apart."""
    path = []
    while node:
        path.append(int(hierarchy.parent_edge_N[node]))
        node = int(hierarchy.source_E[path[-1]])
    if not path:
        return z_d
    basis_dl, _ = torch.linalg.qr(apart_Ed[path].T)
    return z_d - basis_dl @ (basis_dl.T @ z_d)
