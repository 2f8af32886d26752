"""Delivered names -> accepted species of a checklist; what can't be decided is listed with reason and candidates, never guessed.

A name goes through these steps until one finds it: its words exactly; the spellings that the Code counts as one; near spellings
in its genus; near spellings of a genus that isn't there. A name below species that isn't found at all is sought again by its
species. In each step hybrid sign, rank and author choose among several rows; where they leave several taxa, nothing is matched.

Shapes: N distinct delivered names, P pairs of one of them and a row of the checklist.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taxakey.records.naming.candidates import AGREEMENTS, Pairs, Search, best_of_name, first_of_name, normal_kingdom, several
from taxakey.records.naming.checklist import ACCEPTED, Checklist
from taxakey.records.naming.delivered_names import distinct_names
from taxakey.records.naming.matches import DELIVERED, MATCH_TYPES, MATCHED, UNMATCHED, Matches, MatchType
from taxakey.records.naming.scientific_name import parse_names, words_of

HOMONYMS, EQUALLY_NEAR = "homonyms of several taxa", "several taxa are spelled equally nearly"
NO_GENUS, NO_SPECIES = "its genus isn't in the checklist", "its genus is in the checklist, its species isn't"
OTHER_KINGDOM, NO_PARENT = "only in another kingdom", "its accepted species isn't in the checklist"
PRO_PARTE = "a synonym of several taxa (pro parte)"

_BY_AUTHOR = {"equal": 1.0, "compatible": 0.98, "unknown": 0.95, "differs": 0.8}
_ROLLED_UP, _OTHER_RANK, _OTHER_SIGN = 0.9, 0.9, 0.95
_SHOWN = 3


@dataclass(frozen=True)
class MatchOptions:
    """What may be matched.

    `roll_up`: an accepted name below species stands for its species; `fuzzy`: also names that are spelled nearly the same;
    `prefer_accepted`: a name without author that is accepted for one taxon and a synonym of others stands for the first. Botany
    forbids to use a later homonym, but people did, so this is a choice of the user's and has a match type of its own.
    """

    roll_up: bool = True
    fuzzy: bool = True
    prefer_accepted: bool = False


def match_names(table: pa.Table, checklist: Checklist, options: MatchOptions | None = None) -> Matches:
    """Match the distinct names of `table`: scientificName and, where known, scientificNameAuthorship, taxonRank, kingdom, family.

    Raises BadInput where there is no column scientificName.
    """
    names = distinct_names(table)
    return _Matching(names, checklist, options or MatchOptions()).run()


class _Matching:
    """The state of one run: what is known of each name so far."""

    def __init__(self, names: pa.Table, checklist: Checklist, options: MatchOptions) -> None:
        self.names, self.checklist, self.options = names, checklist, options
        self.search = Search(checklist)
        self.parsed = parse_names(names["scientificName"], names["scientificNameAuthorship"], names["taxonRank"])
        self.open_N = self.parsed["problem"].is_null().to_numpy()
        self.row_N = np.full(len(names), -1)
        self.type_N = np.full(len(names), MATCH_TYPES.index("unmatched"))
        self.score_N = np.zeros(len(names), dtype=np.float32)
        self.reasons: list[str | None] = self.parsed["problem"].to_pylist()
        self.candidates: dict[int, list[int]] = {}
        goal = checklist.table["species" if options.roll_up else "accepted"].to_numpy().astype(np.int64)
        pro_parte = pc.match_substring_regex(checklist.table["taxonomicStatus"], "pro ?parte")
        self.goal_R = np.where(pc.fill_null(pro_parte, False).to_numpy(), -1, goal)

    def run(self) -> Matches:
        self._show_exact(self._queries(self.parsed["problem"].is_valid().to_numpy()))
        for rolled_up in (False, True):
            below = self.parsed["infraspecific"].is_valid().to_numpy()
            scope_N = below if rolled_up else np.ones(len(self.names), dtype=bool)
            self._step("exact", scope_N, rolled_up)
            self._step("spelling variant", scope_N, rolled_up)
            if self.options.fuzzy:
                self._step("fuzzy", scope_N, rolled_up)
                self._step("fuzzy genus", scope_N, rolled_up)
        self._explain()
        return Matches(self._matched(), self._unmatched())

    def _queries(self, wanted_N: NDArray[np.bool_], *, species: bool = False) -> pa.Table:
        """What is sought for some names; `species`: the species of names below it."""
        parsed = self.parsed
        words = words_of(parsed, species=species)
        hybrid = pc.is_in(parsed["hybrid"], pa.array(["genus", "species"])) if species else pc.is_valid(parsed["hybrid"])
        rank = pc.if_else(pc.is_valid(words), "species", None) if species else parsed["rank"]
        author = parsed["species_author"] if species else parsed["author"]
        kingdom, family = normal_kingdom(self.names["kingdom"]), self.names["family"]
        numbers = pa.chunked_array([pa.array(np.arange(len(self.names)))])
        columns = (numbers, words, author, rank, hybrid, kingdom, family)
        table = pa.table(list(columns), names=["number", "words", "author", "rank", "hybrid", "kingdom", "family"])
        return table.filter(pc.and_(pa.array(wanted_N), pc.is_valid(table["words"].combine_chunks())))

    def _show_exact(self, names: pa.Table) -> None:
        """Names that can't be matched whatever the checklist holds: what they would be is shown, no more."""
        pairs = self.search.exact(names)
        self._note_candidates(pairs, pairs.author_P)

    def _step(self, step: MatchType, scope_N: NDArray[np.bool_], rolled_up: bool) -> None:
        names = self._queries(self.open_N & scope_N, species=rolled_up)
        if not len(names):
            return
        find = {
            "exact": self.search.exact,
            "spelling variant": self.search.spelled,
            "fuzzy": self.search.nearly,
            "fuzzy genus": self.search.nearly_genus,
        }[step]
        pairs = find(names)
        cost_P = 2 * pairs.edits_P + np.array([0, 0, 1, 2])[pairs.author_P]
        if step == "fuzzy":
            self._note_candidates(pairs, cost_P)
            enough = self.search.near_enough(pairs, names)
            pairs, cost_P = pairs.keep(enough), cost_P[enough]
        elif step == "fuzzy genus":
            self._note_candidates(pairs, cost_P)
            enough = self.search.same_genus_spelling(pairs, names)
            pairs, cost_P = pairs.keep(enough), cost_P[enough]
        order = (cost_P, pairs.sign_P, pairs.rank_P)
        if step == "exact":
            order = (pairs.sign_P, pairs.rank_P, np.array([0, 1, 2, 2])[pairs.author_P])
        self._settle(pairs, order, step, rolled_up)

    def _note_candidates(self, pairs: Pairs, cost_P: NDArray[np.int64]) -> None:
        for place in np.lexsort((pairs.row_P, cost_P, pairs.name_P)):
            shown = self.candidates.setdefault(int(pairs.name_P[place]), [])
            if len(shown) < _SHOWN and pairs.row_P[place] not in shown:
                shown.append(int(pairs.row_P[place]))

    # ---- choosing among rows ----

    def _settle(self, pairs: Pairs, order: tuple[NDArray[np.int64], ...], step: MatchType, rolled_up: bool) -> None:
        """For each name the rows that are best by `order`; one taxon among them is a match, several are not."""
        best = pairs.keep(best_of_name(pairs.name_P, order))
        taxon_P = np.where(self.goal_R[best.row_P] >= 0, self.goal_R[best.row_P], -best.row_P - 2)
        best, taxon_P = self._by_family(best, taxon_P)
        preferred = np.zeros(0, dtype=np.int64)
        if self.options.prefer_accepted:
            best, taxon_P, preferred = self._accepted_of_homonyms(best, taxon_P)
        divided = several(best.name_P, taxon_P)
        for number in np.unique(best.name_P[divided]):
            self.type_N[number] = MATCH_TYPES.index("ambiguous")
            self.reasons[number] = HOMONYMS if step == "exact" else EQUALLY_NEAR
            self.candidates[number] = [int(row) for row in best.row_P[best.name_P == number]]
        # Of several rows that lead to one taxon, the accepted name itself, else the first.
        own = pc.equal(self.checklist.table["link"].take(pa.array(best.row_P)), ACCEPTED).to_numpy().astype(np.int64)
        single = best.keep(~divided)
        first = single.keep(first_of_name(single.name_P, (1 - own[~divided], single.row_P)))
        self._record(first, step, rolled_up, preferred)
        self.open_N[best.name_P] = False

    def _by_family(self, pairs: Pairs, taxon_P: NDArray[np.int64]) -> tuple[Pairs, NDArray[np.int64]]:
        """Among accepted names of several families (a plant and a bird), the delivered family decides.

        Not among synonyms: their row has the family of the accepted name, which may not be that of the genus as written.
        """
        divided = several(pairs.name_P, taxon_P)
        table = self.checklist.table
        accepted = pc.equal(table["link"].take(pa.array(pairs.row_P)), ACCEPTED).to_numpy()
        mine = self.names["family"].take(pa.array(pairs.name_P))
        agrees = pc.fill_null(pc.equal(mine, table["family"].take(pa.array(pairs.row_P))), False).to_numpy()
        has_synonym = np.isin(pairs.name_P, pairs.name_P[~accepted])
        decided = divided & ~has_synonym & np.isin(pairs.name_P, pairs.name_P[agrees])
        keep = ~decided | agrees
        return pairs.keep(keep), taxon_P[keep]

    def _accepted_of_homonyms(
        self, pairs: Pairs, taxon_P: NDArray[np.int64]
    ) -> tuple[Pairs, NDArray[np.int64], NDArray[np.int64]]:
        """Of homonyms that no author decides only the accepted ones are kept, where there are any; and whose names these are."""
        accepted = pc.equal(self.checklist.table["link"].take(pa.array(pairs.row_P)), ACCEPTED).to_numpy()
        undecided = several(pairs.name_P, taxon_P) & (pairs.author_P == AGREEMENTS.index("unknown"))
        some = undecided & np.isin(pairs.name_P, pairs.name_P[accepted])
        keep = ~some | accepted
        return pairs.keep(keep), taxon_P[keep], np.unique(pairs.name_P[some])

    def _record(self, pairs: Pairs, step: MatchType, rolled_up: bool, preferred: NDArray[np.int64]) -> None:
        letters = np.array(
            [len(text) for text in self.checklist.table["words"].take(pa.array(pairs.row_P)).to_pylist()], dtype=float
        )
        by_author = np.array([_BY_AUTHOR[agreement] for agreement in AGREEMENTS])
        score = (1 - pairs.edits_P / np.maximum(letters, 1)) * by_author[pairs.author_P]
        score *= (
            np.where(pairs.sign_P, _OTHER_SIGN, 1) * np.where(pairs.rank_P, _OTHER_RANK, 1) * (_ROLLED_UP if rolled_up else 1)
        )
        every = np.ones(len(letters), dtype=bool)
        kinds: dict[MatchType, NDArray[np.bool_]] = {
            "exact": every,
            "without author": pairs.author_P == AGREEMENTS.index("unknown"),
            "hybrid sign ignored": pairs.sign_P > 0,
            "rank differs": pairs.rank_P > 0,
            "author differs": pairs.author_P == AGREEMENTS.index("differs"),
            "accepted homonym": np.isin(pairs.name_P, preferred),
            "rolled up": every & rolled_up,
        }
        kinds |= {step: every}
        for kind in MATCH_TYPES:
            if kind in kinds:
                self.type_N[pairs.name_P[kinds[kind]]] = MATCH_TYPES.index(kind)
        self.row_N[pairs.name_P], self.score_N[pairs.name_P] = pairs.row_P, score

    # ---- results ----

    def _explain(self) -> None:
        """Why what is left wasn't matched: found and leading nowhere, or not found."""
        links = self.checklist.table["link"]
        for number in np.flatnonzero((self.row_N >= 0) & (self.goal_R[self.row_N] < 0)):
            row = int(self.row_N[number])
            accepted = self.checklist.table["accepted"][row].as_py() >= 0
            species = self.checklist.table["species"][row].as_py() >= 0
            self.type_N[number] = MATCH_TYPES.index("unmatched")
            self.reasons[number] = (PRO_PARTE if species else NO_PARENT) if accepted else links[row].as_py()
            self.candidates[int(number)] = [row]
        left = self._queries(self.open_N)
        genera = pc.list_element(pc.split_pattern(left["words"], " ", max_splits=1), 0)
        moved = self.search.elsewhere(left.filter(pc.invert(pc.is_in(genera, self.search.index.genus.dictionary))))
        self._note_candidates(moved, moved.author_P)
        kingdom = left.set_column(5, "kingdom", pa.chunked_array([pa.nulls(len(left), pa.string())]))
        elsewhere = {int(number) for number in self.search.exact(kingdom).name_P}
        for number, words in zip(left["number"].to_pylist(), left["words"].to_pylist(), strict=True):
            has_genus = len(self.search.index.rows_of(words.partition(" ")[0])) > 0
            self.reasons[number] = OTHER_KINGDOM if number in elsewhere else NO_SPECIES if has_genus else NO_GENUS

    def _delivered(self, numbers: NDArray[np.int64]) -> dict[str, pa.ChunkedArray]:
        names = self.names.take(pa.array(numbers))
        return {DELIVERED.get(column, column): names[column] for column in names.column_names} | {
            "matchType": pa.array(MATCH_TYPES).take(pa.array(self.type_N[numbers]))
        }

    def _matched(self) -> pa.Table:
        numbers = np.flatnonzero(self.type_N < MATCH_TYPES.index("ambiguous"))
        rows = self.row_N[numbers]
        goals = self.goal_R[rows]
        table, final = self.checklist.table, self.checklist.table.take(pa.array(goals))
        columns = self._delivered(numbers)
        columns |= {name: final[name] for name in MATCHED.names if name in final.column_names}
        columns |= {"acceptedNameUsageID": final["taxonID"], "matchScore": pa.array(self.score_N[numbers])}
        columns |= {name: table[name].take(pa.array(rows)) for name in ("taxonID", "link")}
        columns["path"] = self._paths(numbers, rows, goals)
        return pa.table([columns[field.name] for field in MATCHED], schema=MATCHED)

    def _paths(self, numbers: NDArray[np.int64], rows: NDArray[np.int64], goals: NDArray[np.int64]) -> pa.Array:
        """delivered name → found name → its accepted name → that one's species, without repetitions."""
        accepted = self.checklist.table["accepted"].to_numpy()[rows]
        names = self.names.take(pa.array(numbers))
        steps = [_labels(names), *(_labels(self.checklist.table.take(pa.array(some))) for some in (rows, accepted, goals))]
        return pa.array([" → ".join(dict.fromkeys(path)) for path in zip(*steps, strict=True)], pa.string())

    def _unmatched(self) -> pa.Table:
        numbers = np.flatnonzero(self.type_N >= MATCH_TYPES.index("ambiguous"))
        rows = self.row_N[numbers]
        ids = self.checklist.table["taxonID"].take(pa.array(np.where(rows >= 0, rows, 0)))
        columns = self._delivered(numbers) | {
            "reason": pa.array([self.reasons[number] for number in numbers], pa.string()),
            "taxonID": pc.if_else(pa.array(rows >= 0), ids, None),
            "candidates": self._candidates(numbers),
        }
        return pa.table([columns[field.name] for field in UNMATCHED], schema=UNMATCHED)

    def _candidates(self, numbers: NDArray[np.int64]) -> pa.Array:
        """Candidates as text: "Poa annua L. (accepted, 435194) | …"."""
        rows = [self.candidates.get(int(number), []) for number in numbers]
        some = self.checklist.table.take(pa.array([row for of_one in rows for row in of_one], pa.int64()))
        facts = zip(_labels(some), some["link"].to_pylist(), some["taxonID"].to_pylist(), strict=True)
        texts = iter([f"{label} ({link}, {taxon})" for label, link, taxon in facts])
        return pa.array([" | ".join(islice(texts, len(of_one))) or None for of_one in rows], pa.string())


def _labels(names: pa.Table) -> list[str]:
    """Names with their authors."""
    pairs = zip(names["scientificName"].to_pylist(), names["scientificNameAuthorship"].to_pylist(), strict=True)
    return [f"{name} {author}" if author else str(name) for name, author in pairs]
