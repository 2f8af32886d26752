"""Distances between genera: along the branches of a Newick tree, or from ranks where there is no tree.

Distances come row by row, so that 2,564 genera (6.6 million of them) never stand in memory at once. Shapes: V nodes of the tree
in the order of the text (a parent before its children), L leaves, G genera.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taxakey.errors import BadInput

RANK_DISTANCES = {"family": 1.0, "order": 2.0, "class": 3.0, "phylum": 4.0, "kingdom": 5.0}
"""Distance of two genera by the lowest rank that they share; 6 where they share none that is known."""
APART = 6.0

_MAX_BYTES = 256 * 2**20
_MAX_NODES = 5_000_000
_TOKEN = re.compile(r"\s+|\[[^\]]*\]|(?P<token>[(),:;]|'(?:[^']|'')*'|[^\s()\[\]:;,']+)")


@dataclass(frozen=True, eq=False)
class Tree:
    """The leaves of a rooted tree: names [L], distance from the root [L], and that of the last common ancestor of each leaf and
    the next one [L − 1]. That is all a distance between leaves needs, as long as no branch is negative."""

    leaves: tuple[str, ...]
    depth_L: NDArray[np.float64]
    between: NDArray[np.float64]


def read_newick(path: Path | str) -> Tree:
    """Read one tree in Newick format. Raises BadInput with the place of the fault.

    Strict: names of leaves are needed and differ; branches have a length each (that of the root may be missing, and doesn't
    count) or none does, and then each counts 1; no length is negative. Comments in [] are passed over, underscores in bare names
    are spaces.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"{path}: no such file; name a tree in Newick format")
    if path.stat().st_size > _MAX_BYTES:
        raise BadInput(
            f"{path}: {path.stat().st_size:,} bytes, over the limit of {_MAX_BYTES:,}; cut the tree down to the genera"
        )
    try:
        return parse_newick(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 text ({error}); convert it") from None
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


def parse_newick(text: str) -> Tree:
    """The tree in `text`; see `read_newick`.

    >>> parse_newick("((A:1,B:2):0.5,C:3);").depth_L.tolist()
    [1.5, 2.5, 3.0]
    """
    parser = _Parser()
    for token, place in _tokens(text):
        try:
            parser.take(token)
        except ValueError as error:
            line = text.count("\n", 0, place) + 1
            column = place - text.rfind("\n", 0, place)
            raise BadInput(f"line {line}, column {column}: {error}; mend the tree there") from None
    return parser.tree()


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            yield text[place], place  # an unclosed comment or quote: the parser says so
            return
        if match["token"] is not None:
            yield match["token"], place
        place = match.end()


class _Parser:
    """Takes one token after another; a stack instead of recursion, so that a tree may be as deep as it likes."""

    def __init__(self) -> None:
        self.parent: list[int] = []
        self.length: list[float | None] = []
        self.named: dict[str, int] = {}
        self.leaves: list[int] = []
        self.ancestors: list[int] = []
        self.stack: list[int] = []
        self.lowest = 0
        self.state = "start"

    def take(self, token: str) -> None:
        """One token. States: start (a node must begin), closed (a name may follow), named (only a length), length, end."""
        if self.state == "end":
            raise ValueError(f"{token!r} after the tree's end: one tree is expected")
        if token in ("[", "'"):
            raise ValueError(f"{token} is never closed")
        if self.state == "length":
            self._take_length(token)
        elif token == "(":
            self._open()
        elif token in (",", ")", ";"):
            self._close(token)
        elif token == ":":
            if self.state not in ("closed", "named"):
                raise ValueError("a length without a node")
            self.state = "length"
        else:
            self._take_name(token)

    def _new(self) -> int:
        if len(self.parent) >= _MAX_NODES:
            raise ValueError(f"more than {_MAX_NODES:,} nodes")
        self.parent.append(self.stack[-1] if self.stack else -1)
        self.length.append(None)
        return len(self.parent) - 1

    def _open(self) -> None:
        if self.state != "start":
            raise ValueError("'(' where ',' or ')' is expected")
        self.stack.append(self._new())

    def _close(self, token: str) -> None:
        if self.state == "start":
            raise ValueError(f"a leaf without a name before {token!r}")
        if (token == ";") != (not self.stack):
            raise ValueError("';' before all brackets are closed" if token == ";" else f"{token!r} outside of all brackets")
        if token == ")":
            self.node = self.stack.pop()
            self.lowest = len(self.stack)  # between two leaves brackets close before others open, so it only falls
        self.state = {",": "start", ")": "closed", ";": "end"}[token]

    def _take_name(self, token: str) -> None:
        name = token[1:-1].replace("''", "'") if token.startswith("'") else token.replace("_", " ")
        if self.state == "closed":
            self.state = "named"  # the name of an inner node, which nothing needs
            return
        if self.state != "start":
            raise ValueError(f"the name {name!r} where ',' or ')' is expected")
        if not name or name in self.named:
            raise ValueError(f"a second leaf {name!r}" if name else "an empty name")
        self.node = self.named[name] = self._new()
        if self.leaves:
            self.ancestors.append(self.stack[self.lowest - 1])
        self.leaves.append(self.node)
        self.lowest, self.state = len(self.stack), "named"

    def _take_length(self, token: str) -> None:
        try:
            length = float(token)
        except ValueError:
            raise ValueError(f"the length {token!r} isn't a number") from None
        if not math.isfinite(length) or length < 0:
            raise ValueError(f"the length {token} isn't a number from 0 on")
        self.length[self.node] = length
        self.state = "measured"

    def tree(self) -> Tree:
        if self.state != "end":
            raise BadInput("the text ends before the tree does (a tree ends with ';'); is the file cut off?")
        given = [length is not None for length in self.length[1:]]
        if any(given) and not all(given):
            raise BadInput(f"{given.count(False):,} of {len(given):,} branches have no length; give all of them one, or none")
        lengths = [length if any(given) else 1.0 for length in self.length]
        depth_V = np.zeros(len(self.parent))
        for node in range(1, len(self.parent)):
            depth_V[node] = depth_V[self.parent[node]] + (lengths[node] or 0.0)
        return Tree(tuple(self.named), depth_V[self.leaves], depth_V[self.ancestors])


# ---- distances, one row [G] for each genus ----


def genus_of(leaf: str) -> str:
    """The genus that a leaf stands for: its first word, so that leaves may be genera or species.

    >>> genus_of("Quercus robur"), genus_of("Quercus")
    ('Quercus', 'Quercus')
    """
    return leaf.split()[0] if leaf.split() else leaf


def tree_distances(tree: Tree, genera: Sequence[str]) -> Iterator[NDArray[np.float64]]:
    """Mean length of the way between a leaf of one genus and a leaf of the other; 0 to itself, NaN where one isn't in the tree.

    The last common ancestor of two leaves is the highest one that lies between neighbours from the one to the other.
    """
    position = {genus: index for index, genus in enumerate(genera)}
    genus_L = np.array([position.get(genus_of(leaf), -1) for leaf in tree.leaves], dtype=np.int64)
    wanted = np.flatnonzero(genus_L >= 0)
    genus_L, depth_L = genus_L[wanted], tree.depth_L[wanted]
    between = np.minimum.reduceat(tree.between[: wanted[-1]], wanted[:-1]) if len(wanted) > 1 else np.zeros(0)
    leaves_G = np.bincount(genus_L, minlength=len(genera))
    for index in range(len(genera)):
        sums_G = np.zeros(len(genera))
        for leaf in np.flatnonzero(genus_L == index):
            after = np.minimum.accumulate(between[leaf:])
            before = np.minimum.accumulate(between[:leaf][::-1])[::-1]
            ancestor_L = np.concatenate([before, [depth_L[leaf]], after])
            sums_G += np.bincount(genus_L, depth_L + depth_L[leaf] - 2 * ancestor_L, minlength=len(genera))
        with np.errstate(invalid="ignore", divide="ignore"):
            row_G = np.where(leaves_G * leaves_G[index] > 0, sums_G / (leaves_G * leaves_G[index]), np.nan)
        row_G[index] = 0.0 if leaves_G[index] else np.nan
        yield row_G


def rank_distances(parents: Mapping[str, Sequence[str | None]], genera: int) -> Iterator[NDArray[np.float64]]:
    """`RANK_DISTANCES` from the parents of each genus (rank -> [G]); an unknown parent is nobody's."""
    codes = {}
    for rank in RANK_DISTANCES:
        names = {name: code for code, name in enumerate(dict.fromkeys(name for name in parents[rank] if name))}
        codes[rank] = np.array([names.get(name, -1) if name else -1 for name in parents[rank]], dtype=np.int64)
    for index in range(genera):
        row_G = np.full(genera, APART)
        for rank, distance in reversed(RANK_DISTANCES.items()):
            if codes[rank][index] >= 0:
                row_G[codes[rank] == codes[rank][index]] = distance
        row_G[index] = 0.0
        yield row_G
