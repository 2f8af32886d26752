"""A model for some of its species. Shapes: B pictures, C classes of the whole model, A kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taxakey.calibration import Calibration, Decisions
from taxakey.calibration.decisions import calibration_mark
from taxakey.models.backbones import Network
from taxakey.models.heads import Head
from taxakey.models.pruning import pruned
from taxakey.serving.restriction import Restriction
from taxakey.taxonomy import Taxonomy
from taxakey.training.checkpoint import Model


@dataclass(frozen=True, eq=False)
class Pruned:
    """`model`: without the other species' weights. `whole`: the whole network's scores of the same species, to be compared with.
    `notes`: what it can't do any more, in sentences."""

    model: Model
    whole: nn.Module
    notes: tuple[str, ...]


class Columns(nn.Module):
    """Some of a network's scores [B, A]."""

    def __init__(self, network: nn.Module, kept_A: NDArray[np.int64]) -> None:
        super().__init__()
        self.network, self.kept_A = network, torch.from_numpy(kept_A)

    def forward(self, *given: Tensor) -> Tensor:
        return self.network(*given)[:, self.kept_A]


def prune(model: Model, restriction: Restriction) -> Pruned:
    """The species of the restriction alone; see `models.pruning` for what heads can do it.

    What was fitted on validation goes along where it means the same for fewer species: the temperature, shares of classes and the
    thresholds of ranks, as when a whole model's answers are restricted. What looks at all species goes, and the notes say so.
    """
    taxonomy = restriction.taxonomy
    assert isinstance(model.network.head, Head)
    network = Network(model.network.backbone, pruned(model.network.head, restriction.allowed_A)).eval()
    calibration, notes = _calibration(model.calibration, taxonomy)
    decisions, further = _decisions(model.decisions, calibration, restriction, same=not notes)
    smaller = replace(
        model,
        network=network,
        taxonomy=taxonomy,
        calibration=calibration,
        decisions=decisions,
        config=_config(model, taxonomy),
    )
    origin = f"only {len(taxonomy):,} of the model's {restriction.of:,} species are in it: {restriction.origin}"
    if restriction.unknown:
        origin += f"; {len(restriction.unknown):,} of the {restriction.listed:,} species listed there are unknown to the model"
    measured = ("thresholds were measured with all species",) if calibration is not None else ()
    return Pruned(smaller, Columns(model.network, restriction.allowed_A), (origin, *measured, *notes, *further))


def _calibration(calibration: Calibration | None, taxonomy: Taxonomy) -> tuple[Calibration | None, tuple[str, ...]]:
    if calibration is None:
        return None, ()
    known = set(taxonomy.names)
    shift = {name: value for name, value in calibration.share_shift.items() if name in known}
    if calibration.method == "temperature":
        return replace(calibration, share_shift=shift), ()
    note = f"calibrated by one temperature: that by {calibration.method} looks at the probabilities of all species"
    plain = replace(calibration, rank_temperatures={}, bin_knots=(), bin_factors=(), share_shift=shift)
    return plain, (note,)


def _decisions(
    decisions: Decisions | None, calibration: Calibration | None, restriction: Restriction, *, same: bool
) -> tuple[Decisions | None, tuple[str, ...]]:
    """`same`: the probabilities are the whole model's, restricted."""
    if decisions is None or calibration is None:
        return None, ()
    if not same:
        return None, ("without decisions.json: its thresholds belong to the other calibration",)
    flags = [name for name in ("unknown", "organism") if getattr(decisions, name) is not None]
    taxonomy, images = restriction.taxonomy, decisions.train_images
    by_taxon = {rank: _of_these(own, taxonomy.taxa(rank)) for rank, own in decisions.by_taxon.items()}
    by_species = decisions.set_by_species
    kept = replace(
        decisions,
        taxonomy=taxonomy.fingerprint,
        calibration=calibration_mark(calibration),
        by_taxon=by_taxon,
        set_by_species=None if by_species is None else _of_these(by_species, taxonomy.names),
        unknown=None,
        organism=None,
        train_images=tuple(images[index] for index in restriction.allowed_A) if images else (),
        shares=None if decisions.shares is None else decisions.shares.among(restriction.allowed_A),
    )
    said = f"without the flag{'s' if len(flags) > 1 else ''} {' and '.join(flags)}, which look at all species' scores"
    return kept, (said,) if flags else ()


def _of_these(thresholds: Any, names: tuple[str, ...]) -> dict[str, float]:
    return {name: thresholds[name] for name in names if name in thresholds}


def _config(model: Model, taxonomy: Taxonomy) -> dict[str, Any]:
    config = dict(model.config)
    classes = len(taxonomy) if config["num_classes"] else 0
    config |= {"num_classes": classes, "label_names": list(taxonomy.names)}
    config["pretrained_cfg"] = {**config["pretrained_cfg"], "num_classes": classes}
    config["taxakey"] = {**config["taxakey"], "taxonomy": taxonomy.fingerprint}
    return config
