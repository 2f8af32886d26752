"""Load a model and name photographs: the door for Python, the command line and the server. No torch unless a run is loaded.

Shapes: B pictures, H × W pixels, M metadata inputs, C classes, S specimens.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taxakey.artifacts import hash_of, kind_of
from taxakey.calibration import Calibration, Decisions
from taxakey.calibration.decisions import calibration_mark
from taxakey.calibration.told_shares import ESTIMATE, require_room, told_shares
from taxakey.calibration.validation import raw_signs
from taxakey.dataset.preprocess import Preprocess
from taxakey.errors import BadImage, BadInput, MissingArtifact, needs_extra
from taxakey.metadata.encoder import MetadataEncoder
from taxakey.metadata.observation import Known, terms
from taxakey.prediction.bundle import Bundle, is_bundle
from taxakey.prediction.fusion import Fusion
from taxakey.prediction.scorers import Scorer, TorchScorer, torch_device
from taxakey.serving.answers import Answer, Answers
from taxakey.serving.cost_list import CostList
from taxakey.serving.deciding import Deciding, Rule
from taxakey.serving.ensembles import EnsembleScorer, PreparedForAll, is_ensemble
from taxakey.serving.fusing import Teller, Told
from taxakey.serving.restriction import Restriction, restrict
from taxakey.taxonomy import Taxonomy

Photograph = Path | str | bytes
"""A file, or the bytes of one."""
Specimen = Photograph | Sequence[Photograph]
"""One photograph, or several of the same specimen."""

DEFAULT_BATCH_SIZE = 32
FINGERPRINT_DIGITS = 16


class Identifier:
    """Names photographs. Made by `load`; may be used from several threads at once.

    `fingerprint` is the start of the SHA-256 of the trained weights: a run and the bundle exported from it have the same, unless
    it was made smaller.
    """

    def __init__(
        self,
        scorer: Scorer,
        taxonomy: Taxonomy,
        preprocess: Preprocess | PreparedForAll,
        calibration: Calibration | None,
        *,
        fingerprint: str,
        metadata: MetadataEncoder | None = None,
        decisions: Decisions | None = None,
        fusion: Fusion | None = None,
        decode_threads: int | None = None,
    ) -> None:
        self.scorer = scorer
        self.taxonomy = taxonomy
        self.preprocess = preprocess
        self.calibration = calibration
        self.fingerprint = fingerprint
        self.metadata = metadata
        self.decisions = decisions
        self.restriction: Restriction | None = None
        self.shares: str | None = None
        """What probabilities are corrected for, in a sentence for people."""
        self.asked = Deciding()
        self._answers = self._make_answers()
        self.teller = Teller(metadata, fusion)
        self._scaling = (calibration or Calibration()).bind(taxonomy)
        self._decode_threads = decode_threads or min(8, os.cpu_count() or 1)

    def _make_answers(self) -> Answers:
        chosen = self.restriction.taxonomy if self.restriction else self.taxonomy
        decider = self.asked.bind(chosen, self.decisions)
        return Answers(self.taxonomy, self.calibration, decider=decider, restriction=self.restriction, shares=self.shares)

    def only(self, wanted: str | Restriction) -> Identifier:
        """The same model for some of its species: "flora.csv", "flora.csv:Costa Rica", "Rosaceae" (see `restriction.restrict`).

        Every answer then says so. Raises BadInput where none of them is left.
        """
        other = copy.copy(self)
        other.restriction = restrict(self.taxonomy, wanted) if isinstance(wanted, str) else wanted
        other._answers = other._make_answers()
        return other

    def deciding(self, rule: Rule | None, costs: str | None = None) -> Identifier:
        """The same model with another rule: "argmax", "roll-up" (its default where it has decisions.json), or "least-cost" with
        `costs` "poison" (FungiCLEF's Track 3) or a file of them (see `cost_list`). Raises BadInput."""
        other = copy.copy(self)
        listed = CostList.read(Path(costs)) if costs not in (None, "poison") else None
        if listed is not None and len(strangers := listed.strangers(self.taxonomy)) == len(
            {n for pair in listed.cost for n in pair}
        ):
            raise BadInput(f"{costs}: none of its {len(strangers):,} names is a species of this model")
        other.asked = Deciding(rule, listed if costs != "poison" else "poison")
        other._answers = other._make_answers()
        return other

    def with_shares(
        self,
        told: str,
        photographs: Sequence[Specimen] = (),
        *,
        known: Known | Sequence[Known] = (),
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> Identifier:
        """The same model where species are more or less frequent than in training: a file of shares, or "estimate" from these
        photographs, all of which are then scored (see `calibration.told_shares`). Every answer says so.

        Raises BadInput for a model that doesn't know what it was trained on, and what `told_shares` raises.
        """
        counts_C = self.decisions.train_images if self.decisions else ()
        if not counts_C:
            raise BadInput(
                "this model doesn't say how many pictures of each species it learnt from; run `taxakey calibrate` on its run, "
                "then export again"
            )
        plain, scores_IC, specimen_I = self.calibration or Calibration(), None, None
        if told == ESTIMATE:
            scores_IC, specimen_I = self._all_scores(photographs, known, batch_size)
        basis = self.decisions.shares if self.decisions else None
        found = told_shares(told, plain, self.taxonomy, counts_C, scores_IC, specimen_I, basis)
        other = copy.copy(self)
        twice = f" {self.teller.counted_twice}" if found.corrected and self.teller.counted_twice else ""
        other._scaling, other.shares = found.calibration.bind(self.taxonomy), f"{found.meaning}{twice}"
        other._answers = other._make_answers()
        return other

    def _all_scores(
        self, photographs: Sequence[Specimen], known: Known | Sequence[Known], batch_size: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Raw scores of all photographs that can be read [I, C], and of which item each is, from 0 without gaps [I]."""
        require_room(len(photographs), len(self.taxonomy))
        waiting: deque[_Pending] = deque()  # keeps them alive, so that no two have one id
        decoded = self._decoded(photographs, self._told_each(known), waiting, ahead=2 * batch_size)
        items: dict[int, int] = {}
        specimens, found = [], []
        while batch := list(islice(decoded, batch_size)):
            good = [(pending, pixels) for pending, pixels in batch if not isinstance(pixels, BadImage)]
            if good:
                found.append(self._scores(np.stack([pixels for _, pixels in good]), [pending.told for pending, _ in good]))
            specimens += [items.setdefault(id(pending), len(items)) for pending, _ in good]
        if not found:
            raise BadInput("shares are estimated from photographs, and none of these can be read")
        return np.concatenate(found), np.array(specimens)

    @property
    def rule(self) -> Rule | None:
        """What decides; None where nothing does."""
        return self.asked.rule or ("roll-up" if self.decisions else None)

    @property
    def plan(self) -> dict[str, str | None]:
        """What of decisions and restriction shapes an answer, for who goes on with answers that were begun."""
        costs = self.asked.costs
        return {
            "decide": self.rule,
            "costs": costs if costs is None or isinstance(costs, str) else costs.fingerprint,
            "decisions": self.decisions.fingerprint if self.decisions else None,
            "only": self.restriction.taxonomy.fingerprint if self.restriction else None,
            "shares": calibration_mark(self._scaling.calibration) if self.shares else None,
        }

    @property
    def unsure_below(self) -> float:
        """An answer whose first species has less than this probability is called unsure."""
        return self._answers.unsure_below

    @property
    def takes(self) -> tuple[str, ...]:
        """What the model can be told of a photograph, in Darwin Core's terms: the keys of `Known`. Often nothing."""
        return terms(self.teller.asks)

    def identify(
        self,
        photographs: Iterable[Specimen],
        *,
        known: Known | Sequence[Known] = (),
        top: int = 5,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> list[Answer]:
        """One answer per item, in order; an item is a path, the bytes of a file, or a list of them for one specimen.

        Several photographs of a specimen: mean of their probabilities, unless a fusion beside the model says otherwise. `known`:
        what is known besides of all items, or of each (see `takes`), such as {"eventDate": "2024-05-31"}; BadInput says what is
        wrong with it. Raises BadImage for the first picture that can't be read; `identify_each` hands such failures over as
        values instead.
        """
        answers = []
        for _, answer in self.identify_each(photographs, known=known, top=top, batch_size=batch_size):
            if isinstance(answer, BadImage):
                raise answer
            answers.append(answer)
        return answers

    def identify_each(
        self,
        photographs: Iterable[Specimen],
        *,
        known: Known | Sequence[Known] = (),
        top: int = 5,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> Iterator[tuple[Specimen, Answer | BadImage]]:
        """Yield each item with its answer, or with what is wrong with one of its pictures, in order and as they are done.

        For any number of items: pictures are decoded ahead by threads while the model computes, and batches of `batch_size`
        pictures run across specimens.
        """
        if isinstance(photographs, (str, bytes, Path)):
            raise BadInput("identify takes a list of photographs; put the one into a list: identify([photograph])")
        if top < 1 or batch_size < 1:
            raise BadInput(f"top is {top} and batch_size {batch_size}; both must be at least 1")
        if isinstance(known, Sequence) and known and isinstance(photographs, Sized) and len(known) != len(photographs):
            raise BadInput(f"{len(known)} entries are known of {len(photographs)} photographs; give one for each, or one for all")
        waiting: deque[_Pending] = deque()
        batch: list[tuple[_Pending, NDArray[np.float32]]] = []
        told = self._told_each(known)
        for pending, pixels in self._decoded(photographs, told, waiting, ahead=2 * batch_size):
            if isinstance(pixels, BadImage):
                pending.fail(pixels)
            else:
                batch.append((pending, pixels))
            if len(batch) == batch_size:
                self._score(batch)
            yield from self._finished(waiting, top)
        self._score(batch)
        yield from self._finished(waiting, top)

    def identify_pixels(self, pixels_B3HW: NDArray[np.float32], *, told: Told | None = None, top: int = 5) -> Answer:
        """The answer for one specimen whose pictures are prepared already, [B, 3, H, W]; `told`: by `tell`."""
        told = told or self.tell({})
        scores_BC = self._scores(pixels_B3HW, [told] * len(pixels_B3HW))
        answer_C = told.answer(self._scaling.probabilities(scores_BC))
        raw_12 = self._raw_signs(scores_BC).mean(axis=0, keepdims=True)
        return self._answers.from_probabilities(answer_C[None], top, [len(pixels_B3HW)], raw_12)[0]

    def _raw_signs(self, scores_BC: NDArray[np.float32]) -> NDArray[np.float64]:
        return raw_signs(scores_BC, self.taxonomy, self.decisions.likeness if self.decisions else None)

    def tell(self, known: Known) -> Told:
        """What is known of one specimen, for the network and for the fusion. Raises BadInput for bad values."""
        return self.teller.tell(known)

    def _told_each(self, known: Known | Sequence[Known]) -> Iterator[Told]:
        if isinstance(known, Mapping):
            return repeat(self.tell(known))
        return map(self.tell, chain(known, [] if known else repeat({})))

    def _scores(self, pixels_B3HW: NDArray[np.float32], told: Sequence[Told]) -> NDArray[np.float32]:
        rows = [one.inputs_M for one in told if one.inputs_M is not None]
        return self.scorer.scores(pixels_B3HW, np.stack(rows)) if rows else self.scorer.scores(pixels_B3HW)

    def _decoded(
        self, photographs: Iterable[Specimen], told: Iterator[Told], waiting: deque[_Pending], ahead: int
    ) -> Iterator[tuple[_Pending, NDArray[np.float32] | BadImage]]:
        queue: deque[tuple[_Pending, Future[NDArray[np.float32] | BadImage]]] = deque()
        pool = ThreadPoolExecutor(self._decode_threads, "decode")
        try:
            for item in photographs:
                pending = _Pending(item, self._next(told))
                waiting.append(pending)
                for source in pending.sources:
                    queue.append((pending, pool.submit(self._load, source)))
                while len(queue) > ahead:
                    first, future = queue.popleft()
                    yield first, future.result()
            for last, future in queue:
                yield last, future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _next(self, told: Iterator[Told]) -> Told:
        try:
            return next(told)
        except StopIteration:
            raise BadInput("`known` has fewer entries than there are photographs; give one for each, or one for all") from None

    def _load(self, source: Photograph) -> NDArray[np.float32] | BadImage:
        try:
            return self.preprocess.load(Path(source) if isinstance(source, str) else source)
        except BadImage as error:
            return error

    def _score(self, batch: list[tuple[_Pending, NDArray[np.float32]]]) -> None:
        """Run the model on the batch, hand each picture's probabilities to its specimen, and empty the batch."""
        if not batch:
            return
        scores_BC = self._scores(np.stack([pixels for _, pixels in batch]), [pending.told for pending, _ in batch])
        raw_B2 = self._raw_signs(scores_BC)
        for (pending, _), probabilities_C, raw_2 in zip(batch, self._scaling.probabilities(scores_BC), raw_B2, strict=True):
            pending.add(probabilities_C, raw_2)
        batch.clear()

    def _finished(self, waiting: deque[_Pending], top: int) -> Iterator[tuple[Specimen, Answer | BadImage]]:
        done = []
        while waiting and waiting[0].left == 0:
            done.append(waiting.popleft())
        good = [pending for pending in done if pending.error is None]
        answers: Iterator[Answer] = iter(())
        if good:
            answers_SC = np.stack([pending.answer() for pending in good])
            raw_S2 = np.stack([pending.raw_2 / len(pending.sources) for pending in good])
            answers = iter(self._answers.from_probabilities(answers_SC, top, [len(p.sources) for p in good], raw_S2))
        for pending in done:
            yield pending.item, pending.error or next(answers)


class _Pending:
    """A specimen some of whose pictures are still to be decoded or scored."""

    def __init__(self, item: Specimen, told: Told) -> None:
        self.item, self.told = item, told
        self.sources: list[Photograph] = [item] if isinstance(item, (str, bytes, Path)) else list(item)
        if not self.sources:
            raise BadInput("a specimen has no photograph; leave its empty list out")
        self.left = len(self.sources)
        self.error: BadImage | None = None
        self.raw_2 = np.zeros(2)
        self._gathered = told.gather()

    def add(self, probabilities_C: NDArray[np.float64], raw_2: NDArray[np.float64]) -> None:
        self.raw_2 = self.raw_2 + raw_2
        self._gathered.add(probabilities_C)
        self.left -= 1

    def fail(self, error: BadImage) -> None:
        self.error = self.error or error
        self.left -= 1

    def answer(self) -> NDArray[np.float64]:
        return self._gathered.answer()


# ---- loading ----


def load(path: Path | str, device: str = "cpu", *, threads: int | None = None) -> Identifier:
    """Load an exported bundle (onnxruntime), or a run, its model/ folder, an ensemble's folder or one of folds (torch, imported
    only then).

    `device`: cpu, cuda, or auto for the GPU where there is one; `threads`: processor threads for the model of a bundle, all
    cores when None.
    Raises MissingArtifact or BadInput when it isn't a model, TaxonomyMismatch when its files don't belong together.
    """
    folder = Path(path)
    if not folder.exists():
        raise MissingArtifact(f"{folder}: no such folder; give a run, its model/ folder or an exported bundle")
    if folder.is_file():
        raise BadInput(f"{folder}: a file, not a folder; give the folder it lies in, {folder.parent}")
    if is_bundle(folder):
        return _load_bundle(folder, device, threads)
    for model in (folder, folder / "model"):
        if (model / "model.safetensors").is_file() and (model / "config.json").is_file():
            return _load_trained(model, device)
    if is_ensemble(folder):
        return _load_ensemble(folder, device)
    raise MissingArtifact(f"{folder}: not a model ({_contents(folder)}); give a run, its model/ folder or an exported bundle")


def _contents(folder: Path) -> str:
    if kind := kind_of(folder):
        return f"it holds a finished {kind}"
    names = sorted(entry.name for entry in folder.iterdir())
    return f"it holds {', '.join(names[:5])}{' …' if len(names) > 5 else ''}" if names else "it is empty"


def _load_bundle(folder: Path, device: str, threads: int | None) -> Identifier:
    bundle = Bundle.open(folder, device, threads=threads)
    return Identifier(
        bundle.scorer,
        bundle.taxonomy,
        bundle.preprocess,
        bundle.calibration,
        fingerprint=_fingerprint(bundle),
        metadata=bundle.metadata,
        decisions=bundle.decisions,
        fusion=Fusion.beside(folder, bundle.taxonomy.fingerprint),
    )


def _fingerprint(bundle: Bundle) -> str:
    """That of the trained weights; of a bundle in fewer bits or for fewer species, which answers differently, one of its own."""
    weights = bundle.manifest.inputs["weights"]
    if bundle.precision != "fp32" or bundle.only is not None:
        weights = hashlib.sha256(f"{weights} {bundle.precision} {bundle.manifest.taxonomy}".encode()).hexdigest()
    return weights[:FINGERPRINT_DIGITS]


def _load_ensemble(folder: Path, device: str) -> Identifier:
    with needs_extra("train"):
        from taxakey.prediction.namer import Namer
    scorer = EnsembleScorer(Namer.open(folder, None, device=torch_device(device)))
    return Identifier(scorer, scorer.taxonomy, scorer.preprocess, None, fingerprint=scorer.fingerprint[:FINGERPRINT_DIGITS])


def _load_trained(folder: Path, device: str) -> Identifier:
    with needs_extra("train"):
        from taxakey.training.checkpoint import load_model
    device = torch_device(device)
    model = load_model(folder, device=device)
    return Identifier(
        TorchScorer(model.network, device=device),
        model.taxonomy,
        model.preprocess,
        model.calibration,
        fingerprint=hash_of(folder / "model.safetensors")[:FINGERPRINT_DIGITS],
        metadata=model.metadata,
        decisions=model.decisions,
        fusion=Fusion.beside(folder, model.taxonomy.fingerprint),
    )
