"""A tiny bundle whose answers can be worked out by hand: species are colours, scores are nearness to them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from taxakey.artifacts import Plan, finish, start, write_json, write_parquet
from taxakey.calibration import Calibration, Decisions
from taxakey.calibration.decisions import Rejection, calibration_mark
from taxakey.calibration.roll_up import RankRule
from taxakey.dataset.preprocess import Preprocess
from taxakey.export import write_onnx
from taxakey.metadata.encoder import MetadataEncoder, MetadataOptions
from taxakey.taxonomy import Taxonomy

SPECIES = [
    # name, author, genus, family, vernacular name, poisonous, colour
    ("Aconitum napellus", "L.", "Aconitum", "Ranunculaceae", "monkshood", True, (60, 40, 160)),
    ("Aconitum variegatum", "L.", "Aconitum", "Ranunculaceae", "", True, (90, 70, 200)),
    ("Bellis perennis", "L.", "Bellis", "Asteraceae", "daisy", False, (235, 235, 225)),
    ("Calendula officinalis", "L.", "Calendula", "Asteraceae", "pot marigold", False, (240, 150, 20)),
    ("Caltha palustris", "L.", "Caltha", "Ranunculaceae", "marsh marigold", True, (240, 210, 30)),
    ("Tussilago farfara", "L.", "Tussilago", "Asteraceae", "coltsfoot", False, (250, 230, 60)),
]
COLOURS = {name: colour for name, *_, colour in SPECIES}
SHARPNESS = 60.0
TEMPERATURE = 2.0
UNSURE_BELOW = 0.62
MEASURED = {"target_precision": 0.9, "precision": 0.93, "precision_low": 0.9, "coverage": 0.71, "observations": 412}
PREPROCESS = Preprocess(input_size=(3, 32, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_pct=1.0)


class Colours(torch.nn.Module):
    """score = -SHARPNESS * squared distance of the mean colour (0 to 1) from the species' own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("colours_C3", torch.tensor([colour for *_, colour in SPECIES]) / 255)

    def forward(self, pixels_B3HW: torch.Tensor) -> torch.Tensor:
        mean_B3 = (pixels_B3HW * 0.5 + 0.5).mean((2, 3))
        return -SHARPNESS * (mean_B3[:, None, :] - self.colours_C3[None]).square().sum(2)


KNOWN = MetadataEncoder(MetadataOptions(categories=("habitat",)), {"habitat": ("bog", "garden")})
"""Inputs: date 5, place 8, then bog, garden, unknown."""


class ToldColours(Colours):
    """The same, and a bog speaks for Caltha palustris, April for Tussilago farfara, by far more than any colour."""

    def forward(self, pixels_B3HW: torch.Tensor, metadata_BM: torch.Tensor) -> torch.Tensor:
        speaking_BC = torch.nn.functional.one_hot(torch.tensor(4), 6) * metadata_BM[:, 13:14]
        speaking_BC = speaking_BC + torch.nn.functional.one_hot(torch.tensor(5), 6) * metadata_BM[:, 0:1].clamp(min=0)
        return super().forward(pixels_B3HW) + 1000 * speaking_BC


def expected_probabilities(colour: tuple[int, int, int]) -> np.ndarray:
    """What the bundle must answer for a picture of one colour, by plain arithmetic."""
    own = np.array([c for *_, c in SPECIES]) / 255
    scores = -SHARPNESS * ((np.array(colour) / 255 - own) ** 2).sum(axis=1) / TEMPERATURE
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def make_taxonomy() -> Taxonomy:
    keys = ("scientificName", "scientificNameAuthorship", "genus", "family", "vernacularName", "poisonous")
    return Taxonomy.from_rows(
        [{**dict(zip(keys, row[:6], strict=True)), "kingdom": "Plantae", "taxonID": f"t{i}"} for i, row in enumerate(SPECIES)]
    )


RULE = {"precision": 0.97, "precision_low": 0.95, "coverage": 0.5, "observations": 400}
BETWEEN, GREY, GREEN, YELLOW = (75, 55, 180), (128, 128, 128), (0, 255, 0), (246, 222, 48)
"""Between two Aconitum; far from all, yet like an Aconitum variegatum; like no species; between Caltha and Tussilago."""


def make_decisions(**changes: Any) -> Decisions:
    """Of 0.7 to the species, of 0.9 to genus and family; energies as worked out from the colours."""
    return Decisions(
        **{
            "taxonomy": make_taxonomy().fingerprint,
            "calibration": calibration_mark(Calibration(TEMPERATURE)),
            "precision": 0.95,
            "confidence": 0.95,
            "observations": 412,
            "roll_up": {"species": RankRule(0.7, **RULE), "genus": RankRule(0.9, **RULE), "family": RankRule(0.9, **RULE)},
            "coverage": 0.9,
            "set_threshold": 0.1,
            "unknown": Rejection("energy", -6.0),
            "organism": Rejection("energy", -20.0),
            **changes,
        }
    )


def write_bundle(folder: Path, *, calibrated: bool = True, told: bool = False, decisions: Decisions | None = None) -> Path:
    taxonomy = make_taxonomy()
    plan = Plan("bundle", inputs={"weights": "0123456789abcdef" * 4})
    start(folder, plan)
    if told:
        write_onnx(ToldColours(), PREPROCESS.input_size, folder / "model.onnx", metadata=KNOWN.width)
        KNOWN.write(folder)
    else:
        write_onnx(Colours(), PREPROCESS.input_size, folder / "model.onnx")
    write_parquet(folder / "taxonomy.parquet", taxonomy.table)
    config = {
        "architecture": "colours",
        "num_classes": 6,
        "pretrained_cfg": PREPROCESS.to_config(),
        "label_names": taxonomy.names,
    }
    write_json(folder / "config.json", config)
    if calibrated:
        Calibration(TEMPERATURE, UNSURE_BELOW, MEASURED).write(folder / "calibration.json")
    if decisions is not None:
        decisions.write(folder / "decisions.json")
    finish(folder, plan, counts={"classes": 6}, taxonomy=taxonomy.fingerprint)
    return folder


def picture(colour: tuple[int, int, int], *, size: tuple[int, int] = (80, 60), format: str = "JPEG") -> bytes:
    """Bytes of a picture of one colour (a JPEG of this quality is off by one level at most)."""
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, format, quality=100)
    return stream.getvalue()
