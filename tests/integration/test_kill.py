"""SIGKILL at points of saving and at random moments; `benchmarks/kill_test.py` is the long form."""

import random
from pathlib import Path

import pytest

from kills import Kill, Point, assert_same, each_name, killed_at, killed_at_random, points


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Point]]:
    folder = tmp_path_factory.mktemp("kill")
    return folder, points(folder)


def test_every_file_of_a_run_is_written_through_points(uncut: tuple[Path, list[Point]]) -> None:
    names = {point.name for point in uncut[1]}
    for wanted in (
        "_write uncut/checkpoints/.staged-step-N/model.safetensors",
        "sync uncut/checkpoints/.staged-step-N/manifest.json",
        "_rename uncut/checkpoints/.staged-step-N",
        "_remove uncut/checkpoints/.removed-step-N",
        "_rename uncut/.staged-model.safetensors",
        "_write uncut/.staged-run.yaml",
    ):
        assert wanted in names


def test_a_run_killed_at_points_of_saving_ends_with_the_same_bytes(
    uncut: tuple[Path, list[Point]],
) -> None:
    folder, found = uncut
    chosen = list(each_name(found, 1))
    # A few here; two kills in a row where the second hits the resumed run.
    for turn, point in enumerate(chosen[:: max(1, len(chosen) // 6)]):
        kills = [Kill(point.number, after=bool(turn % 2))]
        if turn % 3 == 0:
            kills.append(Kill(point.number // 2, after=False))
        killed_at(folder / f"at-{turn}", kills)
        assert_same(folder / f"at-{turn}", folder / "uncut")


def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(
    uncut: tuple[Path, list[Point]],
) -> None:
    folder, source = uncut[0], random.Random(0)
    for turn in range(2):
        killed_at_random(folder / f"random-{turn}", source, longest=0.3, times=1 + turn % 2)
        assert_same(folder / f"random-{turn}", folder / "uncut")


@pytest.mark.slow
def test_killed_at_every_point_and_a_hundred_moments() -> None:
    from kill_test import main

    main(["--times", "3", "--random", "100"])
