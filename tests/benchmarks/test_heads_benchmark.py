"""The benchmark of heads: a tiny run says what a large one says, and what it computes equals what it builds."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from loaded import BENCHMARKS, load

bench = load("heads")
MEASURABLE = [name for name, way in bench.WAYS.items() if bench.obstacle(way, "cpu") is None]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_a_small_run_tells_all_figures_with_their_circumstances(tmp_path):
    out = tmp_path / "heads.json"
    command = [
        sys.executable,
        BENCHMARKS / "heads.py",
        "--classes",
        "200",
        "--heads",
        "bottleneck",
        "tree",
        "--rounds",
        "1",
        "--seconds",
        "0.01",
    ]
    done = subprocess.run([*command, "--threads", "1", "--out", out], capture_output=True, text=True, check=True)
    result = json.loads(out.read_text())
    assert {"date", "machine", "torch", "threads", "device", "memory_available_bytes", "cells", "aims"} <= result.keys()
    flat, tree = result["cells"]
    assert [cell["head"] for cell in (flat, tree)] == ["bottleneck", "tree"]
    assert tree["shape"] == [50, 4]
    for cell in (flat, tree):
        assert (cell["classes"], cell["rounds"], cell["note"], cell["over"]) == (200, 1, None, None)
        assert cell["step"].keys() == {"64", "256"}
        assert cell["answer"].keys() == {"1", "256"}
        for quantity in [*cell["step"].values(), *cell["answer"].values()]:
            assert 0 < quantity["fastest_s"] <= quantity["median_s"] < 10
            assert quantity["times"] >= 3
        assert all(quantity["peak_bytes"] >= 0 for quantity in cell["step"].values())
        assert cell["answer"]["1"]["first_right"] > 0.2
    assert tree["untrained"]["1"]["opened"] > 40 > 10 > tree["answer"]["1"]["opened"]
    assert flat["leanest"].keys() == {"1", "256"}
    assert all(aim["met"] is None for aims in result["aims"].values() for aim in aims)  # they speak of more classes
    assert "200 classes" in done.stdout
    assert "before training" in done.stdout


@pytest.mark.parametrize("name", MEASURABLE)
def test_every_head_learns_and_has_the_parameters_computed(name):
    way = bench.way_of(name)
    torch.manual_seed(0)
    head = bench._built(way, 90, "cpu")
    assert sum(parameter.numel() for parameter in head.parameters()) == bench.parameters(way, 90)
    features_BD, labels_B = torch.randn(4, bench.FEATURES), torch.tensor([3, 80, 3, 41])
    losses = []
    optimizers = way.optimizers(head)
    for _ in range(3):
        loss = way.loss(head, features_BD, labels_B)
        losses.append(float(loss.detach()))
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    assert losses[2] < losses[0]
    with torch.inference_mode():
        assert head.top_k(features_BD, 5).classes.shape == (4, 5)


def test_computed_bytes_of_a_flat_head_of_a_million_classes():
    # 1792 weights and a bias; weight, gradient and two moments of 4 bytes; logits, their log-softmax and gradient of 64 images.
    assert bench.computed_bytes(bench.WAYS["flat"], 1_000_000, 64) == 1_000_000 * (1793 * 16 + 64 * 12)
    cell = bench.new_cell("flat", 1_000_000, "cpu", memory=24 * 10**9)
    assert cell["done"]
    assert "29.5 GB at batch 64" in cell["note"]


@pytest.mark.parametrize("name", ["flat", "bottleneck", "tree:60", "tree:6,10", "tree-full"])
def test_weights_as_trained_find_the_nearest_means(name):
    torch.manual_seed(0)
    way = bench.way_of(name)
    flora = bench.Flora.draw(300, way.slots(300) if way.slots else (60,), "cpu")
    images = flora.images()
    z_Pd = images.features_PD @ flora.projection_dD.T
    nearest_P = torch.cdist(z_Pd.double(), flora.means_Cd.double()).argmin(1)
    head = bench._built(way, 300, "cpu")
    flora.fill(head)
    with torch.inference_mode():
        found_P = head.top_k(images.features_PD, 1).classes[:, 0]
    if way.slots is None:
        assert (found_P == nearest_P).float().mean() > 0.999
    # A tree sees a node's classes by their mean until it has opened it.
    right = [float((answer_P == images.labels_P).float().mean()) for answer_P in (found_P, nearest_P)]
    assert 0.9 * right[1] < right[0] < 1


def test_shapes_hold_all_classes_and_the_papers_is_among_them():
    assert bench.shape(bench.WAYS["tree"], 80_000) == [1000, 80]
    for classes in (1, 7, 1_000, 1_000_000):
        for name in ("tree", "tree-three"):
            assert math.prod(bench.shape(bench.WAYS[name], classes)) >= classes
    assert bench.shape(bench.way_of("tree:20,40"), 80_000) == [100, 20, 40]
    with pytest.raises(SystemExit, match="there is no head tree:0"):
        bench.way_of("tree:0")


def test_aims_take_the_worst_answer_and_a_bound_where_a_step_took_too_long():
    def cell(head, classes, step=None, answer=None, **more):
        quantities = {"step": {"64": {"median_s": step, "peak_bytes": 10**9}} if step else {}, "leanest": {}, "untrained": {}}
        answers = {str(size): {"median_s": seconds} for size, seconds in (answer or {}).items()}
        return {"head": head, "classes": classes, "over": None, **quantities, "answer": answers, **more}

    cells = [
        cell("tree", 80_000, 0.01, {1: 0.001, 256: 0.05}),
        cell("bottleneck", 80_000, 0.1, {1: 0.004, 256: 0.2}, leanest={"256": {"median_s": 0.025}}),
        cell("package", 80_000, over="a step of 64"),
        cell("tree", 1_000_000, 0.05),
    ]
    figures = {aim.text.split(",")[0]: (aim.figure, aim.met) for aim in bench.aims(cells)}
    assert figures["flat on 1792 features"] == (None, None)
    assert figures["flat on the bottleneck"] == (pytest.approx(10), False)
    assert figures["hierarchicalsoftmax"] == (pytest.approx(6000), True)
    assert figures["slowest answer from 10"] == (pytest.approx(2), False)
    assert figures["milliseconds to the top 5 of one image there"] == (pytest.approx(1), True)
    assert figures["GB to train a million classes"] == (1, True)
    assert np.isfinite([aim.bound for aim in bench.aims(cells)]).all()
