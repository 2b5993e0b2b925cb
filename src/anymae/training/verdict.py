"""Is it learning? One line in words, with the reason and what to do."""

import math
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Literal, NamedTuple

from anymae.wording import counted

Look = Mapping[str, float | None]

BARELY = 0.005
"""Less than this share under the trivial predictor is no learning. All there is to learn at first
may be little: knowing its composition takes 1.7 % off the loss of a protein's residue."""

ERROR_RATE = 0.025
"""How often, at most, rows that have nothing to do with each other may pass for learning."""

SOON = 100
"""A run of fewer steps has not had the time to level off."""

SMALLEST_STD = 1e-4
"""Embeddings that differ less from row to row are the same."""

NARROWED = 1.2
"""A loss under random masks that rises this much above its best, while the loss under the model's
own masks is fine, tells of masks that always fall on the same inputs."""

COLLAPSED_RANK = 1.5
"""Embeddings with a smaller effective rank all lie on a line, or on a point."""

FEWEST_RANKED = 8
"""Of fewer rows the effective rank tells nothing: three lie near a line whatever the encoder."""


class Verdict(NamedTuple):
    """What a run's looks add up to."""

    state: Literal["learning", "flat", "collapsed", "unknown"]
    words: str
    """One sentence: the reason, and a suggestion."""


def judge(looks: Sequence[Look], keep: Literal["best", "last"] = "best") -> Verdict:
    """Judge a run by its looks.

    Args:
        looks: What the monitor found at each look that is known, `step` and `valid_loss` among it;
            a run's first is before any training. `None` for what is not finite.
        keep: Whose weights the run ends with.

    >>> look = {"trivial_loss": 3.0, "effective_rank": 9.0, "embedding_std": 0.4, "step": 200,
    ...         "valid_loss_own_masks": 2.0, "trivial_loss_own_masks": 3.0, "mask_overlap": 0.5,
    ...         "gain_error": 0.1, "valid_rows": 256.0}
    >>> judge([{**look, "valid_loss": loss} for loss in (5.5, 3.1, 2.4, 2.0)]).state
    'learning'
    """
    look = _known(looks[-1])
    # No checkpoint holds the weights before training, however good they were.
    picked = min(map(_known, looks[1:] or looks), key=itemgetter("valid_loss"))
    last, best, trivial_loss = look["valid_loss"], picked["valid_loss"], look["trivial_loss"]
    below = 1 - best / trivial_loss if trivial_loss > 0 else 0.0
    of_rows = f" of {counted(int(look['valid_rows']), 'row')}" if look.get("valid_rows") else ""
    # Looks of earlier versions do not tell how many rows they embedded.
    rows = look.get("embedded_rows", math.inf)
    collapsed = _collapse(look["effective_rank"], look["embedding_std"], rows)
    if collapsed is not None:
        return Verdict("collapsed", f"collapsed: {collapsed}")
    if look["valid_loss_own_masks"] < 0.9 * look["trivial_loss_own_masks"] and (
        below < BARELY or last > NARROWED * best
    ):
        return Verdict(
            "learning",
            f"learning, but only what its own masks ask: under random masks the loss{of_rows} is "
            f"{last:.3f} (best {best:.3f}, trivial {trivial_loss:.3f}), and "
            f"{look['mask_overlap']:.0%} of what is hidden in a row is hidden again; "
            "masking.random_start or masking.random_floor keep masks broad",
        )
    if below < BARELY:
        where = "not" if below <= 0 else "hardly"
        return Verdict(
            "flat",
            f"flat: the validation loss {best:.3f}{of_rows} is {where} under the "
            f"{trivial_loss:.3f} of a predictor that looks at nothing; train longer, raise "
            "training.learning_rate, or check that the inputs have to do with each other",
        )
    share = f"{below:.1%}" if below < 0.1 else f"{below:.0%}"
    under = f"{share} under the trivial {trivial_loss:.3f}"
    if not _is_beyond_chance(picked, trivial_loss - best, len(looks) - 1):
        found = f"cannot be told: the validation loss {best:.3f}{of_rows} is {under}"
        return Verdict("unknown", f"{found}, {_doubt(picked['valid_rows'])}")
    under = f"the validation loss {best:.3f}{of_rows} is {under}"
    if last > best * 1.02:
        kept = "best checkpoint is" if keep == "best" else "last weights are"
        return Verdict(
            "learning",
            f"learning, then overfitting: {under}, and has risen to {last:.3f} since; the {kept} "
            "kept: fewer steps, more rows or encoder.dropout would help",
        )
    if len(looks) == 1:
        return Verdict("learning", f"learning: {under}, by the only look that is known")
    return Verdict("learning", f"learning: {under}, {_outlook(looks)}")


def _known(look: Look) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in look.items()}


def _is_beyond_chance(look: Mapping[str, float], gain: float, looks: int) -> bool:
    """Say whether a gain over the trivial predictor is more than its rows could have by chance.

    Of several looks the best is judged, which chance has chosen: the error rate is shared out
    (Bonferroni). Looks of earlier versions have no error and are believed.
    """
    if "gain_error" not in look:
        return True
    from scipy.special import stdtrit

    if not look["valid_rows"] > 1:
        return False
    limit = stdtrit(look["valid_rows"] - 1, 1 - ERROR_RATE / max(1, looks))
    return bool(gain > limit * look["gain_error"])


def _doubt(rows: float) -> str:
    """Say why rows cannot tell, and what would."""
    more = "validate on more rows (--valid FILE or --split COL)"
    if not rows > 1:
        return f"which one row cannot show; {more}"
    return f"no more than chance could do; {more}, or train longer"


def _outlook(looks: Sequence[Look]) -> str:
    """Say what could be had from more steps."""
    last, third = (_known(looks[-1 - back])["valid_loss"] for back in (0, max(1, len(looks) // 3)))
    still = 1 - last / third if third > 0 else 0.0
    if still > 0.01:
        return f"and fell by {still:.0%} over the last third: more steps would help"
    steps = int(_known(looks[-1])["step"])
    if steps < SOON:
        return f"and has not had the time to level off in {counted(steps, 'step')}: take more"
    return "and has levelled off: a larger preset could go further"


def _collapse(rank: float, std: float, rows: float) -> str | None:
    """Say how embeddings have become useless, and what to do; `None` if they are not."""
    if math.isnan(rank):
        return (
            "the embeddings of some training rows are not finite; lower training.learning_rate, "
            "or look for extreme values in the data"
        )
    is_narrow = rows >= FEWEST_RANKED and rank < COLLAPSED_RANK
    if is_narrow or (rows > 1 and std < SMALLEST_STD):
        return (
            f"all rows have nearly the same embedding (effective rank {rank:.1f}); lower "
            "training.learning_rate, or raise masking.ratio"
        )
    return None
