"""`taxakey select`: rules and numbers -> fewer records; `taxakey split`: records -> the same records in other parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from taxakey.dataset.recipe import DatasetRecipe
    from taxakey.records.selection import SelectionOptions

_RECORDS = "Folder that `taxakey records` or `taxakey select` wrote."


def select(
    records: Annotated[Path, typer.Argument(help=_RECORDS)],
    out: Annotated[Path, typer.Argument(help="Folder to write what is kept, what isn't and why to.")],
    recipe: Annotated[
        Path | None, typer.Option(help="A dataset's recipe, whose part `selection` says what is kept; options go before it.")
    ] = None,
    names: Annotated[Path | None, typer.Option(help="Folder that `taxakey names` wrote for these records.")] = None,
    inspection: Annotated[Path | None, typer.Option(help="Folder that `taxakey inspect` wrote for these records.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder that `taxakey fetch` wrote: the paths of its files.")] = None,
    min_images: Annotated[int | None, typer.Option(help="Species with fewer pictures are dropped; by default 11.")] = None,
    max_images: Annotated[int | None, typer.Option(help="Pictures kept of a species; by default 100.")] = None,
    basis: Annotated[list[str] | None, typer.Option(help="Of record, such as PRESERVED_SPECIMEN; repeatable.")] = None,
    licence: Annotated[list[str] | None, typer.Option(help="That is allowed, such as CC-BY; repeatable.")] = None,
    least: Annotated[
        list[str] | None, typer.Option(help="figure=bound: of the inspection, such as sharpness=0.1; repeatable.")
    ] = None,
    most: Annotated[list[str] | None, typer.Option(help="The same, as upper bound.")] = None,
    duplicates: Annotated[
        Literal["near", "exact", "keep"] | None, typer.Option(help="Of which one stays, with an inspection; by default near.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the draw where there are too many pictures; by default 0.")] = None,
    engine: Annotated[
        Literal["duckdb", "spark"] | None, typer.Option(help="Spark: master by its own settings. By default duckdb.")
    ] = None,
) -> None:
    """Keep what rules and numbers allow, and say of every other picture why it was dropped.

    Example: taxakey select work/records work/selected --names work/names --min-images 11 --max-images 100

    Example: taxakey select work/records work/selected --recipe recipes/naflora.yaml --inspection work/inspection
    """
    from dataclasses import replace

    from taxakey.errors import BadInput
    from taxakey.records.flow import flow_lines, read_flow
    from taxakey.records.selected import write_selection

    wanted = _recipe(recipe)
    if duplicates is not None and inspection is None:
        raise BadInput("--duplicates needs to know which pictures are; give their --inspection")
    options = replace(
        _rules(wanted, inspected=inspection is not None),
        **_given(
            min_images=min_images, max_images=max_images, seed=seed, basis_of_record=basis, licences=licence,
            least=_bounds(least, "--least"), most=_bounds(most, "--most"), duplicates=duplicates,
        ),
    )  # fmt: skip
    tables, inputs = _tables(names, inspection, pictures)
    write_selection([records], out, options, **tables, engine=engine or wanted.engine, inputs=inputs)
    for line in flow_lines(read_flow(out / "flow.json")):
        typer.echo(line)
    typer.echo(f"what was dropped, and why: {out / 'dropped.parquet'}")
    typer.echo(f"records: {out}")


def split(
    records: Annotated[Path, typer.Argument(help=_RECORDS)],
    out: Annotated[Path, typer.Argument(help="Folder to write the records in their parts to.")],
    recipe: Annotated[
        Path | None, typer.Option(help="A dataset's recipe, whose part `split` says how; options go before it.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(help="What stays together: observation (the default), specimen, institution, place and date, or a column."),
    ] = None,
    train: Annotated[float | None, typer.Option(help="Share of each species' groups; by default 0.7.")] = None,
    validation: Annotated[float | None, typer.Option(help="Likewise; by default 0.1.")] = None,
    test: Annotated[float | None, typer.Option(help="Likewise; by default 0.2.")] = None,
    halves: Annotated[bool | None, typer.Option(help="Deal the test part to a public and a private half.")] = None,
    folds: Annotated[int | None, typer.Option(help="Deal all to so many folds.")] = None,
    fold: Annotated[
        int | None, typer.Option(help="Of the folds, counted from 0, the one that is test; the next one is validation.")
    ] = None,
    held_out: Annotated[str | None, typer.Option(help="institutionCode whose pictures are the test part, and no others.")] = None,
    inspection: Annotated[
        Path | None, typer.Option(help="Folder that `taxakey inspect` wrote: near duplicates stay together.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Pictures that are in a part stay there.")] = False,
    seed: Annotated[int | None, typer.Option(help="By default 0.")] = None,
) -> None:
    """Split records anew: by another group, in folds, or with an institution held out.

    Example: taxakey split work/selected work/parts --by specimen --inspection work/inspection

    Example: taxakey split work/selected work/fold-3 --folds 5 --fold 3

    Example: taxakey split work/selected work/without-kew --held-out K
    """
    from dataclasses import replace

    from taxakey.artifacts import hash_of
    from taxakey.dataset.inspection import read_near_groups
    from taxakey.records.parted import write_split

    wanted = _recipe(recipe)
    options = replace(
        replace(wanted.split, seed=wanted.seed),
        **_given(
            by=by, train=train, validation=validation, test=test, halves=halves, folds=folds, fold=fold, held_out=held_out,
            seed=seed,
        ),
    )  # fmt: skip
    joined = None if inspection is None else read_near_groups(inspection)
    inputs = {} if inspection is None else {"inspection": hash_of(inspection)}
    counts = write_split(records, out, options, joined=joined, keep=keep, inputs=inputs).counts
    typer.echo(f"train {counts['train']:,}, validation {counts['validation']:,}, test {counts['test']:,} pictures")
    for fact, number in counts.items():
        if fact.startswith("split: "):
            typer.echo(f"{number:>9,}  {fact.removeprefix('split: ').replace('_', ' ')}")
    typer.echo(f"records: {out}")


def _recipe(path: Path | None) -> DatasetRecipe:
    from taxakey.dataset.recipe import DatasetRecipe, read_dataset_recipe

    return DatasetRecipe("plain options", ("no source",)) if path is None else read_dataset_recipe(path)


def _rules(recipe: DatasetRecipe, *, inspected: bool) -> SelectionOptions:
    """The recipe's; bounds of what is seen in pictures wait until somebody has looked at them, as in `taxakey compile`."""
    from dataclasses import replace

    rules = replace(recipe.selection, seed=recipe.seed)
    if inspected or not (rules.least or rules.most):
        return rules
    typer.echo(f"note: without --inspection, the recipe's bounds of {', '.join([*rules.least, *rules.most])} don't count")
    return replace(rules, least={}, most={})


def _given(**options: Any) -> dict[str, Any]:
    """Those that were said on the command line."""
    return {name: value for name, value in options.items() if value not in (None, [], {})}


def _bounds(pairs: list[str] | None, option: str) -> dict[str, float]:
    """["sharpness=0.1"] -> {"sharpness": 0.1}; raises BadInput for anything else."""
    from taxakey.errors import BadInput

    bounds = {}
    for pair in pairs or []:
        figure, _, number = pair.partition("=")
        try:
            bounds[figure.strip()] = float(number)
        except ValueError:
            raise BadInput(f"{option} {pair}: not of the form figure=bound, such as sharpness=0.1") from None
    return bounds


def _tables(names: Path | None, inspection: Path | None, pictures: Path | None) -> tuple[dict[str, Any], Mapping[str, str]]:
    """What the stages before have found, and its hashes."""
    from taxakey.artifacts import hash_of
    from taxakey.dataset.inspection import read_judged
    from taxakey.dataset.located import fetched_paths
    from taxakey.records.naming.matches import Matches
    from taxakey.records.selection import names_of

    folders = {"names": names, "inspection": inspection, "pictures": pictures}
    tables = {
        "names": None if names is None else names_of(Matches.read(names)),
        "inspection": None if inspection is None else read_judged(inspection),
        "paths": None if pictures is None else fetched_paths(pictures),
    }
    return tables, {name: hash_of(folder) for name, folder in folders.items() if folder is not None}
