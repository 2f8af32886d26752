"""Runs that learn from metadata, on simulated sheets whose species differ in season, island, habitat and substrate."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import taxakey.torchvision_guard  # noqa: F401  before timm

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from taxakey.dataset.crops import CropOptions, Crops
from taxakey.dataset.preprocess import Preprocess
from taxakey.dataset.reader import Dataset
from taxakey.dataset.vectors import Vectors
from taxakey.embeddings import embed, features
from taxakey.errors import BadInput, BadRecipe
from taxakey.metadata.encoder import FILE, PAPER, MetadataEncoder, MetadataOptions
from taxakey.models.backbones import Network, with_metadata
from taxakey.models.head_options import build_head
from taxakey.models.heads import LinearOptions
from taxakey.models.metadata import MetadataTransformerOptions
from taxakey.models.metadata_vit import MetadataViT, with_metadata_tokens
from taxakey.models.mlp import MlpOptions
from taxakey.prediction.predict import predict
from taxakey.predictions import Predictions
from taxakey.training.batches import Batch, Pictures
from taxakey.training.checkpoint import load_model
from taxakey.training.continuation import Beginning
from taxakey.training.loop import train
from taxakey.training.module import TrainingModule
from taxakey.training.recipe import Recipe, read_recipe, recipe_from

SMOKE = read_recipe(Path(__file__).parent.parent.parent / "recipes" / "smoke.yaml")
TRANSFORMER = MetadataTransformerOptions(layers=1, attention_heads=4, feed_forward=64, hidden=64, token_hidden=32)


@pytest.fixture(scope="module")
def frozen(sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """A recipe for a head on a small random backbone that is told metadata, and the vectors of the sheets."""
    folder = tmp_path_factory.mktemp("frozen")
    torch.manual_seed(0)
    save_file(timm.create_model(SMOKE.backbone.name, num_classes=0).state_dict(), folder / "weights.safetensors")
    recipe = replace(
        SMOKE,
        train="head",
        head=TRANSFORMER,
        metadata=MetadataOptions(),
        backbone=replace(SMOKE.backbone, weights=str(folder / "weights.safetensors")),
        loop=replace(SMOKE.loop, epochs=6, accumulate=1),
    )
    embed(sheets_dataset, recipe.backbone, folder / "vectors")
    return recipe, folder / "vectors"


@pytest.fixture(scope="module")
def told(frozen: tuple[Recipe, Path], sheets_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of that recipe."""
    run = tmp_path_factory.mktemp("told") / "run"
    train(sheets_dataset, frozen[0], run, embeddings_folder=frozen[1], device="cpu")
    return run


def right(run: Path, dataset: Path, vectors: Path) -> float:
    """Share of the held-out pictures that are named rightly: validation chose the epoch, test saw nothing."""
    model, part = load_model(run), Dataset.open(dataset).part("test")
    features_ND = torch.from_numpy(Vectors(vectors).part("test", part.image_ids))
    told_NM = None if model.metadata is None else torch.from_numpy(model.metadata.encode(part.table))
    with torch.inference_mode():
        named_N = model.network.head(with_metadata(features_ND, told_NM)).argmax(1).numpy()
    return float((named_N == part.class_index).mean())


def test_metadata_help_where_they_tell_the_species(
    frozen: tuple[Recipe, Path], told: Path, sheets_dataset: Path, tmp_path: Path
) -> None:
    """Features of random weights say little, season and place much: with each of three seeds metadata win by far."""
    recipe, vectors = frozen
    for seed in range(3):
        one = replace(recipe, seed=seed)
        other = replace(one, head=MlpOptions(hidden=64), metadata=None)
        shares = []
        for name, made in (("told", one), ("untold", other)):
            train(sheets_dataset, made, tmp_path / f"{name}-{seed}", embeddings_folder=vectors, device="cpu")
            shares.append(right(tmp_path / f"{name}-{seed}", sheets_dataset, vectors))
        assert shares[0] > shares[1] + 0.15, f"seed {seed}: {shares}"


def test_a_model_keeps_how_its_metadata_are_encoded(told: Path, frozen: tuple[Recipe, Path], sheets_dataset: Path) -> None:
    model, dataset = load_model(told), Dataset.open(sheets_dataset)
    assert model.metadata == MetadataEncoder.fit(MetadataOptions(), dataset.part("train").table)
    head = model.network.head
    assert (head.metadata, head.in_features) == (model.metadata.width, 512 + model.metadata.width)
    assert model.config["num_features"] == 512
    assert model.metadata.width > 5 + 8 + 10  # habitats and substrates were found
    months = [month for name in ("train", "test") for month in dataset.part(name).table["month"].to_pylist()]
    assert None in months
    assert len(set(months)) > 4


def test_words_of_the_test_part_are_not_in_the_model(frozen: tuple[Recipe, Path], sheets_dataset: Path) -> None:
    """A column whose values differ from picture to picture: none of the test part's may be known."""
    dataset = Dataset.open(sheets_dataset)
    options = MetadataOptions(date=False, place=None, categories=("catalogNumber",), most_words=1000)
    encoder = MetadataEncoder.fit(options, dataset.part("train").table)
    assert encoder.encode(dataset.part("test").table)[:, -1].all()
    assert not encoder.encode(dataset.part("train").table)[:, -1].any()


def test_prediction_from_pictures_is_that_from_vectors(
    told: Path, frozen: tuple[Recipe, Path], sheets_dataset: Path, tmp_path: Path
) -> None:
    """Both see the metadata: without them the answers would be others."""
    predict(told, sheets_dataset, tmp_path / "pictures")
    predict(told, sheets_dataset, tmp_path / "vectors", embeddings_folder=frozen[1])
    found = [Predictions.read(tmp_path / name / "images.parquet").true_probability("species") for name in ("pictures", "vectors")]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-5)
    model, part = load_model(told), Dataset.open(sheets_dataset).part("test")
    assert model.metadata is not None
    told_NM, nothing_NM = model.metadata.encode(part.table), model.metadata.nothing_known(len(part))
    known, unknown = (
        features(model.network, part, range(len(part)), model.preprocess, metadata_NM=given) for given in (told_NM, nothing_NM)
    )
    assert np.abs(known - unknown).max() > 0.1
    order = np.argsort(Predictions.read(tmp_path / "pictures" / "images.parquet").strings("image_id"))
    assert model.calibration is not None
    expected = model.calibration.probabilities(known)[np.arange(len(part)), part.class_index]
    np.testing.assert_allclose(found[0][order], expected[np.argsort(part.image_ids)], rtol=1e-3, atol=1e-5)


def test_training_hides_metadata_and_validation_does_not(frozen: tuple[Recipe, Path], sheets_dataset: Path) -> None:
    part = Dataset.open(sheets_dataset).part("train")
    encoder = MetadataEncoder.fit(replace(MetadataOptions(), hide=0.5), part.table)
    head = build_head(LinearOptions(), 512, part.taxonomy, metadata=encoder.widths)
    module = TrainingModule(Network(torch.nn.Identity(), head), frozen[0], metadata=encoder)
    told_NM = torch.from_numpy(encoder.encode(part.table))
    batch = Batch(torch.zeros(len(part), 512), torch.from_numpy(part.class_index), told_NM)
    assert torch.equal(module.eval().features(batch)[:, 512:], told_NM)
    habitat_unknown_N = module.train().features(batch)[:, 512 + 13 + len(encoder.words["habitat"])]
    assert 0.3 < float(habitat_unknown_N.mean()) < 0.7


def test_a_run_goes_on_only_from_one_that_was_told_the_same(told: Path, sheets_dataset: Path) -> None:
    """Another list of as many words has the same shapes and means something else."""
    beginning, taxonomy = Beginning.open(told), Dataset.open(sheets_dataset).taxonomy
    mine = beginning.model.metadata
    assert mine is not None
    others = {name: tuple(f"other {word}" for word in words) for name, words in mine.words.items()}
    for encoder, taken in (
        (mine, len(taxonomy)), (replace(mine, options=replace(mine.options, hide=0.3)), len(taxonomy)),
        (replace(mine, words=others), 0),
    ):  # fmt: skip
        head = build_head(TRANSFORMER, 512, taxonomy, metadata=encoder.widths)
        counts, note = beginning.hand_over(head, taxonomy, encoder)
        assert counts["classes_taken_over"] == taken
        assert ("told other metadata" in note) is (taken == 0)
        same = torch.equal(head.classifier[-1].weight, beginning.model.network.head.classifier[-1].weight)
        assert same is (taken > 0)


def test_each_crop_of_a_picture_is_told_the_same(told: Path, sheets_dataset: Path) -> None:
    model, part = load_model(told), Dataset.open(sheets_dataset).part("test")
    assert model.metadata is not None
    told_NM = model.metadata.encode(part.table)[:12]
    crops = Crops(CropOptions(3), model.preprocess)
    found_NKC = features(model.network, part, range(12), crops, metadata_NM=told_NM)
    for row in range(12):
        pixels_K3HW = torch.from_numpy(crops.load(part.image_bytes(row)))
        with torch.inference_mode():
            expected_KC = model.network(pixels_K3HW, torch.from_numpy(told_NM[row]).expand(len(pixels_K3HW), -1))
        np.testing.assert_allclose(found_NKC[row], expected_KC.numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("augmented", [True, False])
def test_pictures_bring_their_metadata_along(sheets_dataset: Path, augmented: bool) -> None:
    part = Dataset.open(sheets_dataset).part("validation")
    preprocess = Preprocess(input_size=(3, 16, 16))
    told_NM = np.arange(3 * len(part), dtype=np.float32).reshape(-1, 3)
    augment = SMOKE.augment.build(preprocess, np.ones(len(part.taxonomy), dtype=np.int64)) if augmented else None
    pictures = Pictures(part, preprocess, augment, metadata_NM=told_NM)
    out = torch.empty((2, 16, 16, 3), dtype=torch.uint8 if augmented else torch.float32)
    batch = pictures.into([4, 1 + 7 * len(pictures)], out, mixing=None)
    assert batch.metadata is not None
    assert batch.metadata.tolist() == told_NM[pictures.rows[[4, 1]]].tolist()


def test_a_model_without_its_words_or_with_those_of_another_is_refused(told: Path, tmp_path: Path) -> None:
    shutil.copytree(told / "model", tmp_path / "model")
    load_model(tmp_path / "model")
    MetadataEncoder(MetadataOptions(), {"habitat": (), "substrate": ()}).write(tmp_path / "model")
    with pytest.raises(BadInput, match=r"metadata\.json: missing or of another model"):
        load_model(tmp_path / "model")
    (tmp_path / "model" / FILE).unlink()
    with pytest.raises(BadInput, match=r"metadata\.json: missing or of another model"):
        load_model(tmp_path / "model")


def with_tokens(*, depth: int, epochs: int) -> Recipe:
    """A small transformer that is told metadata, fine-tuned as a whole."""
    small = {"img_size": 32, "patch_size": 16, "embed_dim": 32, "depth": depth, "num_heads": 2}
    return replace(
        SMOKE,
        backbone=replace(SMOKE.backbone, name="vit_tiny_patch16_224", image_size=32, arguments=small, metadata_tokens=True),
        head=LinearOptions(),
        metadata=MetadataOptions(place="sphere"),
        loop=replace(SMOKE.loop, epochs=epochs),
    )


def test_a_vision_transformer_sees_metadata_as_tokens(sheets_dataset: Path, tmp_path: Path) -> None:
    """Fine-tuned as a whole, stored, read and asked again; a picture's answer hangs on what is said of it."""
    recipe = with_tokens(depth=2, epochs=2)
    train(sheets_dataset, recipe, tmp_path / "run", device="cpu")
    model, part = load_model(tmp_path / "run"), Dataset.open(sheets_dataset).part("test")
    backbone = model.network.backbone
    assert isinstance(backbone, MetadataViT)
    assert model.network.head.metadata == 0
    assert len(backbone.tokens.groups) == 3
    assert model.metadata is not None
    told_NM = model.metadata.encode(part.table)
    together = features(model.network, part, range(20), model.preprocess, metadata_NM=told_NM[:20])  # two batches
    alone = [features(model.network, part, [row], model.preprocess, metadata_NM=told_NM[row : row + 1]) for row in range(20)]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-4, atol=1e-4)
    untold = features(model.network, part, range(20), model.preprocess, metadata_NM=model.metadata.nothing_known(20))
    assert np.abs(together - untold).max() > 1e-3
    predict(tmp_path / "run", sheets_dataset, tmp_path / "answers")


def test_metadata_tokens_go_on_where_they_mean_the_same(sheets_dataset: Path, tmp_path: Path) -> None:
    """With next to no rate, so that what was taken over is what lies there in the end."""
    recipe = with_tokens(depth=1, epochs=1)
    train(sheets_dataset, recipe, tmp_path / "run", device="cpu")
    still = replace(recipe, optimizer=replace(recipe.optimizer, rate=1e-12, weight_decay=0.0))
    before = load_model(tmp_path / "run").network.state_dict()
    for place, same_tokens in (("sphere", True), ("geohash", False)):
        again = replace(still, metadata=MetadataOptions(place=place))
        manifest = train(sheets_dataset, again, tmp_path / place, start_from=tmp_path / "run", device="cpu")
        after = load_model(tmp_path / place).network.state_dict()
        for name, tensor in before.items():
            kept = after[name].shape == tensor.shape and bool((after[name] - tensor).abs().max() < 1e-6)
            assert kept or ("tokens" in name and not same_tokens), name
        assert ("fresh" in manifest.notes[0]) is not same_tokens
        assert manifest.counts["classes_taken_over"] == 8


def test_a_vision_transformer_with_deaf_tokens_is_the_one_it_was() -> None:
    """Tokens that no block attends to change nothing: pooling, prefix tokens and norms are timm's."""
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, embed_dim=32, depth=1, num_heads=2, num_classes=0).eval()
    told = with_metadata_tokens(vit, (4, 2)).eval()
    pixels, metadata_BM = torch.randn(3, 3, 32, 32), torch.randn(3, 6)
    with torch.no_grad():
        expected = vit(pixels)
        assert not torch.allclose(told(pixels, metadata_BM), expected, atol=1e-4)
        vit.blocks[0].attn.register_forward_pre_hook(lambda _, given: (given[0][:, :-2], *given[1:]))
        vit.blocks[0].attn.register_forward_hook(lambda _, __, out: torch.cat([out, torch.zeros(3, 2, 32)], 1))
        torch.testing.assert_close(told(pixels, metadata_BM), expected)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"head": {"kind": "metadata_transformer"}}, "names none"),
        ({"backbone": {"metadata_tokens": True}}, "names none"),
        ({"backbone": {"metadata_tokens": True}, "metadata": {}}, "must be learnt"),
        ({"backbone": {"metadata_tokens": True}, "metadata": {}, "head": {"kind": "metadata_transformer"}}, "no metadata to the"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(BadRecipe, match=message):
        recipe_from({"name": "x", **changed}, "x").resolved()


def test_the_papers_metadata_in_a_recipe() -> None:
    """What docs say of the paper's preset is what `PAPER` holds."""
    written = {"place": "geohash_tail", "categories": ["substrate", "metasubstrate", "habitat"], "flags": False, "hide": 0}
    assert recipe_from({"name": "x", "metadata": written}, "x").metadata == PAPER
    assert recipe_from({"name": "x", "metadata": {}}, "x").metadata == MetadataOptions()
    for wrong in ({"place": "moon"}, {"colour": 1}, {"categories": []} | {"date": False, "place": None}):
        with pytest.raises(BadRecipe, match="metadata"):
            recipe_from({"name": "x", "metadata": wrong}, "x")


def test_a_convolutional_network_has_no_tokens(sheets_dataset: Path, tmp_path: Path) -> None:
    recipe = replace(SMOKE, backbone=replace(SMOKE.backbone, metadata_tokens=True), metadata=MetadataOptions())
    with pytest.raises(BadRecipe, match="not ResNet"):
        train(sheets_dataset, recipe, tmp_path / "run", device="cpu")
