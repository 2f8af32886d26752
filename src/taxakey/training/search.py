"""A search for better values in a recipe, with Optuna: trial after trial, each a run, judged on validation alone.

The test part is never opened. A trial whose curve lies below the median of the others at the same epoch is given up (Optuna's
median rule). What a trial tries follows from the search's seed, its number and the trials before it, so that a search that was
killed goes on as if it hadn't been: the trial that was cut off is taken up again with its values, after its last epoch.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import taxakey.torchvision_guard  # noqa: F401  before Lightning

import lightning as L
import numpy as np

from taxakey import artifacts
from taxakey.artifacts import Manifest, Plan, write_text
from taxakey.errors import ArtifactError, BadInput, TaxakeyError, needs_extra
from taxakey.progress import track
from taxakey.training.loop import train
from taxakey.training.recipe import Recipe
from taxakey.training.search_space import Space, varied

if TYPE_CHECKING:
    from optuna import Study, Trial

KIND = "search"
STUDY = "study.db"
_NAME = "taxakey"
_UNJUDGED_TRIALS = 5
"""Trials that none is given up before: a median of fewer says little."""


def search(
    dataset_folder: Path | str,
    recipe: Recipe,
    space: Space,
    out: Path | str,
    *,
    trials: int = 20,
    embeddings_folder: Path | str | None = None,
    start_from: Path | str | None = None,
    device: str = "auto",
) -> Manifest:
    """Run trials until there are so many, and write `best.yaml` and `trials.csv`; asked for more later, it goes on.

    The figure to better is the recipe's `loop.best_by`. `out`/trials holds a folder for each trial. Raises MissingExtra without
    Optuna, BadInput where no trial came to an end, ArtifactError where another process is at work in `out`.
    """
    with needs_extra("tune"):
        import optuna
    out, recipe = Path(out), recipe if start_from is not None else recipe.resolved()
    plan = _plan(dataset_folder, recipe, space, embeddings_folder, start_from)
    artifacts.start(out, plan)
    with _alone(out):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = _open(out, recipe)
        missing = range(max(0, trials - _ended(study)))
        for _ in track(missing, "trials", total=trials, done=trials - len(missing)):
            trial = _next(study, recipe.seed)
            chosen = varied(recipe, {key: values.suggest(trial, key) for key, values in space.items()}, f"trial {trial.number}")
            folder = out / "trials" / f"{trial.number:04d}"
            _run(study, trial, chosen, folder, dataset_folder, embeddings_folder, start_from, device)
            write_text(out / "trials.csv", _table(study))
            _write_best(study, recipe, space, out, start_from)
        return _finish(study, out, plan)


def open_study(out: Path | str) -> Study:
    """The trials of a search, for those who want to look at them."""
    with needs_extra("tune"):
        import optuna
    file = Path(out) / STUDY
    if not file.is_file():
        raise BadInput(f"{file}: no search there; run `taxakey tune` first")
    return optuna.load_study(study_name=_NAME, storage=f"sqlite:///{file.resolve()}")


def _plan(
    dataset: Path | str, recipe: Recipe, space: Space, embeddings: Path | str | None, start_from: Path | str | None
) -> Plan:
    inputs = {"dataset": artifacts.hash_of(dataset)}
    if embeddings is not None:
        inputs["embeddings"] = artifacts.hash_of(embeddings)
    if start_from is not None:
        inputs["from"] = str(Path(start_from).resolve())
    plain = {**recipe.to_dict(), "space": {key: repr(values) for key, values in space.items()}}
    plain["backbone"] = {**plain["backbone"], "weights": Path(recipe.backbone.weights).name}
    return Plan(KIND, inputs, plain, recipe.seed)


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the folder; the system lets go of it when the process ends, however it does."""
    with open(out / ".lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArtifactError(f"{out}: another search is at work there; wait for it, or name another folder") from None
        yield


# ---- trials ----


def _open(out: Path, recipe: Recipe) -> Study:
    import optuna

    return optuna.create_study(
        storage=f"sqlite:///{(out / STUDY).resolve()}",
        study_name=_NAME,
        direction="minimize" if recipe.loop.best_by == "validation_loss" else "maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_UNJUDGED_TRIALS, n_warmup_steps=1),
        load_if_exists=True,
    )


def _ended(study: Study) -> int:
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def _next(study: Study, seed: int) -> Trial:
    """The trial that a killed process left behind, or a new one; its values follow from the seed and its number."""
    import optuna

    left = [trial for trial in study.get_trials(deepcopy=False) if not trial.state.is_finished()]
    number = left[0].number if left else len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
    return optuna.Trial(study, left[0]._trial_id) if left else study.ask()


def _run(
    study: Study,
    trial: Trial,
    recipe: Recipe,
    folder: Path,
    dataset: Path | str,
    embeddings: Path | str | None,
    start_from: Path | str | None,
    device: str,
) -> None:
    """Train one trial and tell Optuna how it went; one that can't be trained is a failed trial with its reason."""
    import optuna

    judge = _Judge(trial, recipe.loop.best_by, {*study.get_trials(deepcopy=False)[trial.number].intermediate_values})
    try:
        train(
            dataset, recipe, folder, embeddings_folder=embeddings, start_from=start_from, device=device, callbacks=(judge,)
        )  # fmt: skip
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    except TaxakeyError as error:
        trial.set_user_attr("reason", str(error))
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    else:
        study.tell(trial, _best(folder, recipe.loop.best_by))
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # of no use to an ended trial; its model/ stays


class _Judge(L.Callback):
    """Reports each epoch's figure to Optuna and ends a trial that is behind, or whose figure is no number any more.

    `reported`: epochs that a killed process reported already; the last of them may be done again.
    """

    def __init__(self, trial: Trial, figure: str, reported: set[int]) -> None:
        self.trial, self.figure, self.reported = trial, figure, reported

    def on_train_epoch_end(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        import optuna

        if self.figure not in trainer.callback_metrics:
            raise BadInput("a search is judged on validation, and this dataset's validation part has no picture of its classes")
        value, epoch = float(trainer.callback_metrics[self.figure]), trainer.current_epoch
        if not math.isfinite(value):
            self.trial.set_user_attr("reason", f"{self.figure} was {value} after epoch {epoch + 1}")
            raise optuna.TrialPruned
        if epoch not in self.reported:
            self.trial.report(value, epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def _best(folder: Path, figure: str) -> float:
    """The best epoch's figure, which chose the trial's model."""
    with open(folder / "curves.csv", newline="", encoding="utf-8") as file:
        values = [float(row[figure]) for row in csv.DictReader(file) if row.get(figure)]
    return min(values) if figure == "validation_loss" else max(values)


# ---- what comes of it ----


def _table(study: Study) -> str:
    """A row a trial: number, state, value, epochs seen, reason of a failure, and its values."""
    trials = study.get_trials(deepcopy=False)
    keys = sorted({key for trial in trials for key in trial.params})
    text = io.StringIO()
    writer = csv.DictWriter(text, ["trial", "state", "value", "epochs", *keys, "reason"], lineterminator="\n")
    writer.writeheader()
    for trial in trials:
        facts: dict[str, Any] = {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            "epochs": len(trial.intermediate_values),
        }
        writer.writerow({**facts, "value": trial.value, **trial.params, "reason": trial.user_attrs.get("reason")})
    return text.getvalue()


def _completed(study: Study) -> list[Any]:
    import optuna

    return study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))


def _write_best(study: Study, recipe: Recipe, space: Space, out: Path, start_from: Path | str | None) -> None:
    if not _completed(study):
        return
    best = study.best_trial
    fixed = _Fixed(best.params)
    chosen = varied(recipe, {key: values.suggest(fixed, key) for key, values in space.items()}, f"trial {best.number}")
    header = (
        f"# The best of {_ended(study)} trials: {recipe.loop.best_by} {best.value:.4f} in trial {best.number}.\n"
        "# Chosen on validation among many, so its figure there flatters it; the test part saw none of them.\n"
    )
    if start_from is not None:
        header += f"# All trials went on from {Path(start_from).resolve().name}: train with --from it.\n"
    write_text(out / "best.yaml", header + chosen.as_yaml())


class _Fixed:
    """Answers like an Optuna trial with the values of one that is over."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params

    def _suggest(self, key: str, *_: Any, **__: Any) -> Any:
        return self.params[key]

    suggest_int = suggest_float = suggest_categorical = _suggest


def _finish(study: Study, out: Path, plan: Plan) -> Manifest:
    completed = _completed(study)
    if not completed:
        reasons = {trial.user_attrs.get("reason", "") for trial in study.get_trials(deepcopy=False)}
        raise BadInput(
            f"{out}: none of {_ended(study)} trials came to an end ({'; '.join(sorted(reasons))[:200]}); see trials.csv there"
        )
    states = [trial.state.name.lower() for trial in study.get_trials(deepcopy=False)]
    counts = {"trials": len(states), **{state: states.count(state) for state in ("complete", "pruned", "fail")}}
    return artifacts.finish(out, plan, counts={**counts, "best_trial": study.best_trial.number})
