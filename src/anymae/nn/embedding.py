"""From raw inputs to vectors: one embedding for each kind of input (`docs/method.md`, "Embedding").

Shapes: B rows, N inputs, K numbers an input, E input width, C columns.
"""

import torch
from torch import Tensor, nn

from anymae.config import VOCABULARY, InputConfig
from anymae.registry import Registry

CONTENTS: Registry[type[nn.Module]] = Registry("input kind")
"""What turns the content of inputs into vectors, by input kind; positions are added later."""


@CONTENTS.register("bytes")
class TokenContent(nn.Embedding):
    """A vector for each token: `(B, N)` int64 to `(B, N, E)`."""

    def __init__(self, config: InputConfig, width: int) -> None:
        super().__init__(VOCABULARY, width)


@CONTENTS.register("image")
@CONTENTS.register("values")
class ValueContent(nn.Linear):
    """A linear map of an input's numbers: `(B, N, K)` float to `(B, N, E)`."""

    def __init__(self, config: InputConfig, width: int) -> None:
        super().__init__(config.channels, width)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return `(B, N, E)` in the weights' own number format."""
        return super().forward(inputs.to(self.weight.dtype))


@CONTENTS.register("table")
class CellContent(nn.Module):
    """Numbers by one linear map, categories by a vector each: `(B, C, 1)` to `(B, C, E)`.

    A table without categories is exactly `values` with K = 1.
    """

    starts: Tensor
    is_category: Tensor

    def __init__(self, config: InputConfig, width: int) -> None:
        super().__init__()
        counts = torch.tensor(config.categories)
        self.linear = nn.Linear(1, width)
        self.category = (
            nn.Embedding(sum(config.categories), width) if any(config.categories) else None
        )
        self.register_buffer("starts", counts.cumsum(0) - counts, persistent=False)
        self.register_buffer("is_category", (counts > 0)[:, None], persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return `(B, C, E)`; a categorical cell holds its code within its column."""
        # Codes stay as they are: half a number's digits would be those of another category.
        number: Tensor = self.linear(inputs.to(self.linear.weight.dtype))
        if self.category is None:
            return number
        # Numeric cells look up row 0 as well; what they find is not used.
        code = torch.where(self.is_category, inputs, 0).squeeze(-1).long() + self.starts
        code = code.where(self.is_category.squeeze(-1), 0)
        return torch.where(self.is_category, self.category(code), number)


class Embedding(nn.Module):
    """LayerNorm(content + position).

    Attributes:
        positions: `(length, E)`, a learned vector for each position, or `None` for sets.
    """

    def __init__(self, config: InputConfig, *, width: int) -> None:
        super().__init__()
        self.content = CONTENTS[config.kind](config, width)
        learned = config.positions == "learned"
        self.positions = nn.Parameter(torch.empty(config.length, width)) if learned else None
        # 1e-12 here and at the decoder's end, torch's 1e-5 elsewhere: as published.
        self.norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return `(B, N, E)`, for N of at most `length` inputs."""
        embedded: Tensor = self.content(inputs)
        if self.positions is not None:
            embedded = embedded + self.positions[: embedded.shape[1]]
        # On a CPU autocast leaves sets, which no position lifts to float32, in bf16 from here on.
        out: Tensor = self.norm(embedded.to(self.norm.weight.dtype))
        return out
