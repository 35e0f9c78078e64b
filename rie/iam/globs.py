"""Patterns with `*` and `?`, as policies have them; pure, in time that a hostile pattern can't blow up."""

from __future__ import annotations

ARN_PARTS = 6


def matches(pattern: str, text: str) -> bool:
    """Whether a text is one of a pattern's: `*` stands for any characters, also none, `?` for exactly one."""
    if "*" not in pattern and "?" not in pattern:
        return pattern == text
    at = here = 0
    star, resume = -1, 0  # the last `*`, and how far the text went on after it
    while here < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, resume = at, here
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[here]):
            at += 1
            here += 1
        elif star >= 0:
            resume += 1
            at, here = star + 1, resume
        else:
            return False
    return pattern[at:].strip("*") == ""


def arn_matches(pattern: str, arn: str) -> bool:
    """Whether an ARN is one of a pattern's: each of the six parts is compared on its own, as ArnLike does."""
    if pattern == "*":
        return True
    wanted, given = pattern.split(":", ARN_PARTS - 1), arn.split(":", ARN_PARTS - 1)
    return len(wanted) == len(given) == ARN_PARTS and all(map(matches, wanted, given))
