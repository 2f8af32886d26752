"""Peak memory of a training step, without the memory: the step runs on tensors that have no numbers, and what lives is counted.

Shapes: B images, D features, d bottleneck width, C classes, I operations of a step.

torch's fake tensors go through the real modules, loss, autograd and optimiser and only compute shapes, so that kept activations,
gradients and temporary copies appear and vanish as they would. Heads whose shapes hang on the labels (a tree opens the nodes of
the batch) can't be followed that way; they run for real, but thin: at two or three small widths d, and since every tensor's size
is a polynomial in d, so is what lives at each operation.

Not counted: Python and torch themselves, workspaces inside an operation (oneDNN's, cuDNN's), memory that an allocator holds back,
and the pictures that the loader's processes prepare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeVar
from weakref import WeakSet, finalize

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from taxakey.errors import BadInput
from taxakey.losses.cross_entropy import CrossEntropyOptions
from taxakey.losses.decision import Answer, Loss
from taxakey.losses.facts import LossFacts
from taxakey.losses.loss_options import LossOptions, build_loss
from taxakey.models.adaptive import AdaptiveOptions
from taxakey.models.head_options import HeadOptions
from taxakey.models.heads import Head
from taxakey.models.sampled import SampledOptions
from taxakey.models.trees import TreeOptions
from taxakey.models.tuning import set_modes
from taxakey.size.network import Backbone, ClassList, count_parameters, meta_head

Moment = Literal["forward pass", "backward pass", "optimiser's step"]
MOST_CLASSES = 10_000_000
"""Where the search for classes that fit ends: about all species that may live on earth (8.7 million; Mora et al., 2011)."""

Module = TypeVar("Module", bound=nn.Module)
_FLOAT32 = 4
_HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Training:
    """How a model is trained, as far as memory is concerned.

    `build_optimizer(backbone or None, head)`: as the recipe's optimizer does. `losses`: the recipe's.
    `backbone`: whether it is trained too, on pictures; else the head alone, on stored features. `precision`: Lightning's word.
    `device`: on a GPU torch's optimisers work on all parameters at once, and so on temporary copies of all.
    """

    build_optimizer: Callable[[nn.Module | None, nn.Module], Optimizer]
    batch: int = 64
    losses: tuple[LossOptions, ...] = (CrossEntropyOptions(),)
    backbone: bool = False
    precision: str = "32-true"
    device: Literal["cpu", "cuda"] = "cpu"


@dataclass(frozen=True)
class Memory:
    """Bytes at the moment when most are needed; the parts sum to `peak`.

    `weights` include tables of integers and a norm's statistics, `temporary` is the batch, what the backward pass
    needs of the forward pass, and copies that the optimiser makes.
    """

    weights: int
    gradients: int
    optimizer: int
    temporary: int
    moment: Moment

    @property
    def peak(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.temporary


class _Trace(NamedTuple):
    """Bytes that live beside weights, batch and optimiser's state: at each operation of a pass, and what a step leaves."""

    forward_I: NDArray[np.float64]
    backward_I: NDArray[np.float64]
    step_I: NDArray[np.float64]
    gradients: float
    state: float

    @property
    def kept(self) -> float:
        """What the forward pass leaves for the backward pass."""
        return float(self.forward_I[-1])


def _extended(traces: Sequence[_Trace], times: float) -> _Trace:
    """The trace at `times` a width, from those at once, twice … that width: Lagrange's polynomial through them."""
    points = range(1, len(traces) + 1)
    shares = [math.prod((times - other) / (point - other) for other in points if other != point) for point in points]
    columns: Iterable[tuple[Any, ...]] = zip(*traces, strict=True)
    return _Trace(*(sum(share * value for share, value in zip(shares, column, strict=True)) for column in columns))


_NOTHING = _Trace(np.zeros(1), np.zeros(1), np.zeros(1), 0.0, 0.0)


class StepMemory:
    """Peak memory of training heads on one backbone, which is followed through a step once."""

    def __init__(self, backbone: Backbone, training: Training) -> None:
        """Raises BadInput for an optimiser whose step can't be followed without numbers."""
        self.backbone, self.training = backbone, training
        self._backbone_trace = _trace_backbone(backbone, training) if training.backbone else _NOTHING
        module = backbone.build()
        # A frozen backbone isn't moved to the GPU for training on stored features, but lies in the computer's memory.
        self._backbone_bytes = _bytes_of(module) if training.backbone or training.device == "cpu" else 0
        pixels = math.prod(backbone.input_size) if training.backbone else 0
        self._batch_bytes = training.batch * ((pixels or backbone.features) * _FLOAT32 + torch.int64.itemsize)

    def of(self, classes: ClassList, options: HeadOptions) -> Memory:
        """With this head; raises BadInput where optimiser and head don't go together."""
        below, head = self._backbone_trace, self._head_trace(classes, options)
        built = meta_head(classes, options, self.backbone.features)
        weights = self._backbone_bytes + _bytes_of(self._loss(classes, built)) + _bytes_of(built)
        gradients, state = below.gradients + head.gradients, below.state + head.state
        passing: dict[Moment, float] = {
            # Lightning drops the gradients of the step before only when the forward pass is through.
            "forward pass": gradients + max(below.forward_I.max(), below.kept + head.forward_I.max()),
            "backward pass": max(below.kept + head.backward_I.max(), head.gradients + below.backward_I.max()),
            "optimiser's step": gradients + max(below.step_I.max(), head.step_I.max()),
        }
        moment = max(passing, key=passing.__getitem__)
        temporary = self._batch_bytes + passing[moment] - gradients
        return Memory(weights, round(gradients), round(state), round(temporary), moment)

    def _head_trace(self, classes: ClassList, options: HeadOptions) -> _Trace:
        if not isinstance(options, (TreeOptions, AdaptiveOptions, SampledOptions)):
            head = meta_head(classes, options, self.backbone.features)
            loss = self._loss(classes, head)
            with FakeTensorMode():
                return _trace_head(_faked(head), self.training, _faked(loss))
        # An adaptive head's clusters have projections narrowed by powers of div_value, which should divide the thin widths, and
        # whose sizes rise with the square of d. Widths of 1 are shunned: torch treats such matrices in ways of their own.
        adaptive = isinstance(options, AdaptiveOptions)
        thin = 2 * (math.ceil(options.div_value ** len(options.cutoffs or (1, 2))) if isinstance(options, AdaptiveOptions) else 1)
        heads = (self._thin_head(classes, options, times * thin) for times in range(1, 4 if adaptive else 3))
        traces = [_trace_head(head, self.training, self._loss(classes, head)) for head in heads]
        return _extended(traces, (options.width or self.backbone.features) / thin)

    def _loss(self, classes: ClassList, head: Head) -> Loss:
        return build_loss(self.training.losses, head, LossFacts(classes.counts_C, classes.taxonomy))

    def _thin_head(self, classes: ClassList, options: Any, width: int) -> Head:
        if options.width is None:
            return classes.head(options, width)
        return classes.head(replace(options, width=width), self.backbone.features)


def classes_that_fit(budget: int, peak: Callable[[int], int], *, least: int = 1, most: int = MOST_CLASSES) -> int:
    """The largest number of classes whose peak is within `budget` bytes, to half a per cent of it; 0 if `least` is too much.

    `peak` must rise with the number of classes; it is nearly a straight line, which the search follows between its two ends.
    """
    low, at_low = least, peak(least)
    if at_low > budget:
        return 0
    high, at_high = min(10_000, most), peak(min(10_000, most))
    while at_high <= budget and high < most:
        slope = max(at_high - at_low, 1) / (high - low)
        low, at_low = high, at_high
        # A little further than the line says, so that the answer lies between the ends.
        high = min(max(round(1.002 * (low + (budget - at_low) / slope)), low + 1), most)
        at_high = peak(high)
    if at_high <= budget:
        return high
    halve = False
    while high - low > 1 and budget - at_low > budget / 200:
        share = 0.5 if halve else (budget - at_low) / (at_high - at_low)
        guess = min(max(low + int((high - low) * share), low + 1), high - 1)
        if (at_guess := peak(guess)) <= budget:
            low, at_low = guess, at_guess
        else:
            high, at_high = guess, at_guess
        halve = not halve  # the line alone may move only one of the ends
    return low


# ---- following a step ----


class _Live(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, until they are freed."""

    def __init__(self, existing: Iterable[Tensor]) -> None:
        super().__init__()
        self.bytes = 0
        self.history: list[int] = []
        self._seen: WeakSet[torch.UntypedStorage] = WeakSet()
        for tensor in existing:
            self._count(tensor)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value)
        self.history.append(self.bytes)
        return result

    def _count(self, tensor: Tensor) -> None:
        for part in _strided_parts(tensor):
            storage = part.untyped_storage()
            if storage not in self._seen:
                self._seen.add(storage)
                self.bytes += storage.nbytes()
                finalize(storage, self._freed, storage.nbytes())

    def _freed(self, count: int) -> None:
        self.bytes -= count

    @contextmanager
    def recording(self) -> Iterator[list[int]]:
        """The bytes alive at each operation of the block, and at its end."""
        self.history = history = [self.bytes]
        yield history
        history.append(self.bytes)
        self.history = []


def _strided_parts(tensor: Tensor) -> Sequence[Tensor]:
    match tensor.layout:
        case torch.sparse_coo:
            return tensor._indices(), tensor._values()
        case torch.sparse_csr:
            return tensor.crow_indices(), tensor.col_indices(), tensor.values()
        case _:
            return (tensor,)


def _trace_backbone(backbone: Backbone, training: Training) -> _Trace:
    # The layout that training gives it: with another one there would be copies in between.
    module = backbone.build().train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with FakeTensorMode():
        _faked(module)
        set_modes(module, head_alone=False, freeze_norm=backbone.options.freeze_norm)
        pixels_B3HW = torch.empty(training.batch, *backbone.input_size)

        def forward() -> Tensor:
            return backbone.accept(lambda: module(pixels_B3HW.contiguous(memory_format=torch.channels_last)))

        return _trace(module, [pixels_B3HW], forward, training.build_optimizer(module, nn.Module()), training)


def _trace_head(head: Head, training: Training, loss: Loss) -> _Trace:
    head.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        labels_B = torch.randint(head.classes, (training.batch,))  # first, so that heads of all widths get the same
        features_BD = torch.randn(training.batch, head.in_features).requires_grad_(training.backbone)

        def forward() -> Tensor:
            return loss(Answer(head, features_BD, labels_B)).mean()

        return _trace(head, [features_BD, labels_B, *loss.buffers()], forward, training.build_optimizer(None, head), training)


def _trace(
    module: nn.Module, batch: list[Tensor], forward: Callable[[], Tensor], optimizer: Optimizer, training: Training
) -> _Trace:
    """Follow the passes of a step, and the optimiser twice: its first time makes its state."""
    if training.device == "cuda":
        for group in optimizer.param_groups:
            if group.get("foreach", 0) is None and not group.get("fused"):
                group["foreach"] = True  # what torch chooses there
    live = _Live([*module.parameters(), *module.buffers(), *batch])
    before = live.bytes
    half = _HALF.get(training.precision)
    with live:
        with live.recording() as forward_I, torch.autocast("cpu", dtype=half) if half else nullcontext():
            output = forward()
        with live.recording() as backward_I:
            output.backward(torch.ones_like(output))
            del output
        for tensor in batch:
            tensor.grad = None
        gradients = live.bytes - before
        with _readable(optimizer):
            optimizer.step()
            state = live.bytes - before - gradients
            with live.recording() as step_I:
                optimizer.step()
    assert step_I[0] == step_I[-1], "a second step makes no new state"
    return _Trace(
        np.array(forward_I, dtype=np.float64) - before,
        np.array(backward_I, dtype=np.float64) - before,
        np.array(step_I, dtype=np.float64) - step_I[0],
        gradients,
        state,
    )


@contextmanager
def _readable(optimizer: Optimizer) -> Iterator[None]:
    """Turn what an optimiser can't do here into an error for people."""
    name = type(optimizer).__name__
    try:
        yield
    except DataDependentOutputException as error:
        raise BadInput(
            f"{name} looks at the gradients' values to decide its step, so its memory can't be computed ahead"
        ) from error
    except RuntimeError as error:
        if "sparse" not in str(error):
            raise
        raise BadInput(f"{name} takes no sparse gradients; train this head with lazy_adamw, or with sparse: false") from error


def _faked(module: Module) -> Module:
    """A module of the meta device with fake tensors that say they were on the CPU, where attention is the fused kind."""
    return module._apply(lambda tensor: torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu"))


def _bytes_of(module: nn.Module) -> int:
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in module.buffers())
    return count_parameters(module) * _FLOAT32 + buffers
