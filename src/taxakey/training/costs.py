"""What a run costs: parameters, time, memory, energy -> `costs.json`. What can't be read here is null, never a guess."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import lightning as L
import torch
from torch import nn

from taxakey.artifacts import read_json, write_json

FILE = "costs.json"
_POWERCAP = Path("/sys/class/powercap")


def trained_parameters(module: nn.Module) -> int:
    """Numbers of the model that a run learns; a loss's own, which no model keeps, don't count."""
    return sum(p.numel() for name, p in module.named_parameters() if p.requires_grad and not name.startswith("loss."))


class Costs(L.Callback):
    """Measures a run, over all its interruptions, and writes `costs.json` after each epoch.

    `seconds_per_epoch` is the mean over the epochs, validation included; `training_seconds` and `pictures_per_second` are without
    it. Host memory: the largest this process has had, worker processes not counted; device memory: what torch took of it. Energy
    is that of the whole machine's processors and of the GPU in use, whoever else used them.
    """

    def __init__(self, run: Path, network: nn.Module, trained: nn.Module, recipe_facts: Mapping[str, Any]) -> None:
        self.file = run / FILE
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        self.trained = trained_parameters(trained)
        self.facts = recipe_facts
        self.sums = {"pictures": 0, "training_seconds": 0.0, "seconds": 0.0, "epochs": 0}
        self.peaks = {"host_bytes": 0, "device_bytes": 0}
        self.joules: float | None = 0.0
        self.clock = self.epoch_clock = time.monotonic()
        self.meter: EnergyMeter | None = None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        device = trainer.strategy.root_device
        self.meter = EnergyMeter(device.index or 0 if device.type == "cuda" else None)
        self.clock = self.epoch_clock = time.monotonic()

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.epoch_clock = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, number: int) -> None:
        self.sums["pictures"] += len(batch.labels) * trainer.world_size
        if trainer.is_last_batch:
            self._stop_training_clock(trainer)

    def _stop_training_clock(self, trainer: L.Trainer) -> None:
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        now = time.monotonic()
        self.sums["training_seconds"] += now - self.epoch_clock
        self.epoch_clock = now

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.sums["epochs"] += 1
        self._take(trainer)
        if trainer.is_global_zero:
            write_json(self.file, self.table(trainer))

    def on_save_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if not trainer.is_last_batch:
            self._stop_training_clock(trainer)
        self._take(trainer)
        checkpoint["costs"] = {"sums": dict(self.sums), "peaks": dict(self.peaks), "joules": self.joules}

    def on_load_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["costs"]
        self.sums, self.peaks, self.joules = dict(state["sums"]), dict(state["peaks"]), state["joules"]

    def _take(self, trainer: L.Trainer) -> None:
        now = time.monotonic()
        self.sums["seconds"], self.clock = self.sums["seconds"] + now - self.clock, now
        self.peaks["host_bytes"] = max(self.peaks["host_bytes"], peak_host_bytes() or 0)
        if trainer.strategy.root_device.type == "cuda":
            self.peaks["device_bytes"] = max(self.peaks["device_bytes"], torch.cuda.max_memory_reserved())
        spent = self.meter.joules() if self.meter else None
        self.joules = None if spent is None or self.joules is None else self.joules + spent

    def table(self, trainer: L.Trainer) -> dict[str, Any]:
        """The row of this run in a table of costs."""
        sums, epochs = self.sums, max(int(self.sums["epochs"]), 1)
        device = trainer.strategy.root_device
        training = float(sums["training_seconds"])
        return {
            "parameters": self.parameters,
            "trained_parameters": self.trained,
            **self.facts,
            "processes": trainer.world_size,
            "epochs": sums["epochs"],
            "seconds": round(float(sums["seconds"]), 3),
            "seconds_per_epoch": round(float(sums["seconds"]) / epochs, 4),
            "training_seconds": round(training, 3),
            "pictures_per_second": round(sums["pictures"] / training, 2) if training else None,
            "peak_host_bytes": self.peaks["host_bytes"] or None,
            "peak_device_bytes": self.peaks["device_bytes"] or None,
            "energy_joules": None if self.joules is None else round(self.joules, 1),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} cores",
        }


def read_costs(run: Path) -> dict[str, Any] | None:
    """A run's costs, or None where it took no step."""
    return read_json(run / FILE) if (run / FILE).is_file() else None


def peak_host_bytes() -> int | None:
    """The most memory that this process has had at once (Linux: VmHWM)."""
    if sys.platform.startswith("linux"):
        found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else None
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes


class EnergyMeter:
    """Energy since the last look: of the processors (Linux: powercap) and, if one is given, of an NVIDIA GPU (NVML)."""

    def __init__(self, gpu: int | None = None, powercap: Path = _POWERCAP) -> None:
        # Of each package the whole (intel-rapl:0), not its parts (intel-rapl:0:0), which are in it.
        self.zones = [zone for zone in sorted(powercap.glob("*-rapl:*")) if zone.name.count(":") == 1]
        self.gpu = None if gpu is None else _gpu_counter(gpu)
        self.wanted_gpu = gpu is not None
        self.last = self._read()

    def joules(self) -> float | None:
        """Since the last call, or since it was made; None where no meter can be read, or the GPU's can't."""
        before, self.last = self.last, self._read()
        if not self.last or self.last.keys() != before.keys() or (self.wanted_gpu and "gpu" not in self.last):
            return None
        total = 0.0
        for name, (value, limit) in self.last.items():
            grown = value - before[name][0]
            total += grown if grown >= 0 else grown + limit  # a counter that went over its end begins at 0 again
        return total

    def _read(self) -> dict[str, tuple[float, float]]:
        """Counter and its limit, in joules."""
        found = {}
        for zone in self.zones:
            try:
                values = [float((zone / name).read_text()) / 1e6 for name in ("energy_uj", "max_energy_range_uj")]
            except (OSError, ValueError):
                continue  # most systems let only root read it
            found[zone.name] = (values[0], values[1])
        if self.gpu is not None:
            found["gpu"] = (self.gpu() / 1e3, float("inf"))
        return found


def _gpu_counter(gpu: int) -> Callable[[], float] | None:
    """Millijoules; None where NVIDIA's library (the package nvidia-ml-py) isn't there, or the GPU has no such counter."""
    try:
        nvml = import_module("pynvml")
    except ModuleNotFoundError:
        return None
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(gpu).uuid}")
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError:
        return None
    return lambda: float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
