"""Is it learning? One line in words, with the reason and what to do."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

BARELY = 0.005
"""Less than this share under the trivial predictor is no learning. All there is to learn at first
may be little: knowing its composition takes 1.7 % off the loss of a protein's residue."""

SMALLEST_STD = 1e-4
"""Embeddings that differ less from row to row are the same."""

NARROWED = 1.2
"""A loss under random masks that rises this much above its best, while the loss under the model's
own masks is fine, tells of masks that always fall on the same inputs."""

COLLAPSED_RANK = 1.5
"""Embeddings with a smaller effective rank all lie on a line, or on a point."""


class Verdict(NamedTuple):
    """What a run's looks add up to."""

    state: Literal["learning", "flat", "collapsed"]
    words: str
    """One sentence: the reason, and a suggestion."""


def judge(
    losses: Sequence[float],
    last_look: Mapping[str, float | None],
    keep: Literal["best", "last"] = "best",
) -> Verdict:
    """Judge a run by its looks.

    Args:
        losses: Validation loss of each look that is known; a run's first is before any training.
        last_look: What the monitor found at the last look; `None` for what is not finite.
        keep: Whose weights the run ends with.

    >>> look = {"trivial_loss": 3.0, "effective_rank": 9.0, "embedding_std": 0.4,
    ...         "valid_loss_own_masks": 2.0, "trivial_loss_own_masks": 3.0, "mask_overlap": 0.5}
    >>> judge([5.5, 3.1, 2.4, 2.0], look).state
    'learning'
    """
    look = {name: math.nan if value is None else value for name, value in last_look.items()}
    # No checkpoint holds the weights before training, however good they were.
    last, best, trivial_loss = losses[-1], min(losses[1:] or losses), look["trivial_loss"]
    below = 1 - best / trivial_loss if trivial_loss > 0 else 0.0
    collapsed = _collapse(look["effective_rank"], look["embedding_std"])
    if collapsed is not None:
        return Verdict("collapsed", f"collapsed: {collapsed}")
    if look["valid_loss_own_masks"] < 0.9 * look["trivial_loss_own_masks"] and (
        below < BARELY or last > NARROWED * best
    ):
        return Verdict(
            "learning",
            f"learning, but only what its own masks ask: under random masks the loss is {last:.3f} "
            f"(best {best:.3f}, trivial {trivial_loss:.3f}), and {look['mask_overlap']:.0%} "
            "of what is hidden in a row is hidden again; masking.random_start or "
            "masking.random_floor keep masks broad",
        )
    if below < BARELY:
        where = "not" if below <= 0 else "hardly"
        return Verdict(
            "flat",
            f"flat: the validation loss {best:.3f} is {where} under the {trivial_loss:.3f} of a "
            "predictor that looks at nothing; train longer, raise training.learning_rate, or "
            "check that the inputs have to do with each other",
        )
    share = f"{below:.1%}" if below < 0.1 else f"{below:.0%}"
    under = f"the validation loss {best:.3f} is {share} under the trivial {trivial_loss:.3f}"
    if last > best * 1.02:
        kept = "best checkpoint is" if keep == "best" else "last weights are"
        return Verdict(
            "learning",
            f"learning, then overfitting: {under}, and has risen to {last:.3f} since; the {kept} "
            "kept: fewer steps, more rows or encoder.dropout would help",
        )
    if len(losses) == 1:
        return Verdict("learning", f"learning: {under}, by the only look that is known")
    third = losses[-1 - max(1, len(losses) // 3)]
    still = 1 - last / third if third > 0 else 0.0
    if still > 0.01:
        more = f"and fell by {still:.0%} over the last third: more steps would help"
    else:
        more = "and has levelled off: a larger preset could go further"
    return Verdict("learning", f"learning: {under}, {more}")


def _collapse(rank: float, std: float) -> str | None:
    """Say how embeddings have become useless, and what to do; `None` if they are not."""
    if math.isnan(rank):
        return (
            "the embeddings of some training rows are not finite; lower training.learning_rate, "
            "or look for extreme values in the data"
        )
    if rank < COLLAPSED_RANK or std < SMALLEST_STD:
        return (
            f"all rows have nearly the same embedding (effective rank {rank:.1f}); lower "
            "training.learning_rate, or raise masking.ratio"
        )
    return None
