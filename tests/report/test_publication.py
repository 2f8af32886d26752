"""What is published about a dataset: checked from outside, with plain parsers."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import yaml
from typer.testing import CliRunner

from taxakey.artifacts import Plan, read_manifest
from taxakey.cli.publish import publish as publish_command
from taxakey.dataset.publishing.citation import CitationOptions
from taxakey.dataset.reader import Dataset
from taxakey.errors import BadInput
from taxakey.records.flow import Step, read_flow
from taxakey.records.table import Observations
from taxakey.report.flow import flow_svg, flow_table
from taxakey.report.publication import PublicationOptions, publish, read_numbering

CITATION = CitationOptions("Flora | of *X*", ("Doe, Jane",), abstract="All that <b>grows</b>.")
FLOW = [
    {"step": "records", "kept": 1000, "dropped": {"no name": 20, "a <script> & more": 5}},
    {"step": "licences", "kept": 900, "dropped": {"licence isn't allowed": 100}},
    {"step": "hosts", "kept": 900, "dropped": {}},
    {"step": "cap", "kept": 160, "dropped": {"beyond 100 pictures of the species": 740}},
]


@pytest.fixture
def flow_file(tmp_path: Path) -> Path:
    (tmp_path / "flow.json").write_text(json.dumps(FLOW))
    return tmp_path / "flow.json"


# ---- the flow ----


def test_the_flow_is_read_and_its_sums_are_checked(flow_file: Path) -> None:
    steps = read_flow(flow_file)
    assert steps[0] == Step("records", 1000, {"no name": 20, "a <script> & more": 5})
    wrong = [*FLOW[:1], {**FLOW[1], "kept": 899}, *FLOW[2:]]
    flow_file.write_text(json.dumps(wrong))
    with pytest.raises(BadInput, match=r"'records' kept 1,000, but 'licences' accounts for 999 \(kept 899\)"):
        read_flow(flow_file)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "not a list of steps"),
        ({"step": "x"}, "not a list of steps"),
        ([{"step": "x", "kept": 1}], "lacks step, kept or dropped"),
        ([{"step": "x", "kept": -1, "dropped": {}}], "count nothing"),
        ([{"step": "x", "kept": 1, "dropped": {"a": "many"}}], "count nothing"),
        (["x"], "lacks step, kept or dropped"),
    ],
)
def test_what_is_no_flow_says_so(content: object, words: str, flow_file: Path) -> None:
    flow_file.write_text(json.dumps(content))
    with pytest.raises(BadInput, match=words):
        read_flow(flow_file)


def test_the_table_of_the_flow_accounts_for_every_record(flow_file: Path) -> None:
    lines = [line for line in flow_table(read_flow(flow_file)).splitlines() if "---" not in line][1:]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    kept = [int(row[2].strip("*").replace(",", "")) for row in cells if row[0]]
    dropped = sum(int(row[2].replace(",", "")) for row in cells if not row[0])
    assert kept == [1000, 900, 900, 160]
    assert kept[-1] + dropped == 1025
    assert cells[0][3] == "97.6 %"
    assert "<script>" not in "".join(lines).replace("\\<script\\>", "")


def test_the_picture_of_the_flow_is_whole_and_says_the_same(flow_file: Path) -> None:
    root = ElementTree.fromstring(flow_svg(read_flow(flow_file)))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text and re.fullmatch(r"[\d,]+", text)] == ["1,000", "900", "900", "160"]
    assert "− 5  a <script> & more" in texts
    assert "licences: 900 kept, 100 dropped" in root.attrib["aria-label"]
    assert {element.tag.split("}")[1] for element in root.iter()} == {"svg", "rect", "text", "path"}
    lowest = max(float(box.attrib["y"]) + 48 for box in root.iter("{http://www.w3.org/2000/svg}rect") if "y" in box.attrib)
    assert lowest < float(root.attrib["viewBox"].split()[3])


# ---- the whole ----


def test_an_open_dataset(sheets_dataset: Path, flow_file: Path, tmp_path: Path) -> None:
    manifest = publish(sheets_dataset, tmp_path / "out", PublicationOptions(CITATION, flow=flow_file))
    dataset = Dataset.open(sheets_dataset)
    parts = {part: len(dataset.part(part)) for part in ("train", "validation", "test")}
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    _, front, text = card.split("---\n", 2)
    found = yaml.safe_load(front)
    assert found["pretty_name"] == "Flora | of *X*"
    assert found["license"] == "other"  # the sheets have several
    assert found["license_link"] == "attribution.csv"
    assert found["size_categories"] == ["n<1K"]
    assert [each["split"] for each in found["configs"][0]["data_files"]] == list(parts)
    for part, number in parts.items():
        assert re.search(rf"^\| {part} \| {number:,} \|", text, flags=re.MULTILINE)
    assert "# Flora \\| of \\*X\\*" in text
    assert "All that \\<b\\>grows\\</b\\>." in text
    assert "![Steps from the records to the dataset](flow.svg)" in text
    assert (tmp_path / "out" / "flow.svg").is_file()
    ledger = pq.read_table(tmp_path / "out" / "attribution.parquet")
    assert ledger.num_rows == sum(parts.values()) == manifest.counts["images"]
    licences = set(ledger["license"].to_pylist())
    assert {name for name in licences if name} <= {name for name in licences if f"| {name} |" in text}
    assert manifest.taxonomy == dataset.taxonomy.fingerprint
    assert "herbarium2022" not in text
    assert read_manifest(tmp_path / "out", "publication") == manifest


def test_the_data_of_an_open_dataset_loads_by_its_card(sheets_dataset: Path, tmp_path: Path) -> None:
    load_dataset = pytest.importorskip("datasets", reason="pip install 'taxakey[dev]'").load_dataset
    publish(sheets_dataset, tmp_path / "out", PublicationOptions(CITATION))
    (tmp_path / "out" / "data").symlink_to(sheets_dataset / "data")
    loaded = load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    dataset = Dataset.open(sheets_dataset)
    assert {part: len(rows) for part, rows in loaded.items()} == {part: len(dataset.part(part)) for part in loaded}
    assert set(loaded) == {"train", "validation", "test"}


def test_a_challenge_hides_its_test_part(sheets_dataset: Path, tmp_path: Path) -> None:
    options = PublicationOptions(CITATION, also=("herbarium2022",), solution=tmp_path / "answers", pictures=False)
    manifest = publish(sheets_dataset, tmp_path / "out", options)
    dataset = Dataset.open(sheets_dataset)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "test (without names)" in card
    assert "configs" not in yaml.safe_load(card.split("---\n", 2)[1])  # the shards, which hold the names, aren't published
    assert "data/*.parquet" not in card
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file() and file.suffix != ".parquet"]
    everything = "\n".join(file.read_text(encoding="utf-8") for file in files)
    assert str(tmp_path / "answers") not in everything
    rows = pq.read_table(tmp_path / "out" / "attribution.parquet").to_pylist()
    everything += json.dumps(rows)
    test = dataset.part("test").table
    for name in ("image_id", "occurrenceID", "gbifID", "identifier"):
        values = [value for value in test[name].to_pylist() if value]
        assert values
        assert not [value for value in values if f'"{value}"' in everything]
    published = json.loads((tmp_path / "out" / "herbarium2022" / "test_metadata.json").read_text())
    named = {f"test_images/{image['file_name']}" for image in published}
    assert {row["file"] for row in rows if row["file"].startswith("test_images")} == named
    assert manifest.counts["herbarium2022 test"] == len(published)
    again = publish(sheets_dataset, tmp_path / "out", options)
    assert again == manifest


def test_dois_come_from_the_records_that_the_dataset_was_built_from(tmp_path: Path, sheets_dataset: Path) -> None:
    rows = pa.table(
        {"occurrenceID": ["o"], "image_id": ["i"], "identifier": ["https://example.org/i"], "scientificName": ["Poa annua"]}
    )
    Observations.from_table(rows).write(tmp_path / "others", Plan("records", recipe={"doi": "10.15468/dl.other1"}))
    with pytest.raises(BadInput, match="built from other records"):
        publish(sheets_dataset, tmp_path / "out", PublicationOptions(CITATION, records=tmp_path / "others"))
    own = sheets_dataset.parent / "records"
    publish(sheets_dataset, tmp_path / "out", PublicationOptions(CITATION, records=own))
    assert "references" not in yaml.safe_load((tmp_path / "out" / "CITATION.cff").read_text())


def test_options_that_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no layout 'coco'"):
        PublicationOptions(CITATION, also=("coco",), solution=tmp_path)
    with pytest.raises(BadInput, match="say --solution"):
        PublicationOptions(CITATION, also=("herbarium2022",))
    with pytest.raises(BadInput, match="say --also"):
        PublicationOptions(CITATION, tree=tmp_path)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("scientificName\nAcer rubrum\nPoa annua\n", {"Acer rubrum": 0, "Poa annua": 1}),
        ("category_id,scientificName\n7,Acer rubrum\n3,Poa annua\n", {"Acer rubrum": 7, "Poa annua": 3}),
        ("name\nPoa\n", "no column scientificName"),
        ("scientificName,category_id\nPoa annua,x\n", "isn't a whole number"),
        ("scientificName\nPoa annua\nPoa annua\n", "stands there twice"),
        ("scientificName,category_id\nPoa annua,1\nPoa alpina,1\n", "the same category_id"),
    ],
)
def test_a_list_that_numbers_species(text: str, answer: dict[str, int] | str, tmp_path: Path) -> None:
    (tmp_path / "numbers.csv").write_text(text)
    if isinstance(answer, dict):
        assert read_numbering(tmp_path / "numbers.csv") == answer
    else:
        with pytest.raises(BadInput, match=answer):
            read_numbering(tmp_path / "numbers.csv")


def test_the_command(sheets_dataset: Path, flow_file: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(publish_command)
    names = Dataset.open(sheets_dataset).taxonomy.names
    numbering, tree, halves = (tmp_path / name for name in ("numbers.csv", "tree.nwk", "halves.parquet"))
    numbering.write_text("scientificName\nno such plant\n" + "\n".join(reversed(names)) + "\n")
    genera = sorted({name.split()[0] for name in names})
    tree.write_text(f"({','.join(f'{genus}:1.25' for genus in genera)});")
    test = Dataset.open(sheets_dataset).part("test").image_ids
    pq.write_table(pa.table({"image_id": test, "half": ["public", *["private"] * (len(test) - 1)]}), halves)
    arguments = [
        "--title",
        "X",
        "--author",
        "Doe, Jane",
        "--author",
        "The Garden",
        "--released",
        "2026-11-21",
        "--flow",
        flow_file,
    ]
    challenge = ["--also", "herbarium2022", "--solution", tmp_path / "answers", "--numbering", numbering, "--tree", tree]
    challenge += ["--halves", halves, "--no-pictures"]
    result = CliRunner().invoke(app, [str(each) for each in [sheets_dataset, tmp_path / "out", *arguments, *challenge]])
    assert result.exit_code == 0, (result.output, result.exception)
    assert "keep them" in result.output
    found = json.loads((tmp_path / "out" / "herbarium2022" / "train_metadata.json").read_text())
    ids = {category["category_id"]: category for category in found["categories"]}
    assert min(ids) == 1
    assert ids[1]["scientificName"].startswith(names[-1])
    assert {row["distance"] for row in found["distances"]} == {2.5}
    assert len(found["distances"]) == len(genera) * (len(genera) - 1) // 2
    usage = [line.split(",")[2] for line in (tmp_path / "answers" / "solution.csv").read_text().splitlines()[1:]]
    assert usage.count("Public") == 1
    assert usage.count("Private") == len(test) - 1
    assert yaml.safe_load((tmp_path / "out" / "CITATION.cff").read_text())["date-released"] == "2026-11-21"
