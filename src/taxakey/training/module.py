"""What Lightning repeats: a step of training, a step of validation. Shapes: B images, D features, C classes."""

from __future__ import annotations

from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import lightning as L
import torch
from torch import Tensor, nn

from taxakey.losses.decision import Answer, Loss
from taxakey.losses.loss_options import build_loss
from taxakey.metadata.encoder import MetadataEncoder
from taxakey.models.backbones import Network, data_config, features_of, with_metadata
from taxakey.models.heads import Head
from taxakey.models.metadata import HiddenMetadata
from taxakey.models.tuning import set_modes
from taxakey.taxonomy import Taxonomy
from taxakey.training.batches import NOT_COUNTED, Batch
from taxakey.training.lazy_adamw import clip_norm
from taxakey.training.recipe import Recipe
from taxakey.training.scale import shard
from taxakey.training.schedule import Rates
from taxakey.training.validation import ValidationFigures


class TrainingModule(L.LightningModule):
    """A network that learns from pictures, or a head that learns from stored features.

    The loss asks the head for what it needs (`losses.decision.Answer`), so that a new head or a new loss never edits this file.
    `loss`: the recipe's, built where more is known of the classes; by default it is built here. `metadata`: what batches bring
    besides, which is hidden now and then. `taxonomy`: of the classes, for figures of poison and of distance.
    """

    mean_3: Tensor
    std_3: Tensor

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        loss: Loss | None = None,
        metadata: MetadataEncoder | None = None,
        taxonomy: Taxonomy | None = None,
    ) -> None:
        super().__init__()
        head = network.head
        assert isinstance(head, Head)
        self.recipe = recipe
        self.backbone: nn.Module | None = None
        if recipe.train == "all":
            self.backbone = network.backbone
            recipe.scale.prepare(network.backbone)
            config = data_config(recipe.backbone, network.backbone)
            for name in ("mean", "std"):
                self.register_buffer(f"{name}_3", 255 * torch.tensor(config[name]), persistent=False)
        self.head = head
        self.taxonomy = taxonomy
        self.loss = build_loss(recipe.loss, head) if loss is None else loss
        self.hidden: HiddenMetadata | None = None
        if metadata is not None:
            nothing_M = torch.from_numpy(metadata.nothing_known(1)[0])
            self.hidden = HiddenMetadata(nothing_M, metadata.widths, metadata.options.hide)

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes here which hook it is in, some forty times a step, and torch looks whether it is a parameter each time
        # (benchmarks/training_loop.py).
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def configure_model(self) -> None:
        if self.recipe.scale.sharded:
            shard(self, self.backbone, "training_step", "validation_step")

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        # Lightning would search the tuple for tensors, at every step.
        moved = (value if value is None else value.to(device, non_blocking=True) for value in batch)
        return Batch(*moved)  # type: ignore[arg-type]

    def on_train_start(self) -> None:
        self.set_modes()  # a run that goes on within an epoch doesn't begin one

    def on_train_epoch_start(self) -> None:
        self.set_modes()

    def set_modes(self) -> None:
        """Training mode for what learns in this epoch."""
        # Lightning keeps each layer's mode through validation and never calls train() on a module that trains already.
        if self.backbone is not None:
            set_modes(self.backbone, head_alone=self.head_alone, freeze_norm=self.recipe.backbone.freeze_norm)

    @property
    def head_alone(self) -> bool:
        """Whether this is one of the first epochs, in which the backbone only looks on."""
        return self.current_epoch < self.recipe.tuning.head_first

    def features(self, batch: Batch) -> Tensor:
        """What the head is given [B, D]: the pictures' features, computed or stored, and their metadata."""
        metadata_BM = batch.metadata
        if metadata_BM is not None and self.hidden is not None:
            metadata_BM = self.hidden(metadata_BM)
        if self.backbone is None:
            return with_metadata(batch.inputs, metadata_BM)
        layout = torch.channels_last if self.recipe.scale.channels_last else torch.contiguous_format
        pixels = self.standardised(batch.inputs).contiguous(memory_format=layout)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.head_alone):
            return features_of(self.backbone, pixels, metadata_BM)

    def standardised(self, pixels_B3HW: Tensor) -> Tensor:
        """Augmented pictures travel as uint8, a quarter of the bytes, and become what the network was taught to see here."""
        if pixels_B3HW.dtype != torch.uint8:
            return pixels_B3HW
        return (pixels_B3HW.float() - self.mean_3[:, None, None]) / self.std_3[:, None, None]

    def forward(self, batch: Batch) -> Tensor:
        """Unnormalised log-probabilities [B, C]."""
        return self.head(self.features(batch))

    def training_step(self, batch: Batch, number: int) -> Tensor:
        self._seed(number)
        features_BD = self.features(batch)
        loss_B = self.loss(Answer(self.head, features_BD, batch.labels, rows_B=batch.rows))
        if batch.mixed_labels is not None and batch.share is not None:
            mixed_B = self.loss(Answer(self.head, features_BD, batch.mixed_labels, rows_B=batch.mixed_rows))
            loss_B = batch.share * loss_B + (1 - batch.share) * mixed_B
        return self._mean(loss_B)

    def _seed(self, number: int) -> None:
        """What a step draws (dropout) follows from its place in the run alone, so that a resumed run draws the same."""
        seed = ((self.recipe.seed * 100_003 + self.current_epoch) * 1_000_003 + number) * 1009 + self.global_rank
        # torch.manual_seed takes a hundred times as long: it keeps a stack trace for a GPU that isn't in use.
        torch.default_generator.manual_seed(seed % 2**63)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed % 2**63)

    def _mean(self, loss_B: Tensor) -> Tensor:
        """The loss whose mean over the processes is the mean over all their pictures: a last batch may have unequal shares."""
        trainer = self._trainer  # None for who takes a step without Lightning
        if trainer is None or trainer.world_size == 1 or not trainer.is_last_batch:
            return loss_B.mean()
        pictures = trainer.strategy.reduce(torch.tensor(float(len(loss_B)), device=self.device), reduce_op="sum")
        return loss_B.sum() * trainer.world_size / pictures

    def on_validation_epoch_start(self) -> None:
        self.validation = ValidationFigures(self.head.classes, self.taxonomy, self.device)

    def validation_step(self, batch: Batch, _: int) -> None:
        counted_B = batch.labels != NOT_COUNTED
        self.validation.add(self(batch)[counted_B].float().log_softmax(1), batch.labels[counted_B])

    def on_validation_epoch_end(self) -> None:
        def over_processes(value: Tensor) -> Tensor:
            return self.trainer.strategy.reduce(value, reduce_op="sum")

        self.log_dict({name: value.float() for name, value in self.validation.figures(over_processes).items()})

    def on_train_epoch_end(self) -> None:
        name = self.recipe.loop.best_by
        if self.recipe.schedule.kind == "plateau" and name in self.trainer.callback_metrics:
            rates = self.lr_schedulers()
            assert isinstance(rates, Rates)
            figure = float(self.trainer.callback_metrics[name])
            rates.measured(-figure if name == "validation_loss" else figure)

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if gradient_clip_val and any(p.grad is not None and p.grad.is_sparse for p in parameters):
            clip_norm(parameters, gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def configure_optimizers(self) -> dict[str, Any]:
        loop = self.recipe.loop
        batch = loop.batch_size * loop.accumulate * self.trainer.world_size
        beside_backbone = nn.ModuleList([self.head, self.loss])  # a loss may have weights of its own
        optimizer = self.recipe.optimizer.build(self.backbone, beside_backbone, batch=batch)
        steps = int(self.trainer.estimated_stepping_batches)
        per_epoch = max(1, steps // loop.epochs)
        schedule = self.recipe.schedule.build(optimizer, steps=steps, steps_per_epoch=per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
