"""Learning rates and optimisers against their definitions and against torch's own."""

from __future__ import annotations

from typing import Any

import taxakey.torchvision_guard  # noqa: F401  before timm

import pytest
import timm
import torch
from torch.optim import lr_scheduler

from taxakey.training.schedule import OptimizerOptions, Rates, ScheduleOptions


def rates(options: ScheduleOptions, steps: int, per_epoch: int) -> list[list[float]]:
    """The rate of each parameter group at each step; the second group is a backbone at a tenth of the head's rate."""
    optimizer = OptimizerOptions(rate=1.0, backbone_rate=0.1).build(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    schedule = options.build(optimizer, steps=steps, steps_per_epoch=per_epoch)
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return [[row[0], row[2]] for row in found]


def torchs(make: Any, steps: int, rate: float = 1.0) -> list[float]:
    """The rates of a schedule of torch's, stepped after every optimiser step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    schedule = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_cosine_rises_peaks_and_ends_at_its_share_of_the_peak() -> None:
    found = rates(ScheduleOptions(kind="cosine", warmup=0.1, final=0.01), 100, 10)
    assert found[0] == pytest.approx([0.01, 0.001])
    assert found[10] == pytest.approx([1.0, 0.1])
    assert found[55] == pytest.approx([0.505, 0.0505])  # half-way down: the mean of peak and end
    assert found[99] == pytest.approx([0.01, 0.001], rel=0.05)


def test_exponential_falls_once_an_epoch_by_its_factor() -> None:
    found = rates(ScheduleOptions(kind="exponential", decay=0.85), 30, 10)
    assert [found[step][0] for step in (0, 10, 20)] == pytest.approx([1, 0.85, 0.85**2])


def test_constant_stays() -> None:
    assert {tuple(row) for row in rates(ScheduleOptions(kind="constant"), 20, 10)} == {(1.0, 0.1)}


def test_steps_are_torchs_at_the_milestones_epochs() -> None:
    """Pl@ntNet-300K: 30 epochs, a tenth at 20 and at 25."""
    found = rates(ScheduleOptions(kind="step", decay=0.1, milestones=(20, 25)), 30 * 4, 4)
    expected = torchs(lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [80, 100], 0.1), 120)
    assert [row[0] for row in found] == pytest.approx(expected)
    assert found[79][1] == pytest.approx(0.1)
    assert found[80][1] == pytest.approx(0.01)


def test_one_cycle_is_torchs() -> None:
    """NAFlora: 0.007 to 0.7 and down to 0.007, the peak at a fifth of the run. torch counts its phases from the step before."""
    found = [row[0] for row in rates(ScheduleOptions(kind="one_cycle"), 100, 10)]

    def one_cycle(optimizer: torch.optim.Optimizer) -> Any:
        pct = 21 / 101  # so that both of torch's phases end where ours do: pct * 101 - 1 = 20, 101 - 1 = 100
        return lr_scheduler.OneCycleLR(
            optimizer, 1.0, total_steps=101, pct_start=pct, div_factor=100, final_div_factor=1, cycle_momentum=False
        )

    assert found == pytest.approx(torchs(one_cycle, 100))
    assert (found.index(max(found)), found[0], max(found)) == pytest.approx((20, 0.01, 1.0))


@pytest.mark.parametrize("factor", [1, 2])
def test_restarts_are_torchs(factor: int) -> None:
    """FungiCLEF: five epochs, down to 5e-7, whatever the rate of the group."""
    found = rates(ScheduleOptions(kind="restarts", period=5, period_factor=factor, lowest=5e-7), 200, 10)

    def restarts(optimizer: torch.optim.Optimizer) -> Any:
        return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 50, factor, eta_min=5e-7)

    assert [row[0] for row in found] == pytest.approx(torchs(restarts, 200))
    assert [row[1] for row in found] == pytest.approx(torchs(restarts, 200, rate=0.1))


@pytest.mark.parametrize("options", [{"kind": "step", "milestones": (5,)}, {"kind": "restarts"}, {"kind": "exponential"}])
def test_a_warm_up_goes_before_any_of_them(options: dict[str, Any]) -> None:
    plain = [row[0] for row in rates(ScheduleOptions(**options), 100, 10)]
    found = [row[0] for row in rates(ScheduleOptions(**options, warmup=0.2, start=0.1), 100, 10)]
    assert found[0] == pytest.approx(0.1)
    assert found[10] == pytest.approx(0.55 * (1.0 if options["kind"] == "restarts" else plain[10]))  # half-way up
    after = plain[:80] if options["kind"] == "restarts" else plain[20:]  # a restart is counted from the end of the warm-up
    assert found[20:] == pytest.approx(after)


def test_plateau_falls_as_torchs_does_and_goes_on_after_a_resume() -> None:
    figures = [0.1, 0.3, 0.3, 0.2, 0.25, 0.3, 0.4, 0.4, 0.3, 0.3, 0.3, 0.3]
    theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    torchs_own = lr_scheduler.ReduceLROnPlateau(theirs, "max", factor=0.5, patience=2, threshold=0.0)
    options = ScheduleOptions(kind="plateau", decay=0.5, patience=2)

    def fresh() -> tuple[torch.optim.Optimizer, Rates]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        return optimizer, options.build(optimizer, steps=60, steps_per_epoch=5)

    optimizer, schedule = fresh()
    found, expected = [], []
    for epoch, figure in enumerate(figures):
        for _ in range(5):
            optimizer.step()
            schedule.step()
        schedule.measured(figure)
        torchs_own.step(figure)
        found.append(optimizer.param_groups[0]["lr"])
        expected.append(theirs.param_groups[0]["lr"])
        if epoch == 6:  # in the middle of a wait, all that is known goes through what a checkpoint holds
            state = schedule.state_dict(), optimizer.state_dict()
            optimizer, schedule = fresh()
            schedule.load_state_dict(state[0])
            optimizer.load_state_dict(state[1])
    assert found == pytest.approx(expected)
    assert set(found) == {1.0, 0.5, 0.25}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "step"}, "needs milestones"),
        ({"kind": "cosine", "milestones": (3,)}, "no other kind takes them"),
        ({"warmup": 1.0}, "warmup must lie in"),
        ({"kind": "restarts", "period": 0}, "period"),
        ({"start": 0.0}, "start, final and decay"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScheduleOptions(**wrong)


# ---- optimisers ----


def one_step(options: OptimizerOptions, value: float = 1.0, gradient: float = 0.5, steps: int = 2) -> float:
    """Where a weight stands after some steps with the same gradient."""
    head = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(head.weight, value)
    optimizer = options.build(None, head)
    for _ in range(steps):
        head.weight.grad = torch.full_like(head.weight, gradient)
        optimizer.step()
    return head.weight.item()


def test_sgd_is_nesterovs_and_its_decay_goes_through_the_gradient() -> None:
    w, velocity = 1.0, 0.0
    for _ in range(2):
        g = 0.5 + 0.1 * w
        velocity = 0.9 * velocity + g
        w -= 0.01 * (g + 0.9 * velocity)
    assert one_step(OptimizerOptions("sgd", rate=0.01, weight_decay=0.1)) == pytest.approx(w)


def test_sgdw_decays_the_weight_itself() -> None:
    w, velocity = 1.0, 0.0
    for _ in range(2):
        w *= 1 - 0.01 * 0.1
        velocity = 0.9 * velocity + 0.5
        w -= 0.01 * (0.5 + 0.9 * velocity)
    assert one_step(OptimizerOptions("sgdw", rate=0.01, weight_decay=0.1)) == pytest.approx(w)


def test_adam_with_biomachinas_epsilon() -> None:
    """A gradient as small as epsilon moves the weight by half a step: m / (sqrt(v) + eps) = 1/2."""
    options = OptimizerOptions("adam", rate=0.01, weight_decay=0.0, eps=1e-4)
    assert one_step(options, gradient=1e-4, steps=1) == pytest.approx(1 - 0.005)
    assert one_step(OptimizerOptions("adam", rate=0.01, weight_decay=0.0), gradient=1e-4, steps=1) == pytest.approx(
        1 - 0.01, 1e-5
    )


def test_lion_moves_by_the_sign_with_the_betas_given() -> None:
    options = OptimizerOptions("lion", rate=0.01, weight_decay=0.1, betas=(0.5, 0.9))
    assert one_step(options, steps=1) == pytest.approx(1 * (1 - 0.01 * 0.1) - 0.01)
    assert options.build(None, torch.nn.Linear(2, 2)).param_groups[0]["betas"] == (0.5, 0.9)


def test_an_option_that_the_optimizer_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="sgd takes no eps"):
        OptimizerOptions("sgd", eps=1e-4)
    with pytest.raises(ValueError, match="layer_decay"):
        OptimizerOptions(layer_decay=1.5)


def test_lazy_adamw_takes_betas_and_eps() -> None:
    group = OptimizerOptions("lazy_adamw", betas=(0.8, 0.9), eps=1e-5).build(None, torch.nn.Linear(2, 2)).param_groups[0]
    assert (group["betas"], group["eps"]) == ((0.8, 0.9), 1e-5)


def test_the_rate_grows_with_the_batch() -> None:
    options = OptimizerOptions(rate=0.1, rate_batch=256)
    head = torch.nn.Linear(2, 2)
    assert options.build(None, head, batch=1024).param_groups[0]["lr"] == pytest.approx(0.4)
    assert options.build(None, head).param_groups[0]["lr"] == pytest.approx(0.1)
    assert OptimizerOptions(rate=0.1).build(None, head, batch=1024).param_groups[0]["lr"] == pytest.approx(0.1)


def test_each_layer_learns_at_a_share_of_the_one_above_it() -> None:
    backbone = timm.create_model(
        "vit_tiny_patch16_224", num_classes=0, img_size=32, patch_size=16, depth=3, embed_dim=48, num_heads=3
    )
    head = torch.nn.Linear(48, 5)
    options = OptimizerOptions(rate=1.0, backbone_rate=0.1, layer_decay=0.5, weight_decay=0.3)
    groups = options.build(backbone, head).param_groups
    rate_of = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    decay_of = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert len(rate_of) == sum(1 for _ in backbone.parameters()) + 2
    assert rate_of[id(head.weight)] == 1.0
    assert rate_of[id(backbone.norm.weight)] == pytest.approx(0.1)
    blocks = [rate_of[id(block.attn.qkv.weight)] for block in backbone.blocks]
    assert blocks == pytest.approx([0.025, 0.05, 0.1])  # timm counts the last norm to the last block
    assert rate_of[id(backbone.patch_embed.proj.weight)] == pytest.approx(0.0125)
    assert (decay_of[id(backbone.blocks[0].attn.qkv.weight)], decay_of[id(backbone.norm.weight)]) == (0.3, 0.0)
