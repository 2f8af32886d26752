"""A vision transformer that sees metadata beside the patches of a picture, as MetaFormer does (Diao et al., 2022).

Shapes: B images, M metadata inputs, T tokens of a picture (class token and registers among them), G groups of metadata, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import taxakey.torchvision_guard  # noqa: F401  before timm

import torch
from timm.models import VisionTransformer, checkpoint_seq
from torch import Tensor, nn

from taxakey.errors import BadRecipe
from taxakey.models.metadata import MetadataTokens

_TOKEN_HIDDEN = 512


class MetadataViT(nn.Module):
    """A timm vision transformer with a further token for each group of metadata: pixels, metadata [B, M] -> features [B, D].

    The tokens go through all its blocks and are left out of the pooling, so that without them it would be the network it was.
    """

    takes_metadata = True

    def __init__(self, vit: VisionTransformer, groups: Sequence[int]) -> None:
        super().__init__()
        self.vit = vit
        self.tokens = MetadataTokens(groups, vit.embed_dim, _TOKEN_HIDDEN)
        self.num_features, self.pretrained_cfg = vit.num_features, vit.pretrained_cfg

    def forward(self, pixels_B3HW: Tensor, metadata_BM: Tensor) -> Tensor:
        vit = self.vit
        tokens_BTD = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(pixels_B3HW))))
        both_BTD = torch.cat([tokens_BTD, torch.stack(self.tokens(metadata_BM), dim=1)], dim=1)
        both_BTD = checkpoint_seq(vit.blocks, both_BTD) if vit.grad_checkpointing else vit.blocks(both_BTD)
        return vit.forward_head(vit.norm(both_BTD)[:, : tokens_BTD.shape[1]], pre_logits=True)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """As timm's models have it."""
        self.vit.set_grad_checkpointing(enable)


def with_metadata_tokens(backbone: nn.Module, groups: Sequence[int]) -> MetadataViT:
    """The same backbone with metadata tokens; raises BadRecipe for one that isn't timm's VisionTransformer."""
    if not isinstance(backbone, VisionTransformer):
        kind = type(backbone).__name__
        raise BadRecipe(f"backbone.metadata_tokens needs a plain vision transformer such as vit_small_patch16_224, not {kind}")
    return MetadataViT(backbone, groups)


def of_the_transformer(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the transformer inside a stored `MetadataViT`, under timm's names; of any other network as they are."""
    inside = {name.removeprefix("vit."): tensor for name, tensor in state.items() if name.startswith("vit.")}
    return inside or dict(state)
