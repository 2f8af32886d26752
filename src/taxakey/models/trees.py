"""The hierarchical softmax for any tree (BioMachina, PlantCLEF 2022; SPEC section 1).

Shapes: B images, D features, d bottleneck width, C classes, E edges, N inner nodes, T children of the root, L levels, P pairs of
an image and a node, R opened edges, F most children of a node, G taxa of a rank.

p(class) is the product of p(edge | node) along its path. Every edge has a weight vector, siblings share a softmax. Which class
hangs where (`models.hierarchies`) decides accuracy, because classes that are often confused must be siblings: no tree learns that
by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taxakey.losses.decision import Decision
from taxakey.models.best_first import Children, best_first
from taxakey.models.edge_scores import Opened, edge_scores, open_nodes, padded
from taxakey.models.grouped_softmax import log_softmax, log_sum_exp
from taxakey.models.heads import Activation, Bottleneck, Head, Ranked, Start
from taxakey.models.hierarchies import Hierarchy

Order = Literal["taxonomic", "listed", "random", "frequency", "clustered"]
Nodes = Literal["even", "taxa", "genera", "huffman", "clusters"]

_COPIED = 2**18
"""Most weights that are copied to score nodes: for one image that is quicker than the sparse product, which copies nothing."""

_SEARCHED = 2**25
"""Most scores held while images are searched that might need every node: 0.4 GB with their places."""


@dataclass(frozen=True)
class TreeOptions:
    """The shape of a tree, the order of its classes, and the vectors it scores them with.

    `width`: d of the bottleneck, None for none (all D features). `nodes`: "even" ones of `slots` classes (by default
    ceil(sqrt(C)); several numbers make a deeper tree, from the top), in `order`; or "taxa", a node per family and genus; or
    "genera", a node per genus and no families, for when there are too many families to tell apart by one vector each; or
    "huffman", frequent classes near the root, `slots` children a node; or "clusters", uneven nodes found among the class means.
    Orders: by family, genus and name; as listed (by name); at random; by falling count of training pictures; or neighbours among
    the class means side by side. `sparse`: gradients below the root hold only the rows touched; needs the optimiser lazy_adamw.
    """

    kind: Literal["tree"] = "tree"
    width: int | None = 128
    nodes: Nodes = "even"
    slots: int | tuple[int, ...] | None = None
    order: Order = "taxonomic"
    activation: Activation = "none"
    start: Start = "random"
    sparse: bool = False

    def __post_init__(self) -> None:
        slots = (self.slots,) if isinstance(self.slots, int) else self.slots or ()
        if (self.width is not None and self.width < 1) or any(slot < 1 for slot in slots):
            raise ValueError("width and slots must be at least 1")
        if self.nodes == "huffman" and any(slot < 2 for slot in slots):
            raise ValueError("slots must be at least 2 in a Huffman tree")
        if self.activation != "none" and (self.width is None or self.start == "class_means"):
            raise ValueError("an activation belongs to a bottleneck that starts at random: set activation: none")


class TreeHead(Head):
    """Bottleneck, then a softmax at each node on the way from the root to a class.

    Training scores the children of the nodes on the TRUE path only: for two levels d·(T + F) multiply-adds a sample after the
    bottleneck. `forward` is the joint over ALL nodes; opening only the best node (the paper) or giving every node the best node's
    children (its released code) is wrong for every class outside the best node. `top_k` gives the same answer as `forward` and
    opens few nodes. The root's weights have dense gradients, all others sparse ones where `sparse` is asked for.
    """

    first_N1: Tensor
    target_E: Tensor
    fan_N: Tensor
    source_E: Tensor
    parent_edge_N: Tensor
    leaf_edge_C: Tensor
    path_CL: Tensor

    def __init__(
        self,
        in_features: int,
        hierarchy: Hierarchy,
        *,
        width: int | None = 128,
        activation: Activation = "none",
        sparse: bool = False,
    ) -> None:
        super().__init__()
        self.in_features, self.classes = in_features, hierarchy.classes
        self.hierarchy, self.sparse = hierarchy, sparse
        self._widest, self._even_fan = _widest(hierarchy), _even_fan(hierarchy)
        self._all_reach: list[bool] = [bool((edge_C >= 0).all()) for edge_C in hierarchy.path_CL.T]
        self.bottleneck: nn.Module = nn.Identity() if width is None else Bottleneck(in_features, width, activation)
        width = in_features if width is None else width
        top, lower = int(hierarchy.fan_N[0]), hierarchy.edges - int(hierarchy.fan_N[0])
        self.top_weight_Td = nn.Parameter(torch.empty(top, width).uniform_(-0.1, 0.1))
        self.top_bias_T = nn.Parameter(torch.zeros(top))
        self.lower_weight_Ed = nn.Parameter(torch.empty(lower, width).uniform_(-0.1, 0.1))
        self.lower_bias_E = nn.Parameter(torch.zeros(lower))
        for name in ("first_N1", "target_E"):  # stored with the model
            self.register_buffer(name, torch.from_numpy(getattr(hierarchy, name).astype(np.int32)))
        for name in ("fan_N", "source_E", "parent_edge_N", "leaf_edge_C", "path_CL"):
            self.register_buffer(name, torch.from_numpy(getattr(hierarchy, name).astype(np.int64)), persistent=False)

    @property
    def width(self) -> int:
        """d"""
        return self.top_weight_Td.shape[1]

    @property
    def top(self) -> int:
        """T"""
        return len(self.top_bias_T)

    def decisions(self, features_BD: Tensor, labels_B: Tensor) -> list[Decision]:
        z_Bd = self.bottleneck(features_BD)
        path_BL = self.path_CL[labels_B]
        counts_T = None if self.counts is None else self.counts[: self.top]
        decisions = [Decision(self._top_logits(z_Bd), path_BL[:, 0], counts_T)]
        if path_BL.shape[1] == 1:
            return decisions
        # The lower levels in one go, pairs level after level: a call each would cost more than what it computes.
        edge_MB = path_BL[:, 1:].T.contiguous()
        ended_MB = None if all(self._all_reach) else edge_MB < 0
        node_MB = self.source_E[edge_MB if ended_MB is None else edge_MB.clamp(min=self.top)]
        first_MB, fan_MB = self.first_N1[node_MB].long(), self.fan_N[node_MB]
        choice_MB = edge_MB - first_MB
        if ended_MB is not None:
            fan_MB, choice_MB = fan_MB.masked_fill(ended_MB, 0), choice_MB.masked_fill(ended_MB, 0)
        z_Pd = z_Bd.repeat(len(edge_MB), 1)
        logits_PF = self._lower_logits(z_Pd, first_MB.flatten(), fan_MB.flatten(), max(self._widest[1:]))
        if ended_MB is not None:
            # Where the path has ended there is nothing to decide: one column, right with certainty.
            first_column = torch.arange(logits_PF.shape[1], device=logits_PF.device) == 0
            logits_PF = logits_PF.masked_fill(ended_MB.flatten()[:, None] & first_column, 0)
        levels = zip(logits_PF.unflatten(0, edge_MB.shape).unbind(), choice_MB.unbind(), first_MB, self._widest[1:], strict=True)
        return decisions + [
            Decision(logits_BF[:, :widest], choice_B, self._counts_from(first_B, widest))
            for logits_BF, choice_B, first_B, widest in levels
        ]

    def log_prob_several(self, features_BD: Tensor, classes_BK: Tensor) -> Tensor:
        """Log-probabilities [B, K] of several classes of each image, from the nodes on their ways alone."""
        z_Bd, path_BKL = self.bottleneck(features_BD), self.path_CL[classes_BK]
        log_p_BK = _wide(self._top_logits(z_Bd)).log_softmax(1).gather(1, path_BKL[:, :, 0])
        z_Pd = z_Bd.repeat_interleave(classes_BK.shape[1], 0)
        for edge_BK in path_BKL.unbind(2)[1:]:
            ended_BK = edge_BK < 0
            node_P = self.source_E[edge_BK.clamp(min=self.top)].flatten()
            first_P, fan_P = self.first_N1[node_P].long(), self.fan_N[node_P]
            logits_PF = _wide(self._lower_logits(z_Pd, first_P, fan_P, max(self._widest[1:])))
            choice_P1 = (edge_BK.clamp(min=self.top).flatten() - first_P)[:, None]
            given_BK = logits_PF.log_softmax(1).gather(1, choice_P1).view_as(edge_BK)
            log_p_BK = log_p_BK + given_BK.masked_fill(ended_BK, 0)
        return log_p_BK

    def counts_of_choices(self, counts_C: NDArray[np.integer]) -> NDArray[np.number]:
        """Of the classes below each edge [E]."""
        counts_E = np.zeros(self.hierarchy.edges)
        for edge_C in self.hierarchy.path_CL.T:
            reached_C = edge_C >= 0
            counts_E += np.bincount(edge_C[reached_C], weights=counts_C[reached_C], minlength=len(counts_E))
        return counts_E

    def _counts_from(self, first_B: Tensor, width: int) -> Tensor | None:
        """Of the edges from each image's first on [B, F]; behind its node's they are others', and masked."""
        if self.counts is None:
            return None
        edge_BF = first_B[:, None] + torch.arange(width, device=first_B.device)
        return self.counts[edge_BF.clamp_(max=len(self.counts) - 1)]

    def forward(self, features_BD: Tensor) -> Tensor:
        """Joint log-probabilities [B, C], in class order, float32 (float64 stays)."""
        return self._edge_log_p(self.bottleneck(features_BD))[:, self.leaf_edge_C]

    def log_prob_all(self, features_BD: Tensor) -> Tensor:
        return self(features_BD)

    def top_k(self, features_BD: Tensor, k: int) -> Ranked:
        """The k most probable classes of each image, the same as the full joint gives, from the few nodes that can hold them."""
        if not 1 <= k <= self.classes:
            raise ValueError(f"k is {k}; it must lie between 1 and the {self.classes} classes")
        with torch.no_grad():
            z_Bd = self.bottleneck(features_BD)
            log_p_BT = _wide(self._top_logits(z_Bd)).log_softmax(1)
            root = Children(log_p_BT, self.target_E[: self.top].long().expand_as(log_p_BT))

            def open_nodes(image_P: Tensor, node_P: Tensor) -> Children:
                return self._children(z_Bd[image_P] if len(z_Bd) > 1 else z_Bd.expand(len(image_P), -1), node_P)

            shape: dict[str, Any] = {"levels": self.hierarchy.levels, "even": all(self._all_reach)}
            return best_first(root, open_nodes, k, **shape, at_once=max(1, _SEARCHED // self.classes))

    def node_log_prob(self, features_BD: Tensor, codes_C: NDArray[np.int64]) -> Tensor:
        """Log-probability [B, G] of each taxon of a rank, by the classes' codes [C] in it (`Taxonomy.codes`; -1: in none).

        A taxon that is a branch of the tree is read off its edge; another one is summed over its classes.
        """
        log_p_BE = self._edge_log_p(self.bottleneck(features_BD))
        edge_G = branches(self.hierarchy, codes_C)
        log_p_BG = log_p_BE[:, torch.from_numpy(np.maximum(edge_G, 0)).to(log_p_BE.device)]
        if (edge_G < 0).any():
            members = np.flatnonzero(codes_C >= 0)
            leaf_BM = log_p_BE[:, self.leaf_edge_C[torch.from_numpy(members).to(log_p_BE.device)]]
            codes_M = torch.from_numpy(codes_C[members]).to(log_p_BE.device)
            summed_BG = log_sum_exp(leaf_BM, codes_M, len(edge_G))
            log_p_BG = torch.where(torch.from_numpy(edge_G >= 0).to(log_p_BE.device), log_p_BG, summed_BG)
        return log_p_BG

    def multiply_adds(self, *, training: bool) -> int:
        projection = 0 if isinstance(self.bottleneck, nn.Identity) else self.in_features * self.width
        edges = self.top + sum(self._widest[1:]) if training else self.hierarchy.edges
        return projection + self.width * edges

    def _top_logits(self, z_Bd: Tensor) -> Tensor:
        return nn.functional.linear(z_Bd, self.top_weight_Td, self.top_bias_T)

    def _children(self, z_Pd: Tensor, node_P: Tensor) -> Children:
        """The children of nodes below the root, each for its own vector."""
        if self._even_fan is not None:
            return self._even_children(z_Pd, node_P, self._even_fan)
        first_P, fan_P = self.first_N1[node_P].long(), self.fan_N[node_P]
        opened, scores_R = self._opened(z_Pd, first_P, fan_P)
        # The joint's way of adding up, so that classes that tie there tie here to the last bit, and come in the same order.
        log_p_R = log_softmax(scores_R[None], opened.pairs_R(), len(node_P))[0]
        log_p_PF = padded(log_p_R, opened, int(fan_P.max()))
        edge_PF = first_P[:, None] + torch.arange(log_p_PF.shape[1], device=first_P.device)
        return Children(log_p_PF, self.target_E[edge_PF.clamp_(max=len(self.target_E) - 1)].long())

    def _even_children(self, z_Pd: Tensor, node_P: Tensor, fan: int) -> Children:
        """The same where nodes stand every `fan` edges: needs no lists of edges, unless the last node is asked for and short."""
        node_P = node_P - 1
        whole, short = divmod(len(self.lower_bias_E), fan)
        if short and int(node_P.max()) == whole:
            return self._with_short_node(z_Pd, node_P, fan)
        target_PF = self.target_E[self.top : self.top + whole * fan].view(whole, fan)[node_P]
        bias_NF = self.lower_bias_E[: whole * fan].view(whole, fan)
        if len(node_P) * fan * self.width <= _COPIED and z_Pd.dtype == self.lower_weight_Ed.dtype == torch.float32:
            weight_PFd = self.lower_weight_Ed[: whole * fan].view(whole, fan, -1).index_select(0, node_P)
            scores_PF = (weight_PFd * z_Pd[:, None]).sum(2).add_(bias_NF.index_select(0, node_P))
        else:
            edge_PF = node_P[:, None] * fan + torch.arange(fan, device=node_P.device)
            scores_PF = self._even_scores(z_Pd, edge_PF)
        return Children(scores_PF.log_softmax(1), target_PF.long())

    def _with_short_node(self, z_Pd: Tensor, node_P: Tensor, fan: int) -> Children:
        edge_PF = node_P[:, None] * fan + torch.arange(fan, device=node_P.device)
        beyond_PF = edge_PF >= len(self.lower_bias_E)
        edge_PF = edge_PF.clamp_(max=len(self.lower_bias_E) - 1)
        scores_PF = self._even_scores(z_Pd, edge_PF).masked_fill(beyond_PF, -torch.inf)
        return Children(scores_PF.log_softmax(1), self.target_E[self.top :][edge_PF].long())

    def _even_scores(self, z_Pd: Tensor, edge_PF: Tensor) -> Tensor:
        pairs, fan = edge_PF.shape
        opened = Opened(edge_PF.flatten(), torch.arange(0, pairs * fan + 1, fan, device=edge_PF.device), fan)
        return edge_scores(z_Pd, self.lower_weight_Ed, self.lower_bias_E, opened).view(pairs, fan)

    @torch.compiler.disable
    def _lower_logits(self, z_Pd: Tensor, first_P: Tensor, fan_P: Tensor, width: int) -> Tensor:
        """Logits of the nodes' children [P, F], -inf behind them."""
        opened, scores_R = self._opened(z_Pd, first_P, fan_P)
        return padded(scores_R, opened, width)

    def _opened(self, z_Pd: Tensor, first_P: Tensor, fan_P: Tensor) -> tuple[Opened, Tensor]:
        """The nodes' edges and their logits [R]. `first_P` counts edges from the root's first."""
        opened = open_nodes(first_P - self.top, fan_P)
        return opened, edge_scores(z_Pd, self.lower_weight_Ed, self.lower_bias_E, opened, sparse=self.sparse)

    def _edge_log_p(self, z_Bd: Tensor) -> Tensor:
        """Log-probability of every edge [B, E]: of reaching the node or class it leads to."""
        lower_BE = nn.functional.linear(z_Bd, self.lower_weight_Ed, self.lower_bias_E)
        given_BE = self._given(_wide(lower_BE))
        ends = self.hierarchy.level_ends
        levels = [_wide(self._top_logits(z_Bd)).log_softmax(1)]
        for start, end in pairwise(ends):
            above_E = self.parent_edge_N[self.source_E[start:end]]
            levels.append(given_BE[:, start - self.top : end - self.top] + torch.cat(levels, dim=1)[:, above_E])
        return torch.cat(levels, dim=1)

    def _given(self, lower_BE: Tensor) -> Tensor:
        """Log-probability of every edge below the root, given its node."""
        if self._even_fan is None:
            return log_softmax(lower_BE, self.source_E[self.top :] - 1, len(self.fan_N) - 1)
        edges, fan = lower_BE.shape[1], self._even_fan
        # Filled up as in `_even_children`: the same sums in the same order, so that what ties here ties there.
        full_BE = nn.functional.pad(lower_BE, (0, -edges % fan), value=-torch.inf) if edges % fan else lower_BE
        return full_BE.unflatten(1, (-1, fan)).log_softmax(2).flatten(1)[:, :edges]


def _widest(hierarchy: Hierarchy) -> list[int]:
    """Most children of a node, level by level."""
    starts = (0, *hierarchy.level_ends[:-1])
    return [
        int(hierarchy.fan_N[hierarchy.source_E[start] : hierarchy.source_E[end - 1] + 1].max())
        for start, end in zip(starts, hierarchy.level_ends, strict=True)
    ]


def _even_fan(hierarchy: Hierarchy) -> int | None:
    """How many children each node below the root has, where all have as many (the last one or fewer) and all are classes."""
    fan_N = hierarchy.fan_N[1:]
    even = hierarchy.levels == 2 and (fan_N[:-1] == fan_N[0]).all() and fan_N[-1] <= fan_N[0]
    return int(fan_N[0]) if even else None


def branches(hierarchy: Hierarchy, codes_C: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each taxon [G] the edge below which exactly its classes hang; -1 where the tree has no such branch."""
    taxa = int(codes_C.max(initial=-1)) + 1
    edge_G = np.full(taxa, -1, dtype=np.int64)
    if not taxa:
        return edge_G
    known = codes_C >= 0
    size_G = np.bincount(codes_C[known], minlength=taxa)
    for edge_C in hierarchy.path_CL.T:
        reached = edge_C >= 0
        below_E = np.bincount(edge_C[reached], minlength=hierarchy.edges)
        both = known & reached
        edges, codes, shared = _pairs(edge_C[both], codes_C[both])
        whole = (shared == below_E[edges]) & (shared == size_G[codes]) & (edge_G[codes] < 0)
        edge_G[codes[whole]] = edges[whole]
    return edge_G


def _pairs(first: NDArray[np.int64], second: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    pairs, counts = np.unique(np.stack([first, second], axis=1), axis=0, return_counts=True)
    return pairs[:, 0], pairs[:, 1], counts


def _wide(values: Tensor) -> Tensor:
    """In float32 at least."""
    return values if values.dtype == torch.float64 else values.float()
