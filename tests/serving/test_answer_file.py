"""A file of answers is cut anywhere by a kill; going on must give byte for byte what an undisturbed run gives."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from colour_model import COLOURS, picture
from hypothesis import given, settings
from hypothesis import strategies as st

from taxakey.errors import BadInput, PlanMismatch
from taxakey.serving.answer_file import AnswerFile, printable_name, write_failures
from taxakey.serving.answers import Answer
from taxakey.serving.formats import FORMATS
from taxakey.serving.identifier import Identifier

NAMES = ["a.jpg", 'b, "quoted".jpg', "c\nline.jpg", "Blüte.jpg"]


@pytest.fixture(scope="module")
def answers(identifier: Identifier) -> dict[str, Answer]:
    found = identifier.identify([picture(colour) for colour in list(COLOURS.values())[:4]], top=3)
    return dict(zip(NAMES, found, strict=True))


def run(path: Path, format: str, answers: dict[str, Answer], *, model: str = "f00d", rows: int = 3) -> set[str]:
    with AnswerFile(path, FORMATS[format], rows_each=rows, fingerprint=model, asked={}) as file:
        done = set(file.done)
        for name, answer in answers.items():
            if name not in done:
                file.write(name, answer)
    return done


@pytest.mark.parametrize("format", ["csv", "jsonl", "dwc"])
def test_cut_anywhere_and_gone_on_gives_the_same_file(
    format: str, answers: dict[str, Answer], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp(format)
    run(folder / "whole", format, answers)
    whole = (folder / "whole").read_bytes()
    path = folder / "cut"

    @settings(max_examples=60)
    @given(st.integers(0, len(whole)))
    def check(size: int) -> None:
        run(path, format, answers)
        path.write_bytes(whole[:size])
        done = run(path, format, answers)
        assert path.read_bytes() == whole
        assert list(done) == [] or done == set(NAMES[: len(done)])

    check()


def test_a_whole_file_is_left_as_it_is(answers: dict[str, Answer], tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    assert run(path, "csv", answers) == set()
    before = path.read_bytes()
    assert run(path, "csv", answers) == set(NAMES)
    assert path.read_bytes() == before


def test_answers_of_two_models_or_shapes_are_not_mixed(answers: dict[str, Answer], tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    run(path, "csv", answers)
    before = path.read_bytes()
    with pytest.raises(PlanMismatch, match="model f00d, now it is beef"):
        run(path, "csv", answers, model="beef")
    with pytest.raises(PlanMismatch, match="format csv, now it is dwc"):
        run(path, "dwc", answers)
    with pytest.raises(PlanMismatch, match="rows 3, now it is 5"):
        run(path, "csv", answers, rows=5)
    assert path.read_bytes() == before


def test_a_foreign_file_is_not_touched(answers: dict[str, Answer], tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text("my,own,table\n1,2,3\n")
    with pytest.raises(BadInput, match="was not begun"):
        run(path, "csv", answers)
    assert path.read_text() == "my,own,table\n1,2,3\n"


@pytest.mark.parametrize(("format", "text"), [("csv", "my,own,table\n"), ("jsonl", '{"other": 1}\n'), ("jsonl", "[]\n")])
def test_a_file_replaced_by_a_foreign_one_is_not_touched(
    format: str, text: str, answers: dict[str, Answer], tmp_path: Path
) -> None:
    path = tmp_path / "names"
    run(path, format, answers)
    path.write_text(text)
    with pytest.raises(BadInput, match="isn't an answer"):
        run(path, format, answers)
    assert path.read_text() == text


def test_failures_are_listed_and_taken_away_when_there_are_none(tmp_path: Path) -> None:
    out = tmp_path / "names.csv"
    file = write_failures(out, [("a,b.jpg", 'not "a" picture')])
    assert file == tmp_path / "names.csv.failures.csv"
    with open(file, newline="", encoding="utf-8") as opened:
        assert list(csv.reader(opened)) == [["file_name", "reason"], ["a,b.jpg", 'not "a" picture']]
    assert write_failures(out, []) is None
    assert not file.exists()


def test_a_name_that_is_not_utf8_can_be_written() -> None:
    name = printable_name(Path(b"Bl\xfcte.jpg".decode("utf-8", "surrogateescape")))
    assert name == "Bl\\xfcte.jpg"
    assert name.encode("utf-8")
