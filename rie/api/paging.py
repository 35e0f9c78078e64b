"""Pages of lists: MaxItems, Marker and NextMarker (lambda.md §0.4)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from rie.api.parse import Params
from rie.errors import ServiceError
from rie.model.function import LATEST

T = TypeVar("T")
_LONGEST_NUMBER = 100  # digits; a marker of our own has fewer, and int() refuses thousands
MAX_PAGE = 50  # functions and versions, however many MaxItems asks for


def page_size(params: Params) -> int:
    """How many items the page may have."""
    return min(int(params.get("MaxItems", MAX_PAGE)), MAX_PAGE)


def paged(
    kind: str, params: Params, items: Sequence[T], name_of: Callable[[T], str], *, longest: int = MAX_PAGE
) -> tuple[Sequence[T], str | None]:
    """The page that is asked for of a whole list, whatever order it is in, and its NextMarker."""
    # In the order that markers are compared in: a list in another would lose items between its pages.
    in_order = sorted(items, key=lambda item: _rank(name_of(item)))
    after = read_marker(kind, params)
    start = 0 if after is None else sum(_rank(name_of(item)) <= _rank(after) for item in in_order)
    end = start + min(int(params.get("MaxItems", longest)), longest)
    return in_order[start:end], marker(kind, name_of(in_order[end - 1]) if end < len(in_order) else None)


def _rank(name: str) -> tuple[int, int, str]:
    """$LATEST, versions in the order of their numbers, then other names as they are spelled."""
    if name == LATEST:
        return 0, 0, ""
    is_version = name.isdecimal() and len(name) <= _LONGEST_NUMBER
    return (1, int(name), "") if is_version else (2, 0, name)


def marker(kind: str, after: str | None) -> str | None:
    """The opaque NextMarker of a list of this kind, to go on after an item; None on the last page."""
    return None if after is None else base64.urlsafe_b64encode(f"{kind}:{after}".encode()).decode()


def read_marker(kind: str, params: Params) -> str | None:
    """The item to go on after. Raises ServiceError for a marker that `marker` didn't make for this kind of list."""
    text = params.get("Marker")
    if not text:
        return None
    try:
        found, separator, after = base64.b64decode(text, b"-_", validate=True).decode().partition(":")
    except (binascii.Error, ValueError) as error:
        raise _invalid(text) from error
    if found != kind or not separator:
        raise _invalid(text)
    return after


def _invalid(text: str) -> ServiceError:
    return ServiceError("InvalidParameterValueException", f"Invalid Marker: {text}")
