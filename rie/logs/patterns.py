"""CloudWatch Logs' filter patterns of plain terms: which lines they let through."""

from __future__ import annotations

import re
from collections.abc import Callable

_TERM = re.compile(r'\s*([?-]?)(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))')


class Unsupported(Exception):
    """A pattern of JSON selectors, of columns, or a regular expression."""


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a line has every term; `?term`: any of those; `-term`: none of those. Raises Unsupported."""
    pattern = pattern.strip()
    if pattern.startswith(("{", "[")):
        raise Unsupported(f"patterns like {pattern[:40]!r} are not available here; plain terms are")
    needed: list[str] = []
    any_of: list[str] = []
    without: list[str] = []
    kinds = {"": needed, "?": any_of, "-": without}
    at = 0
    while at < len(pattern):
        found = _TERM.match(pattern, at)
        if found is None:
            raise Unsupported(f"{pattern[:80]!r} has a quote that does not end")
        sign, quoted, plain = found.groups()
        term = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        if plain is not None and plain.startswith("%") and plain.endswith("%"):
            raise Unsupported("regular expressions are not available here; plain terms are")
        kinds[sign].append(term)
        at = found.end()

    def matches(line: str) -> bool:
        return (
            all(term in line for term in needed)
            and (not any_of or any(term in line for term in any_of))
            and not any(term in line for term in without)
        )

    return matches
