"""What tests of comparisons and searches share: a table, tiny settings, a watch on rows."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from anymae.comparison import study
from anymae.data.frame import Frame
from anymae.training.labelling import Labelled
from runs import Cut, strings

COUNT = 60
TINY = {
    "encoder.width": 16,
    "encoder.num_heads": 2,
    "training.threads": 1,
    "training.batch_size": 16,
    "training.device": "cpu",
}


def table(**columns: object) -> pa.Table:
    """Strings and the share of an element in them; strings of one pattern make a group."""
    texts = strings(COUNT)
    share = [text.count("C") / len(text) for text in texts]
    group = [text[:2] for text in texts]
    return pa.table({"smiles": texts, "y": share, "group": group, **columns})


class Watch:
    """Notes the rows of each pretraining, and those that each judge fits to and measures on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pools: list[Frame] = []
        self.judged: list[tuple[np.ndarray, np.ndarray]] = []
        run_pretrain, watch = study.pretrain, self

        def pretrain(pool: Frame, **keywords: Any) -> object:
            watch.pools.append(pool)
            return run_pretrain(pool, **keywords)

        class Judge(study.Judge):
            def __init__(self, rows: Labelled, *words: Any, **keywords: Any) -> None:
                watch.judged.append((rows.train, rows.valid))
                super().__init__(rows, *words, **keywords)

        monkeypatch.setattr(study, "pretrain", pretrain)
        monkeypatch.setattr(study, "Judge", Judge)


class CutAfter:
    """A `progress` that cuts all at a step, counted over several runs."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self, progress: object) -> None:
        self.left -= 1
        if not self.left:
            raise Cut
