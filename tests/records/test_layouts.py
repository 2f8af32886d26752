"""The layouts of published datasets, in small files of exactly their form; and reading large JSON piece by piece."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taxakey.cli.records import records
from taxakey.errors import BadInput, BadRecords
from taxakey.records.layouts import LAYOUTS
from taxakey.records.reading import json_stream
from taxakey.records.reading.json_stream import read_arrays, read_members
from taxakey.records.sources import read_source
from taxakey.records.table import Observations


def rows(found: Observations, *columns: str) -> list[tuple[object, ...]]:
    return [tuple(row[name] for name in columns) for row in found.table.to_pylist()]


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


# ---- Herbarium 2022 (NAFlora-1M) ----

HERBARIUM = {
    "annotations": [
        {"genus_id": 1, "institution_id": 7, "category_id": 3, "image_id": "00003__001"},
        {"genus_id": 1, "institution_id": 8, "category_id": 5, "image_id": "00005__002"},
    ],
    "images": [
        {"image_id": "00003__001", "file_name": "000/03/00003__001.jpg", "license": 1},
        {"image_id": "00005__002", "file_name": "000/05/00005__002.jpg", "license": 2},
        {"image_id": "00009__003", "file_name": "000/09/00009__003.jpg", "license": 2},
    ],
    "categories": [
        {"category_id": number, "scientificName": f"Poa {epithet} L.", "family": "Poaceae", "genus": "Poa", "species": epithet,
         "authors": "L."}
        for number, epithet in ((3, "annua"), (5, "alpina"))
    ],
    "genera": [{"genus_id": 1, "genus": "Poa"}],
    "institutions": [{"institution_id": 7, "collectionCode": "NY"}, {"institution_id": 8, "collectionCode": "BR"}],
    "distances": [{"genus_id_x": 1, "genus_id_y": 1, "distance": 0.0}],
    "licenses": [{"id": 1, "name": "CC BY", "url": "https://cc.org/by"}, {"id": 2, "name": "CC0", "url": "https://cc.org/0"}],
}  # fmt: skip


@pytest.mark.parametrize("whole", [True, False])
def test_herbarium_2022(tmp_path: Path, whole: bool) -> None:
    (tmp_path / "train_metadata.json").write_text(json.dumps(HERBARIUM))
    touch(tmp_path, "train_images/000/03/00003__001.jpg")
    found = read_source(tmp_path if whole else tmp_path / "train_metadata.json")
    expected = (
        "scientificName",
        "scientificNameAuthorship",
        "taxonID",
        "institutionCode",
        "license",
        "image_id",
        "path",
        "split",
    )
    images = tmp_path / "train_images"
    assert rows(found, *expected) == [
        ("Poa annua", "L.", "3", "NY", "https://cc.org/by", "00003__001", str(images / "000/03/00003__001.jpg"), None),
        ("Poa alpina", "L.", "5", "BR", "https://cc.org/0", "00005__002", str(images / "000/05/00005__002.jpg"), None),
    ]
    assert found.rejections() == {"no name": 1}  # a picture of the test part


def test_the_table_of_naflora_mini(shared_data: Path) -> None:
    found = read_source(shared_data / "checklists/naflora_mini/h22_miniv1_val.tsv")
    assert (len(found), found.rejected.num_rows) == (9315, 0)
    assert len(set(found.table["taxonID"].to_pylist())) == len(set(found.table["scientificName"].to_pylist())) == 1863
    row = found.table.slice(0, 1).to_pylist()[0]
    assert (row["scientificName"], row["scientificNameAuthorship"], row["family"]) == (
        "Abutilon berlandieri",
        "A.Gray",
        "Malvaceae",
    )
    assert (row["image_id"], row["identifier"]) == ("00026__004", "000/26/00026__004.jpg")


# ---- iNaturalist ----


def inaturalist(images: list[dict[str, object]], categories: list[dict[str, object]]) -> str:
    notes = [{"id": image["id"], "image_id": image["id"], "category_id": 0} for image in images]
    return json.dumps({"info": {"year": 2021}, "images": images, "categories": categories, "annotations": notes, "licenses": []})


CATEGORY_2021 = {
    "id": 0, "name": "Poa annua", "common_name": "annual bluegrass", "supercategory": "Plants", "kingdom": "Plantae",
    "phylum": "Tracheophyta", "class": "Liliopsida", "order": "Poales", "family": "Poaceae", "genus": "Poa",
    "specific_epithet": "annua", "image_dir_name": "00000_Plantae_Poa_annua",
}  # fmt: skip


def test_inaturalist_2021_with_both_parts_in_a_folder(tmp_path: Path) -> None:
    image = {"id": 4, "file_name": "train/00000_Poa/a.jpg", "license": 0, "rights_holder": "Ann"}
    image |= {"date": "2020-05-06 10:00:00+00:00", "latitude": 1.5, "longitude": -2.5}
    (tmp_path / "train.json").write_text(inaturalist([image], [CATEGORY_2021]))
    (tmp_path / "val.json").write_text(inaturalist([{**image, "file_name": "val/00000_Poa/b.jpg"}], [CATEGORY_2021]))
    found = read_source(tmp_path)
    assert rows(found, "scientificName", "vernacularName", "order", "split", "rightsHolder", "year", "decimalLongitude") == [
        ("Poa annua", "annual bluegrass", "Poales", "train", "Ann", 2020, -2.5),
        ("Poa annua", "annual bluegrass", "Poales", "validation", "Ann", 2020, -2.5),
    ]
    # The id 4 stands in both files, so the pictures are called by their paths.
    assert rows(found, "image_id") == [("train/00000_Poa/a",), ("val/00000_Poa/b",)]


def test_inaturalist_2018_hides_its_names_in_another_file(tmp_path: Path) -> None:
    file = tmp_path / "train2018.json"
    file.write_text(inaturalist([{"id": 1, "file_name": "a.jpg"}], [{"id": 0, "name": "0", "supercategory": "Plantae"}]))
    with pytest.raises(BadRecords, match=r"have no names; put the challenge's categories\.json beside it"):
        read_source(file)
    (tmp_path / "categories.json").write_text(json.dumps([{"id": 0, "name": "Poa annua", "family": "Poaceae"}]))
    assert rows(read_source(file), "scientificName", "family", "image_id") == [("Poa annua", "Poaceae", "1")]


def test_a_picture_with_two_names_is_not_silently_given_one(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 1, "category_id": 0}, {"image_id": 1, "category_id": 1}, {"image_id": 2, "category_id": 0}],
        "categories": [{"id": 0, "name": "Poa annua"}, {"id": 1, "name": "Poa alpina"}],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    assert sorted(read_source(tmp_path / "train.json").rejections().items()) == [
        ("no picture", 1),
        ("observation of two names", 2),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [{"id": 1, "file_name": "a.jpg"}', "not JSON, or cut off"),
        ('{"images": [{"id": 1, "file_name": "a.jp', "not JSON, or cut off"),
        ('{"images": [1, 2]}', "'images' holds int, not objects"),
        ('{"categories": []}', "has no array 'images'"),
        ('{"images": [{"file_name": "a"}]}', "objects without image_id and id|without image and id"),
        (
            '{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1, "category_id": 0}]}',
            "no array 'categories'",
        ),
    ],
)
def test_json_that_cannot_be_used(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(BadRecords, match=message) as caught:
        read_source(tmp_path / "train.json")
    assert str(tmp_path / "train.json") in str(caught.value)


# ---- large JSON ----


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 4 * 2**20])
def test_json_is_read_alike_in_pieces_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    monkeypatch.setattr(json_stream, "_BLOCK", 2)
    images = [{"id": number, "name": f'ä"{number},]}}', "more": {"list": [1, {"deep": None}]}} for number in (1, 20, 300)]
    content = {"n": 1234567, "skipped": [[1, 2], {}], "images": images, "empty": [], "truth": True, "text": "{["}
    (tmp_path / "a.json").write_text(json.dumps(content, indent=1, ensure_ascii=False))
    found = read_arrays(tmp_path / "a.json", {"images": ("id", "name", "more", "lacking"), "empty": ("id",)})
    assert found["images"].to_pylist() == [
        {"id": str(row["id"]), "name": row["name"], "more": json.dumps(row["more"])} for row in images
    ]
    assert found["empty"].num_rows == 0
    (tmp_path / "b.json").write_text(json.dumps({"x": {"a": 1.5}, "y": {"a": True}}))
    assert read_members(tmp_path / "b.json", "key", ["a"]).to_pylist() == [{"key": "x", "a": "1.5"}, {"key": "y", "a": "true"}]


# ---- Pl@ntNet-300K ----


def plantnet(folder: Path, *, metadata: bool = True) -> Path:
    touch(
        folder,
        "images/train/1355868/aaa.jpg",
        "images/train/1355868/bbb.jpg",
        "images/val/1355920/ccc.jpg",
        "images/test/99/ddd.jpg",
    )
    touch(folder, "images/loose.jpg")
    names = {"1355868": "Lactuca virosa L.", "1355920": "Pelargonium capitatum (L.) L'Hér."}
    (folder / "plantnet300K_species_id_2_name.json").write_text(json.dumps(names))
    said = {"species_id": "1355868", "obs_id": "17", "organ": "leaf", "author": "Ann", "license": "cc-by-sa", "split": "train"}
    if metadata:
        (folder / "plantnet300K_metadata.json").write_text(json.dumps({"aaa": said, "bbb": {**said, "organ": "flower"}}))
    return folder


def test_plantnet_300k(tmp_path: Path) -> None:
    found = read_source(plantnet(tmp_path))
    expected = (
        "image_id",
        "occurrenceID",
        "scientificName",
        "scientificNameAuthorship",
        "taxonID",
        "split",
        "organ",
        "license",
        "creator",
    )
    assert sorted(rows(found, *expected)) == [
        ("aaa", "17", "Lactuca virosa", "L.", "1355868", "train", "leaf", "cc-by-sa", "Ann"),
        ("bbb", "17", "Lactuca virosa", "L.", "1355868", "train", "flower", "cc-by-sa", "Ann"),
        ("ccc", "ccc", "Pelargonium capitatum", "(L.) L'Hér.", "1355920", "validation", None, None, None),
    ]
    assert found.rejections() == {"no name": 1, "not a picture of a species' folder": 1}
    assert all(Path(str(path)).is_file() for (path,) in rows(found, "path"))


def test_plantnet_300k_without_its_metadata_and_with_the_real_names(tmp_path: Path, shared_data: Path) -> None:
    folder = plantnet(tmp_path, metadata=False)
    real = shared_data / "checklists/plantnet300k/plantnet300K_species_id_2_name.json"
    (folder / "plantnet300K_species_id_2_name.json").write_bytes(real.read_bytes())
    found = read_source(folder)
    assert sorted(rows(found, "occurrenceID", "scientificName")) == [
        ("aaa", "Lactuca virosa"), ("bbb", "Lactuca virosa"), ("ccc", "Pelargonium capitatum"),
    ]  # fmt: skip


# ---- tables ----

DANISH = """eventDate,year,month,day,countryCode,Substrate,Latitude,Longitude,Habitat,observationID,ImageUniqueID,image_path,kingdom,family,genus,species,class_id,poisonous,metaSubstrate
2019-10-03,2019,10,3,DK,soil,55.5,12.25,park,o7,i1,i1.JPG,Fungi,Amanitaceae,Amanita,Amanita muscaria,5,1,ground
2019-10-03,2019,10,3,DK,soil,55.5,12.25,park,o7,i2,i2.JPG,Fungi,Amanitaceae,Amanita,Amanita muscaria,5,1,ground
2019-10-04,2019,10,4,DK,wood,,,forest,o8,i3,i3.JPG,Fungi,,,,-1,0,wood
"""  # noqa: E501


def test_danish_fungi(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(DANISH)
    touch(tmp_path, "DF20_300/i1.JPG")
    found = read_source(tmp_path / "train.csv")
    expected = (
        "occurrenceID",
        "image_id",
        "scientificName",
        "habitat",
        "substrate",
        "metasubstrate",
        "poisonous",
        "taxonID",
        "decimalLatitude",
        "path",
    )
    assert rows(found, *expected) == [
        ("o7", name, "Amanita muscaria", "park", "soil", "ground", True, "5", 55.5, str(tmp_path / f"DF20_300/{name}.JPG"))
        for name in ("i1", "i2")
    ]
    assert found.rejections() == {"no name": 1}  # class -1, the unknown species


PLANTCLEF = """image_name;organ;species_id;obs_id;license;partner;author;latitude;longitude;species;genus;family;url;learn_tag
a.jpg;leaf;1355868;17;cc-by-sa;tela;Ann;43.5;3.5;Lactuca virosa L.;Lactuca;Asteraceae;https://x.org/a.jpg;train
b.jpg;flower;1355868;17;cc-by-sa;tela;Ann;43.5;3.5;Lactuca virosa L.;Lactuca;Asteraceae;https://x.org/b.jpg;train
"""


@pytest.mark.parametrize("with_path", [False, True])
def test_plantclef(tmp_path: Path, with_path: bool) -> None:
    text = (
        PLANTCLEF.replace("image_name;", "image_path;").replace("\na", "\n1355868/a").replace("\nb", "\n1355868/b")
        if with_path
        else PLANTCLEF
    )
    (tmp_path / "PlantCLEF2022_training_metadata.csv").write_text(text)
    touch(tmp_path, "images/1355868/a.jpg")
    found = read_source(tmp_path / "PlantCLEF2022_training_metadata.csv")
    expected = ("occurrenceID", "scientificName", "scientificNameAuthorship", "taxonID", "organ", "split", "identifier", "path")
    assert rows(found, *expected) == [
        (
            "17",
            "Lactuca virosa",
            "L.",
            "1355868",
            organ,
            "train",
            f"https://x.org/{name}.jpg",
            str(tmp_path / f"images/1355868/{name}.jpg"),
        )
        for organ, name in (("leaf", "a"), ("flower", "b"))
    ]


# ---- the option ----


def test_a_layout_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("classid;image_path;species\n3;x/1.jpg;Poa annua L.\n")
    assert rows(read_source(tmp_path / "a.csv", layout="plantclef"), "scientificName") == [("Poa annua",)]
    with pytest.raises(BadInput, match=f"--layout coco: unknown; one of {', '.join(LAYOUTS)}"):
        read_source(tmp_path / "a.csv", layout="coco")
    with pytest.raises(BadRecords, match="no column for scientificName as danish-fungi has it"):
        read_source((tmp_path / "b.csv", (tmp_path / "b.csv").write_text("a,b\n1,2\n"))[0], layout="danish-fungi")
    for layout in ("plantnet300k", "inaturalist"):
        with pytest.raises(BadRecords):
            read_source(tmp_path, layout=layout)


def test_the_command_takes_a_layout_and_a_further_source(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("classid;image_path;species\n3;x/1.jpg;Poa annua L.\n")
    touch(tmp_path, "photographs/Poa_annua/2.jpg")
    records(tmp_path / "a.csv", tmp_path / "out", layout="plantclef", also=[tmp_path / "photographs"])
    found = Observations.read(tmp_path / "out")
    assert rows(found, "scientificName", "source") == [("Poa annua", "a.csv"), ("Poa annua", "photographs")]
