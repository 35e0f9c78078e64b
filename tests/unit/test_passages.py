"""Which endpoints of the host functions are led to, and by which URLs."""

from __future__ import annotations

import pytest

from rie.engine.passages import at_the_gateway, through_the_manager, url_inside


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1:4566", ("127.0.0.1", 4566)),
        ("http://127.9.9.9:4566/", ("127.9.9.9", 4566)),
        ("http://localhost", ("127.0.0.1", 80)),
        ("https://aws.localhost", ("127.0.0.1", 443)),
        ("http://[::1]:1", ("::1", 1)),
        ("http://0.0.0.0:1", ("127.0.0.1", 1)),
        ("http://[::]:1", ("::1", 1)),
        ("http://10.0.0.7:1", ("10.0.0.7", 1)),
    ],
)
def test_an_endpoint_of_this_host_gets_a_passage(url: str, target: tuple[str, int]) -> None:
    (passage,) = through_the_manager([url], own={"10.0.0.7"})
    assert passage.target == target


@pytest.mark.parametrize(
    "url", ["http://10.0.0.8:1", "https://sqs.eu-west-1.amazonaws.com", "http://localhost.example"]
)
def test_an_endpoint_elsewhere_gets_none_and_keeps_its_url(url: str) -> None:
    assert through_the_manager([url], own={"10.0.0.7"}) == at_the_gateway([url], "172.17.0.1") == ()
    assert url_inside(url, through_the_manager(["http://localhost:1"], own=())) == url


def test_each_endpoint_has_a_privileged_port_of_its_own_and_keeps_scheme_and_path() -> None:
    urls = ["http://localhost:4566/base?x=1", "https://127.0.0.1:9000", "http://localhost:4566/base?x=1"]
    passages = through_the_manager(urls, own=())
    inside = [passage.inside for passage in passages]
    assert len(passages) == len(set(inside)) == 2
    assert all(port < 1_024 for _, port in inside)
    (address, first), (_, second) = inside
    assert url_inside(urls[0], passages) == f"http://{address}:{first}/base?x=1"
    assert url_inside(urls[1], passages) == f"https://{address}:{second}"


def test_at_a_gateway_the_port_stays_and_only_loopback_moves() -> None:
    urls = ["http://localhost:4566/x", "http://0.0.0.0", "http://192.0.2.1:5"]
    passages = at_the_gateway(urls, "172.17.0.1")
    told = [url_inside(url, passages) for url in urls]
    assert told == ["http://172.17.0.1:4566/x", "http://172.17.0.1:80", "http://192.0.2.1:5"]
    assert url_inside(urls[0], at_the_gateway(urls, "fd00::1")) == "http://[fd00::1]:4566/x"
