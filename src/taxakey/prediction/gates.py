"""A gate: which of several trained models an observation should be given to.

Shapes: N observations of validation, M models ("experts"), F features of the gate.

The gate is a small network on features that are at hand before the experts run: the vector of a frozen backbone, or what one
cheap model said. It is fitted on pictures that the experts did NOT learn from: on those they did learn from every expert looks
right, and a gate learns nothing that holds for new pictures (Pl@ntNet-300K examined: 99 % in training, 77.5 % on test, less than
the best expert alone).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from taxakey.errors import BadInput

Floats = NDArray[np.floating]
_PATIENCE = 30


@dataclass(frozen=True)
class GateOptions:
    """How a gate is built and fitted.

    `hidden`: width of its one hidden layer, 0: none. `balance`: weight of the load-balancing loss, M · Σ (mean gate)² − 1, which
    is 0 where every expert has an equal share. `by`: "likelihood" of the mixture, or "assignment": every validation observation
    is first given to one expert, each expert as many, such that the likelihood is largest, and the gate learns those.
    `held_out`: share of the rows by which fitting is stopped. `temperature` of the gate's softmax: above 1 spreads.
    """

    hidden: int = 64
    dropout: float = 0.5
    weight_decay: float = 0.01
    rate: float = 0.003
    epochs: int = 300
    balance: float = 0.01
    by: Literal["likelihood", "assignment"] = "likelihood"
    temperature: float = 1.0
    held_out: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        if self.hidden < 0 or not 0 <= self.dropout < 1 or self.epochs < 1:
            raise BadInput(
                f"a gate with hidden {self.hidden}, dropout {self.dropout} and {self.epochs} epochs: a width from 0, a dropout "
                "from 0 to below 1, at least one epoch"
            )
        if self.temperature <= 0 or not 0 < self.held_out < 1:
            raise BadInput(
                f"a gate with temperature {self.temperature} and {self.held_out} held out: above 0, and between 0 and 1"
            )


@dataclass(frozen=True, eq=False)
class Gate:
    """A fitted gate. `epochs`: after how many it was stopped."""

    network: nn.Module
    mean_F: Floats
    scale_F: Floats
    temperature: float
    epochs: int

    def shares(self, features_NF: Floats) -> NDArray[np.float64]:
        """Each observation's weights of the experts [N, M]; rows sum to 1."""
        with torch.inference_mode():
            logits = self.network(_scaled(features_NF, self.mean_F, self.scale_F))
        return torch.softmax(logits.double() / self.temperature, dim=1).numpy()

    @property
    def multiply_adds(self) -> int:
        """Of one observation, its features not counted."""
        return sum(layer.in_features * layer.out_features for layer in self.network.modules() if isinstance(layer, nn.Linear))


def fit_gate(features_NF: Floats, true_p_MN: Floats, options: GateOptions = GateOptions()) -> Gate:
    """Fit on features and on what each expert gave the truth; stopped where rows that are held out get worse.

    true_p_MN: probability of the true class, from experts that didn't learn from these observations.
    """
    if len(features_NF) != true_p_MN.shape[1] or len(features_NF) < 8:
        raise BadInput(
            f"features of {len(features_NF)} observations and answers to {true_p_MN.shape[1]}; as many, and at least 8"
        )
    generator = torch.Generator().manual_seed(options.seed)
    order = torch.randperm(len(features_NF), generator=generator).numpy()
    held, kept = np.split(order, [max(1, round(options.held_out * len(order)))])
    mean_F, scale_F = features_NF[kept].mean(axis=0), features_NF[kept].std(axis=0) + 1e-6
    scaled_NF, log_p_NM = _scaled(features_NF, mean_F, scale_F), torch.from_numpy(np.log(np.maximum(true_p_MN.T, 1e-12))).float()
    target_N = torch.from_numpy(_assigned(log_p_NM[kept].numpy())) if options.by == "assignment" else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network = _network(features_NF.shape[1], len(true_p_MN), options)
        optimizer = torch.optim.AdamW(network.parameters(), lr=options.rate, weight_decay=options.weight_decay)
        best, best_state, since, stopped = (
            _loss(network.eval(), scaled_NF[held], log_p_NM[held], options).item(),
            _copy(network),
            0,
            0,
        )
        for epoch in range(1, options.epochs + 1):
            network.train()
            optimizer.zero_grad()
            loss = _loss(network, scaled_NF[kept], log_p_NM[kept], options, target_N)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                now = _loss(network.eval(), scaled_NF[held], log_p_NM[held], options).item()
            if now < best - 1e-5:
                best, best_state, since, stopped = now, _copy(network), 0, epoch
            elif (since := since + 1) >= _PATIENCE:
                break
        network.load_state_dict(best_state)
    return Gate(network.eval(), mean_F, scale_F, options.temperature, stopped)


def _network(features: int, experts: int, options: GateOptions) -> nn.Module:
    """Begins with equal shares for all: its last layer starts at zero."""
    last = nn.Linear(options.hidden or features, experts)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    if not options.hidden:
        return nn.Sequential(nn.Dropout(options.dropout), last)
    first = nn.Linear(features, options.hidden)
    return nn.Sequential(nn.Dropout(options.dropout), first, nn.GELU(), nn.Dropout(options.dropout), last)


def _loss(
    network: nn.Module, features_NF: Tensor, log_p_NM: Tensor, options: GateOptions, target_N: Tensor | None = None
) -> Tensor:
    log_gate_NM = torch.log_softmax(network(features_NF) / options.temperature, dim=1)
    if target_N is None:
        loss = -torch.logsumexp(log_gate_NM + log_p_NM, dim=1).mean()
    else:
        loss = nn.functional.nll_loss(log_gate_NM, target_N)
    share_M = log_gate_NM.exp().mean(dim=0)
    return loss + options.balance * (len(share_M) * (share_M**2).sum() - 1)


def _assigned(log_p_NM: Floats) -> NDArray[np.int64]:
    """The expert [N] of each observation, each expert as many as any other (to within one), with the largest likelihood."""
    rows, experts = log_p_NM.shape
    places = np.arange(rows) % experts
    _, place_N = linear_sum_assignment(-log_p_NM[:, places])
    return places[place_N].astype(np.int64)


def _scaled(features_NF: Floats, mean_F: Floats, scale_F: Floats) -> Tensor:
    return torch.from_numpy(((features_NF - mean_F) / scale_F).astype(np.float32))


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def answer_features(p_NC: Floats, *, top: int = 5) -> NDArray[np.float32]:
    """What a cheap model's answer says of how hard a picture is [N, top + 2]: first log-probabilities, margin, entropy."""
    p_NC = np.asarray(p_NC, dtype=np.float64)
    first = -np.sort(-p_NC, axis=1)[:, :top]
    entropy = -(p_NC * np.log(np.maximum(p_NC, 1e-12))).sum(axis=1)
    margin = first[:, 0] - first[:, min(1, first.shape[1] - 1)]
    return np.column_stack([np.log(np.maximum(first, 1e-6)), margin, entropy]).astype(np.float32)
