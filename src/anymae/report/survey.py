"""What can be told about data before training: what they are, and the run they suggest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from anymae.data.duplicates import Repeats
from anymae.data.inspection import Inspection, describe
from anymae.report.plan import Plan, plan

MOST_NAMED = 12
"""Columns and characters that are listed."""


@dataclass(frozen=True)
class Survey:
    """What was found, and the run that would follow."""

    found: Inspection
    plan: Plan

    def lines(self) -> Iterator[str]:
        """Say it in lines for a terminal."""
        yield from _about_rows(self.found)
        yield from _about_inputs(self.found)
        yield from self.found.roles.describe()
        yield from _about_plan(self.plan)
        yield "what would be hidden before any training:"
        yield self.plan.examples_text.rstrip()

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without raw rows."""
        return {**self.found.model_dump(mode="json"), "plan": self.plan.to_json()}


def survey(
    data: object,
    *,
    settings: Mapping[str, object] | None = None,
    against: object | None = None,
) -> Survey:
    """Look at data as `pretrain` would, past bad rows, and plan the run.

    Args:
        data: A path or a Python object.
        settings: As for `pretrain`.
        against: Other data, to count the rows that both hold.

    Raises:
        UserInputError: The data cannot be read, or no run can come of them.
    """
    asked = dict(settings or {})
    # Another word is left to be refused.
    if asked.get("data.on_bad_row", "error") == "error":
        asked["data.on_bad_row"] = "skip"
    made = plan(data, settings=asked)
    config = made.job.recipe.data
    return Survey(describe(made.dataset, config, against=against), made)


def _about_rows(found: Inspection) -> Iterator[str]:
    yield f"{found.name}: {found.format}, {found.rows:,} rows, {found.used_rows:,} can be inputs"
    for bad in found.bad:
        named = ", ".join(bad.places)
        rows = "1 row" if bad.count == 1 else f"{bad.count:,} rows, each of which"
        yield f"bad: {rows} {bad.problem} ({named}{' ...' if bad.count > 10 else ''})"
    yield "parts: " + ", ".join(f"{count:,} {name}" for name, count in found.parts.items())
    copies = found.duplicates
    yield f"duplicates: {_counts(copies)}"
    if found.against is not None:
        other = found.against
        yield (
            f"shared with {other.name}: of these rows {_counts(other.here)}; of its "
            f"{other.rows:,} rows {_counts(other.there)}"
        )


def _counts(of: Repeats) -> str:
    if of.near is None:
        return f"{of.exact:,} exactly"
    near = f"{of.near:,} of {of.compared:,} nearly ({of.threshold:.0%} of their 5-byte pieces)"
    return f"{of.exact:,} exactly, {near}"


def _about_inputs(found: Inspection) -> Iterator[str]:
    if found.lengths is not None:
        of = found.lengths
        yield (
            f"inputs of a row: {of.least:,} to {of.most:,}, median {of.median:,}; "
            f"{of.longer:,} rows are longer than the model's {found.input.length:,}"
        )
    else:
        yield f"inputs of a row: {found.input.length:,}"
    if found.alphabet:
        most = list(found.alphabet.items())[:MOST_NAMED]
        shares = " ".join(f"{sign} {share:.0%}" for sign, share in most)
        yield f"alphabet: {len(found.alphabet)} bytes; {shares}"
    if found.invalid_inputs:
        yield f"missing: {found.invalid_inputs:,} inputs"
    for column in found.columns[:MOST_NAMED]:
        facts = [column.type, column.method]
        categories = column.categories
        facts += (
            [f"{categories:,} categor{'y' if categories == 1 else 'ies'}"] if categories else []
        )
        facts += [f"{column.missing:,} missing"] if column.missing else []
        facts += ["constant"] if column.constant else []
        yield f"column {column.name}: {', '.join(facts)}"
    if len(found.columns) > MOST_NAMED:
        yield f"and {len(found.columns) - MOST_NAMED} columns more"
    yield from found.notes


def _about_plan(made: Plan) -> Iterator[str]:
    yield from made.rules
    told = {*made.dataset.notes, *made.rules}
    yield from (note for note in made.job.notes if note not in told)
    config = made.job.config
    yield (
        f"model: {config.encoder.kind}, width {config.encoder.width}, {config.encoder.depth} "
        f"blocks; masking {config.masking.kind}, ratio {config.masking.ratio:g}"
    )
    yield f"estimate: {made.cost_text}"
