"""Rules that choose which inputs are hidden: one a file, all with the same signature."""

from anymae.masking import block, guided, random, span
from anymae.masking.base import MASKINGS, FirstAttention, Masking, make_masking

__all__ = [
    "MASKINGS",
    "FirstAttention",
    "Masking",
    "block",
    "guided",
    "make_masking",
    "random",
    "span",
]
