"""How much is measured: enough to be quoted, or enough to see that it works."""

from enum import Enum


class Effort(Enum):
    """FULL takes minutes and gives figures to quote; QUICK takes seconds and shows that a benchmark works."""

    FULL = "full"
    QUICK = "quick"
