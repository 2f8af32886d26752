"""What `fusion.json` holds, and how it is applied: numpy and scipy only. Shapes: I images, O observations, C classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from taxakey.artifacts import read_json, write_text
from taxakey.dataset.crops import CropOptions
from taxakey.errors import BadInput
from taxakey.metadata.encoder import MetadataEncoder, MetadataOptions
from taxakey.prediction.fusion.exponents import GREATEST, Floats, fused
from taxakey.prediction.fusion.pictures import Pictures, Rule
from taxakey.prediction.fusion.season_place import PlaceEvidence
from taxakey.prediction.fusion.words import WordEvidence

FILE = "fusion.json"
"""What it is called beside a model and in the predictions that were made with it."""
_FORMAT = 1
Evidence = WordEvidence | PlaceEvidence


@dataclass(frozen=True, eq=False)
class Fusion:
    """What was kept: how pictures of an observation are combined, and what is multiplied in, with its exponents.

    `judged`: what was tried on validation, and its gains (see `judging`).
    """

    taxonomy: str
    """Fingerprint of the classes that it speaks of."""
    rule: Rule = field(default_factory=Rule)
    evidence: tuple[Evidence, ...] = ()
    exponents: tuple[float, ...] = ()
    crops: CropOptions | None = None
    judged: Sequence[dict[str, Any]] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if len(self.evidence) != len(self.exponents) or len({e.name for e in self.evidence}) < len(self.evidence):
            raise BadInput("each kind of evidence has one exponent, and stands there once")
        if not all(0 <= exponent <= GREATEST for exponent in self.exponents):
            raise BadInput(f"an exponent that isn't between 0 and {GREATEST:g}")

    def of_pictures(self, pictures: Pictures) -> Floats:
        """The pictures of each observation as one answer, [O, C]."""
        return self.rule.combined(pictures)

    def with_known(self, probabilities_OC: Floats, known: pa.Table) -> Floats:
        """The answers [O, C] with what is known besides, a row each; columns may be missing and values null."""
        ratios = [evidence.log_ratio(known) for evidence in self.evidence]
        return fused(probabilities_OC, ratios, self.exponents) if ratios else probabilities_OC

    @property
    def asks(self) -> MetadataEncoder | None:
        """What it can be told, in the form in which models say so; None where it takes nothing."""
        words = {e.column: e.words for e in self.evidence if isinstance(e, WordEvidence) and e.column != "month"}
        place = any(isinstance(e, PlaceEvidence) for e in self.evidence)
        date = place or any(e.name == "month" for e in self.evidence)
        if not (date or words):
            return None
        return MetadataEncoder(MetadataOptions(date, "sphere" if place else None, tuple(words)), words)

    def write(self, path: Path | str) -> None:
        """Write `fusion.json`, atomically, a line for each of its keys: counts of many species would be as many lines."""
        content: dict[str, Any] = {
            "format": _FORMAT,
            "taxonomy": self.taxonomy,
            "rule": asdict(self.rule),
            "crops": self.crops and asdict(self.crops),
            "exponents": {evidence.name: exponent for evidence, exponent in zip(self.evidence, self.exponents, strict=True)},
            "judged": list(self.judged),
            "classes": self.evidence[0].classes if self.evidence else 0,
        }
        content |= {f"counts {e.name}": e.to_json() for e in self.evidence}
        lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}" for key, value in content.items()]
        write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")

    @classmethod
    def read(cls, path: Path | str) -> Fusion:
        """Read `fusion.json`; raises BadInput where it isn't one."""
        content = read_json(path)
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise BadInput(f"{path}: not a fusion of format {_FORMAT}; run `taxakey fuse` again")
        try:
            exponents, classes = content["exponents"], int(content["classes"])
            evidence = tuple(_evidence(name, content[f"counts {name}"], classes) for name in exponents)
            rule = Rule(content["rule"]["name"], {key: float(value) for key, value in content["rule"]["slopes"].items()})
            crops = CropOptions(**content["crops"]) if content["crops"] else None
            values = tuple(float(value) for value in exponents.values())
            return cls(str(content["taxonomy"]), rule, evidence, values, crops, tuple(content["judged"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"{path}: damaged ({error!r}); run `taxakey fuse` again") from None
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from None

    @classmethod
    def beside(cls, model: Path, taxonomy: str) -> Fusion | None:
        """The fusion in a model's folder, or None; BadInput where it is of other classes, or of crops, which need the command."""
        file = model / FILE
        if not file.is_file():
            return None
        fusion = cls.read(file)
        if fusion.taxonomy != taxonomy:
            raise BadInput(f"{file}: fitted for other classes than this model's; run `taxakey fuse` again, or delete it")
        if fusion.crops:
            raise BadInput(f"{file}: fitted for {fusion.crops.count} crops, and here pictures are looked at whole; fuse without")
        return fusion


def _evidence(name: str, content: dict[str, Any], classes: int) -> Evidence:
    if "kilometres" in content:
        return PlaceEvidence.from_json(content, classes)
    evidence = WordEvidence.from_json(content, classes)
    if evidence.name != name:
        raise ValueError(f"the counts of {name} are those of {evidence.name}")
    return evidence
