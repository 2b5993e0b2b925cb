"""Kill a run at every point of saving and at random moments; each must end with the same bytes.

    python benchmarks/kill_test.py                       # about a quarter of an hour
    python benchmarks/kill_test.py --times 1 --random 10

Points are the calls of the functions that write, flush, rename and remove files, named by what
they do to which file; a run is killed before and after each, resumed (some are killed once more)
and compared with the uncut run: weights, newest checkpoint, log.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from kills import Kill, assert_same, each_name, killed_at, killed_at_random, points


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=3, help="kills at each point and side")
    parser.add_argument("--random", type=int, default=100, help="kills at random moments")
    arguments = parser.parse_args(words)
    begin = time.time()
    with tempfile.TemporaryDirectory() as name:
        folder, source = Path(name), random.Random(0)
        found = points(folder)
        names = len({point.name for point in found})
        chosen = [(p, after) for p in each_name(found, arguments.times) for after in (False, True)]
        print(f"{len(found)} points with {names} names; {len(chosen)} kills at points")
        for turn, (point, after) in enumerate(chosen):
            kills = [Kill(point.number, after)]
            if turn % 5 == 0:
                kills.append(Kill(source.randrange(len(found)), after=False))
            killed_at(folder / f"at-{turn}", kills)
            assert_same(folder / f"at-{turn}", folder / "uncut")
        print(
            f"all {len(chosen)} ended with the bytes of the uncut run ({time.time() - begin:.0f} s)"
        )
        for turn in range(arguments.random):
            out = folder / f"random-{turn}"
            killed_at_random(out, source, longest=0.5, times=1 + (turn % 5 == 0))
            assert_same(out, folder / "uncut")
        print(f"all {arguments.random} at random moments too ({time.time() - begin:.0f} s)")


if __name__ == "__main__":
    main()
