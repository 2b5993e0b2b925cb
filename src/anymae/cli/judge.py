"""Verbs that tell how good a model is."""

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer import Argument, Option

from anymae.cli.console import (
    as_argument,
    flag,
    is_finetuned,
    next_answers,
    next_probe,
    next_step,
    progress,
    show_json,
    show_table,
    show_task,
    training_progress,
)
from anymae.cli.evaluations import stored_then_shown
from anymae.cli.options import (
    LARGEST_SEED,
    READINGS,
    ComputeFlags,
    DataArgument,
    DataFlags,
    Flags,
    JsonFlag,
    OverwriteFlag,
    ReadingName,
    RunArgument,
    RunFlags,
    TaskFlag,
)
from anymae.errors import UserInputError

if TYPE_CHECKING:
    from anymae.comparison.result import Comparison
    from anymae.task import TaskType


class Part(StrEnum):
    """Rows to evaluate on."""

    TEST = "test"
    VALID = "valid"
    TRAIN = "train"
    ALL = "all"


class Stage(StrEnum):
    """Rows that a benchmark looks at in the end."""

    TUNE = "tune"
    FINAL = "final"


def probe(
    run: RunArgument,
    data: DataArgument,
    data_flags: DataFlags,
    compute_flags: ComputeFlags,
    num_labels: Annotated[
        int | None,
        Option("--n-labels", metavar="N", help="Fit to N labels; a fifth judges if no rows test."),
    ] = None,
    reading: Annotated[
        list[ReadingName] | None,
        Option(help=f"{READINGS} Repeatable; unless asked, mean and layers."),
    ] = None,
    task: TaskFlag = None,
    seed: Annotated[
        int, Option(min=0, max=LARGEST_SEED, help="Splits, labels, random encoder.")
    ] = 0,
    json: JsonFlag = False,
) -> None:
    """Judge frozen embeddings beside raw features and an encoder with random weights.

    Example: anymae probe runs/mol esol.csv --column smiles --target solubility
    """
    from anymae.metrics import HEADLINE
    from anymae.probing import READINGS as USUAL
    from anymae.probing import probe as run_probe
    from anymae.task import FinetuneConfig

    with progress("probe") as told:
        found = run_probe(
            run,
            data,
            task=cast("TaskType | None", task),
            data_config=data_flags.config(),
            num_labels=num_labels,
            readings=[one.value for one in reading or ()] or USUAL,
            seed=seed,
            config=compute_flags.config(),
            progress=told,
        )
    if json:
        show_json(found.to_json())
        return
    show_task(found.task, found.rows, "; with 95 % intervals")
    name = HEADLINE[found.task.type]
    rows = [
        [f"{row.features} {row.reading}", row.model, target, str(estimates[name])]
        for row in found.results
        for target, estimates in row.metrics.items()
    ]
    show_table(["features", "model", "target", name], rows)
    words, usual = [*data_flags.words(), *flag("--task", task)], FinetuneConfig()
    if not round(usual.valid_share * (found.rows["fitted"] + found.rows.get("valid", 0))):
        # There would be no validation row to choose a rate.
        words += flag("--learning-rate", usual.learning_rates[1])
    next_step("finetune", run, as_argument(data), *words, "--out", "models/NAME")


def evaluate(
    model: Annotated[str, Argument(metavar="MODEL", help="Fine-tuned model.")],
    data: DataArgument,
    data_flags: DataFlags,
    compute_flags: ComputeFlags,
    part: Annotated[Part | None, Option(help="Rows; else the test part if there is one.")] = None,
    plot: Annotated[
        Path | None, Option(help="Draw confusion or parity: .png, .svg or .pdf.")
    ] = None,
    out: Annotated[
        Path | None, Option(help="JSON file; else MODEL/evaluation-DATA-PART.json, -2.json ...")
    ] = None,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Compare a model's answers with the truth, with bootstrap intervals.

    Example: anymae evaluate models/esol esol_test.csv
    """
    from anymae.data.sources.locate import require_output
    from anymae.evaluation import evaluate as run_evaluation

    if out is not None:
        require_output(out, (".json",), data, *data_flags.config().files, overwrite=overwrite)

    # What is shown comes after the progress has gone.
    shown = stored_then_shown(model, data, out, overwrite=overwrite, json=json)
    with shown as keep, progress("evaluate") as told:
        run_evaluation(
            model,
            data,
            part=None if part is None else part.value,
            data_config=data_flags.config(),
            config=compute_flags.config(),
            plot=plot,
            overwrite=overwrite,
            keep=keep,
            progress=told,
        )
    if json:
        return
    next_answers(model)


def compare(
    data: DataArgument,
    run_flags: RunFlags,
    data_flags: DataFlags,
    out: Annotated[
        Path, Option(help="Folder for the runs; the same command goes on in it.")
    ] = Path("compare"),
    baseline: Annotated[
        list[str] | None,
        Option(
            metavar="NAME=FILE",
            help="Your own features: a file with a row of numbers for each row of DATA.",
        ),
    ] = None,
    seeds: Annotated[
        int, Option(metavar="K", min=1, help="Repetitions, with seeds 0 to K - 1.")
    ] = 5,
    num_labels: Annotated[
        int | None, Option("--n-labels", metavar="N", help="Fit to N labels only.")
    ] = None,
    task: TaskFlag = None,
    json: JsonFlag = False,
) -> None:
    """Find out whether pretraining helps here: guided, random and none beside plain features.

    Pretrains on the rows of DATA that do not test, also those without labels, and on no others.

    Example: anymae compare esol.csv --column smiles --target solubility --out compare/esol
    """
    from anymae.comparison import compare as run_comparison

    with training_progress("compare") as told:
        found = run_comparison(
            data,
            out=out,
            baselines=dict(_baseline(text) for text in baseline or ()),
            seeds=seeds,
            settings=run_flags.settings(),
            data_config=data_flags.config(),
            task=cast("TaskType | None", task),
            num_labels=num_labels,
            progress=told,
        )
    if json:
        show_json(found.to_json())
        return
    _show_comparison(found, data, seeds)
    doubt, words = found.doubt(), data_flags.words()
    if doubt is not None:
        typer.echo(doubt, err=True)
    if not data_flags.target:
        words += [word for name in found.task.targets for word in flag("--target", name)]
    words += flag("--task", task)
    next_step("finetune", found.best_run, as_argument(data), *words, "--out", "models/NAME")


def _show_comparison(found: "Comparison", data: str, seeds: int) -> None:
    show_task(found.task, found.rows, f"; {seeds} seeds")
    unlabelled = f", {found.unlabelled:,} without labels among them" if found.unlabelled else ""
    typer.echo(
        f"pretrained on the {found.rows['pretrained']:,} rows of {data} that do not test"
        f"{unlabelled}"
    )
    columns = ["features", f"{found.metric} ± sd", "gain over none", "gain over random"]
    show_table(columns, found.table())
    for verdict in found.verdicts():
        typer.echo(verdict)
    if (scope := found.scope()) is not None:
        typer.echo(scope)


def _baseline(text: str) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise UserInputError(f"--baseline {text!r} names no file; write --baseline NAME=FILE")
    return name, file


@dataclass(frozen=True, kw_only=True)
class BenchmarkFlags(Flags):
    """Which jobs to run and how: keywords of `run_benchmark`."""

    task: Annotated[list[str] | None, Option(help="Of the suite, else all; repeatable.")] = None
    arms: Annotated[str | None, Option(help="guided,random,span,none,baseline, else its own.")] = (
        None
    )
    budget: Annotated[str | None, Option(help="cpu (the default), long, paper or mini.")] = None
    seeds: Annotated[int | None, Option(metavar="K", help="Seeds 0 to K - 1, 5 by default.")] = None
    out: Annotated[Path | None, Option(help="Folder for records and weights, else results.")] = None
    jobs: Annotated[int | None, Option(min=1, help="Processes side by side, a thread each.")] = None
    device: Annotated[str | None, Option(help="Of the encoders: cpu (the default), cuda ...")] = (
        None
    )
    stage: Annotated[Stage | None, Option(help="tune looks at validation rows only.")] = None

    def keywords(self) -> dict[str, Any]:
        """Return the flags that were used, as keywords of `run_benchmark`."""
        values = self.given()
        tasks, arms = values.pop("task", []), values.pop("arms", None)
        return {**values, "tasks": tasks, "arms": [] if arms is None else arms.split(",")}


def benchmark(
    suite: Annotated[
        list[str],
        Argument(
            metavar="SUITE",
            help="Its name; `fetch SUITE` gets data files that have a public source.",
        ),
    ],
    flags: BenchmarkFlags,
    data: Annotated[
        Path | None, Option(help="Data folder, else $ANYMAE_DATA and the cache.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Run the missing jobs of a benchmark suite, or fetch its data.

    Example: anymae benchmark moleculenet --task bbbp --arms guided,random,none --seeds 5
    """
    match suite:
        case ["fetch", name]:
            _fetch(name, data, flags, json=json)
        case [name] if name != "fetch":
            _benchmark(name, data, flags, json=json)
        case _:
            raise UserInputError(
                f"found {' '.join(suite)!r}; write `anymae benchmark SUITE`, or "
                "`anymae benchmark fetch SUITE` for its data"
            )


def _fetch(suite: str, data: Path | None, flags: BenchmarkFlags, *, json: bool) -> None:
    from anymae.benchmark import fetch

    if flags.given():
        raise UserInputError("fetch runs no jobs and takes --data alone; leave the rest out")
    built = [str(path) for path in fetch(suite, data=data)]
    if json:
        show_json({"built": built})
        return
    typer.echo("\n".join(built) or "all files are there")
    next_step("benchmark", suite, *flag("--data", data))


def _benchmark(suite: str, data: Path | None, flags: BenchmarkFlags, *, json: bool) -> None:
    from anymae.benchmark import run_benchmark, scores
    from anymae.benchmark.suite import MINI

    with progress(suite, "jobs") as told:
        found = scores(run_benchmark(suite, data=data, report=told, **flags.keywords()))
    if json:
        show_json({"suite": suite, "results": [score.to_json() for score in found]})
        return
    rows = []
    for score in found:
        over = (str(score.over.get(name) or "") for name in ("random", "none"))
        name = f"{score.task} ({score.metric})"
        rows.append([name, score.arm, str(len(score.values)), str(score.summary), *over])
    show_table(["task", "arm", "seeds", "mean ± sd", "gain over random", "gain over none"], rows)
    if flags.stage is Stage.TUNE or flags.budget == MINI:
        # What counts comes after a trial: no miniature, and to the end.
        whole = replace(flags, stage=None, budget=None if flags.budget == MINI else flags.budget)
        next_step("benchmark", suite, *flag("--data", data), *whole.words())
    else:
        out = flags.out or "results"
        next_step(out, "results.md", program=("python", "-m", "anymae.benchmark"))


def report(
    runs: Annotated[list[str], Argument(metavar="RUN...", help="Run folders.")],
    out: Annotated[Path | None, Option(help="HTML page; RUN/report.html for a single run.")] = None,
    no_examples: Annotated[bool, Option("--no-examples", help="Show no rows of the data.")] = False,
    overwrite: OverwriteFlag = False,
    json: JsonFlag = False,
) -> None:
    """Write one self-contained HTML page about a run, or several beside each other.

    Example: anymae report runs/guided runs/random --out both.html
    """
    from anymae.hub import WEIGHTS, resolve
    from anymae.report import write_report

    page = write_report(runs, out=out, overwrite=overwrite, no_examples=no_examples)
    if json:
        show_json({"page": str(page)})
        return
    typer.echo(f"{page}: open it in a browser")
    if is_finetuned(runs[0]):
        next_answers(runs[0])
    elif (resolve(runs[0]) / WEIGHTS).exists():
        next_probe(runs[0])
