"""`taxakey identify` as a person runs it: files, folders and patterns; formats; a kill in the middle; broken pictures."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taxakey.calibration.bias_corrected import BiasCorrected
from taxakey.cli.identify import identify
from taxakey.errors import BadImage, BadInput, PlanMismatch
from taxakey.serving.photographs import by_folder, find_photographs

sys.path.append(str(Path(__file__).parent.parent / "serving"))
from colour_model import COLOURS, TEMPERATURE, make_decisions, picture, write_bundle

# The command without the other commands, with progress and errors as main has them.
COMMAND = """
import sys, typer
from taxakey.cli.identify import identify
from taxakey.errors import TaxakeyError
app = typer.Typer(pretty_exceptions_enable=False)
app.command()(identify)
try:
    app()
except TaxakeyError as error:
    print(f"taxakey: {error}", file=sys.stderr)
    sys.exit(2)
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("identify") / "bundle")


@pytest.fixture
def herbarium(tmp_path: Path) -> Path:
    """Two photographs of each species, a folder for each, a text among them, an odd suffix, and a file that isn't a picture."""
    for name, colour in COLOURS.items():
        folder = tmp_path / "herbarium" / name.replace(" ", "_")
        folder.mkdir(parents=True)
        (folder / "1.jpg").write_bytes(picture(colour))
        (folder / "2.JPEG").write_bytes(picture(colour))
        (folder / "notes.txt").write_text("seen in May")
    return tmp_path / "herbarium"


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def species_of(file_name: str) -> str:
    return Path(file_name).parent.name.replace("_", " ")


def test_a_folder_to_csv(bundle: Path, herbarium: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out" / "names.csv"
    identify(bundle, [str(herbarium)], out=out, top=2)
    rows = rows_of(out)
    assert len(rows) == 12 * 2
    for row in rows[::2]:
        assert row["species"] == species_of(row["file_name"])
    assert "12 identified" in capsys.readouterr().out
    assert not (out.parent / "names.csv.failures.csv").exists()


def test_formats_by_suffix_by_option_and_on_the_screen(
    bundle: Path, herbarium: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = str(herbarium / "Bellis_perennis" / "1.jpg")
    identify(bundle, [one], out=tmp_path / "names.jsonl")
    assert json.loads((tmp_path / "names.jsonl").read_text())["species"][0]["scientific_name"] == "Bellis perennis"
    identify(bundle, [one], out=tmp_path / "names.txt", format="dwc")
    assert [row["scientificName"] for row in rows_of(tmp_path / "names.txt")] == ["Bellis perennis L."]
    capsys.readouterr()
    identify(bundle, [one], format="csv", top=1)
    assert capsys.readouterr().out.splitlines()[1].split(",")[-2] == "Bellis perennis"
    identify(bundle, [one])
    screen = capsys.readouterr().out
    assert "Bellis perennis" in screen
    assert "Asteraceae" in screen
    assert "%" in screen
    with pytest.raises(BadInput, match="for the screen"):
        identify(bundle, [one], out=tmp_path / "t.csv", format="table")


def test_a_folder_may_be_one_specimen(bundle: Path, herbarium: Path, tmp_path: Path) -> None:
    out = tmp_path / "names.jsonl"
    identify(bundle, [str(herbarium)], out=out, by="folder")
    answers = [json.loads(line) for line in out.read_text().splitlines()]
    assert [answer["photographs"] for answer in answers] == [2] * 6
    assert [Path(answer["file_name"]).name.replace("_", " ") for answer in answers] == list(COLOURS)


def test_broken_pictures_are_listed_and_end_with_status_2(
    bundle: Path, herbarium: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (herbarium / "Bellis_perennis" / "3.jpg").write_text("no picture")
    out = tmp_path / "names.csv"
    with pytest.raises(BadImage, match=r"^1 of 13 .*names\.csv\.failures\.csv"):
        identify(bundle, [str(herbarium)], out=out, top=1)
    assert "3.jpg" in capsys.readouterr().err
    failures = rows_of(tmp_path / "names.csv.failures.csv")
    assert [Path(row["file_name"]).name for row in failures] == ["3.jpg"]
    assert len(rows_of(out)) == 12
    # Repaired, a rerun names it alone, and the list of failures goes away.
    (herbarium / "Bellis_perennis" / "3.jpg").write_bytes(picture(COLOURS["Bellis perennis"]))
    identify(bundle, [str(herbarium)], out=out, top=1)
    assert "12 of them by an earlier run" in capsys.readouterr().out
    assert len(rows_of(out)) == 13
    assert not (tmp_path / "names.csv.failures.csv").exists()


def test_killed_in_the_middle_it_goes_on_to_the_same_answers(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(1500):
        file = folder / f"{number:04}.jpg"
        if number < 6:
            file.write_bytes(picture(list(COLOURS.values())[number], size=(640, 480)))
        else:
            os.link(folder / f"{number % 6:04}.jpg", file)
    out = tmp_path / "names.csv"
    arguments = [sys.executable, "-c", COMMAND, str(bundle), str(folder), "--out", str(out), "--top", "3", "--batch-size", "8"]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (out.exists() and out.stat().st_size > 5000) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was through before it could be killed"
    # A kill rarely falls into a write; the disk's end of the world does. Tear the last line as it would.
    torn = out.read_bytes()
    assert len(torn) > 5000
    out.write_bytes(torn[:-7])
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "by an earlier run" in done.stdout
    rows = rows_of(out)
    assert len(rows) == 1500 * 3
    assert len({(row["file_name"], row["species"]) for row in rows}) == 1500 * 3
    for row in rows[::3]:
        assert row["species"] == list(COLOURS)[int(Path(row["file_name"]).stem) % 6]


def test_status_and_one_line_for_a_person(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_text("no picture")
    for arguments in ([str(bundle), str(tmp_path / "broken.jpg")], [str(tmp_path / "nowhere"), str(tmp_path / "broken.jpg")]):
        done = subprocess.run([sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].startswith("taxakey: ")


# ---- which photographs are meant ----


def test_files_folders_and_patterns_none_twice(herbarium: Path) -> None:
    one = herbarium / "Bellis_perennis" / "1.jpg"
    found = find_photographs([str(one), str(herbarium / "*" / "1.jpg"), str(herbarium / "Bellis_perennis")])
    assert found[0] == one
    assert len(found) == len(set(found)) == 7
    assert found == find_photographs([str(one), str(herbarium / "**" / "1.jpg"), str(herbarium / "Bellis_perennis")])
    assert not [path for path in find_photographs([str(herbarium)]) if path.suffix == ".txt"]
    assert {len(group) for group in by_folder(find_photographs([str(herbarium)])).values()} == {2}


def test_a_file_with_a_star_in_its_name_is_itself(tmp_path: Path) -> None:
    (tmp_path / "leaf[1].jpg").touch()
    (tmp_path / "leaf1.jpg").touch()
    assert find_photographs([str(tmp_path / "leaf[1].jpg")]) == [tmp_path / "leaf[1].jpg"]


@pytest.mark.parametrize(
    ("argument", "said"),
    [("nothing.jpg", "no such file"), ("*.jpg", "no file fits"), ("http://a/b.jpg", "web address"), (".", "no pictures in")],
)
def test_an_argument_without_pictures_is_named(argument: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=said):
        find_photographs([argument])


# ---- decisions and restriction ----


def test_a_restriction_is_said_and_written(
    bundle: Path, herbarium: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flora = tmp_path / "flora.csv"
    flora.write_text("country,species\nPeru,Bellis perennis\nPeru,Caltha palustris\nPeru,Poa annua\nFiji,Aconitum napellus\n")
    out = tmp_path / "names.csv"
    identify(bundle, [str(herbarium)], out=out, only=f"{flora}:Peru")
    said = capsys.readouterr().err
    assert "Only 2 of the model's 6 species were considered: flora.csv, Peru. 1 of the 3 species listed there are unknown" in said
    rows = rows_of(out)
    assert len(rows) == 12 * 2
    assert {row["species"] for row in rows} == {"Bellis perennis", "Caltha palustris"}
    assert "decided_name" not in rows[0]
    for other in ({}, {"only": "Asteraceae"}, {"only": f"{flora}:Peru", "decide": "argmax"}):
        with pytest.raises(PlanMismatch):
            identify(bundle, [str(herbarium)], out=out, **other)


def test_least_cost_is_shown_and_written(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "yellow.png").write_bytes(picture((246, 222, 48), format="PNG"))
    identify(bundle, [str(tmp_path / "yellow.png")], decide="least-cost", costs="poison")
    screen = "".join(capsys.readouterr().out.split())
    assert "leastcost:" in screen
    assert "Caltha" in screen
    identify(bundle, [str(tmp_path / "yellow.png")], decide="least-cost", costs="poison", out=tmp_path / "names.csv", top=1)
    (row,) = rows_of(tmp_path / "names.csv")
    assert (row["species"], row["decided_name"], row["decided_rank"]) == ("Tussilago farfara", "Caltha palustris", "species")
    assert (row["unknown"], row["possible_count"]) == ("", "")


@pytest.mark.parametrize(
    ("colour", "said"),
    [((235, 235, 225), "species"), ((75, 55, 180), "genus Aconitum"), ((246, 222, 48), "not even the family"),
     ((128, 128, 128), "unknown species? genus Aconitum"), ((0, 255, 0), "no organism?")],
)  # fmt: skip
def test_the_screen_says_what_may_be_believed(
    colour: tuple[int, int, int], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    bundle = write_bundle(tmp_path / "bundle", decisions=make_decisions())
    (tmp_path / "picture.png").write_bytes(picture(colour, format="PNG"))
    identify(bundle, [str(tmp_path / "picture.png")], top=1)
    assert capsys.readouterr().out.rstrip().splitlines()[1].rstrip().endswith(f"%  {said}")


# ---- other shares of species ----


def test_shares_told_or_estimated_change_the_answer_and_are_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    basis = BiasCorrected(1 / TEMPERATURE, (0.0,) * 6, (1 / 6,) * 6, 0.0, 100)
    bundle = write_bundle(tmp_path / "bundle", decisions=make_decisions(train_images=(10,) * 6, shares=basis))
    folder = tmp_path / "photographs"
    folder.mkdir()
    # Nearly as near to Caltha palustris as to Tussilago farfara, which is the nearer; ten plain Caltha tell what grows here.
    (folder / "doubt.png").write_bytes(picture((246, 221, 47), format="PNG"))
    for number in range(10):
        (folder / f"caltha{number}.png").write_bytes(picture(COLOURS["Caltha palustris"], format="PNG"))
    file = tmp_path / "shares.csv"
    file.write_text("scientificName,share\nCaltha palustris,9\nTussilago farfara,1\n", encoding="utf-8")

    def answered(*shares: str) -> dict:
        out = tmp_path / f"out{len(shares)}{len(''.join(shares))}.jsonl"
        identify(bundle, [str(folder)], out=out, decide="argmax", **({"shares": shares[0]} if shares else {}))  # type: ignore[arg-type]
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        return next(row for row in rows if row["file_name"].endswith("doubt.png"))

    plain = answered()
    assert "shares" not in plain
    before = {taxon["scientific_name"]: taxon["probability"] for taxon in plain["species"]}
    for told, said in ((str(file), "told by shares.csv"), ("estimate", "estimated from these pictures")):
        found = answered(told)
        assert found["shares"].startswith(f"Probabilities are corrected for shares of species {said}")
        assert found["shares"] in capfd.readouterr().err
        assert found["species"][0]["scientific_name"] == "Caltha palustris"
        after = {taxon["scientific_name"]: taxon["probability"] for taxon in found["species"]}
        if told == str(file):
            odds = after["Caltha palustris"] / after["Tussilago farfara"]
            assert odds == pytest.approx(9 * before["Caltha palustris"] / before["Tussilago farfara"], rel=1e-3)
    with pytest.raises(PlanMismatch, match="shares"):
        identify(bundle, [str(folder)], out=tmp_path / "out00.jsonl", decide="argmax", shares=str(file))


def test_a_model_that_doesnt_know_its_training_shares_says_what_to_do(bundle: Path, herbarium: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="run `taxakey calibrate`"):
        identify(bundle, [str(herbarium)], shares="estimate")
    told = write_bundle(tmp_path / "bundle", decisions=make_decisions(train_images=(1,) * 6))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"none")
    with pytest.raises(BadInput, match="none of these can be read"):
        identify(told, [str(broken)], shares="estimate")
