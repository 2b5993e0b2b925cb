"""Where guided masks help and where not, over all suites, in a table and in words.

Numbers and verdicts follow from the records; words never say more than the intervals do.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

from anymae.benchmark.arms import JOINED_WITH, JOINS, NONE, read_by
from anymae.benchmark.markdown import show_difference, table
from anymae.benchmark.record import Record
from anymae.benchmark.statistics import CONFIDENCE, Difference, holm
from anymae.benchmark.suite import BASELINE, EVERY_READING, JOINED, Task
from anymae.benchmark.summary import Group
from anymae.wording import counted

ENOUGH = 5
"""Pretraining runs of an arm from which claims are made."""

MUCH_ALIKE = 0.2
"""Share by attention up to which guided masks count as much like random ones. At a sixth they are,
in loss and in what they hide, at a half no longer: `docs/method.md`, "What guided masks hide"."""

MOST_NAMES = 6
"""Tasks without a comparison that are named; more are counted."""

REFERENCES = (("random", "random masks"), (NONE, "no pretraining"))
"""Arms that guided masks are compared with."""


Compared = dict[str, Difference | None]
"""By suite and task, and budget where several have run; `None` with fewer than two seeds."""


def conclude(groups: Sequence[Group]) -> Iterator[str]:
    """Say where guided masks help and where not."""
    yield "## Where guided masks help, and where not\n"
    yield _overview(groups)
    for other, what in REFERENCES:
        yield f"{_judge(f'Against {what}', _compare(groups, other))}\n"
    uses = {
        name: group.compare(task, _best_use(group, task), BASELINE)
        for group, task, name in _names(groups)
    }
    yield (
        f"{_judge('Against the plain baseline of the field', uses)} The guided encoder counts "
        "alone or joined to the baseline, whichever is better on validation rows.\n"
    )
    yield from _joined(groups)
    for other, what in REFERENCES:
        joined = _compare(groups, JOINED_WITH[other], JOINED)
        words = f"Joined to the baseline, guided against {what}, joined likewise"
        yield f"{_judge(words, joined)}\n"
    yield from (f"{line}\n" for line in (*_read_alike(groups), *_shares(groups), *_gaps(groups)))
    yield (
        "Where numbers are published for a task they stand with its suite. Those of the paper "
        "come mostly from larger models (up to 82 million weights), from larger corpora (often of "
        "a million rows and more), and from other splits, other test rows or all labels; what is "
        "known of that stands there too. So the arms here can be compared with each other, not a "
        "row with the paper.\n"
    )
    yield (
        "All verdicts are about these test rows: runs on one task share them, or take one of few "
        "splits in turn, so intervals hold little or nothing of what other test rows would add. "
        "A difference of a few test rows (one in 718 proteins is 0.0014, 27 of HIGGS's 19,610 "
        "events as much) is no more than a hint, whatever its interval.\n"
    )


def share_by_attention(record: Record) -> float:
    """Return the share of a guided mask that attention chose, after `random_start`, unrounded."""
    masks = record.facts["masking"]
    queries = 1 / masks["inputs_per_query"] if masks["hide_queries"] else 0
    return float(max(0, 1 - masks["random_floor"] - queries))


def _budget(groups: Sequence[Group], group: Group) -> str:
    """Return what to put behind a name where several budgets of the suite have run."""
    several = sum(other.suite == group.suite for other in groups) > 1
    return f" ({group.budget})" if several else ""


def _names(groups: Sequence[Group]) -> Iterator[tuple[Group, Task, str]]:
    """Name every task of the suites, whether it has run or not."""
    for group in groups:
        for task in group.kind.tasks.values():
            yield group, task, f"{group.suite}/{task.name}{_budget(groups, group)}"


def _compare(groups: Sequence[Group], other: str, arm: str = "guided") -> Compared:
    return {name: group.compare(task, arm, other) for group, task, name in _names(groups)}


def _best_use(group: Group, task: Task) -> str:
    """Name the arm that was better on validation rows, over seeds that both have."""
    rivals = [arm for arm in ("guided", JOINED) if group.compare(task, arm, BASELINE) is not None]
    values = {arm: group.validated(task, arm, "final") for arm in rivals}
    shared = set.intersection(*map(set, values.values())) if values else set()
    return max(
        rivals,
        key=lambda arm: task.gain(sum(values[arm][seed] for seed in sorted(shared))),
        default="guided",
    )


def _overview(groups: Sequence[Group]) -> str:
    rows = []
    for group, task, name in _names(groups):
        runs = len(group.tested(task, "guided"))
        if not runs:
            continue
        best = _best_use(group, task)
        pairs = (("guided", "random"), ("guided", NONE), (best, BASELINE))
        over_random, over_none, use = found = [group.compare(task, *pair) for pair in pairs]
        shared = {one.splits for one in found if one is not None and 1 < one.splits < one.seeds}
        joined = " (joined)" if best == JOINED and use else ""
        rows.append(
            [
                f"{name} ({task.metric})",
                f"{runs} on {max(shared)} splits" if shared else str(runs),
                show_difference(over_random),
                "" if over_random is None else f"{over_random.detectable:.4f}",
                show_difference(over_none),
                show_difference(use) + joined,
            ]
        )
    head = ("task", "runs", "guided minus random", "findable", "guided minus none")
    return table([*head, "best use minus baseline"], rows)


def _joined(groups: Sequence[Group]) -> Iterator[str]:
    """Compare what encoders add to the baseline that they are joined to."""
    rows = []
    for group, task, name in _names(groups):
        gains = [group.compare(task, arm, BASELINE) for arm in JOINS]
        if sum(gain is not None for gain in gains) > 1:
            runs = ", ".join("0" if gain is None else str(gain.seeds) for gain in gains)
            rows.append([name, runs, *map(show_difference, gains)])
    if rows:
        yield (
            "What an encoder adds to the baseline that it is joined to, by how it was trained; "
            "where the numbers of runs differ, the columns are over different seeds, and the two "
            "paragraphs below compare over shared ones:\n"
        )
        yield table(["task", "runs", "guided masks", "random masks", "no pretraining"], rows)


def _read_alike(groups: Sequence[Group]) -> Iterator[str]:
    """Compare encoders that are frozen and read in one way, where such arms have run."""
    for reading in EVERY_READING:
        for other, what in REFERENCES:
            compared = _compare(groups, read_by(reading, other), read_by(reading, "guided"))
            if any(one is not None for one in compared.values()):
                words = f"Frozen and read by `{reading}` alone, guided against {what}, read alike"
                yield _judge(words, compared)


def _judge(what: str, compared: Compared) -> str:
    """Count the verdicts; name what is left when all, or all with enough runs, are corrected."""
    found = {name: one for name, one in compared.items() if one is not None}
    missing = [name for name in compared if name not in found]
    if not found:
        return f"{what}: no two seeds have both yet."
    enough = {name: one for name, one in found.items() if one.seeds >= ENOUGH}
    by_chance = (1 - CONFIDENCE) * len(found)
    text = [
        f"{what}: of {counted(len(found), 'task')} {_count(found)}.",
        f"About {by_chance:.1f} of so many intervals would exclude zero without any difference; "
        f"Holm's correction over all of them leaves {_survivors(found)}.",
        f"{len(enough)} of them ha{'s' if len(enough) == 1 else 've'} {ENOUGH} runs of an arm or "
        f"more{f': the correction over these leaves {_survivors(enough)}' if enough else ''}. From "
        "fewer nothing is claimed, whatever the interval.",
    ]
    if missing:
        listed = ", ".join(missing) if len(missing) <= MOST_NAMES else f"{len(missing)} others"
        text.append(f"Not compared: {listed}.")
    return " ".join(text)


def _survivors(found: Mapping[str, Difference]) -> str:
    """Name what is better or worse after Holm's correction over all that is given."""
    left = holm([one.p for one in found.values()])
    kept = itertools.compress(found.items(), left)
    return ", ".join(f"{name} {one.mean:+.4f}" for name, one in kept) or "none"


def _count(found: Mapping[str, Difference]) -> str:
    """Count and name what is better and worse."""
    parts = []
    for verdict in ("better", "worse", "undecided"):
        names = [f"{n} {one.mean:+.4f}" for n, one in found.items() if one.verdict == verdict]
        listed = f" ({', '.join(names)})" if names and verdict != "undecided" else ""
        parts.append(f"{len(names)} {verdict}{listed}")
    return ", ".join(parts)


def _shares(groups: Sequence[Group]) -> Iterator[str]:
    """Say how much of the guided masks is guided."""
    suites: dict[float, list[str]] = {}
    for group in groups:
        for record in group.pretrainings("guided")[:1]:
            name = f"{group.suite}{_budget(groups, group)}"
            suites.setdefault(share_by_attention(record), []).append(name)
    if suites:
        listed = "; ".join(
            f"{share:.0%} in {', '.join(of)}" for share, of in sorted(suites.items())
        )
        words = f"How much of a guided mask follows attention in these runs: {listed}. The rest "
        words += "is chance."
        alike = [
            suite for share, of in sorted(suites.items()) if share <= MUCH_ALIKE for suite in of
        ]
        if alike:
            words += f" So guided and random masks are much alike in {', '.join(alike)}."
        if max(suites) <= 0.5:
            ran = {
                group.suite
                for group in groups
                for record in group.records
                if "draw=top" in record.job.arm
            }
            words += (
                " The paper's masks follow attention by rank, and are none of those compared here"
                + (f"; as arms with `draw=top` they ran in {', '.join(sorted(ran))}" if ran else "")
                + ". `docs/method.md` has more."
            )
        yield words


def _gaps(groups: Sequence[Group]) -> Iterator[str]:
    """Say what has no records."""
    lengths: dict[str, set[int]] = {}
    for group in groups:
        visits = {int(record.facts["rows_visited"]) for record in group.pretrainings()}
        lengths.setdefault(group.suite, set()).update(visits)
    one = [suite for suite, found in lengths.items() if len(found) == 1]
    if one:
        yield f"Score against compute: one length of pretraining is stored for {', '.join(one)}."
    swept = [group.suite for group in groups if group.has_sweep]
    unswept = [suite for suite in lengths if suite not in swept]
    if unswept:
        yield (
            f"Mask ratios: no sweep is stored for {', '.join(unswept)}; there an arm that names "
            "no ratio has the one that the suite sets."
        )
    for group in groups:
        others = [
            f"{name} {' and '.join(f'{one:g}' for one in best)} in place of {ratio:g}"
            for name, (ratio, best) in group.ratios_not_taken().items()
        ]
        if others:
            yield (
                f"Mask ratios of {group.suite}{_budget(groups, group)}: others than the suite's "
                f"were best on validation rows ({', '.join(others)})."
            )
