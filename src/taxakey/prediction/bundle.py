"""An exported bundle, opened and checked. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from taxakey.artifacts import Manifest, kind_of, read_json, read_manifest
from taxakey.calibration import Calibration, Decisions
from taxakey.dataset.preprocess import Preprocess
from taxakey.errors import BadInput, TaxonomyMismatch
from taxakey.metadata.encoder import FILE as METADATA_FILE
from taxakey.metadata.encoder import MetadataEncoder
from taxakey.prediction.scorers import OnnxScorer
from taxakey.taxonomy import Taxonomy

FILE = "model.onnx"


@dataclass(frozen=True, eq=False)
class Bundle:
    """What `taxakey export` wrote. `metadata`: how to encode the further input of the scorer, None where it takes none."""

    folder: Path
    scorer: OnnxScorer
    taxonomy: Taxonomy
    preprocess: Preprocess
    calibration: Calibration | None
    metadata: MetadataEncoder | None
    decisions: Decisions | None
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path | str, device: str = "cpu", *, threads: int | None = None) -> Bundle:
        """Raises BadInput and TaxonomyMismatch where its files don't belong together. `threads`: as `OnnxScorer` has it."""
        folder = Path(folder)
        manifest = read_manifest(folder, "bundle")
        if (written := manifest.recipe.get("format", "onnx")) != "onnx":
            raise BadInput(f"{folder}: exported for phones ({written}), and run there; for here: taxakey export RUN BUNDLE")
        taxonomy = Taxonomy.read(folder / "taxonomy.parquet")
        taxonomy.require_same(manifest.taxonomy or "", mine=folder / "taxonomy.parquet", theirs=folder / "manifest.json")
        scorer = OnnxScorer(folder / FILE, device=device, threads=threads)
        preprocess, names = _config(folder)
        _check_classes(folder, taxonomy, {"config.json": names, FILE: scorer.classes})
        if scorer.picture is not None and scorer.picture != preprocess.input_size:
            raise BadInput(
                f"{folder}: {FILE} takes pictures of {scorer.picture} and config.json says {preprocess.input_size}; "
                "run `taxakey export` again"
            )
        metadata = MetadataEncoder.read(folder)
        if (wanted := metadata.width if metadata else 0) != scorer.metadata:
            raise BadInput(
                f"{folder}: {FILE} takes {scorer.metadata} numbers of metadata and {METADATA_FILE} gives {wanted}; "
                "run `taxakey export` again"
            )
        calibration_file = folder / "calibration.json"
        calibration = Calibration.read(calibration_file) if calibration_file.is_file() else None
        decisions = Decisions.beside(folder, taxonomy, calibration)
        return cls(folder, scorer, taxonomy, preprocess, calibration, metadata, decisions, manifest)

    @property
    def precision(self) -> str:
        return str(self.manifest.recipe.get("precision", "fp32"))

    @property
    def only(self) -> str | None:
        """What chose its species, where it hasn't all of its model."""
        return self.manifest.recipe.get("only")


def is_bundle(folder: Path | str) -> bool:
    """A finished one, or one that says what is wrong when it is opened."""
    return kind_of(folder) == "bundle" or (Path(folder) / FILE).is_file()


def weight_files(folder: Path | str) -> list[Path]:
    """The ONNX file, and that of large weights beside it."""
    return sorted(Path(folder).glob(f"{FILE}*"))


def _config(folder: Path) -> tuple[Preprocess, int]:
    """How pictures are prepared, and how many names there are."""
    config = read_json(folder / "config.json")
    try:
        return Preprocess.from_config(config["pretrained_cfg"]), len(config["label_names"])
    except (KeyError, TypeError) as error:
        raise BadInput(f"{folder / 'config.json'}: lacks {error}; run `taxakey export` again") from None


def _check_classes(folder: Path, taxonomy: Taxonomy, counts: dict[str, int | None]) -> None:
    for file, count in counts.items():
        if count is not None and count != len(taxonomy):
            raise TaxonomyMismatch(
                f"{folder / file} has {count} classes and {folder / 'taxonomy.parquet'} {len(taxonomy)}; "
                "run `taxakey export` again"
            )
