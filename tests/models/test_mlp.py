"""The head with a hidden layer, against torch's own layers in a row and the papers' numbers of parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from taxakey.models.mlp import MlpHead, MlpOptions, SquaredReLU


def test_naflora_final_head_is_dropout_1024_relu_dropout_classes() -> None:
    head = MlpHead(1280, 15_501, hidden=1024, dropout=0.4).train()
    slow = nn.Sequential(nn.Dropout(0.4), nn.Linear(1280, 1024), nn.ReLU(), nn.Dropout(0.4), nn.Linear(1024, 15_501)).train()
    slow.load_state_dict(dict(zip(slow.state_dict(), head.state_dict().values(), strict=True)))
    features_BD = torch.randn(3, 1280)
    answers = []
    for module in (head, slow):
        torch.manual_seed(5)  # the same units are dropped
        answers.append(module(features_BD))
    assert_close(*answers)
    assert not torch.equal(answers[0], head.eval()(features_BD))


def test_the_plain_mlp_of_fungiclef_has_its_parameters() -> None:
    head = MlpHead(1024, 1717, hidden=MlpOptions().hidden)
    assert sum(parameter.numel() for parameter in head.parameters()) == 11_232_949  # "11.2 M" in the specification
    assert head.multiply_adds(training=True) == 4096 * (1024 + 1717)


def test_squared_relu_by_hand() -> None:
    assert SquaredReLU()(torch.tensor([-2.0, 0.0, 0.5, 3.0])).tolist() == [0, 0, 0.25, 9]


def test_activations_are_those_named() -> None:
    for name, kind in {"relu": nn.ReLU, "gelu": nn.GELU, "squared_relu": SquaredReLU}.items():
        assert type(MlpHead(4, 2, hidden=3, activation=name).activation) is kind  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"hidden": 0}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_options_out_of_bounds(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        MlpOptions(**wrong)  # type: ignore[arg-type]
