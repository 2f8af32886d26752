"""Heads that take metadata, beside torch's own transformer, slow loops and the paper's number of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from taxakey.errors import BadRecipe
from taxakey.models.backbones import Network
from taxakey.models.head_options import HeadOptions, build_head
from taxakey.models.heads import Head, LinearOptions
from taxakey.models.metadata import (
    EncoderLayer,
    HiddenMetadata,
    MetadataTransformerHead,
    MetadataTransformerOptions,
    StarReLU,
)
from taxakey.models.mlp import MlpOptions, SquaredReLU
from taxakey.models.trees import TreeOptions
from taxakey.taxonomy import Taxonomy

PAPER = MetadataTransformerOptions(token_hidden=(512, 896, 584))
SMALL = MetadataTransformerOptions(layers=3, attention_heads=2, feed_forward=20, hidden=24, token_hidden=(5, 6, 7), dropout=0.0)
GROUPS = (4, 2, 3)


def flora(classes: int) -> Taxonomy:
    return Taxonomy.from_rows({"scientificName": f"Planta {number:05d}"} for number in range(classes))


def head_of(options: HeadOptions, width: int = 8, metadata: Sequence[int] = GROUPS, classes: int = 11) -> Any:
    torch.manual_seed(0)
    return build_head(options, width, flora(classes), metadata=metadata).eval()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_papers_transformer_has_its_number_of_parameters() -> None:
    with torch.device("meta"):
        head = build_head(PAPER, 1024, flora(1717), metadata=(4, 7, 73))
    assert parameters(head) == 46_940_443
    assert (head.in_features, head.metadata) == (1108, 84)


def test_the_plain_mlp_has_11_million() -> None:
    with torch.device("meta"):
        head = build_head(MlpOptions(), 1024, flora(1717))
        told = build_head(MlpOptions(), 1024, flora(1717), metadata=(4, 7, 73))
    assert parameters(head) == 11_232_949
    assert parameters(told) == 11_232_949 + 84 * 4096


@pytest.mark.parametrize("first_only", [False, True])
def test_a_layer_is_torchs_own(first_only: bool) -> None:
    """The same weights in torch.nn.TransformerEncoderLayer give the same tokens."""
    torch.manual_seed(1)
    ours = EncoderLayer(12, 3, 20, 0.0)
    theirs = nn.TransformerEncoderLayer(12, 3, 20, dropout=0.0, batch_first=True)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_(std=0.5)
    names = {
        "self_attn.in_proj_weight": "attention_in.weight", "self_attn.in_proj_bias": "attention_in.bias",
        "self_attn.out_proj.weight": "attention_out.weight", "self_attn.out_proj.bias": "attention_out.bias",
        "linear1.weight": "expand.weight", "linear1.bias": "expand.bias", "linear2.weight": "contract.weight",
        "linear2.bias": "contract.bias", "norm1.weight": "norm_1.weight", "norm1.bias": "norm_1.bias",
        "norm2.weight": "norm_2.weight", "norm2.bias": "norm_2.bias",
    }  # fmt: skip
    theirs.load_state_dict({theirs_name: ours.state_dict()[name] for theirs_name, name in names.items()})
    tokens_BTD = torch.randn(5, 4, 12)
    expected = theirs(tokens_BTD)
    assert_close(ours(tokens_BTD, first_only=first_only), expected[:, :1] if first_only else expected)


def test_the_transformer_computed_token_by_token() -> None:
    head = head_of(SMALL)
    assert isinstance(head, MetadataTransformerHead)
    features_BD = torch.randn(6, 17)
    tokens = [features_BD[:, :8]]
    for group, (first, end) in zip(head.tokens.groups, ((8, 12), (12, 14), (14, 17)), strict=True):
        into, star, norm, out = group
        x = torch.stack([torch.relu(value) ** 2 for value in into(features_BD[:, first:end])])
        tokens.append(out(norm(star.scale * x + star.bias)))
    whole_BTD = torch.stack(tokens, 1)
    for layer in head.encoder:
        whole_BTD = layer(whole_BTD)  # all tokens to the end
    into, _, norm, _, out = head.classifier
    assert_close(head(features_BD), out(norm(torch.relu(into(whole_BTD[:, 0])) ** 2)))


def test_star_relu_keeps_a_unit_normal() -> None:
    x = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert abs(float(StarReLU()(x).mean())) < 0.01
        assert float(StarReLU()(x).std()) == pytest.approx(1, abs=0.01)
    assert SquaredReLU()(torch.tensor([-2.0, 0, 3])).tolist() == [0, 0, 9]
    assert parameters(StarReLU()) == 2


@pytest.mark.parametrize("options", [SMALL, MlpOptions(hidden=9), LinearOptions(), TreeOptions(width=4)])
def test_every_metadata_input_counts_and_gets_a_gradient(options: HeadOptions) -> None:
    head: Head = head_of(options)
    assert (head.in_features, head.metadata) == (17, 9)
    features_BD = torch.randn(4, 17, requires_grad=True)
    head.log_prob(features_BD, torch.tensor([1, 2, 3, 10])).sum().backward()
    assert features_BD.grad is not None
    assert bool((features_BD.grad.abs().sum(0) > 0).all())
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize("groups", [(), (4,), GROUPS])
def test_multiply_adds_are_those_torch_counts(groups: tuple[int, ...]) -> None:
    options = MetadataTransformerOptions(layers=3, attention_heads=2, feed_forward=20, hidden=24, token_hidden=6)
    for kind in (options, MlpOptions(hidden=9)):
        head = head_of(kind, metadata=groups)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            head(torch.randn(1, 8 + sum(groups)))
        assert head.multiply_adds(training=False) == counter.get_total_flops() // 2


def test_groups_are_hidden_whole_in_training_and_never_else() -> None:
    torch.manual_seed(0)
    nothing_M, metadata_BM = torch.arange(9.0) - 100, torch.randn(4000, 9)
    hidden = HiddenMetadata(nothing_M, GROUPS, 0.25)
    assert torch.equal(hidden.eval()(metadata_BM), metadata_BM)
    found_BM = hidden.train()(metadata_BM)
    away_BM = found_BM == nothing_M
    assert torch.equal(found_BM[~away_BM], metadata_BM[~away_BM])
    groups = away_BM.split(list(GROUPS), dim=1)
    assert all(torch.equal(group.any(1), group.all(1)) for group in groups)
    shares = torch.stack([group.all(1) for group in groups], 1).double()
    assert_close(shares.mean(0), torch.full((3,), 0.25).double(), atol=0.03, rtol=0)
    assert float(shares[:, 0] @ shares[:, 2]) / 4000 == pytest.approx(0.25**2, abs=0.02)  # each for itself
    assert not torch.equal(hidden(metadata_BM), found_BM)  # drawn anew


def test_a_network_hands_metadata_to_its_head() -> None:
    head = head_of(LinearOptions(), width=12, metadata=(3,))
    network = Network(nn.Flatten(), head)
    pixels, metadata_BM = torch.randn(5, 3, 2, 2), torch.randn(5, 3)
    expected: Tensor = torch.cat([pixels.flatten(1), metadata_BM], 1) @ head.linear.weight.T + head.linear.bias
    assert_close(network(pixels, metadata_BM), expected)


def test_what_doesnt_fit_is_refused() -> None:
    with pytest.raises(BadRecipe, match="2 widths, and there are 3 groups"):
        head_of(MetadataTransformerOptions(token_hidden=(5, 6)))
    with pytest.raises(BadRecipe, match="8 features can't be shared by 3"):
        head_of(MetadataTransformerOptions(attention_heads=3))
    with pytest.raises(BadRecipe, match="takes no metadata"):
        head_of(LinearOptions(start="class_means"))
    for wrong in ({"layers": 0}, {"dropout": 1.0}, {"token_hidden": (4, 0)}):
        with pytest.raises(ValueError, match="at least"):
            MetadataTransformerOptions(**wrong)
    with pytest.raises(ValueError, match="at least"):
        MlpOptions(hidden=0)
