"""What a comparison finds: scores by features and seed, paired differences, sentences."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anymae.benchmark.statistics import Difference, paired_difference, summarise
from anymae.benchmark.suite import ERRORS
from anymae.task import TaskConfig
from anymae.wording import counted, listed

GUIDED, RANDOM, NONE = "guided pretraining", "random pretraining", "no pretraining"
RAW, JOINED = "raw features", " + embedding"
MASKINGS = {GUIDED: "guided", RANDOM: "random"}


def run_name(masking: str, seed: int) -> str:
    """Name the run of a comparison with masks of a kind."""
    return f"{masking}-seed{seed}"


@dataclass(frozen=True)
class Comparison:
    """What was found on the test rows."""

    task: TaskConfig
    metric: str
    """What is compared: a metric, averaged over the targets; errors of several numbers in standard
    deviations of the training rows."""
    rows: dict[str, int]
    """Rows of the first seed: `pretrained`, `fitted`, `test`."""
    scores: dict[str, dict[int, float]]
    """The metric by features and seed: both pretrained encoders, `no pretraining`, `raw features`
    and the user's own; those with ` + embedding` are joined to that of the guided encoder."""
    overlap: float
    """What the seeds' test rows in common widen intervals by, see `paired_difference`; 0 where
    they are named, or most of them are the same: then an interval is about other trainings and
    not about other rows."""
    folder: Path
    """Holds the pretraining runs."""
    seconds: float
    shared: int = 0
    """Test rows that two seeds have in common, on average; 0 with one seed."""
    unlabelled: int = 0
    """Rows of the first seed that are pretrained on and have no label."""

    def difference(self, features: str, other: str) -> Difference | None:
        """Return what features are better by than others, seed by seed; `None` for one seed."""
        return paired_difference(
            self.scores[features],
            self.scores[other],
            smaller_is_better=self.metric in ERRORS,
            overlap=self.overlap,
        )

    def table(self) -> list[list[str]]:
        """Return lines: features, score, what these are better by than `NONE` and `RANDOM`."""
        lines = []
        for name, scores in self.scores.items():
            over = (
                "" if name == o else str(self.difference(name, o) or "") for o in (NONE, RANDOM)
            )
            lines.append([name, str(summarise(scores)), *over])
        return lines

    @property
    def _pairs(self) -> list[tuple[str, str]]:
        """What verdicts are about."""
        pairs = [(GUIDED, other) for other in (NONE, RANDOM, RAW)]
        return pairs + [(n, n.removesuffix(JOINED)) for n in self.scores if n.endswith(JOINED)]

    def verdicts(self) -> list[str]:
        """Say what helps, in sentences."""
        return [self._verdict(*pair) for pair in self._pairs]

    def scope(self) -> str | None:
        """Say what intervals are about, where they are not about other rows."""
        if self.overlap or not self.shared:
            return None
        return (
            f"two seeds have {self.shared:,} of {counted(self.rows['test'], 'test row')} in "
            "common: intervals are about other trainings, not about other rows"
        )

    @property
    def best(self) -> str:
        """Which of the two pretrained encoders answers better, by its mean."""
        sign = -1 if self.metric in ERRORS else 1
        return max(MASKINGS, key=lambda name: sign * summarise(self.scores[name]).mean)

    @property
    def best_run(self) -> Path:
        """Its first run."""
        return self.folder / run_name(MASKINGS[self.best], min(self.scores[self.best]))

    def doubt(self) -> str | None:
        """Say what the better encoder is not known to beat, though it costs no pretraining."""
        rivals = [name for name in (NONE, RAW) if not self._is_better(self.best, name)]
        if not rivals:
            return None
        told = (
            f"{self.best}, the better of the two encoders, is not told to be better than "
            f"{listed(rivals)}"
        )
        # The other encoder, or the embedding beside other features, may have been told to help.
        if any(self._is_better(*pair) for pair in self._pairs):
            return told
        return f"pretraining has not been shown to help here: {told}"

    def _is_better(self, one: str, other: str) -> bool:
        found = self.difference(one, other)
        return found is not None and found.verdict == "better"

    def _verdict(self, one: str, other: str) -> str:
        found = self.difference(one, other)
        if found is None:
            return f"{one} and {other}: one seed tells no interval, take several (--seeds 5)"
        size = f"{found} {self.metric}"
        match found.verdict:
            case "better":
                return f"{one} helps by {size} over {other}"
            case "worse":
                return f"{one} does worse than {other}: {size}"
            case _:
                told = f"{one} and {other} cannot be told apart: {size}"
                if not found.deviation:
                    return told
                would = f"a true difference of {found.detectable:.2g} would show four times in five"
                return f"{told}; {would}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values; a positive difference is an improvement, whatever the metric."""
        return {
            "task": self.task.model_dump(mode="json"),
            "metric": self.metric,
            "rows": self.rows,
            "unlabelled": self.unlabelled,
            "overlap": self.overlap,
            "shared": self.shared,
            "scores": {
                name: {"by_seed": scores, **summarise(scores)._asdict()}
                for name, scores in self.scores.items()
            },
            "differences": [
                {"features": name, "other": other, **found._asdict(), "verdict": found.verdict}
                for name in self.scores
                for other in self.scores
                if name != other and (found := self.difference(name, other)) is not None
            ],
            "verdicts": self.verdicts(),
            "folder": str(self.folder),
            "seconds": self.seconds,
        }
