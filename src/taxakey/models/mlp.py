"""A head with a hidden layer. Shapes: B images, D features, H hidden units, C classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from taxakey.models.heads import FLAT_ROWS, Head

MlpActivation = Literal["relu", "gelu", "squared_relu"]


@dataclass(frozen=True)
class MlpOptions:
    """`dropout`: before the hidden layer and after it. NAFlora-1M's final head is `hidden: 1024, dropout: 0.4`."""

    kind: Literal["mlp"] = "mlp"
    hidden: int = 4096
    activation: MlpActivation = "relu"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ValueError("hidden must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must be at least 0 and below 1")


class SquaredReLU(nn.Module):
    """max(x, 0)² (So et al., 2021, "Primer")."""

    def forward(self, values: Tensor) -> Tensor:
        return nn.functional.relu(values).square()


_ACTIVATIONS: dict[MlpActivation, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "squared_relu": SquaredReLU}


class MlpHead(Head):
    """Dropout, a hidden layer, its activation, dropout, a linear layer: D·H + H + H·C + C parameters."""

    class_rows = FLAT_ROWS

    def __init__(
        self, in_features: int, classes: int, *, hidden: int = 4096, activation: MlpActivation = "relu", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.in_features, self.classes = in_features, classes
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(in_features, hidden)
        self.activation = _ACTIVATIONS[activation]()
        self.linear = nn.Linear(hidden, classes)

    def representation(self, features_BD: Tensor) -> Tensor:
        return self.activation(self.hidden(self.dropout(features_BD)))

    def forward(self, features_BD: Tensor) -> Tensor:
        return self.linear(self.dropout(self.representation(features_BD)))

    def multiply_adds(self, *, training: bool) -> int:
        return self.hidden.out_features * (self.in_features + self.classes)
