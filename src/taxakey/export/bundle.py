"""A bundle: a trained model as a folder that runs without torch, refused where its answers differ from the trained ones."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from taxakey.artifacts import Manifest, Plan, finish, hash_of, read_manifest, start, write_json, write_parquet, write_text
from taxakey.calibration import Calibration
from taxakey.calibration.decisions import FILE as DECISIONS_FILE
from taxakey.errors import BadInput, ExportMismatch, needs_extra
from taxakey.export import onnx_file, phone_file
from taxakey.export.onnx_file import OPSET, TOLERANCE
from taxakey.export.pictures import DrawnPictures, Pictures, validation_pictures
from taxakey.export.precisions import PRECISIONS, Precision, write_dynamic, write_halved, write_narrow_weights
from taxakey.export.runtimes import FILES
from taxakey.export.sparing import write_sparing
from taxakey.export.verification import Measured, verify
from taxakey.metadata.encoder import FILE as METADATA_FILE
from taxakey.metadata.observation import terms
from taxakey.prediction.fusion import FILE as FUSION_FILE
from taxakey.prediction.fusion import Fusion
from taxakey.serving.restriction import restrict

if TYPE_CHECKING:
    from torch import nn

    from taxakey.training.checkpoint import Model

MEASURED_FILE = "measured.json"
_USES = {
    "onnx": "    taxakey serve THIS_FOLDER\n    taxakey identify THIS_FOLDER photographs/",
    "executorch": "An app runs it with ExecuTorch's runtime for Android or iOS, built with XNNPACK and the portable operators;\n"
    "taxakey itself doesn't. The same names in the same order are `label_names` of `config.json`.",
}
Format = Literal["onnx", "executorch"]
_WIDTHS = {
    "fp32": "float32",
    "fp16": "weights in float16, computed with in float32",
    "int8-weights": "weights in int8, computed with in float32",
    "int8-dynamic": "matrix products in int8",
    "int8": "products, sums and means in int8",
}


@dataclass(frozen=True)
class ExportOptions:
    """`precision`: of weights and products, see `precisions`. `only`: some of the species, see `serving.restriction.restrict`.

    `dataset`: whose validation pictures the bundle is judged on, and others of them calibrate int8, which asks for it;
    `pictures`: how many for each. `agreement`: share of pictures that must keep their best class; of fp32 all log-probabilities
    must be the same (TOLERANCE). `format`: onnx for servers and programs, executorch for phones, in fp32 alone.
    """

    precision: Precision = "fp32"
    only: str | None = None
    dataset: Path | None = None
    pictures: int = 256
    agreement: float = 0.98
    format: Format = "onnx"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise BadInput(f"precision is {self.precision!r}; one of {', '.join(PRECISIONS)}")
        if self.format not in FILES:
            raise BadInput(f"format is {self.format!r}; one of {', '.join(FILES)}")
        if self.format != "onnx" and self.precision != "fp32":
            raise BadInput(f"{self.precision} is for --format onnx; {self.format} is written in fp32: leave out --precision")
        if self.pictures < 1 or not 0 < self.agreement <= 1:
            raise BadInput(f"pictures is {self.pictures} and agreement {self.agreement}; at least 1, and above 0 to 1")
        if self.precision == "int8" and self.dataset is None:
            raise BadInput("int8 takes its ranges from validation pictures: name the dataset (--dataset), or take int8-dynamic")


def export(model_folder: Path | str, out: Path | str, options: ExportOptions | None = None) -> Manifest:
    """Write the bundle of a run or of its model/ folder into `out`.

    model.onnx (input `pixels` float32 [B, 3, H, W], any B; output `scores` float32 [B, C], unnormalised log-probabilities; a
    model that takes metadata has a second input `metadata` float32 [B, M] and metadata.json, which says what it means),
    taxonomy.parquet, config.json, calibration.json and decisions.json (if the model has them), measured.json, README.md,
    manifest.json. For phones model.pte instead, the same for B = 1. Raises ExportMismatch, and leaves nothing, when the answers
    of onnxruntime, or of ExecuTorch, aren't torch's.
    """
    options = options or ExportOptions()
    with needs_extra("export" if options.format == "onnx" else "phone"):
        _import_packages(options.format)

        from taxakey.export.pruned_model import prune
        from taxakey.training.checkpoint import load_model
    out = Path(out)
    model = load_model(model_folder)
    network: nn.Module = model.network
    notes: tuple[str, ...] = ()
    if options.only is not None:
        smaller = prune(model, restrict(model.taxonomy, options.only))
        model, network, notes = smaller.model, smaller.whole, smaller.notes
    plan = _plan(model, options)
    if start(out, plan) == "finished":
        return read_manifest(out, "bundle")
    try:
        measured, spared = _write_model(model, network, out / FILES[options.format], options)
    except (ExportMismatch, BadInput):
        _removed(out, FILES[options.format])
        raise
    return _finish(model, out, plan, measured, (*spared, *notes))


def _import_packages(wanted: Format) -> None:
    """All that is needed below, so that what lacks is said before the model is loaded."""
    if wanted == "executorch":
        with onnx_file.quiet_exporter():  # it warns that it is experimental
            import executorch.runtime  # noqa: F401
    else:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401 - needed by torch's exporter


def _plan(model: Model, options: ExportOptions) -> Plan:
    from taxakey.prediction.opened import fold_of

    files = {"weights": "model.safetensors", "config": "config.json", "calibration": "calibration.json"}
    files |= {"decisions": DECISIONS_FILE, "metadata": METADATA_FILE, "fusion": FUSION_FILE}
    inputs = {name: hash_of(model.folder / file) for name, file in files.items() if (model.folder / file).is_file()}
    recipe: dict[str, object] = {"opset": OPSET} if options.format == "onnx" else {"format": options.format}
    recipe |= {"tolerance": TOLERANCE, "precision": options.precision}
    if options.dataset is not None:
        inputs["dataset"] = hash_of(options.dataset)
        recipe["pictures"] = options.pictures
    if options.precision != "fp32":
        recipe["agreement"] = options.agreement
    if options.only is not None:
        recipe |= {"only": options.only, "taxonomy": model.taxonomy.fingerprint}
    if fold := fold_of(model):
        recipe["fold"] = fold
    return Plan("bundle", inputs=inputs, recipe=recipe)


def _write_model(model: Model, network: nn.Module, file: Path, options: ExportOptions) -> tuple[Measured, tuple[str, ...]]:
    """Write the file, compared with `network`, which the answers must be those of; what was measured, and what was spared."""
    size, told = model.preprocess.input_size, model.metadata.width if model.metadata else 0
    judged: Pictures = DrawnPictures(size, told)
    fitted: Pictures = judged
    if options.dataset is not None:
        judged, fitted = validation_pictures(options.dataset, options.pictures, model.preprocess, model.metadata)
    spared: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".partial") as aside:
        whole = file if options.precision == "fp32" else Path(aside) / file.name
        write = onnx_file.write_onnx if options.format == "onnx" else phone_file.write_pte
        write(model.network, size, whole, metadata=told)
        onnx_file.check(network, size, whole, classes=len(model.taxonomy), metadata=told)
        if options.precision == "fp16":
            write_halved(whole, file)
        elif options.precision == "int8-weights":
            write_narrow_weights(whole, file)
        elif options.precision == "int8-dynamic":
            write_dynamic(whole, file)
        elif options.precision == "int8":
            spared = _spared(write_sparing(whole, file, fitted, options.agreement))
    calibration = (model.calibration or Calibration()).bind(model.taxonomy)
    agreement = None if options.precision == "fp32" else options.agreement
    return verify(network, file, judged, calibration, agreement=agreement), spared


def _spared(nodes: list[str]) -> tuple[str, ...]:
    return (f"{len(nodes)} layers compute in float32, because int8 harmed them most",) if nodes else ()


def _removed(out: Path, name: str) -> None:
    """A refused bundle leaves no file and, where nothing else is in it, no folder."""
    for file in [*out.glob(f"{name}*"), out / "plan.json"]:
        file.unlink(missing_ok=True)
    if not any(out.iterdir()):
        out.rmdir()


def _finish(model: Model, out: Path, plan: Plan, measured: Measured, notes: tuple[str, ...]) -> Manifest:
    from taxakey.frontier.measuring import multiply_adds, parameters

    write_parquet(out / "taxonomy.parquet", model.taxonomy.table)
    write_json(out / "config.json", dict(model.config))
    if model.calibration is not None:
        model.calibration.write(out / "calibration.json")
    if model.decisions is not None:
        model.decisions.write(out / DECISIONS_FILE)
    if model.metadata is not None:
        model.metadata.write(out)
    if "only" in plan.recipe:
        notes += ("without fusion.json, which weighs all species",) if (model.folder / FUSION_FILE).is_file() else ()
    elif (fusion := Fusion.beside(model.folder, model.taxonomy.fingerprint)) is not None:
        fusion.write(out / FUSION_FILE)
    notes = (*measured.notes, *notes)
    write_json(out / MEASURED_FILE, asdict(measured))
    write_text(out / "README.md", _card(model, plan.recipe, notes))
    counts = {"classes": len(model.taxonomy), "bytes": measured.bytes}
    counts |= {"parameters": parameters(model), "multiply_adds": multiply_adds(model)}
    return finish(out, plan, counts=counts, taxonomy=model.taxonomy.fingerprint, notes=notes)


def _scaling(model: Model) -> str:
    calibration = model.calibration
    if calibration is None or (calibration.method == "temperature" and not calibration.share_shift):
        return "Probabilities are softmax(scores / temperature), with the temperature of `calibration.json`."
    return "Probabilities are made of them as `calibration.json` says; `taxakey.calibration` documents its fields."


def _card(model: Model, recipe: Mapping[str, object], notes: tuple[str, ...]) -> str:
    _, height, width = model.preprocess.input_size
    wanted = str(recipe.get("format", "onnx"))
    many = "any number" if wanted == "onnx" else "1"
    own = model.folder / "README.md"
    about = own.read_text(encoding="utf-8") if own.is_file() else ""
    told = ""
    if model.metadata is not None:
        told = (
            f"\nIts second input is `metadata` float32 [as many, {model.metadata.width}], encoded as `{METADATA_FILE}` says: "
            f"{', '.join(terms(model.metadata))}.\nWhat isn't known may be left out."
        )
    said = "\n".join(f"* {note}" for note in (f"precision {recipe['precision']}: {_WIDTHS[str(recipe['precision'])]}", *notes))
    return (
        f"""# {model.config.get("architecture", "A model")}, {len(model.taxonomy):,} species, exported

`{FILES[wanted]}` takes `pixels` float32 [{many}, 3, {height}, {width}], prepared as `config.json` says (`pretrained_cfg`),
and gives `scores` float32 [as many, {len(model.taxonomy)}]: unnormalised log-probabilities in the order of
`taxonomy.parquet`. {_scaling(model)}{told}

It was compared with the trained network:

{said}

{_USES[wanted]}

A model's opinion, not an expert's; never eat by it.

{"About the model it was made from:" if "only" in recipe and about else ""}

{about}""".rstrip()
        + "\n"
    )
