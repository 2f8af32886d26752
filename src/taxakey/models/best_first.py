"""The exact k most probable classes of a tree without opening all its nodes (SPEC section 1).

Shapes: B images, A images still at work, T children of the root, k answers, M entries of a list, m nodes opened per image in a
round, P pairs of an image and a node opened, F most children of a node.

A node's probability bounds that of every class below it. So nodes are opened by falling probability, several per image and round,
until the best one still closed is STRICTLY less probable than the k-th best class found: a tie could hide a class with a smaller
index (nodes with a single child pass on exactly their own probability). Most images are through after walking down once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from taxakey.models.heads import Ranked

_FIRST_ROUND = 4
"""Nodes opened per image in the first round; each round at most twice as many. Fewer cost rounds, more open some in vain."""
_WALKED = 4
"""Deepest trees, in levels, that are walked down first: in deeper ones most of what a walk opens would be opened in vain."""


class Children(NamedTuple):
    """The children of P nodes: log-probabilities given their node, and targets (a node, or -1-class), both [P, F]."""

    log_p: Tensor
    target: Tensor


OpenNodes = Callable[[Tensor, Tensor], Children]


def best_first(
    open_root: Children, open_nodes: OpenNodes, k: int, *, levels: int, even: bool = False, at_once: int = 2**10
) -> Ranked:
    """The k most probable classes of each image; equal probabilities in the order of the class index.

    `open_root`: the root's children for each image [B, T]. `open_nodes(image_P, node_P)` scores the children of nodes for images.
    `levels`: how deep the tree is; `even`: whether all classes hang at the last level; `at_once`: how many of the images that
    aren't answered by one walk down are searched together, because such an image may need all nodes and the memory for them.
    """
    rounds = levels - 1 if levels <= _WALKED else 0
    ranked, walked, bound_B = _walk_down(open_root, open_nodes, k, rounds, even=even)
    if bound_B is None:
        return ranked
    sure_B = ranked.log_prob[:, -1] > bound_B
    if sure_B.all():
        return ranked
    for unsure_A in (~sure_B).nonzero()[:, 0].split(at_once):
        so_far = Ranked(*(part[unsure_A] for part in ranked))
        waiting_AM = torch.cat([level.closed(unsure_A) for level in walked], dim=1)
        target_AM = torch.cat([level.target[unsure_A] for level in walked], dim=1)
        open_some = _for_some(open_nodes, unsure_A)
        portion = _FIRST_ROUND * (2 if rounds else 1)
        found = _search(so_far, waiting_AM, target_AM, open_some, portion=portion, deep=levels > 2)
        for all_images, some in zip(ranked, found, strict=True):
            all_images[unsure_A] = some
    return ranked


class _Level(NamedTuple):
    """Nodes met on the way down: log-probabilities (-inf: none) and targets [B, M], and the columns of those opened [B, m]."""

    log_p: Tensor
    target: Tensor
    opened: Tensor

    def closed(self, image_A: Tensor) -> Tensor:
        """Log-probabilities of the nodes that some images left closed, -inf elsewhere [A, M]."""
        return self.log_p[image_A].scatter(1, self.opened[image_A], -torch.inf)


def _walk_down(
    open_root: Children, open_nodes: OpenNodes, k: int, rounds: int, *, even: bool
) -> tuple[Ranked, list[_Level], Tensor | None]:
    """Open the few best nodes of the root, the few best of their children, and so on.

    The best classes met, the levels, and the probability of the best node that stayed closed [B], if one did.
    """
    log_p_BM, target_BM = open_root
    opened: int | Tensor = 1
    bound_B: Tensor | None = None
    classes: list[Children] = []
    walked: list[_Level] = []
    for _ in range(rounds):
        if not even:
            nodes, leaves = _told_apart(log_p_BM, target_BM)
            classes.append(leaves)
            log_p_BM = nodes.log_p
        few = min(_FIRST_ROUND, log_p_BM.shape[1])
        best_Bm, column_Bm = log_p_BM.topk(min(few + 1, log_p_BM.shape[1]), dim=1)
        if best_Bm.shape[1] > few:
            bound_B = best_Bm[:, few] if bound_B is None else torch.maximum(bound_B, best_Bm[:, few])
        best_Bm, column_Bm = best_Bm[:, :few], column_Bm[:, :few]
        walked.append(_Level(log_p_BM, target_BM, column_Bm))
        log_p_BM, target_BM, opened_now = _opened(best_Bm, target_BM.gather(1, column_Bm), open_nodes)
        opened = opened + opened_now
    if even and rounds:
        classes.append(Children(log_p_BM, target_BM))
    else:
        nodes, leaves = _told_apart(log_p_BM, target_BM)
        classes.append(leaves)
        if not rounds:
            walked.append(_Level(nodes.log_p, target_BM, target_BM[:, :0]))
            bound_B = nodes.log_p.amax(1)
    log_p_BM, target_BM = (torch.cat(parts, dim=1) for parts in zip(*classes, strict=True)) if len(classes) > 1 else classes[0]
    found_Bk, class_Bk = _first_k(log_p_BM, -1 - target_BM, k)
    opened_B = opened if isinstance(opened, Tensor) else torch.full_like(class_Bk[:, 0], opened)
    return Ranked(found_Bk, class_Bk, opened_B), walked, bound_B


def _told_apart(log_p_BM: Tensor, target_BM: Tensor) -> tuple[Children, Children]:
    """Nodes and classes of the same columns; -inf where the other is."""
    is_node_BM = target_BM >= 0
    nodes = Children(log_p_BM.masked_fill(~is_node_BM, -torch.inf), target_BM)
    return nodes, Children(log_p_BM.masked_fill(is_node_BM, -torch.inf), target_BM)


def _opened(log_p_Bm: Tensor, node_Bm: Tensor, open_nodes: OpenNodes) -> tuple[Tensor, Tensor, Tensor | int]:
    """The joint log-probabilities and targets of the nodes' children side by side [B, m·F], and how many nodes were opened."""
    images, few = log_p_Bm.shape
    there_Bm = log_p_Bm > -torch.inf
    if images and there_Bm.all():
        image_P = torch.arange(images, device=node_Bm.device)[:, None].expand(-1, few).flatten()
        children = open_nodes(image_P, node_Bm.flatten())
        log_p_BmF = children.log_p.view(images, few, -1) + log_p_Bm[:, :, None]
        return log_p_BmF.flatten(1), children.target.reshape(images, -1), few
    image_P, place_P = there_Bm.nonzero(as_tuple=True)
    if not len(image_P):
        return log_p_Bm, torch.full_like(node_Bm, -1), 0
    children = open_nodes(image_P, node_Bm[image_P, place_P])
    log_p_PF = children.log_p + log_p_Bm[image_P, place_P][:, None]
    return *_side_by_side(log_p_PF, children.target, image_P, place_P, there_Bm.shape), there_Bm.sum(1)


def _search(so_far: Ranked, waiting_BM: Tensor, target_BM: Tensor, open_nodes: OpenNodes, *, portion: int, deep: bool) -> Ranked:
    """By rounds, until nothing closed can hold an answer. `deep`: whether nodes hang below the nodes that wait.

    `waiting_BM`: log-probabilities of nodes still closed, -inf: none. All but the targets are written over.
    """
    found_Bk, class_Bk, opened_B = so_far
    k = found_Bk.shape[1]
    while True:
        bound_Bm, column_Bm = waiting_BM.topk(min(portion, waiting_BM.shape[1]), dim=1)
        worth_Bm = (bound_Bm >= found_Bk[:, -1:]) & (bound_Bm > -torch.inf)
        image_P, place_P = worth_Bm.nonzero(as_tuple=True)
        if not len(image_P):
            return Ranked(found_Bk, class_Bk, opened_B)
        node_P = target_BM[image_P, column_Bm[image_P, place_P]]
        children = open_nodes(image_P, node_P)
        log_p_PF = children.log_p + bound_Bm[image_P, place_P][:, None]
        # What isn't worth opening now never will be: the k-th best only rises.
        waiting_BM.scatter_(1, column_Bm, -torch.inf)
        opened_B += worth_Bm.sum(1)
        at_work_A = worth_Bm.any(1).nonzero()[:, 0]
        row_B = torch.zeros_like(opened_B)
        row_B[at_work_A] = torch.arange(len(at_work_A), device=row_B.device)
        shape = torch.Size([len(at_work_A), worth_Bm.shape[1]])
        new_AM, target_AM = _side_by_side(log_p_PF, children.target, row_B[image_P], place_P, shape)
        leaf_AM = new_AM.masked_fill(target_AM >= 0, -torch.inf) if deep else new_AM
        found_Bk[at_work_A], class_Bk[at_work_A] = _best(
            torch.cat([found_Bk[at_work_A], leaf_AM], dim=1), torch.cat([class_Bk[at_work_A], -1 - target_AM], dim=1), k
        )
        if deep:
            node_AM = new_AM.masked_fill(target_AM < 0, -torch.inf)
            waiting_BM = torch.cat([waiting_BM, _for_all(node_AM, at_work_A, len(opened_B), -torch.inf)], dim=1)
            target_BM = torch.cat([target_BM, _for_all(target_AM, at_work_A, len(opened_B), 0)], dim=1)
        portion *= 2


def _for_some(open_nodes: OpenNodes, image_A: Tensor) -> OpenNodes:
    """The same for images counted among some of them."""
    return lambda image_P, node_P: open_nodes(image_A[image_P], node_P)


def _side_by_side(
    log_p_PF: Tensor, target_PF: Tensor, row_P: Tensor, place_P: Tensor, shape: torch.Size
) -> tuple[Tensor, Tensor]:
    """Children of pairs in the rows and places [A, m] that they belong to, as lists [A, m·F]; -inf where there is none."""
    lists = (*shape, log_p_PF.shape[1])
    log_p = log_p_PF.new_full(lists, -torch.inf).index_put_((row_P, place_P), log_p_PF)
    target = target_PF.new_full(lists, -1).index_put_((row_P, place_P), target_PF)
    return log_p.flatten(1), target.flatten(1)


def _for_all(values_AM: Tensor, at_work_A: Tensor, images: int, fill: float) -> Tensor:
    values_BM = values_AM.new_full((images, values_AM.shape[1]), fill)
    values_BM[at_work_A] = values_AM
    return values_BM


def _first_k(log_p_BM: Tensor, class_BM: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`_best`, of lists that may be shorter than k, and in fewer operations where nothing ties."""
    if log_p_BM.shape[1] <= k:
        more = (0, k + 1 - log_p_BM.shape[1])
        log_p_BM = torch.nn.functional.pad(log_p_BM, more, value=-torch.inf)
        class_BM = torch.nn.functional.pad(class_BM, more)
    found_Bk1, place_Bk1 = log_p_BM.topk(k + 1, dim=1)
    if (found_Bk1[:, 1:] < found_Bk1[:, :-1]).all():
        return found_Bk1[:, :-1].contiguous(), class_BM.gather(1, place_Bk1[:, :-1])
    return _best(log_p_BM, class_BM, k)


def _best(log_p_AM: Tensor, class_AM: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest of each row with their classes; equal ones by rising class."""
    kth_A1 = log_p_AM.topk(k, dim=1).values[:, -1:]
    # Everything that ties with the k-th must be in the race (topk leaves ties to chance): it's usually one entry.
    in_race = max(k, int(((log_p_AM >= kth_A1) & (log_p_AM > -torch.inf)).sum(1).max()))
    log_p_AR, place_AR = log_p_AM.topk(in_race, dim=1)
    class_AR, order_AR = class_AM.gather(1, place_AR).sort(dim=1)
    log_p_AR, order_AR2 = log_p_AR.gather(1, order_AR).sort(dim=1, descending=True, stable=True)
    return log_p_AR[:, :k].contiguous(), class_AR.gather(1, order_AR2[:, :k])
