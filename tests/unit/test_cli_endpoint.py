"""Where the command line looks for the manager."""

from __future__ import annotations

import pytest

from rie.cli.client import endpoint_or_default

ALL = {"RIE_ENDPOINT": "http://r:1/", "AWS_ENDPOINT_URL_LAMBDA": "http://a:2", "RIE_PORT": "3"}


@pytest.mark.parametrize(
    ("given", "without", "found"),
    [
        ("http://g:0/", (), "http://g:0"),
        (None, (), "http://r:1"),
        (None, ("RIE_ENDPOINT",), "http://a:2"),
        (None, ("RIE_ENDPOINT", "AWS_ENDPOINT_URL_LAMBDA"), "http://127.0.0.1:3"),
        (None, tuple(ALL), "http://127.0.0.1:9000"),
    ],
)
def test_the_manager_is_where_the_caller_says_first_ours_then_awss_then_the_port_of_serve(
    monkeypatch: pytest.MonkeyPatch, given: str | None, without: tuple[str, ...], found: str
) -> None:
    for name, value in ALL.items():
        monkeypatch.delenv(name, raising=False) if name in without else monkeypatch.setenv(name, value)
    assert endpoint_or_default(given) == found
