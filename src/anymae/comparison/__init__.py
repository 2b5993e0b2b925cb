"""Does pretraining help on these data, and do the masks matter?"""

from anymae.comparison.result import Comparison
from anymae.comparison.run import compare

__all__ = ["Comparison", "compare"]
