"""By which address a container sees its host, as the daemon tells of a network."""

from __future__ import annotations

from typing import Any

import pytest

from rie.engine.docker.client import gateway_of


@pytest.mark.parametrize(
    ("driver", "configured", "gateway"),
    [
        ("bridge", [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.5"}], "172.17.0.5"),
        # A daemon that has made its default bridge itself says no gateway until it is started again.
        ("bridge", [{"Subnet": "172.17.0.0/16"}], "172.17.0.1"),
        ("bridge", [], None),
        ("bridge", None, None),
        ("null", [], None),
        ("overlay", [{"Subnet": "10.0.0.0/24"}], None),
    ],
)
def test_the_gateway_is_found(driver: str, configured: list[dict[str, Any]] | None, gateway: str | None) -> None:
    assert gateway_of({"Driver": driver, "IPAM": {"Config": configured}}) == gateway
