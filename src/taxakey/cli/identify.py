"""`taxakey identify`: names for photographs on disk."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from taxakey.errors import BadImage
    from taxakey.metadata.observation import Known
    from taxakey.serving.answers import Answer
    from taxakey.serving.deciding import Rule
    from taxakey.serving.formats import Format
    from taxakey.serving.identifier import Identifier

FormatName = Literal["table", "csv", "jsonl", "dwc"]


def identify(
    model: Annotated[Path, typer.Argument(help="A run, its model/ folder, an ensemble's, or an exported bundle.")],
    photographs: Annotated[list[str], typer.Argument(help="Files, folders (with all below them) and quoted patterns.")],
    out: Annotated[
        Path | None, typer.Option(help="Write here as pictures are done; a rerun goes on with the rest of them.")
    ] = None,
    format: Annotated[
        FormatName | None,
        typer.Option(help="How to write: `dwc` is Darwin Core identifications. By default what --out ends with, else a table."),
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="How many names for each; 5, for dwc 1.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures computed at once.")] = 32,
    by: Annotated[
        Literal["photograph", "folder"],
        typer.Option(help="One answer for each photograph, or for all of a folder (one specimen)."),
    ] = "photograph",
    date: Annotated[str | None, typer.Option(help="When all of them were found: 2024-05-31, or 2024-05.")] = None,
    lat: Annotated[float | None, typer.Option(help="Where: latitude in degrees, north above 0; with --lon.")] = None,
    lon: Annotated[float | None, typer.Option(help="Longitude in degrees, east above 0.")] = None,
    habitat: Annotated[str | None, typer.Option(help="In which habitat, in a word that the model was trained with.")] = None,
    substrate: Annotated[str | None, typer.Option(help="On what.")] = None,
    observations: Annotated[
        Path | None,
        typer.Option(help="The same for each: a CSV with file_name, eventDate, decimalLatitude, decimalLongitude, habitat …"),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(help="Only these species: flora.csv, flora.csv:COUNTRY, or taxa of the model (Rosaceae). Says so."),
    ] = None,
    decide: Annotated[
        Literal["argmax", "roll-up", "least-cost"] | None,
        typer.Option(help="What is answered beside the ranking; roll-up for a model with decisions.json, else nothing."),
    ] = None,
    costs: Annotated[str | None, typer.Option(help="For least-cost: poison, or a CSV with true,answer,cost.")] = None,
    shares: Annotated[
        str | None,
        typer.Option(
            help="Correct for shares of species that differ from training's: a CSV with scientificName,share (or counts), or "
            "`estimate` to find them from these photographs, each then looked at twice. Says so."
        ),
    ] = None,
) -> None:
    """Name the species in photographs. Ends with status 2 when a picture couldn't be read; the others are named all the same.

    What else is known helps a model that was trained with it, and is refused by one that wasn't.

    Example: taxakey identify bundle/ photographs/ --out names.csv
    """
    from taxakey.errors import BadInput
    from taxakey.serving.answer_file import printable_name
    from taxakey.serving.formats import FORMATS, with_decisions
    from taxakey.serving.identifier import load
    from taxakey.serving.photographs import by_folder, find_photographs

    chosen = format or _by_suffix(out)
    if chosen == "table" and out is not None:
        raise BadInput("--format table is for the screen; with --out choose csv, jsonl or dwc")
    paths = find_photographs(photographs)
    specimens: Mapping[Path, list[Path]] = by_folder(paths) if by == "folder" else {path: [path] for path in paths}
    named = {printable_name(path): files for path, files in specimens.items()}
    identifier = _chosen(load(model, device=device), only, decide, costs)
    given = {"eventDate": date, "decimalLatitude": lat, "decimalLongitude": lon, "habitat": habitat, "substrate": substrate}
    known = _known(identifier, list(named), {name: value for name, value in given.items() if value is not None}, observations)
    if shares is not None:
        identifier = identifier.with_shares(shares, list(named.values()), known=known, batch_size=batch_size)
        print(identifier.shares, file=sys.stderr)
    if chosen == "table":
        failures = _to_screen(identifier, named, known, top or 5, batch_size)
    else:
        how = with_decisions(FORMATS[chosen]) if identifier.rule else FORMATS[chosen]
        if out is None:
            failures = _to_stdout(identifier, named, known, how, top, batch_size)
        else:
            failures = _to_file(identifier, named, known, how, top, batch_size, out, by)
    _report(failures, len(named), out)


def _chosen(identifier: Identifier, only: str | None, decide: Rule | None, costs: str | None) -> Identifier:
    """The model as it was asked for; says on stderr what of a list it doesn't know."""
    if decide or costs:
        identifier = identifier.deciding(decide, costs)
    if only is not None:
        identifier = identifier.only(only)
        print(identifier.restriction.meaning, file=sys.stderr)  # type: ignore[union-attr]
    return identifier


def _by_suffix(out: Path | None) -> FormatName:
    if out is None:
        return "table"
    return "jsonl" if out.suffix.lower() in (".jsonl", ".ndjson") else "csv"


def _known(identifier: Identifier, names: list[str], given: Mapping[str, object], file: Path | None) -> list[Known]:
    """What is known of each photograph."""
    from taxakey.errors import BadInput
    from taxakey.serving.known import KnownFile

    if file is None:
        identifier.tell(given)  # a slip of the pen is told before the first picture is read
        return [given] * len(names)
    if given:
        raise BadInput(
            "--observations says for each photograph what --date, --lat, --habitat … say for all; give one or the other"
        )
    told = KnownFile(file, identifier.teller.asks)
    known = told.of(names)
    notes = list(told.notes)
    if missing := sum(not row for row in known):
        notes.append(f"says nothing of {missing:,} of {len(names):,} photographs")
    if unused := told.unused():
        notes.append(f"{len(unused):,} lines name no photograph that is asked about (first: {unused[0]})")
    for note in notes:
        print(f"{file}: {note}", file=sys.stderr)
    return known


def _to_screen(
    identifier: Identifier, named: Mapping[str, list[Path]], known: list[Known], top: int, batch_size: int
) -> list[tuple[str, BadImage]]:
    from rich.console import Console

    from taxakey.errors import BadImage
    from taxakey.progress import track

    results = zip(named, identifier.identify_each(named.values(), known=known, top=top, batch_size=batch_size), strict=True)
    answers: list[tuple[str, Answer]] = []
    failures: list[tuple[str, BadImage]] = []
    for name, (_, answer) in track(results, "Identifying", total=len(named)):
        if isinstance(answer, BadImage):
            failures.append((name, answer))
        else:
            answers.append((name, answer))
    if answers:
        Console().print(_table(answers))
    return failures


def _table(answers: list[tuple[str, Answer]]) -> object:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("photograph", overflow="fold")
    for column in ("species", "family"):
        table.add_column(column, no_wrap=True)
    table.add_column("probability", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for name, answer in answers:
        for place, taxon in enumerate(answer.species):
            photograph, doubt = (escape(name), escape(_doubt(answer))) if place == 0 else ("", "")
            species = f"[italic]{escape(taxon.scientific_name)}[/italic]"
            table.add_row(photograph, species, escape(taxon.family), f"{taxon.probability:.1%}", doubt)
        table.add_section()
    return table


def _doubt(answer: Answer) -> str:
    """What is said beside the first name, in few words."""
    decision = answer.decision
    if decision is None:
        return "unsure" if answer.unsure else ""
    if decision.organism is False:
        return "no organism?"
    if decision.rule == "least-cost":
        return f"least cost: {decision.name}"
    perhaps = "unknown species? " if decision.unknown else ""
    return perhaps + (
        f"{decision.rank} {decision.name}" if decision.rank in ("genus", "family") else decision.rank or "not even the family"
    )


def _to_stdout(
    identifier: Identifier, named: Mapping[str, list[Path]], known: list[Known], format: Format, top: int | None, batch_size: int
) -> list[tuple[str, BadImage]]:
    from taxakey.errors import BadImage

    failures = []
    sys.stdout.write(format.header())
    results = identifier.identify_each(named.values(), known=known, top=top or format.default_top, batch_size=batch_size)
    for count, (name, (_, answer)) in enumerate(zip(named, results, strict=True), start=1):
        if count % batch_size == 0:
            sys.stdout.flush()
        if isinstance(answer, BadImage):
            failures.append((name, answer))
        else:
            sys.stdout.write(format.text(name, answer, identifier.fingerprint))
    return failures


def _to_file(
    identifier: Identifier,
    named: Mapping[str, list[Path]],
    known: list[Known],
    format: Format,
    top: int | None,
    batch_size: int,
    out: Path,
    by: str,
) -> list[tuple[str, BadImage]]:
    from taxakey.errors import BadImage
    from taxakey.progress import track
    from taxakey.serving.answer_file import AnswerFile, write_failures

    top = top or format.default_top
    failures: list[tuple[str, BadImage]] = []
    asked: dict[str, Any] = {"by": by, "temperature": identifier.calibration.temperature if identifier.calibration else None}
    asked |= {"known": _digest(named, known), **identifier.plan}
    rows_each = min(top, len(identifier.restriction.taxonomy if identifier.restriction else identifier.taxonomy))
    out.parent.mkdir(parents=True, exist_ok=True)
    with AnswerFile(out, format, rows_each=rows_each, fingerprint=identifier.fingerprint, asked=asked) as file:
        left = {name: files for name, files in named.items() if name not in file.done}
        told = [row for name, row in zip(named, known, strict=True) if name not in file.done]
        done = len(named) - len(left)
        results = zip(left, identifier.identify_each(left.values(), known=told, top=top, batch_size=batch_size), strict=True)
        for count, (name, (_, answer)) in enumerate(track(results, "Identifying", total=len(named), done=done), start=1):
            if isinstance(answer, BadImage):
                failures.append((name, answer))
            else:
                file.write(name, answer)
            if count % batch_size == 0:
                file.flush()
    write_failures(out, [(name, str(error)) for name, error in failures])
    before = f" ({done:,} of them by an earlier run)" if done else ""
    print(f"{out}: {len(named) - len(failures):,} identified{before}")
    return failures


def _digest(names: Iterable[str], known: list[Known]) -> str | None:
    """Names what was said, so that a file of answers isn't gone on with when something else is said; None where nothing is."""
    from hashlib import sha256

    if not any(known):
        return None
    said = [[name, sorted((term, str(value)) for term, value in row.items())] for name, row in zip(names, known, strict=True)]
    return sha256(json.dumps(said).encode()).hexdigest()[:16]


def _report(failures: list[tuple[str, BadImage]], total: int, out: Path | None) -> None:
    """List what couldn't be read, and end with status 2 when there was any."""
    from taxakey.errors import BadImage

    for _, error in failures:
        print(error, file=sys.stderr)
    if failures:
        where = f"; they stand in {out.name}.failures.csv too" if out else ""
        raise BadImage(f"{len(failures):,} of {total:,} couldn't be read and have no answer{where}")
