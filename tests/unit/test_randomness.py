"""Draws are uniform, independent across purposes, rows and indices, and depend on nothing else."""

import torch

from anymae.randomness import Draws, Purpose, fresh_draws, mix, row_keys


def draws(rows: int = 4000, **options: int) -> Draws:
    return Draws(row_keys(torch.arange(rows), **({"seed": 0} | options)))


def reference_mix(value: int) -> int:
    """SplitMix64's finalizer on unsigned Python integers."""
    size = 1 << 64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) % size
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) % size
    return value ^ (value >> 31)


def test_mix_is_splitmix64() -> None:
    values = [0, 1, -1, 2**62, -(2**63), 123456789]
    ours = mix(torch.tensor(values)).tolist()
    assert [v % 2**64 for v in ours] == [reference_mix(v % 2**64) for v in values]


def test_a_draw_depends_on_row_purpose_and_index_alone() -> None:
    every = draws().bits(Purpose.HIDE, 64)
    some = Draws(row_keys(torch.tensor([7, 3]), seed=0)).bits(Purpose.HIDE, 9)
    assert torch.equal(some, every[[7, 3], :9])


def test_single_columns_are_those_of_all() -> None:
    columns = torch.randint(64, (4000, 5))
    every = draws().bits(Purpose.HEAD, 64)
    assert torch.equal(draws().bits_at(Purpose.HEAD, columns), every.gather(1, columns))
    below = draws().below(Purpose.HEAD, 64, 8)
    assert torch.equal(draws().below_at(Purpose.HEAD, columns, 8), below.gather(1, columns))


def test_draws_are_uniform_and_unrelated() -> None:
    uniform = draws().uniform(Purpose.HIDE, 32)
    assert uniform.min() > 0 and uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.003 and abs(uniform.var() - 1 / 12) < 0.001
    others = [
        draws(seed=1).uniform(Purpose.HIDE, 32),
        draws(epoch=1).uniform(Purpose.HIDE, 32),
        draws().uniform(Purpose.TIE, 32),
        uniform.roll(1, 0),
        uniform.roll(1, 1),
    ]
    for other in others:
        pair = torch.stack([uniform.flatten(), other.flatten()])
        assert abs(torch.corrcoef(pair)[0, 1]) < 0.015


def test_below_covers_its_range_evenly() -> None:
    counts = torch.bincount(draws().below(Purpose.HEAD, 10, 7).flatten(), minlength=7)
    assert len(counts) == 7 and (counts - 40_000 / 7).abs().max() < 350


def test_fresh_draws_follow_the_generator() -> None:
    def keys(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return fresh_draws(5, device=torch.device("cpu"), generator=generator).keys

    assert torch.equal(keys(1), keys(1)) and not torch.equal(keys(1), keys(2))
    assert len(keys(1).unique()) == 5
