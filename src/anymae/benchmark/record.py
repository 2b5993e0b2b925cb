"""What a finished job leaves: one JSON, from which the results page is made.

Records are read strictly, so that the page never shows what it does not understand.
"""

import hashlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

import anymae
from anymae.benchmark.suite import THREADS
from anymae.config import Section, parse
from anymae.errors import ConfigError
from anymae.files import STAGED, read_json, write_json

PACKAGES = ("anymae", "torch", "numpy", "scikit-learn", "pyarrow")
Stage = Literal["final", "tune"]
"""`tune` looks at validation rows only, to choose settings; `final` opens the test labels."""


ENCODER = "encoder_sha256"
"""Fact that names the weights of a pretraining, and those that a job has used."""


class JobName(Section):
    """Which job."""

    suite: str
    budget: str
    stage: Stage
    task: str
    """A task, or `pretraining` (of the corpus `all`), `pretraining-CORPUS`."""
    arm: str
    seed: int

    @property
    def corpus(self) -> str | None:
        """What is pretrained on; `None` for a task."""
        name, _, corpus = self.task.partition("-")
        return (corpus or "all") if name == "pretraining" else None

    @property
    def file(self) -> Path:
        """Where its record stands, below the results folder."""
        arm = self.arm.replace(":", "_").replace("=", "-")
        return Path(self.suite, self.budget, self.stage, f"{self.task}_{arm}_seed{self.seed}.json")

    def command(self, device: str = "cpu") -> str:
        """Return the command that computes it on a device (and the seeds before it)."""
        task = f" --task {self.task}" if self.corpus is None else ""
        stage = "" if self.stage == "final" else f" --stage {self.stage}"
        where = "" if device == "cpu" else f" --device {device}"
        return (
            f"anymae benchmark {self.suite}{task} --arms {self.arm} --budget {self.budget}"
            f" --seeds {self.seed + 1}{stage}{where}"
        )


class Method(Section):
    """One way to predict with an arm: probe, fine-tuning, the field's learner, a blend."""

    settings: dict[str, Any]
    """What was chosen on the validation rows."""
    tried: int
    """Settings among which it was chosen."""
    validation: float
    """The metric that chose, on the validation rows."""
    test: dict[str, float] | None = None
    """Metrics on the test rows; `None` in the stage `tune`."""
    seconds: float


class Record(Section):
    """The result of a job."""

    format_version: Literal[1] = 1
    job: JobName
    command: str
    machine: dict[str, Any]
    """Versions, platform, threads, and the GPU where the encoder was on one."""
    data: dict[str, Any]
    """Hash of the split or the corpus, rows of each part, leaks."""
    asked: dict[str, Any]
    """What budget and arm asked for (`asked_of`); a command that asks otherwise is refused."""
    settings: dict[str, Any]
    """Of the pretraining; empty where there is none."""
    seconds: Annotated[float, Field(ge=0)]
    """Wall time of this job, pretraining not included."""
    pretraining_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Wall time of the run that it uses, which it shares with other jobs."""
    methods: dict[str, Method] = Field(default_factory=dict)
    best: str | None = None
    """The method that was best on validation."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """Of a pretraining: losses, statistics of the masks, number and hash of the weights; of a job,
    the hash of those it has used."""


def same_encoder(job: Record, pretraining: Record) -> bool:
    """Say whether a job has used the weights that a pretraining left.

    Their hash tells; where one of the two has none, the seconds of the run to the last digit.
    """
    mine, theirs = job.facts.get(ENCODER), pretraining.facts.get(ENCODER)
    if mine is not None and theirs is not None:
        return bool(mine == theirs)
    return job.pretraining_seconds == pretraining.seconds


def write_record(out: Path, record: Record) -> Path:
    """Write a record where it belongs."""
    path = out / record.job.file
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record.model_dump(mode="json"))
    return path


def read_record(path: Path) -> Record:
    """Read a record.

    Raises:
        FolderError: It is no JSON.
        ConfigError: It holds something else.
    """
    return parse(Record, read_json(path), where=str(path))


def read_records(out: Path) -> list[Record]:
    """Read all records below a folder, in the order of their names.

    Raises:
        ConfigError: A file is the record of another job than the one it is called after.
    """
    paths = sorted(out.glob("*/*/*/*.json"))
    # What a killed job was about to write is no record yet.
    return [read_placed(path) for path in paths if not path.name.startswith(STAGED)]


def read_placed(path: Path) -> Record:
    """Read a record that stands where its job's belongs.

    Raises:
        ConfigError: It is that of another job.
    """
    record = read_record(path)
    if path.parts[-len(record.job.file.parts) :] != record.job.file.parts:
        raise ConfigError(
            f"{path} is the record of {record.job.file}; give it that name, or move it away to "
            "compute the job again"
        )
    return record


def check_rows(out: Path, name: JobName, key: Literal["split", "corpus"], digest: str) -> None:
    """Refuse rows other than those of the other arms, from which differences are taken.

    Args:
        out: The results folder.
        name: The job that is to run, or the pretraining.
        key: Which rows: the task's, or what is pretrained on.
        digest: Hash of these rows.

    Raises:
        ConfigError: A record of the same task and seed has another. One without is no evidence.
    """
    for path in sorted((out / name.file).parent.glob(f"{name.task}_*_seed{name.seed}.json")):
        record = read_record(path)
        if record.job.task == name.task and record.data.get(key, digest) != digest:
            raise ConfigError(
                f"{path} was computed on other rows than those of --data; name the data that it "
                "is from, or another --out"
            )


def describe_machine(device: str) -> dict[str, Any]:
    """Return versions and machine of a job whose encoder is on a device."""
    versions: dict[str, str] = {"source": source_digest()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "unknown"
    machine = {
        "python": platform.python_version(),
        "versions": versions,
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": THREADS,
    }
    return machine if device == "cpu" else machine | {"gpu": _gpu(device)}


@cache
def source_digest() -> str:
    """Return a hash of the library's own code, which a version covers much of."""
    digest = hashlib.sha256()
    folder = Path(anymae.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _gpu(device: str) -> str:
    """Return the name of an accelerator."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _processor() -> str:
    """Return the name of the processor where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
