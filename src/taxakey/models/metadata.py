"""Heads that are told more than the picture: metadata are the last columns of what they are given.

Shapes: B images, D features of the picture, M metadata inputs (m of one group), T tokens, A attention heads, h width of one of
them, C classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taxakey.errors import BadRecipe
from taxakey.models.heads import Head
from taxakey.models.mlp import SquaredReLU


@dataclass(frozen=True)
class MetadataTransformerOptions:
    """The picture and each group of metadata are a token each; what the picture's token has become decides.

    `token_hidden`: width of the layer between a group and its token, one for each group or one for all. `hidden`: between the
    first token and the classes. The defaults are DS@GT's but for `token_hidden`: theirs are 512 (date), 896 (place), 584.
    """

    kind: Literal["metadata_transformer"] = "metadata_transformer"
    layers: int = 4
    attention_heads: int = 8
    feed_forward: int = 2048
    hidden: int = 4096
    token_hidden: int | tuple[int, ...] = 512
    dropout: float = 0.1

    def __post_init__(self) -> None:
        widths = (self.token_hidden,) if isinstance(self.token_hidden, int) else self.token_hidden
        if min(self.layers, self.attention_heads, self.feed_forward, self.hidden, *widths) < 1 or not 0 <= self.dropout < 1:
            raise ValueError("layers, attention_heads and widths must be at least 1, dropout at least 0 and below 1")


class StarReLU(nn.Module):
    """s · relu(x)² + b with both numbers learnt; as they start, unit normal x gives mean 0 and variance 1 (Yu et al., 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.8944))
        self.bias = nn.Parameter(torch.tensor(-0.4472))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.relu(x).square() + self.bias


class MetadataTokens(nn.Module):
    """A token [B, D] of each group of metadata [B, M]: Linear - StarReLU - LayerNorm - Linear (SPEC, section 4)."""

    def __init__(self, groups: Sequence[int], width: int, hidden: int | Sequence[int]) -> None:
        super().__init__()
        widths = [hidden] * len(groups) if isinstance(hidden, int) else list(hidden)
        if len(widths) != len(groups):
            raise BadRecipe(f"token_hidden names {len(widths)} widths, and there are {len(groups)} groups of metadata")
        self.bounds = [0, *itertools.accumulate(groups)]
        self.groups = nn.ModuleList(
            nn.Sequential(nn.Linear(m, between), StarReLU(), nn.LayerNorm(between), nn.Linear(between, width))
            for m, between in zip(groups, widths, strict=True)
        )

    def forward(self, metadata_BM: Tensor) -> list[Tensor]:
        parts = [metadata_BM[:, first:end] for first, end in itertools.pairwise(self.bounds)]
        return [group(part) for group, part in zip(self.groups, parts, strict=True)]


class HiddenMetadata(nn.Module):
    """In training each group of each image is with probability `share` what stands for nothing known [M]; in eval mode never."""

    nothing_M: Tensor
    group_M: Tensor

    def __init__(self, nothing_M: Tensor, groups: Sequence[int], share: float) -> None:
        super().__init__()
        self.share = share
        self.register_buffer("nothing_M", nothing_M, persistent=False)
        self.register_buffer(
            "group_M", torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(groups)), persistent=False
        )
        self.groups = len(groups)

    def forward(self, metadata_BM: Tensor) -> Tensor:
        if not self.training or not self.share:
            return metadata_BM
        hidden_BG = torch.rand(len(metadata_BM), self.groups, device=metadata_BM.device) < self.share
        return torch.where(hidden_BG[:, self.group_M], self.nothing_M, metadata_BM)


class EncoderLayer(nn.Module):
    """A layer of a transformer as torch.nn.TransformerEncoderLayer has it (norms behind, ReLU), for few tokens.

    `first_only`: nothing but the first token goes on, so that in the last layer only its query and its feed-forward are computed.
    """

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise BadRecipe(f"{width} features can't be shared by {heads} attention heads; choose a divisor of {width}")
        self.heads, self.dropout = heads, dropout
        self.attention_in, self.attention_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, feed_forward), nn.Linear(feed_forward, width)
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.attention_in.weight)
        for layer in (self.attention_in, self.attention_out):
            nn.init.zeros_(layer.bias)

    def forward(self, tokens_BTD: Tensor, *, first_only: bool = False) -> Tensor:
        kept_BTD = tokens_BTD[:, :1] if first_only else tokens_BTD
        kept_BTD = self.norm_1(kept_BTD + self._dropped(self.attention_out(self._attend(tokens_BTD, first_only))))
        inner = self.contract(self._dropped(F.relu(self.expand(kept_BTD))))
        return self.norm_2(kept_BTD + self._dropped(inner))

    def _attend(self, tokens_BTD: Tensor, first_only: bool) -> Tensor:
        width = tokens_BTD.shape[2]
        if first_only:
            weight, bias = self.attention_in.weight, self.attention_in.bias
            query = F.linear(tokens_BTD[:, :1], weight[:width], bias[:width])
            key, value = F.linear(tokens_BTD, weight[width:], bias[width:]).chunk(2, dim=2)
        else:
            query, key, value = self.attention_in(tokens_BTD).chunk(3, dim=2)
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        shares_BATT = (query @ key.transpose(2, 3) * (width // self.heads) ** -0.5).softmax(-1)
        return (self._dropped(shares_BATT) @ value).transpose(1, 2).flatten(2)

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class MetadataTransformerHead(Head):
    """DS@GT's head: 46,940,443 parameters at 1,024 features, 1,717 classes and groups of 4, 7 and 73 inputs (SPEC, section 4).

    `groups`: inputs of each group of metadata, [date, place, categories] there.
    """

    class_rows = MappingProxyType({"weight": "classifier.4.weight", "bias": "classifier.4.bias"})

    def __init__(self, in_features: int, classes: int, groups: Sequence[int], options: MetadataTransformerOptions) -> None:
        super().__init__()
        self.in_features, self.classes = in_features, classes
        self.width = in_features - sum(groups)
        self.tokens = MetadataTokens(groups, self.width, options.token_hidden)
        self.encoder = nn.ModuleList(
            EncoderLayer(self.width, options.attention_heads, options.feed_forward, options.dropout)
            for _ in range(options.layers)
        )
        self.classifier = nn.Sequential(
            nn.Linear(self.width, options.hidden),
            SquaredReLU(),
            nn.LayerNorm(options.hidden),
            nn.Dropout(options.dropout),
            nn.Linear(options.hidden, classes),
        )

    def forward(self, features_BD: Tensor) -> Tensor:
        image_BD, metadata_BM = features_BD[:, : self.width], features_BD[:, self.width :]
        tokens_BTD = torch.stack([image_BD, *self.tokens(metadata_BM)], dim=1)
        for number, layer in enumerate(self.encoder, start=1):
            tokens_BTD = layer(tokens_BTD, first_only=number == len(self.encoder))
        return self.classifier(tokens_BTD[:, 0])

    def multiply_adds(self, *, training: bool) -> int:
        tokens, width = 1 + len(self.tokens.groups), self.width
        feed_forward = _products(self.encoder) // len(self.encoder) - 4 * width**2
        whole = tokens * (4 * width**2 + feed_forward) + 2 * tokens**2 * width
        last = 2 * width**2 * (tokens + 1) + feed_forward + 2 * tokens * width
        return _products(self.tokens) + (len(self.encoder) - 1) * whole + last + _products(self.classifier)


def _products(module: nn.Module) -> int:
    """Multiply-adds of a module's linear layers, each used once."""
    return sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, nn.Linear))
