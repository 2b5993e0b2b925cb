"""Verbs that train."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer import Argument, Option

from anymae.cli.console import (
    as_argument,
    is_main_process,
    named_task,
    next_answers,
    next_step,
    show_json,
    show_table,
    show_task,
    training_progress,
)
from anymae.cli.options import (
    LARGEST_SEED,
    DataArgument,
    DataFlags,
    Flags,
    JsonFlag,
    OverwriteFlag,
    RunArgument,
    RunFlags,
    TaskFlag,
)
from anymae.errors import UserInputError
from anymae.training.progress import duration
from anymae.wording import counted

if TYPE_CHECKING:
    from anymae.task import TaskType
    from anymae.training.finetuned import Finetuned
    from anymae.training.pretrain import Run


@dataclass(frozen=True, kw_only=True)
class TrainingFlags(Flags):
    """How long and how fast: keys of `TrainingConfig`."""

    steps: Annotated[int | None, Option(help="Optimizer steps.")] = None
    epochs: Annotated[float | None, Option(help="Passes over the rows.")] = None
    learning_rate: Annotated[float | None, Option(help="Peak of the schedule.")] = None
    seed: Annotated[int | None, Option(help="Of weights, order and masks.")] = None
    device: Annotated[str | None, Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None
    precision: Annotated[str | None, Option(help="auto, fp32 or bf16.")] = None


@dataclass(frozen=True, kw_only=True)
class PretrainingFlags(TrainingFlags):
    """The same for `pretrain`, which can find out both."""

    minutes: Annotated[float | None, Option(help="Wall-clock budget.")] = None
    batch_size: Annotated[
        str | None, Option(metavar="ROWS|auto", help="Rows of a forward pass on each process.")
    ] = None

    def given(self) -> dict[str, Any]:
        """Return the flags that were used, as keywords of `pretrain`."""
        values = super().given()
        if self.batch_size is not None and self.batch_size.isdecimal():
            values["batch_size"] = int(self.batch_size)
        return values


@dataclass(frozen=True, kw_only=True)
class FinetuningFlags(TrainingFlags):
    """The same for `finetune`."""

    batch_size: Annotated[int | None, Option(help="Rows of a forward pass.")] = None


@dataclass(frozen=True, kw_only=True)
class RecipeFlags:
    """What to start from, and what differs."""

    preset: Annotated[str | None, Option(help="tiny, small, base, paper-chemistry and such.")] = (
        None
    )
    recipe: Annotated[Path | None, Option(help="YAML that holds a whole run.")] = None
    setting: Annotated[
        list[str] | None, Option("--set", metavar="A.B=C", help="Any key of a recipe; repeatable.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class SessionFlags:
    """What concerns how a run is made and not its result: keywords of `pretrain`."""

    resume: Annotated[bool, Option("--resume", help="Go on where a run was cut; else start.")] = (
        False
    )
    overwrite: Annotated[bool, Option("--overwrite", help="Replace the run in --out.")] = False
    stop_after: Annotated[
        float | None, Option(metavar="MIN", help="Save and exit after so many minutes.")
    ] = None
    no_examples: Annotated[
        bool,
        Option(
            "--no-examples",
            help="Keep raw rows out of captures of steps that went wrong, and out of reports.",
        ),
    ] = False
    track: Annotated[
        list[str] | None, Option(metavar="NAME", help="tensorboard, wandb, mlflow or trackio.")
    ] = None
    probe_target: Annotated[
        str | None,
        Option(metavar="COL", help="A linear probe predicts it at each look; never an input."),
    ] = None


def pretrain(
    recipe_flags: RecipeFlags,
    training_flags: PretrainingFlags,
    session_flags: SessionFlags,
    data_flags: DataFlags,
    data: Annotated[
        str | None, Argument(metavar="DATA", help="File, folder, glob or URL; else the recipe's.")
    ] = None,
    out: Annotated[Path | None, Option(metavar="RUN", help="Run folder: new or empty.")] = None,
    init: Annotated[
        str | None, Option(metavar="RUN", help="Start from its weights, also with --resume.")
    ] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Print the recipe, memory and time; write nothing.")
    ] = False,
    replay: Annotated[
        Path | None, Option(metavar="FILE", help="Compute a captured bad step again.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Pretrain a masked autoencoder on unlabelled data.

    Example: anymae pretrain molecules.csv --column smiles --out runs/mol
    """
    if replay is not None:
        _replay(replay, data, json=json)
        return
    from anymae.recipes import parse_settings
    from anymae.training.pretrain import pretrain as run_pretraining
    from anymae.training.pretrain import shorthands

    given = {**data_flags.given(), **training_flags.given(), "preset": recipe_flags.preset}
    settings = {**shorthands(given), **parse_settings(recipe_flags.setting or ())}
    if dry_run:
        asked = {"recipe": recipe_flags.recipe, "settings": settings, "init": init}
        _plan(data, {**asked, "probe_target": session_flags.probe_target}, json=json)
        return
    if out is None:
        raise UserInputError("no run folder is named; say where to write with --out RUN")
    with training_progress("pretrain") as told:
        run = run_pretraining(
            data,
            out=out,
            recipe=recipe_flags.recipe,
            settings=settings,
            init=init,
            progress=told,
            **vars(session_flags),
        )
    if is_main_process():
        _report(run, json=json)


def _plan(data: str | None, asked: dict[str, Any], *, json: bool) -> None:
    """Print what would be computed, and what that would take."""
    from anymae.report import plan

    made = plan(data, **asked)
    show_json(made.to_json()) if json else typer.echo(made.recipe_text, nl=False)


def _replay(capture: Path, data: str | None, *, json: bool) -> None:
    """Compute a captured step again and say what is bad about it."""
    from anymae.training.replay import replay

    found = replay(capture, data)
    if json:
        show_json(vars(found))
        return
    rows = ", ".join(map(str, found.bad_rows[:20])) or "none"
    typer.echo(
        f"step {found.step}: loss {found.loss} (captured {found.captured_loss}), gradient norm "
        f"{found.grad_norm} (captured {found.captured_grad_norm}); rows whose loss is not finite: "
        f"{rows}"
    )


def _report(run: "Run", *, json: bool) -> None:
    """Say how the run went."""
    if json:
        show_json({"folder": str(run.folder), **run.metrics})
        return
    losses = (run.metrics.get("valid_loss"), run.metrics.get("trivial_loss"))
    known = None not in losses
    judged = ", validation loss {:.4f} (trivial {:.4f})".format(*losses) if known else ""
    seconds = duration(run.metrics.get("seconds", 0.0))
    steps = counted(run.metrics.get("steps", 0), "step")
    typer.echo(f"{run.folder}: {steps} in {seconds}{judged}")
    next_step("report", run.folder)


def finetune(
    run: RunArgument,
    data: DataArgument,
    out: Annotated[Path, Option(help="Folder for the model: new or empty.")],
    training_flags: FinetuningFlags,
    data_flags: DataFlags,
    task: TaskFlag = None,
    num_labels: Annotated[
        int | None,
        Option("--n-labels", metavar="N", min=4, help="Take N labels, of which a fifth validates."),
    ] = None,
    seeds: Annotated[int, Option(min=1, help="Models to train; several answer together.")] = 1,
    setting: Annotated[
        list[str] | None,
        Option("--set", metavar="A=B", help="A setting, such as readout.kind=mean; repeatable."),
    ] = None,
    resume: Annotated[bool, Option("--resume", help="Go on where it was cut; else start.")] = False,
    overwrite: OverwriteFlag = False,
    stop_after: Annotated[
        float | None, Option(metavar="MIN", help="Save and exit after so many minutes.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Train all of a pretrained model to predict one target or several.

    Example: anymae finetune runs/mol esol.csv --target solubility --out models/esol
    """
    from anymae.config import parse
    from anymae.recipes import nested_settings, parse_settings
    from anymae.task import FinetuneConfig
    from anymae.training.finetune import finetune as run_finetuning

    asked: dict[str, object] = {"task": task, "num_labels": num_labels, "seeds": seeds}
    asked |= nested_settings(parse_settings(setting or ()))
    training = asked.pop("training", {})
    if not isinstance(training, dict):
        raise UserInputError(f"--set training={training} names no key; write training.KEY=VALUE")
    with training_progress("finetune") as told:
        model = run_finetuning(
            run,
            data,
            out=out,
            data_config=data_flags.config(),
            config=parse(FinetuneConfig, asked, where="finetune"),
            training={**training_flags.given(), **training},
            resume=resume,
            overwrite=overwrite,
            stop_after=stop_after,
            progress=told,
        )
    if is_main_process():
        _report_model(model, json=json)


def _report_model(model: "Finetuned", *, json: bool) -> None:
    """Say how good a fine-tuned model is."""
    if json:
        show_json(model.to_json())
        return
    typer.echo(f"{model.folder}: {named_task(model.task)}")
    for part, found in model.evaluations.items():
        words = ", ".join(f"{name} {estimate}" for name, estimate in found.overall.items())
        more = "; ".join(filter(None, (found.weighting, found.units)))
        typer.echo(f"{part}, {found.rows:,} rows: {words}{f' ({more})' if more else ''}")
    next_answers(model.folder)


def tune(
    data: DataArgument,
    run_flags: RunFlags,
    data_flags: DataFlags,
    out: Annotated[
        Path, Option(help="Folder for the runs; the same command goes on in it.")
    ] = Path("tune"),
    trials: Annotated[int, Option(metavar="K", min=1, help="Pretraining runs.")] = 20,
    task: TaskFlag = None,
    num_labels: Annotated[
        int | None, Option("--n-labels", metavar="N", min=4, help="Use N labels only.")
    ] = None,
    seed: Annotated[int, Option(min=0, max=LARGEST_SEED, help="Rows, trials, weights, masks.")] = 0,
    json: JsonFlag = False,
) -> None:
    """Search for mask and model settings that serve a target, judged on validation rows.

    Example: anymae tune esol.csv --column smiles --target solubility --steps 1000 --out tune/esol
    """
    from anymae.tuning import tune as run_search

    with training_progress("tune") as told:
        found = run_search(
            data,
            out=out,
            trials=trials,
            settings=run_flags.settings(),
            data_config=data_flags.config(),
            task=cast("TaskType | None", task),
            num_labels=num_labels,
            seed=seed,
            progress=told,
        )
    if json:
        show_json(found.to_json())
        return
    show_task(found.task, found.rows)
    rows = [[str(t.number), f"{t.score:.4f}", t.words] for t in found.ranked]
    rows += [[str(t.number), "not finite", t.words] for t in found.trials if t.score is None]
    show_table(["trial", found.metric, "settings"], rows)
    typer.echo(
        f"one run each, chosen on {found.rows['judged']:,} validation rows, so the best score "
        "flatters; rows that had no part in it tell what it is worth"
    )
    if found.doubt is not None:
        typer.echo(found.doubt, err=True)
    words = [*data_flags.words(), "--recipe", found.recipe, "--out", "runs/NAME"]
    next_step("pretrain", as_argument(data), *words)
