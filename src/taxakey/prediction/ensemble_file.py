"""`ensemble.json`: which models an ensemble has and how their answers become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from taxakey.artifacts import read_json, write_json
from taxakey.calibration.scaling import Nest
from taxakey.errors import BadInput, MissingArtifact
from taxakey.prediction.combining import Rule
from taxakey.taxonomy import Taxonomy

FILE = "ensemble.json"
_RANKS = ("family", "genus", "species")


@dataclass(frozen=True)
class EnsembleFile:
    """`models`: the members' folders, in order; `formula` and `weights` as in `combining.Rule`, classes and ranks by name.

    `of_crops`: members that answered several crops of each picture.
    """

    path: Path
    members: tuple[str, ...]
    models: tuple[Path, ...]
    formula: str
    weights: Any
    of_crops: tuple[str, ...] = ()

    def require_whole_pictures(self) -> None:
        """Raise BadInput where weights were fitted for crops: on new pictures members see whole ones."""
        if self.of_crops:
            raise BadInput(
                f"{self.path}: {self.of_crops[0]} answered several crops of each picture, and an ensemble names new ones from "
                "whole pictures; run `taxakey ensemble` without it"
            )

    def rule(self, taxonomy: Taxonomy) -> Rule:
        """The rule for the classes of a taxonomy. Raises BadInput for weights that don't fit."""
        try:
            if self.formula == "per class":
                rows = [self._of(self.weights[name]) for name in taxonomy.names]
                return Rule("per class", np.array(rows))
            if self.formula == "per rank":
                rows = [self._of(self.weights[rank]) for rank in _RANKS]
                return Rule("per rank", np.array(rows), Nest.of(taxonomy))
            if self.formula in ("mean", "geometric"):
                return Rule("mean" if self.formula == "mean" else "geometric", np.array(self._of(self.weights)))
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{self.path}: not the weights of {len(self.members)} members ({error!r}); write it again") from None
        raise BadInput(f"{self.path}: unknown formula {self.formula!r}; write it again with this version")

    def _of(self, weights: Mapping[str, float]) -> list[float]:
        return [float(weights[name]) for name in self.members]


def write_ensemble_file(
    folder: Path,
    rule: Rule,
    members: Sequence[str],
    models: Sequence[str | None],
    taxonomy: Taxonomy,
    of_crops: Sequence[str] = (),
) -> None:
    """Write the file; `models`: None where a member's model isn't known."""
    who = {"members": list(members), "models": list(models), **({"of_crops": list(of_crops)} if of_crops else {})}
    write_json(folder / FILE, {**who, **rule.to_json(members, taxonomy)})


def ensemble_at(path: Path | str) -> EnsembleFile | None:
    """The ensemble in a folder, or in its predictions/; None where there is none.

    Raises MissingArtifact where a member's model isn't where it was.
    """
    for folder in (Path(path), Path(path) / "predictions"):
        if (folder / FILE).is_file():
            content = read_json(folder / FILE)
            try:
                members, models = tuple(map(str, content["members"])), tuple(Path(model or "-") for model in content["models"])
                crops = tuple(map(str, content.get("of_crops", ())))
                found = EnsembleFile(folder / FILE, members, models, content["formula"], content["weights"], crops)
            except (KeyError, TypeError) as error:
                raise BadInput(f"{folder / FILE}: not an ensemble ({error!r}); run `taxakey ensemble` again") from None
            if lost := [name for name, model in zip(found.members, found.models, strict=True) if not model.is_dir()]:
                raise MissingArtifact(f"{folder / FILE}: the model of {lost[0]} isn't where it was; run `taxakey ensemble` again")
            return found
    return None
