"""A study's runs for real, in small: a head on the vectors of a backbone that another variant fine-tuned."""

from __future__ import annotations

from pathlib import Path

from taxakey.artifacts import read_manifest
from taxakey.dataset.vectors import Vectors
from taxakey.models.backbones import state_hash
from taxakey.study.plan import Study, Variant
from taxakey.study.run import run_study
from taxakey.training.checkpoint import load_model
from taxakey.training.recipe import read_recipe

SMOKE = read_recipe(Path(__file__).parent.parent.parent / "recipes" / "smoke.yaml")


def test_a_head_goes_on_with_the_backbone_that_another_variant_fine_tuned(sheets_dataset: Path, tmp_path: Path) -> None:
    base = {**SMOKE.to_dict(), "head": {"kind": "linear"}, "loop": {"epochs": 1, "batch_size": 32}}
    variants = {
        "fine-tuned": Variant(),
        "embedded again": Variant({"train": "head", "head": {"kind": "mlp", "hidden": 16}}, start="fine-tuned"),
    }
    study = Study("trial", "A trial", base, variants)
    found = run_study(study, {"main": sheets_dataset}, tmp_path)
    folders = {name: seeds[0].parent / "run" for name, seeds in found.items()}
    tuned, again = (load_model(folder).network for folder in folders.values())
    assert state_hash(again.backbone) == state_hash(tuned.backbone)
    (vectors,) = (tmp_path / "vectors").iterdir()
    assert Vectors(vectors).backbone_hash == state_hash(tuned.backbone)
    assert read_manifest(folders["embedded again"], "run").recipe["train"] == "head"
