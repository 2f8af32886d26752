"""`taxakey router`: which of several trained models should be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def router(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(help="Folder for the table and its plot.")],
    members: Annotated[
        list[str],
        typer.Argument(help="Each expert's predictions of validation and test: VALIDATION,TEST, or a folder that holds both."),
    ],
    vectors: Annotated[
        list[Path] | None,
        typer.Option(
            help="A gate that looks at these embeddings, beside the one on the cheapest expert's answers; may be repeated."
        ),
    ] = None,
    vectors_cost: Annotated[
        float | None, typer.Option(help="Multiply-adds of a picture for embeddings whose backbone no expert has.")
    ] = None,
    budget: Annotated[
        list[float] | None,
        typer.Option(help="What a cascade may cost on average, in the cheapest expert's cost; may be repeated. Else 1.3, 2, 3."),
    ] = None,
    at_least: Annotated[
        list[float] | None,
        typer.Option(
            help="Pictures a second on this machine that a cascade must keep to; may be repeated. Experts are then timed."
        ),
    ] = None,
    pictures: Annotated[int, typer.Option(help="Pictures by which experts are timed.")] = 64,
    hidden: Annotated[int, typer.Option(help="Width of the gate's hidden layer; 0: none.")] = 64,
    by: Annotated[
        str, typer.Option(help="How the gate learns: likelihood, or assignment (every expert as many).")
    ] = "likelihood",
    balance: Annotated[float, typer.Option(help="Weight of the loss that keeps experts' shares equal.")] = 0.01,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples behind each interval.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the gate and the resamples.")] = 0,
) -> None:
    """Fit a gate and a cascade on validation and judge them on test, beside single models, means, chance and the oracle.

    Example: taxakey router out/ small/ large/ --budget 1.3
    """
    from taxakey.cli.again import again
    from taxakey.cli.ensemble import pair
    from taxakey.errors import BadInput
    from taxakey.frontier.router_page import to_markdown, write_router_report
    from taxakey.frontier.routers import BUDGETS, compare_routers, expert_costs, expert_seconds, gates_of, training_counts
    from taxakey.prediction.ensemble import require_fair
    from taxakey.prediction.gates import GateOptions
    from taxakey.prediction.members import Member, open_pool

    if by not in ("likelihood", "assignment"):
        raise BadInput(f"--by {by}: likelihood or assignment")
    if pictures < 1 or any(speed <= 0 for speed in at_least or []):
        raise BadInput(f"--at-least {at_least} with {pictures} pictures: speeds above 0, by at least one picture")
    if len(members) < 2:
        raise BadInput("a router chooses among experts: name at least two")
    options = GateOptions(hidden=hidden, balance=balance, by="assignment" if by == "assignment" else "likelihood", seed=seed)
    pairs = [pair(text) for text in members]
    fitted_on, judged_on = ([Member.open(folders[number]) for folders in pairs] for number in (0, 1))
    require_fair(fitted_on, judged_on)
    costs = expert_costs(judged_on)
    seconds = expert_seconds(judged_on, pictures=pictures) if at_least else None
    gates = gates_of(judged_on, costs, vectors or [], vectors_cost)
    test = open_pool(judged_on)
    found = compare_routers(
        (open_pool(fitted_on), fitted_on), (test, judged_on), costs, gates, options=options,
        budgets=budget or BUDGETS, seconds=seconds, at_least=at_least or (),
        counts_C=training_counts(judged_on[0], test), resamples=resamples, seed=seed,
    )  # fmt: skip
    write_router_report(found, out, again(context))
    print(to_markdown(found, again(context)))
