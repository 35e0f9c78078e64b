"""Pages of lists (lambda.md §0.4): whatever order a database gives, no item is lost between them."""

from __future__ import annotations

import base64

import pytest

from rie.api.paging import paged
from rie.errors import ServiceError

# Of collations that mix cases, of those that don't, of numbers as text; and with the function's own first.
ORDERS = [["a", "B", "c"], ["B", "a", "c"], ["10", "11", "9", "a"], ["$LATEST", "1", "live"], ["", "live", "Zoo"]]


@pytest.mark.parametrize("names", ORDERS)
@pytest.mark.parametrize("size", [1, 2, 50])
def test_pages_together_are_the_list(names: list[str], size: int) -> None:
    found: list[str] = []
    marker: str | None = None
    for _ in range(10):
        params = {"MaxItems": size, **({"Marker": marker} if marker else {})}
        page, marker = paged("names", params, names, str)
        found += page
        if marker is None:
            break
    assert sorted(found) == sorted(names)


def test_latest_comes_first_then_versions_by_number_then_names() -> None:
    page, marker = paged("names", {}, ["b", "10", "a", "9", "$LATEST"], str)
    assert (list(page), marker) == (["$LATEST", "9", "10", "a", "b"], None)


def test_a_marker_of_another_list_or_of_nobody_is_refused() -> None:
    _, marker = paged("names", {"MaxItems": 1}, ["a", "b"], str)
    for kind, given in (("others", marker), ("names", "%"), ("names", base64.b64encode(b"\xff").decode())):
        with pytest.raises(ServiceError, match="Invalid Marker"):
            paged(kind, {"Marker": given}, ["a", "b"], str)
