"""How a run uses its machine, or several: processes, memory layout, compilation; and which of the processes this one is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import torch
from torch import nn

from taxakey.errors import BadRecipe
from taxakey.training.shares import Process

if TYPE_CHECKING:  # Lightning takes seconds to load, and whoever reads a recipe doesn't need it
    import lightning as L
    from lightning.pytorch.strategies import Strategy


@dataclass(frozen=True)
class ScaleOptions:
    """`devices`: processes on each machine, each with its own GPU (or, without one, some cores); `nodes`: machines.

    `strategy`: ddp (each process holds the whole network) or fsdp (weights, gradients and optimiser states are shared out;
    torch's second version). A batch is `batch_size` for each process. Lightning starts the processes of one machine; on several
    machines `torchrun` does, with the same command on each and a run folder that all of them see.

    `compile`: torch.compile of the backbone. `channels_last`: the layout that convolutions compute fastest in (docs/LOG.md).
    """

    devices: int = 1
    nodes: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    compile: bool = False
    channels_last: bool = True

    def __post_init__(self) -> None:
        if min(self.devices, self.nodes) < 1:
            raise ValueError("devices and nodes must be at least 1")

    @property
    def world(self) -> int:
        """Processes in all."""
        return self.devices * self.nodes

    @property
    def sharded(self) -> bool:
        """Whether weights are shared out."""
        return self.world > 1 and self.strategy == "fsdp"

    def build(self, *, head_first: bool = False) -> Strategy | Literal["auto"]:
        """Lightning's strategy. `head_first`: there are epochs in which the backbone gets no gradient."""
        if self.world == 1:
            return "auto"
        from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

        if self.sharded:
            return ModelParallelStrategy(self.world, 1, save_distributed_checkpoint=False)
        return DDPStrategy(gradient_as_bucket_view=True, find_unused_parameters=head_first)

    def prepare(self, backbone: nn.Module) -> None:
        """Layout and compilation of a backbone that is trained."""
        if self.channels_last and not self.sharded:  # FSDP shares out weights in torch's usual layout only
            backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.compile:
            backbone.compile()


def first_process() -> bool:
    """Whether this process is the one that writes. Told by the environment, before any process has met another."""
    from lightning.pytorch.utilities import rank_zero_only

    return rank_zero_only.rank == 0


def process_of(trainer: L.Trainer) -> Process:
    """This process among those of the run."""
    return Process(trainer.global_rank, trainer.world_size, trainer.num_devices)


def wait_for_all() -> None:
    """Return when every process of the run has come here; at once where it is the only one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def accelerator_for(device: str, precision: str, devices: int) -> str:
    """Lightning's word for a device. Raises BadRecipe where the recipe asks for what isn't there."""
    gpus = 0 if device == "cpu" else torch.cuda.device_count()
    if precision == "16-mixed" and not gpus:
        raise BadRecipe("loop.precision: 16-mixed needs a CUDA GPU, and none is used here; bf16-mixed works on both")
    if gpus and devices > gpus:
        raise BadRecipe(f"scale.devices: {devices}, and torch sees {gpus} GPUs here; ask for so many, or use --device cpu")
    if not gpus and devices > (cores := os.cpu_count() or 1):
        raise BadRecipe(f"scale.devices: {devices}, and this machine has {cores} cores; ask for at most so many")
    return "gpu" if gpus else "cpu"


def shard(module: nn.Module, blocks: nn.Module | None, *steps: str) -> None:
    """Share out a module's weights (FSDP2), a repeated block of `blocks` at a time; `steps`: methods that need them whole."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for container in [] if blocks is None else blocks.children():
        for block in container.children() if isinstance(container, (nn.Sequential, nn.ModuleList)) else []:
            if any(parameter.requires_grad for parameter in block.parameters()):
                fully_shard(block)
    fully_shard(module)
    for step in steps:
        register_fsdp_forward_method(module, step)
