"""The regression guard of `make bench`: which ratios count as fallen."""

import json

import pytest

from bench import STORED, losses, stored_file
from cases import CASES


def results(median: float, low: float, high: float) -> dict[str, object]:
    spread = {"median": median, "low": low, "high": high}
    return {"cases": {"packed": {"ratios": {"dense / fp32": spread}}}}


@pytest.mark.parametrize(
    ("now", "falls"),
    [
        pytest.param((1.0, 0.9, 1.1), True, id="under the tolerance and the spread"),
        pytest.param((1.85, 1.8, 1.88), False, id="under the spread, within the tolerance"),
        pytest.param((1.5, 1.4, 1.95), False, id="under the tolerance, within the spread"),
        pytest.param((2.5, 2.4, 2.6), False, id="faster"),
    ],
)
def test_a_ratio_falls_outside_its_spread_and_by_more_than_a_tenth(
    now: tuple[float, float, float], falls: bool
) -> None:
    fallen = losses(results(*now), results(2.0, 1.9, 2.1))
    assert fallen == (["packed, dense / fp32: 2.00 -> 1.00"] if falls else [])


def test_a_case_without_stored_results_cannot_fall() -> None:
    assert losses(results(1.0, 0.9, 1.1), {"cases": {}}) == []


def test_each_kind_of_processor_has_its_own_results() -> None:
    xeon = {"cpu": "Intel(R) Xeon(R) Processor", "bf16": ["amx_bf16"]}
    assert stored_file(xeon).name == "intel-xeon-amx_bf16.json"
    assert stored_file({**xeon, "bf16": []}).name == "intel-xeon.json"
    stored = [(path, json.loads(path.read_text())) for path in STORED.glob("*.json")]
    assert all(stored_file(found["machine"]) == path for path, found in stored)
    # What is stored nowhere cannot fall.
    assert set().union(*(found["cases"] for _, found in stored)) == set(CASES)
