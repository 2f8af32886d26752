"""Table 1 of BioMachina's paper (Carranza-Rojas et al., "Extreme Automatic Plant Identification Under Constrained Resources",
PlantCLEF 2022), beside the same models counted here. A megabyte (MB) is a million bytes, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from taxakey.models.backbones import BackboneOptions
from taxakey.models.head_options import HeadOptions
from taxakey.models.heads import BottleneckOptions, LinearOptions
from taxakey.models.trees import TreeOptions
from taxakey.size.network import BYTES_PER_NUMBER, Backbone, ClassList, NetworkSize, meta_head, network_size

SOURCE = "Carranza-Rojas et al., Extreme Automatic Plant Identification Under Constrained Resources, PlantCLEF 2022, Table 1"
CLASSES = 80_000
WIDTH, SLOTS = 128, 80
IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class Printed:
    """A row as the paper prints it: parameters in millions, memory in MB."""

    model: str
    pretraining: str
    softmax: str
    backbone: float
    final_layer: float
    total: float
    memory: float
    ma_mrr: float


PRINTED = (
    Printed("EfficientNetB4", "ImageNet", "normal", 19, 143.3, 160, 321.9, 0.412),
    Printed("HEfficientNetB4", "ImageNet", "hierarchical", 17.8, 10.4, 28.2, 56.4, 0.419),
    Printed("ResNet50", "ImageNet", "normal", 25.6, 163.84, 180, 749.7, 0.438),
    Printed("ResNet50", "web pictures", "normal", 25.6, 163.8, 180, 749.7, 0.460),
    Printed("ResNet101", "web pictures", "normal", 98, 163.8, 206, 825.6, 0.450),
)
_PRINTED_REDUCTION = 5.67

_TIMM_NAMES = {
    "EfficientNetB4": "efficientnet_b4",
    "HEfficientNetB4": "efficientnet_b4",
    "ResNet50": "resnet50",
    "ResNet101": "resnet101",
}
_TREE = TreeOptions(width=WIDTH, slots=SLOTS)


@dataclass(frozen=True)
class PaperTable:
    """The paper's rows, each with the same model counted here; and the control that the paper lacks."""

    rows: tuple[tuple[Printed, NetworkSize], ...]
    control: NetworkSize
    remarks: tuple[str, ...]


def paper_table() -> PaperTable:
    """Count the five models, with 80,000 classes as there, and EfficientNet-B4 with a flat head on the tree's bottleneck."""
    rows = tuple((row, _counted(_TIMM_NAMES[row.model], _head(row))) for row in PRINTED)
    control = _counted("efficientnet_b4", BottleneckOptions(width=WIDTH))
    return PaperTable(rows, control, _remarks({row.model: size for row, size in rows}, control))


def printed_precision(row: Printed, size: NetworkSize) -> str:
    """ "32-bit" or "16-bit": the one at which the model takes about the memory that was printed."""
    return min(BYTES_PER_NUMBER, key=lambda precision: abs(size.bytes_at(precision) / 1e6 - row.memory))


def _head(row: Printed) -> HeadOptions:
    return _TREE if row.softmax == "hierarchical" else LinearOptions()


def _counted(name: str, head: HeadOptions) -> NetworkSize:
    backbone = _backbone(name)
    return network_size(backbone, meta_head(_classes(), head, backbone.features))


@cache
def _backbone(name: str) -> Backbone:
    return Backbone(BackboneOptions(name=name))


@cache
def _classes() -> ClassList:
    return ClassList.numbered(CLASSES)


def _remarks(sizes: Mapping[str, NetworkSize], control: NetworkSize) -> tuple[str, ...]:
    flat, tree, r50, r101 = (sizes[model] for model in ("EfficientNetB4", "HEfficientNetB4", "ResNet50", "ResNet101"))
    features = _features(flat)
    return (
        f"EfficientNet-B4 gives {features:,} features, not 2,048 as the paper's text and Figure 2 say: its flat layer has "
        f"{_millions(flat.classifier)} parameters, not about 160 M. The printed 143.3 M comes from {features:,}.",
        "The printed backbones of EfficientNetB4 and ResNet50, 19 M and 25.6 M, are those with ImageNet's 1000-class layer "
        f"({_millions(_with_imagenet_classes(flat))} and {_millions(_with_imagenet_classes(r50))}), which is taken off before "
        f"training: {_millions(flat.backbone)} and {_millions(r50.backbone)} remain.",
        f"ResNet101's backbone has {_millions(r101.backbone)} parameters, not 98 M; the printed total, 206 M, agrees with that.",
        f"ResNet50 has {_millions(r50.total)} in all, not 180 M; the printed memory, 749.7 MB, agrees with that.",
        "The memory column mixes precisions: the EfficientNet rows are 16-bit, the ResNet rows 32-bit. Here both are given.",
        f"From flat to tree the parameters shrink {flat.total / tree.total:.2f} times, not {_PRINTED_REDUCTION} times. The "
        f"bottleneck does that, not the tree: a flat softmax on the same {WIDTH} numbers has {control.total:,} parameters, "
        f"{tree.total - control.total:,} fewer than the tree ({flat.total / control.total:.2f} times). What the tree saves is "
        f"arithmetic in training: {_after_bottleneck(tree):,} multiply-adds a picture after the bottleneck instead of "
        f"{_after_bottleneck(control):,}.",
    )


def _features(flat: NetworkSize) -> int:
    return flat.classifier // CLASSES - 1


def _with_imagenet_classes(flat: NetworkSize) -> int:
    return flat.backbone + (_features(flat) + 1) * IMAGENET_CLASSES


def _after_bottleneck(size: NetworkSize) -> int:
    return size.training_multiply_adds - (size.projection - WIDTH)


def _millions(number: int) -> str:
    return f"{number / 1e6:.1f} M"
