"""The exact k most probable classes of a tree without opening all its nodes (SPEC section 1).

Shapes: B images, A images still at work, T children of the root, k answers, M entries of a list, m nodes opened per image in a
round, P pairs of an image and a node opened, F most children of a node.

A node's probability bounds that of every class below it. So nodes are opened by falling probability, several per image and round,
until the best one still closed is STRICTLY less probable than the k-th best class found: a tie could hide a class with a smaller
index (nodes with a single child pass on exactly their own probability).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from taxakey.models.heads import Ranked

_FIRST_ROUND = 4
"""Nodes opened per image in the first round; each round at most twice as many. Fewer cost rounds, more open some in vain."""


class Children(NamedTuple):
    """The children of P nodes: log-probabilities given their node, and targets (a node, or -1-class), both [P, F]."""

    log_p: Tensor
    target: Tensor


def best_first(open_root: Children, open_nodes: Callable[[Tensor, Tensor], Children], k: int, *, deep: bool) -> Ranked:
    """The k most probable classes of each image; equal probabilities in the order of the class index.

    `open_root`: the root's children for each image [B, T]. `open_nodes(image_P, node_P)` scores the children of nodes for images.
    `deep`: whether nodes below the root's children exist.
    """
    guess = None if deep else _guess(open_root, open_nodes, k)
    if guess is None:
        return _search(open_root, open_nodes, k, deep=deep)
    ranked, sure_B = guess
    if not sure_B.all():
        unsure_A = (~sure_B).nonzero()[:, 0]
        few = Children(open_root.log_p[unsure_A], open_root.target[unsure_A])
        found = _search(few, lambda image_P, node_P: open_nodes(unsure_A[image_P], node_P), k, deep=deep)
        for all_images, some in zip(ranked, found, strict=True):
            all_images[unsure_A] = some
    return ranked


def _guess(open_root: Children, open_nodes: Callable[[Tensor, Tensor], Children], k: int) -> tuple[Ranked, Tensor] | None:
    """The answers if the first round's nodes hold them, and whether they surely do [B]: most do, in a third of the operations.

    Sure is what is strictly more probable than the best node still closed. None where the root has classes of its own or no more
    nodes than a round, or a round no more classes than asked for.
    """
    log_p_BT, target_BT = open_root
    images = len(log_p_BT)
    if log_p_BT.shape[1] <= _FIRST_ROUND or (target_BT[:1] < 0).any():
        return None
    bound_Bm, column_Bm = log_p_BT.topk(_FIRST_ROUND + 1, dim=1)
    node_Bm = target_BT.gather(1, column_Bm[:, :-1])
    children = open_nodes(torch.arange(images, device=node_Bm.device).repeat_interleave(_FIRST_ROUND), node_Bm.flatten())
    if _FIRST_ROUND * children.log_p.shape[1] <= k:
        return None
    log_p_BM = (children.log_p.view(images, _FIRST_ROUND, -1) + bound_Bm[:, :-1, None]).flatten(1)
    target_BM = children.target.view(images, -1)
    found_Bk1, place_Bk1 = log_p_BM.topk(k + 1, dim=1)
    if (found_Bk1[:, 1:] < found_Bk1[:, :-1]).all():
        found_Bk, class_Bk = found_Bk1[:, :-1].contiguous(), -1 - target_BM.gather(1, place_Bk1[:, :-1])
    else:
        found_Bk, class_Bk = _best(log_p_BM, -1 - target_BM, k)
    opened_B = torch.full_like(class_Bk[:, 0], 1 + _FIRST_ROUND)
    return Ranked(found_Bk, class_Bk, opened_B), found_Bk[:, -1] > bound_Bm[:, -1]


def _search(open_root: Children, open_nodes: Callable[[Tensor, Tensor], Children], k: int, *, deep: bool) -> Ranked:
    """By rounds, until nothing closed can hold an answer."""
    log_p_BM, target_BM = open_root
    is_node_BM = target_BM >= 0
    found_BM, class_BM = log_p_BM.masked_fill(is_node_BM, -torch.inf), -1 - target_BM
    if found_BM.shape[1] < k:
        fill = (0, k - found_BM.shape[1])
        found_BM = torch.nn.functional.pad(found_BM, fill, value=-torch.inf)
        class_BM = torch.nn.functional.pad(class_BM, fill)
    found_Bk, class_Bk = _best(found_BM, class_BM, k)
    waiting_BM = log_p_BM.masked_fill(~is_node_BM, -torch.inf)
    opened_B = torch.ones(len(log_p_BM), dtype=torch.long, device=log_p_BM.device)
    portion = _FIRST_ROUND
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
        new_AM, target_AM = _by_image(log_p_PF, children.target, image_P, place_P, at_work_A, worth_Bm.shape)
        leaf_AM = new_AM.masked_fill(target_AM >= 0, -torch.inf) if deep else new_AM
        found_Bk[at_work_A], class_Bk[at_work_A] = _best(
            torch.cat([found_Bk[at_work_A], leaf_AM], dim=1), torch.cat([class_Bk[at_work_A], -1 - target_AM], dim=1), k
        )
        if deep:
            node_AM = new_AM.masked_fill(target_AM < 0, -torch.inf)
            waiting_BM = torch.cat([waiting_BM, _for_all(node_AM, at_work_A, len(opened_B), -torch.inf)], dim=1)
            target_BM = torch.cat([target_BM, _for_all(target_AM, at_work_A, len(opened_B), 0)], dim=1)
        portion *= 2


def _by_image(
    log_p_PF: Tensor, target_PF: Tensor, image_P: Tensor, place_P: Tensor, at_work_A: Tensor, shape: torch.Size
) -> tuple[Tensor, Tensor]:
    """The pairs' children side by side for each image at work, [A, m·F]."""
    images, places = shape
    row_B = torch.zeros(images, dtype=torch.long, device=image_P.device)
    row_B[at_work_A] = torch.arange(len(at_work_A), device=image_P.device)
    place = (row_B[image_P], place_P)
    lists = (len(at_work_A), places, log_p_PF.shape[1])
    log_p = log_p_PF.new_full(lists, -torch.inf).index_put_(place, log_p_PF)
    target = target_PF.new_full(lists, -1).index_put_(place, target_PF)
    return log_p.flatten(1), target.flatten(1)


def _for_all(values_AM: Tensor, at_work_A: Tensor, images: int, fill: float) -> Tensor:
    values_BM = values_AM.new_full((images, values_AM.shape[1]), fill)
    values_BM[at_work_A] = values_AM
    return values_BM


def _best(log_p_AM: Tensor, class_AM: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest of each row with their classes; equal ones by rising class."""
    kth_A1 = log_p_AM.topk(k, dim=1).values[:, -1:]
    # Everything that ties with the k-th must be in the race (topk leaves ties to chance): it's usually one entry.
    in_race = max(k, int(((log_p_AM >= kth_A1) & (log_p_AM > -torch.inf)).sum(1).max()))
    log_p_AR, place_AR = log_p_AM.topk(in_race, dim=1)
    class_AR, order_AR = class_AM.gather(1, place_AR).sort(dim=1)
    log_p_AR, order_AR2 = log_p_AR.gather(1, order_AR).sort(dim=1, descending=True, stable=True)
    return log_p_AR[:, :k].contiguous(), class_AR.gather(1, order_AR2[:, :k])
