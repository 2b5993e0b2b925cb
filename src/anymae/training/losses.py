"""What fine-tuning minimises, by task.

Shapes: B rows, O outputs, T targets, C classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from anymae.task import TaskConfig


def task_losses(
    task: TaskConfig,
    outputs: Tensor,
    targets: Tensor,
    *,
    weights: Tensor | None = None,
    class_weights: Tensor | None = None,
    squared_error: bool = False,
) -> tuple[Tensor, Tensor]:
    """Sum the loss over the answers that are known.

    Squared error for numbers, cross-entropy for classes, binary cross-entropy for each label.

    Args:
        task: What is predicted.
        outputs: Logits or standardised numbers, `(B, O)`.
        targets: `(B, T)` float32: standardised numbers, class numbers, or 0 and 1. NaN is unknown.
        weights: `(B,)` of each row, or `(B, T)` of each answer, not negative; `None` counts all
            alike.
        class_weights: `(C,)` for classes, `(2, T)` for no and yes of each label; `None` counts
            all alike.
        squared_error: Train classes by squared error between output and 0 or 1, as published code
            does by accident: for reproduction only.

    Returns:
        The weighted sum and the sum of the weights, 0-D float32; their quotient is the mean.
    """
    outputs, known = outputs.float(), ~targets.isnan()
    targets = targets.nan_to_num(0.0)
    importance = known.float() if weights is None else known * weights.reshape(len(known), -1)
    if task.type == "multiclass":
        index = targets.squeeze(1).long()
        if class_weights is not None:
            importance = importance * class_weights[index][:, None]
        if squared_error:
            losses = (outputs - F.one_hot(index, len(task.classes))).square().mean(1, keepdim=True)
        else:
            losses = F.cross_entropy(outputs, index, reduction="none")[:, None]
    else:
        if class_weights is not None:
            importance = importance * class_weights.gather(0, targets.long())
        if squared_error or task.type == "regression":
            losses = (outputs - targets).square()
        else:
            losses = F.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
    return torch.where(importance != 0, losses * importance, 0).sum(), importance.sum()
