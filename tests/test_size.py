"""Sizes against the papers' figures, slow counts, real modules, and torch's own record of what it allocates.

Shapes: B images, C classes, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, get_args

import taxakey.torchvision_guard  # noqa: F401  before timm

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from taxakey.errors import BadInput, BadRecipe
from taxakey.losses.class_weighted import ClassWeightedOptions
from taxakey.losses.cross_entropy import CrossEntropy, CrossEntropyOptions
from taxakey.losses.decision import Answer
from taxakey.losses.loss_options import LossOptions
from taxakey.losses.marginal import MarginalOptions
from taxakey.losses.poisonous import PoisonousOptions
from taxakey.losses.seesaw import SeesawOptions
from taxakey.models.adaptive import AdaptiveOptions
from taxakey.models.backbones import BackboneOptions
from taxakey.models.cosine import ArcFaceOptions
from taxakey.models.factorised import FactorisedOptions
from taxakey.models.hashed import HashedOptions
from taxakey.models.head_options import HeadOptions
from taxakey.models.heads import BottleneckOptions, LinearOptions
from taxakey.models.mlp import MlpOptions
from taxakey.models.sampled import SampledOptions
from taxakey.models.targets import TargetOptions
from taxakey.models.trees import TreeOptions
from taxakey.models.tuning import TuningOptions, make_ready, set_modes
from taxakey.size import memory
from taxakey.size.comparison import compare, head_by_kind, parse_bytes, three_digits, with_controls
from taxakey.size.memory import StepMemory, Training, classes_that_fit
from taxakey.size.network import Backbone, ClassList, count_parameters, meta_head, network_size
from taxakey.size.paper import PaperTable, paper_table, printed_precision
from taxakey.taxonomy import Taxonomy
from taxakey.training.schedule import OptimizerOptions

B4, RESNET = 1792, 2048
HEADS: list[HeadOptions] = [
    LinearOptions(),
    BottleneckOptions(width=24),
    TreeOptions(width=24),
    TreeOptions(width=None),
    TreeOptions(width=24, sparse=True),
    AdaptiveOptions(width=24),
    HashedOptions(width=24),
    SampledOptions(width=24, share=0.3),
    SampledOptions(width=24, share=0.3, sparse=True),
    MlpOptions(hidden=24),
    ArcFaceOptions(centres=2),
]
adamw = OptimizerOptions().build


def short(value: Any) -> str:
    return "-".join(map(str, vars(value).values())) if hasattr(value, "kind") else "all" if value else "head"


def building(options: HeadOptions) -> Callable[[nn.Module | None, nn.Module], Any]:
    return OptimizerOptions(name="lazy_adamw" if getattr(options, "sparse", False) else "adamw").build


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    """timm keeps such networks for tests: 32 or so features, quickly computed."""
    return Backbone(BackboneOptions(name="test_efficientnet"))


@pytest.fixture(scope="module")
def paper() -> PaperTable:
    return paper_table()


@pytest.fixture
def with_families() -> ClassList:
    rows = [{"scientificName": f"s{n}", "genus": f"g{n // 5}", "family": f"f{n // 20}"} for n in range(97)]
    return ClassList(Taxonomy.from_rows(rows), np.ones(97, dtype=np.int64), named=True)


# ---- parameters ----


@pytest.mark.parametrize(
    ("options", "features", "projection", "classifier"),
    [
        (LinearOptions(), B4, 0, 143_440_000),
        (LinearOptions(), RESNET, 0, 163_920_000),
        (TreeOptions(slots=80), B4, 229_504, 10_449_000),
        (TreeOptions(slots=200), B4, 229_504, 10_371_600),
        (BottleneckOptions(), B4, 229_504, 10_320_000),
    ],
    ids=["flat-b4", "flat-resnet", "tree-1000x80", "tree-400x200", "bottleneck"],
)
def test_heads_of_80_000_classes_have_the_parameters_of_the_specification(
    options: HeadOptions, features: int, projection: int, classifier: int, tiny: Backbone
) -> None:
    size = network_size(tiny, meta_head(ClassList.numbered(80_000), options, features))
    assert (size.projection, size.classifier) == (projection, classifier)


def test_the_models_of_the_paper_have_the_totals_of_the_specification(paper: PaperTable) -> None:
    totals = [size.total for _, size in paper.rows]
    assert totals == [160_988_616, 28_227_120, 187_428_032, 187_428_032, 206_420_160]
    assert paper.control.total == 17_548_616 + 229_504 + 10_320_000


def test_printed_megabytes_are_found_at_the_precision_they_were_printed_in(paper: PaperTable) -> None:
    for printed, size in paper.rows:
        precision = printed_precision(printed, size)
        assert precision == ("16-bit" if "Efficient" in printed.model else "32-bit")
        assert size.bytes_at(precision) / 1e6 == pytest.approx(printed.memory, abs=0.11)


def test_remarks_carry_the_figures_that_correct_the_paper(paper: PaperTable) -> None:
    remarks = "\n".join(paper.remarks)
    for figure in ("1,792", "19.3 M", "23.5 M", "42.5 M", "187.4 M", "5.70 times", "129,000 fewer", "138,240", "10,240,000"):
        assert figure in remarks


@pytest.mark.parametrize("options", [*HEADS, FactorisedOptions(rank=8), TreeOptions(nodes="taxa")], ids=short)
def test_a_head_on_the_meta_device_has_the_shapes_and_work_of_the_real_one(
    options: HeadOptions, with_families: ClassList
) -> None:
    real, meta = with_families.head(options, 40), meta_head(with_families, options, 40)
    assert {name: p.shape for name, p in meta.named_parameters()} == {name: p.shape for name, p in real.named_parameters()}
    assert all(parameter.is_meta for parameter in meta.parameters())
    for training in (False, True):
        assert meta.multiply_adds(training=training) == real.multiply_adds(training=training)


def test_classifiers_for_further_targets_are_counted(with_families: ClassList, tiny: Backbone) -> None:
    targets = replace(with_families, targets=TargetOptions(ranks={"genus": 0.5, "family": 0.2}))
    further = (20 + 5) * (tiny.features + 1)
    for head in (LinearOptions(), TreeOptions(width=24)):
        plain, more = (network_size(tiny, meta_head(classes, head, tiny.features)) for classes in (with_families, targets))
        assert more.projection == plain.projection
        assert more.classifier - plain.classifier == further
        assert more.training_multiply_adds - plain.training_multiply_adds == 25 * tiny.features
        assert more.naming_multiply_adds == plain.naming_multiply_adds
        memory = StepMemory(tiny, Training(adamw, batch=8))
        assert memory.of(targets, head).gradients - memory.of(with_families, head).gradients == 4 * further


def test_every_kind_of_head_can_be_asked_for_by_its_name() -> None:
    for kind in get_args(HeadOptions):
        assert head_by_kind(kind().kind) == kind()
    assert head_by_kind("tree", sparse=True) == TreeOptions(sparse=True)
    with pytest.raises(BadInput, match="linear, bottleneck, tree"):
        head_by_kind("oak")


def test_a_tree_over_a_million_classes_without_names() -> None:
    head = meta_head(ClassList.numbered(1_000_000), TreeOptions(width=128, slots=80), B4)
    assert count_parameters(head) == B4 * 128 + 128 + (12_500 + 1_000_000) * 129


def test_heads_that_hang_on_names_want_names() -> None:
    for options in (FactorisedOptions(), TreeOptions(nodes="taxa")):
        with pytest.raises(BadInput, match="families and genera"):
            ClassList.numbered(50).head(options, 8)


def test_a_tree_that_needs_embeddings_for_its_order_is_sized_without_them(with_families: ClassList) -> None:
    listed = count_parameters(with_families.head(TreeOptions(order="listed"), 8))
    for options in (TreeOptions(order="clustered"), TreeOptions(order="random"), TreeOptions(nodes="clusters")):
        assert count_parameters(with_families.head(options, 8)) == listed


# ---- work ----


@pytest.mark.parametrize(
    ("name", "features", "side", "parameters", "billions"),
    [
        ("resnet50", 2048, 224, 23_508_032, 4.09),
        ("efficientnet_b4", 1792, 320, 17_548_616, 3.06),
        ("vit_base_patch16_224", 768, 224, 85_798_656, 17.56),
        ("vit_small_patch14_reg4_dinov2", 384, 518, 22_057_344, 46.88),
    ],
)
def test_families_of_backbones(name: str, features: int, side: int, parameters: int, billions: float) -> None:
    # Features, parameters (without classifier) and 10⁹ multiply-adds; the first and third are also those of timm's tables.
    backbone = Backbone(BackboneOptions(name=name))
    assert (backbone.features, backbone.input_size) == (features, (3, side, side))
    assert backbone.parameters == parameters
    assert backbone.multiply_adds / 1e9 == pytest.approx(billions, abs=0.01)


def test_multiply_adds_are_those_counted_layer_by_layer() -> None:
    module = timm.create_model("resnet18", num_classes=0).eval()
    counted = 0

    def count(layer: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal counted
        assert isinstance(layer, nn.Conv2d)
        counted += output[0].numel() * layer.weight[0].numel()

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        module(torch.zeros(1, 3, 96, 96))
    assert Backbone(BackboneOptions(name="resnet18", image_size=96)).multiply_adds == counted


def test_work_of_a_step_is_three_times_forward_of_what_is_trained(tiny: Backbone) -> None:
    size = network_size(tiny, meta_head(ClassList.numbered(100), TreeOptions(width=16, slots=10), tiny.features))
    head = tiny.features * 16 + 16 * (10 + 10)
    assert size.training(backbone=False) == 3 * head
    assert size.training(backbone=True) == 3 * (head + tiny.multiply_adds)
    assert size.naming == tiny.multiply_adds + tiny.features * 16 + 16 * (10 + 100)


def test_a_backbone_that_timm_does_not_know() -> None:
    with pytest.raises(BadRecipe, match="no model named"):
        Backbone(BackboneOptions(name="no_such_net"))


def test_pictures_that_a_backbone_cannot_take_are_refused_with_a_way_out() -> None:
    with pytest.raises(BadRecipe, match=r"patches of 16×16, and 100×100 isn't made of whole ones; say image_size 96×96"):
        Backbone(BackboneOptions(name="vit_tiny_patch16_224", image_size=100))
    with pytest.raises(BadInput, match=r"vgg11 can't take pictures of 16×16"):
        _ = Backbone(BackboneOptions(name="vgg11", image_size=16)).multiply_adds


def test_a_transformer_works_in_proportion_to_its_patches() -> None:
    small, large = (Backbone(BackboneOptions(name="test_vit", image_size=size)) for size in (64, (64, 128)))
    assert (small.input_size, large.input_size) == ((3, 64, 64), (3, 64, 128))
    assert large.multiply_adds > 1.9 * small.multiply_adds


# ---- memory ----


def test_adamw_on_a_flat_head_by_hand(tiny: Backbone) -> None:
    C, D, B = 50_000, tiny.features, 4
    found = StepMemory(tiny, Training(adamw, batch=B)).of(ClassList.numbered(C), LinearOptions())
    numbers = C * (D + 1)
    assert found.gradients == 4 * numbers
    assert found.optimizer == 8 * numbers + 2 * 4  # two moments, and a step number for weight and bias
    # torch's step for one parameter at a time holds two copies of it: the root of the second moment and its quotient.
    assert found.temporary == B * (4 * D + 8) + 2 * 4 * C * D
    assert found.moment == "optimiser's step"
    assert found.peak == found.weights + found.gradients + found.optimizer + found.temporary


def test_a_gpus_optimiser_copies_all_parameters_at_once(tiny: Backbone) -> None:
    C, d, D, B = 20_000, 500, tiny.features, 4
    training = Training(adamw, batch=B, device="cuda")
    found = StepMemory(tiny, training).of(ClassList.numbered(C), BottleneckOptions(width=d))
    # The roots of the second moments, of all weights that decay; biases make a second, smaller group.
    assert found.temporary == B * (4 * D + 8) + 4 * (C * d + d * D)
    assert found.weights == 4 * (C * d + d * D + C + d)  # the frozen backbone stays where it is


@pytest.mark.parametrize(
    ("options", "backbone_too"), [*((options, False) for options in HEADS), (HEADS[1], True), (HEADS[2], True)], ids=short
)
def test_a_heads_step_needs_what_torch_says_it_allocates(options: HeadOptions, backbone_too: bool, tiny: Backbone) -> None:
    classes, training = ClassList.numbered(800), Training(building(options), batch=16, backbone=backbone_too)
    trace = StepMemory(tiny, training)._head_trace(classes, options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        labels_B = torch.randint(800, (16,))
        features_BD = torch.randn(16, tiny.features).requires_grad_(backbone_too)
        head = classes.head(options, tiny.features)
        optimizer = training.build_optimizer(None, head)

        def forward() -> Tensor:
            decisions = head.decisions(features_BD, labels_B)
            return torch.stack([CrossEntropy().of_decision(decision).mean() for decision in decisions]).sum()

        peaks = allocated(head, forward, optimizer, features_BD)
    assert trace.state == pytest.approx(state_bytes(optimizer), abs=100)
    # Operations have workspaces of their own, which a head of 800 classes doesn't dwarf; the benchmark shows large ones.
    for mine, torchs in zip((trace.forward_I, trace.backward_I, trace.step_I), peaks, strict=True):
        assert mine.max() == pytest.approx(torchs, rel=0.1, abs=40_000)


LOSSES: list[tuple[LossOptions, ...]] = [
    (SeesawOptions(label_smoothing=0.1),),
    (ClassWeightedOptions(), PoisonousOptions(weight=0.1), MarginalOptions()),
]


@pytest.mark.parametrize("losses", LOSSES, ids=["seesaw", "list"])
@pytest.mark.parametrize("options", [LinearOptions(), TreeOptions(width=24)], ids=short)
def test_other_losses_need_what_torch_says_they_allocate(
    options: HeadOptions, losses: tuple[LossOptions, ...], tiny: Backbone
) -> None:
    C, B = 2_000, 32
    classes, training = ClassList.numbered(C), Training(adamw, batch=B, losses=losses)
    step = StepMemory(tiny, training)
    trace = step._head_trace(classes, options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        labels_B, features_BD = torch.randint(C, (B,)), torch.randn(B, tiny.features)
        head = classes.head(options, tiny.features)
        loss, optimizer = step._loss(classes, head), training.build_optimizer(None, head)
        peaks = allocated(head, lambda: loss(Answer(head, features_BD, labels_B)).mean(), optimizer)
    # Within log Σ exp torch holds its terms, which no tensor shows: one buffer more at most.
    for mine, torchs in zip((trace.forward_I, trace.backward_I), peaks, strict=False):
        assert mine.max() == pytest.approx(torchs, rel=0.1, abs=4 * B * C + 40_000)


def test_tables_that_a_loss_looks_up_are_weighed(tiny: Backbone) -> None:
    C = 5_000
    plain, poisonous = (
        StepMemory(tiny, Training(adamw, batch=4, losses=losses)).of(ClassList.numbered(C), LinearOptions())
        for losses in ((CrossEntropyOptions(),), (CrossEntropyOptions(), PoisonousOptions()))
    )
    assert poisonous.weights - plain.weights == C * (1 + 8)  # a mark and a column number a class


def test_losses_that_part_classes_are_sized_from_two_on(tiny: Backbone) -> None:
    training = Training(adamw, batch=4, losses=(CrossEntropyOptions(), PoisonousOptions()))
    found = compare(tiny, [LinearOptions()], training, budget=3_000_000)
    assert found.fitting[0] is not None
    assert found.fitting[0].classes > 100


@pytest.mark.parametrize(
    ("name", "tuning"),
    [
        ("test_efficientnet", TuningOptions()),
        ("test_efficientnet", TuningOptions(freeze=3)),
        ("test_vit", TuningOptions()),
        ("test_vit", TuningOptions(freeze="all_but_norms")),
        ("test_vit", TuningOptions(checkpointing=True)),
    ],
)
def test_a_backbones_passes_need_what_torch_says_it_allocates(name: str, tuning: TuningOptions) -> None:
    backbone = Backbone(BackboneOptions(name=name), tuning)
    trace = StepMemory(backbone, Training(adamw, batch=8, backbone=True))._backbone_trace
    module = timm.create_model(name, num_classes=0).train().to(memory_format=torch.channels_last)
    make_ready(module, tuning, backbone.input_size)
    set_modes(module, head_alone=False, freeze_norm=False)
    learning = [parameter.numel() for parameter in module.parameters() if parameter.requires_grad]
    assert (backbone.learning, backbone.parameters) == (sum(learning), count_parameters(module))
    assert trace.gradients == 4 * sum(learning)
    pixels = torch.randn(8, *backbone.input_size)

    def forward() -> Tensor:
        return module(pixels.contiguous(memory_format=torch.channels_last))

    peaks = allocated(module, forward, adamw(module, nn.Module()))
    assert trace.forward_I.max() == pytest.approx(peaks[0], rel=0.03)
    assert trace.backward_I.max() == pytest.approx(peaks[1], rel=0.03)


def allocated(module: nn.Module, forward: Callable[[], Tensor], optimizer: Any, features: Tensor | None = None) -> list[int]:
    """Peak of each pass over what was there before the step, and of the optimiser over that and the gradients."""
    output: list[Tensor] = []

    def backward() -> None:
        output[0].backward(torch.ones_like(output[0]))
        output.clear()
        if features is not None:
            features.grad = None

    for last in (False, True):
        stages = iter((lambda: output.append(forward()), backward, optimizer.step))
        peaks = list(profiled(stages)) if last else [stage() for stage in stages]
        for parameter in module.parameters():
            parameter.grad = None
    (forward_peak, kept), (backward_peak, _), (step_peak, _) = peaks
    return [forward_peak, kept + backward_peak, step_peak]


def profiled(stages: Iterator[Callable[[], Any]]) -> Iterator[tuple[int, int]]:
    """Peak and end of the bytes that torch's CPU allocator handed out in each stage, by its own record."""
    for stage in stages:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            stage()
        events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
        history = np.cumsum([0, *(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))])
        yield int(history.max()), int(history[-1])


def state_bytes(optimizer: Any) -> int:
    states = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return sum(value.numel() * value.element_size() for value in states)


@pytest.mark.parametrize(
    "options",
    [TreeOptions(width=64), TreeOptions(width=None), AdaptiveOptions(width=64), SampledOptions(width=64, sparse=True)],
    ids=short,
)
def test_thin_heads_tell_what_a_wide_one_needs(options: HeadOptions, tiny: Backbone) -> None:
    training = Training(building(options), batch=8)
    classes = ClassList.numbered(500)
    step = StepMemory(tiny, training)
    extended, head = step._head_trace(classes, options), classes.head(options, tiny.features)
    wide = memory._trace_head(head, training, step._loss(classes, head))
    for mine, real in zip(extended, wide, strict=True):
        np.testing.assert_allclose(mine, real)


def test_sparse_gradients_hold_the_rows_touched(tiny: Backbone) -> None:
    classes = ClassList.numbered(10_000)
    dense, sparse = (
        StepMemory(tiny, Training(building(options), batch=8)).of(classes, options)
        for options in (TreeOptions(width=64), TreeOptions(width=64, sparse=True))
    )
    assert sparse.gradients < dense.gradients / 5
    assert sparse.peak < dense.peak


def test_mixed_precision_halves_what_is_kept() -> None:
    backbone = Backbone(BackboneOptions(name="test_resnet"))
    full, half = (
        StepMemory(backbone, Training(adamw, batch=8, backbone=True, precision=precision))._backbone_trace.kept
        for precision in ("32-true", "bf16-mixed")
    )
    assert 0.4 < half / full < 0.65


def test_memory_of_training_all_rises_with_the_batch(tiny: Backbone) -> None:
    few, many = (
        StepMemory(tiny, Training(adamw, batch=batch, backbone=True)).of(ClassList.numbered(50), LinearOptions())
        for batch in (8, 32)
    )
    assert many.temporary == pytest.approx(4 * few.temporary, rel=0.02)
    assert (many.weights, many.gradients, many.optimizer) == (few.weights, few.gradients, few.optimizer)


def test_frozen_norms_are_followed_as_frozen() -> None:
    name = "test_resnet"
    learnt, frozen = (
        StepMemory(Backbone(BackboneOptions(name=name, freeze_norm=frozen)), Training(adamw, batch=4, backbone=True))
        for frozen in (False, True)
    )
    assert frozen._backbone_trace.kept <= learnt._backbone_trace.kept


def test_optimisers_that_cannot_go_with_a_head_or_cannot_be_followed(tiny: Backbone) -> None:
    with pytest.raises(BadInput, match="lazy_adamw"):
        StepMemory(tiny, Training(adamw)).of(ClassList.numbered(50), TreeOptions(sparse=True))
    with pytest.raises(BadInput, match="can't be computed ahead"):
        StepMemory(tiny, Training(OptimizerOptions(name="adamp").build)).of(ClassList.numbered(50), LinearOptions())


# ---- how many classes fit ----


@pytest.mark.parametrize("bend", [1.0, 1.1, 0.9])
def test_as_many_classes_as_fit(bend: float) -> None:
    def peak(classes: int) -> int:
        return 5_000_000 + round(600 * classes**bend)

    most = classes_that_fit(100_000_000, peak)
    assert 0.995 * 100_000_000 <= peak(most) <= 100_000_000


def test_none_or_all_fit() -> None:
    assert classes_that_fit(100, lambda classes: 101) == 0
    assert classes_that_fit(100, lambda classes: 100) == memory.MOST_CLASSES
    assert classes_that_fit(1000, lambda classes: classes, most=77) == 77


def test_the_classes_found_fit_and_more_do_not(tiny: Backbone) -> None:
    heads = with_controls(TreeOptions(width=16))
    found = compare(tiny, heads, Training(adamw), budget=30_000_000)
    again = StepMemory(tiny, Training(adamw))
    assert [head.kind for head in heads] == ["tree", "linear", "bottleneck"]
    for head, row in zip(heads, found.fitting, strict=True):
        assert row is not None
        assert row.memory.peak <= 30_000_000
        assert row.classes == three_digits(row.classes)
        assert again.of(ClassList.numbered(round(1.02 * row.classes)), head).peak > 30_000_000


@pytest.mark.parametrize(
    ("text", "count"),
    [("8GB", 8 * 10**9), ("24GiB", 24 * 2**30), ("1.5 gib", 3 * 2**29), ("500M", 500_000_000), ("64", 64), ("2tb", 2 * 10**12)],
)
def test_sizes_of_memory(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GB", "8XB", "-1GB", "0", "8 GB or so"])
def test_what_is_no_size_of_memory(text: str) -> None:
    with pytest.raises(BadInput, match="write 8GB"):
        parse_bytes(text)


def test_plain_values_hold_every_figure(tiny: Backbone) -> None:
    found = compare(tiny, [LinearOptions()], Training(adamw), classes=ClassList.numbered(30), budget=1)
    (row,), values = found.rows, found.to_dict()
    assert values["heads"][0]["parameters"]["total"] == row.network.total
    assert values["heads"][0]["bytes"] == {"32-bit": 4 * row.network.total, "16-bit": 2 * row.network.total}
    assert values["heads"][0]["training_memory"]["peak"] == row.memory.peak
    assert values["fitting"] == [{"head": vars(LinearOptions()), "classes": 0}]
    assert replace(found, budget=None).to_dict().keys().isdisjoint({"fitting", "memory_budget"})
