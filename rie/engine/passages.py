"""Which endpoints of this host functions may reach, and by which URL (pure)."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

# In a sandbox's own loopback network, apart from 127.0.0.1, where the Runtime API and the function's servers listen;
# an IP address, because clients of S3 put the bucket in front of a name. The function may not bind ports below 1,024.
INSIDE = "127.0.0.2"
FIRST_PORT = 801
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Passage:
    """From `inside`, (address, port) as a sandbox sees them, to `target`, those of the endpoint; `url` is its URL."""

    url: str
    inside: tuple[str, int]
    target: tuple[str, int]


def through_the_manager(urls: Sequence[str], own: Collection[str]) -> tuple[Passage, ...]:
    """For sandboxes that reach nothing of this host: one for each URL that leads to it.

    `own` are the addresses that this host has.
    """
    local = [url for url in dict.fromkeys(urls) if _is_loopback(url) or urlsplit(url).hostname in own]
    return tuple(Passage(url, (INSIDE, FIRST_PORT + place), _target(url)) for place, url in enumerate(local))


def at_the_gateway(urls: Sequence[str], gateway: str) -> tuple[Passage, ...]:
    """For sandboxes that reach this host at a gateway's address: one for each URL of its loopback, which isn't theirs.

    Only what listens on that address, too, answers there.
    """
    return tuple(Passage(url, (gateway, _target(url)[1]), _target(url)) for url in urls if _is_loopback(url))


def url_inside(url: str, passages: Iterable[Passage]) -> str:
    """What to tell a function instead of a URL; the same if there is no passage for it."""
    for passage in passages:
        if passage.url == url:
            address, port = passage.inside
            host = f"[{address}]" if ":" in address else address
            return urlsplit(url)._replace(netloc=f"{host}:{port}").geturl()
    return url


def _is_loopback(url: str) -> bool:
    """By address, by name, or as "any address" (0.0.0.0)."""
    host = urlsplit(url).hostname or ""
    if _is_name(host):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _is_name(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")


def _target(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    address = "127.0.0.1" if _is_name(host) else {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return address, parts.port or PORTS.get(parts.scheme, 80)
