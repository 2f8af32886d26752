from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from taxakey.errors import BadRecipe
from taxakey.models.heads import BottleneckOptions, LinearOptions
from taxakey.study.plan import read_study

BASE = {"name": "base", "train": "head", "backbone": {"name": "resnet10t", "weights": "some.safetensors"}, "loop": {"epochs": 7}}


def study_file(folder: Path, **changes: object) -> Path:
    content = {
        "study": "trial",
        "title": "A trial",
        "base": BASE,
        "seeds": [0, 1],
        "variants": {
            "flat": {},
            "web": {"dataset": "web", "measured": False},
            "narrow": {"recipe": {"head": {"kind": "bottleneck", "width": 16}, "loop": {"epochs": 3}}, "start": "web"},
        },
        "smoke": {"loop": {"epochs": 1}},
    } | changes
    path = folder / "trial.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def test_variants_change_the_base(tmp_path: Path) -> None:
    study = read_study(study_file(tmp_path))
    assert (study.measured, study.first, study.datasets) == (("flat", "narrow"), "flat", ("main", "web"))
    flat, narrow = study.recipe("flat"), study.recipe("narrow")
    assert (flat.head, flat.loop.epochs, flat.name) == (LinearOptions(), 7, "trial: flat")
    assert (narrow.head, narrow.loop.epochs) == (BottleneckOptions(width=16), 3)
    assert study.recipe("narrow", smoke=True).loop.epochs == 1


def test_only_some_variants_with_what_they_need(tmp_path: Path) -> None:
    study = read_study(study_file(tmp_path))
    assert list(study.only(("narrow",)).variants) == ["flat", "web", "narrow"]
    assert list(study.only(("flat",)).variants) == ["flat"]
    with pytest.raises(BadRecipe, match="no variant 'wide'; it has: flat, web, narrow"):
        study.only(("wide",))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"variants": {"flat": {"start": "later"}, "later": {}}}, "'flat' starts from 'later', which is no variant above it"),
        ({"reference": "web"}, "the reference 'web' is none of the measured"),
        ({"variants": {"1/N": {}, "1/√N": {}}}, "would share the folder '1-n'; rename one"),
        ({"seeds": []}, "at least one variant and one seed"),
        ({"seeds": [1, 1]}, "each seed once"),
        ({"variants": {"flat": {"recipe": {"loop": {"epoch": 3}}}}}, r"trial, variant 'flat': loop\.epoch"),
        ({"smoke": {"head": {"width": 3}}}, "trial, variant 'flat'"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_slips_are_named(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(BadRecipe, match=said):
        read_study(study_file(tmp_path, **changes))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="no such file; a study is a YAML file"):
        read_study(tmp_path / "none.yaml")


STUDIES = sorted((Path(__file__).parent.parent.parent / "recipes" / "studies").glob("*.yaml"))


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_the_studies_that_come_along_are_valid(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TAXAKEY_DATA", str(tmp_path))
    study = read_study(file)
    assert study.published or file.stem == "flowers102-lt"
    for name in study.variants:
        study.recipe(name).resolved()
