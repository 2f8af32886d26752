"""Vectors of a frozen backbone for every picture of a dataset: dataset + backbone -> embeddings artifact, shard by shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from taxakey import artifacts
from taxakey.cpu_memory import keep_freed_memory
from taxakey.dataset.crops import Crops
from taxakey.dataset.preprocess import Preprocess
from taxakey.dataset.reader import Dataset, Part
from taxakey.dataset.vectors import shard_file, write_shard
from taxakey.models.backbones import BackboneOptions, build_backbone, data_config, feature_width, state_hash
from taxakey.progress import track

PARTS = ("train", "validation", "test")
ROWS_PER_SHARD = 1024
_BATCH = {"cpu": 16, "cuda": 64}
_AHEAD = 4  # batches that are being decoded while the network works
_DECODERS = 2  # threads; simplejpeg and OpenCV let go of the interpreter, so decoding runs beside the network


def embed(dataset_folder: Path | str, options: BackboneOptions, out: Path | str, *, device: str = "cpu") -> artifacts.Manifest:
    """Compute and store the vectors of all parts; an interrupted run goes on with its next shard."""
    dataset = Dataset.open(dataset_folder)
    backbone = build_backbone(options).eval().to(device)
    preprocess = Preprocess.from_config(data_config(options, backbone))
    plan = embedding_plan(dataset, options, backbone, preprocess)
    if artifacts.start(out, plan) == "finished":
        return artifacts.read_manifest(out, plan.kind)
    counts: dict[str, int] = {"width": feature_width(backbone)}
    parts = [dataset.part(name) for name in PARTS]
    for part in [*parts, *filter(None, [dataset.partial()])]:
        counts[part.name] = len(part)
        for shard, rows in _shards(part, out):
            vectors_ND = features(backbone, part, rows, preprocess, device=device, description=f"embedding {part.name} {shard}")
            write_shard(shard_file(out, part.name, shard), [part.image_ids[row] for row in rows], vectors_ND)
    return artifacts.finish(out, plan, counts=counts, taxonomy=dataset.taxonomy.fingerprint)


def embedding_plan(dataset: Dataset, options: BackboneOptions, backbone: nn.Module, preprocess: Preprocess) -> artifacts.Plan:
    """Two runs with equal plans compute the same vectors. The place of the weights' file doesn't count, its contents do."""
    recipe: dict[str, Any] = {
        "backbone": {**asdict(options), "weights": "by hash"},
        "backbone_hash": state_hash(backbone),
        "preprocess": preprocess.to_config(),
    }
    return artifacts.Plan("embeddings", {"dataset": artifacts.hash_of(dataset.folder)}, recipe)


def _shards(part: Part, out: Path | str) -> Iterator[tuple[int, range]]:
    """Number and rows of each shard that isn't written yet."""
    for shard, first in enumerate(range(0, len(part), ROWS_PER_SHARD)):
        if not shard_file(out, part.name, shard).is_file():
            yield shard, range(first, min(first + ROWS_PER_SHARD, len(part)))


def features(
    network: nn.Module,
    part: Part,
    rows: Sequence[int],
    preprocess: Preprocess | Crops,
    *,
    metadata_NM: NDArray[np.float32] | None = None,
    device: str = "cpu",
    description: str | None = "reading pictures",
) -> NDArray[np.float32]:
    """What a network in eval mode says of some pictures of a part, [N, …] float32, decoding while it computes.

    With several crops [N, K, …]. `metadata_NM`: of the same pictures, for a network that takes them.
    `description` heads the progress display; None shows none.
    """
    size = max(1, _BATCH[device] // preprocess.options.count) if isinstance(preprocess, Crops) else _BATCH[device]
    batches = [rows[first : first + size] for first in range(0, len(rows), size)]
    if device == "cpu":
        keep_freed_memory()
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    outputs: list[NDArray[np.float32]] = []
    decoded = _decoded(part, batches, preprocess)
    for pixels_BCHW in decoded if description is None else track(decoded, description, total=len(batches)):
        with torch.inference_mode():
            *several, _, _, _ = pixels_BCHW.shape
            pixels = torch.from_numpy(pixels_BCHW).flatten(0, -4).to(device, memory_format=torch.channels_last)
            told = _told(metadata_NM, len(outputs) * size, several, device)
            outputs.append(network(pixels, *told).float().cpu().unflatten(0, several).numpy())
    return np.concatenate(outputs) if outputs else np.zeros((0, 0), dtype=np.float32)


def _told(metadata_NM: NDArray[np.float32] | None, first: int, several: Sequence[int], device: str) -> tuple[torch.Tensor, ...]:
    """The further argument for a network that takes metadata: a batch's rows, each once for every crop."""
    if metadata_NM is None:
        return ()
    rows_BM = torch.from_numpy(metadata_NM[first : first + several[0]]).to(device)
    return (rows_BM.repeat_interleave(int(np.prod(several[1:])), dim=0),)


def _decoded(part: Part, batches: list[Sequence[int]], preprocess: Preprocess | Crops) -> Iterator[NDArray[np.float32]]:
    """Preprocessed batches [B, 3, H, W] or [B, K, 3, H, W], the next ones being decoded while the caller works on this one."""

    def load(row: int) -> NDArray[np.float32]:
        return preprocess.load(part.image_bytes(row))

    with ThreadPoolExecutor(_DECODERS) as pool:
        waiting = [[pool.submit(load, row) for row in batch] for batch in batches[:_AHEAD]]
        for position in range(len(batches)):
            if position + _AHEAD < len(batches):
                waiting.append([pool.submit(load, row) for row in batches[position + _AHEAD]])
            yield np.stack([future.result() for future in waiting.pop(0)])
