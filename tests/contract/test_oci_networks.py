"""The networks of the daemonless engine: the world, private ones, and none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from rie.engine.oci import bridges
from tests.contract.conftest import Case, begin, connect, probe, run
from tests.ports import free_port


@contextmanager
def listening(address: str = "0.0.0.0") -> Iterator[int]:
    """A port of this host that takes connections."""
    with socket.socket() as server:
        port = free_port()
        server.bind((address, port))
        server.listen()
        yield port


def own_address() -> str:
    """This host's address to the world."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("192.0.2.1", 9))
        return str(sock.getsockname()[0])


async def address_of(door: Any) -> str:
    """A probe's own address."""
    hosts: str = (await door.invoke({"read": "/etc/hosts"})).json()["read"]
    return hosts.splitlines()[-1].split()[0]


def test_sandboxes_reach_neither_the_host_nor_each_other_nor_metadata(oci_case: Case) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            doors = [await connect(await oci_case.start(engine, "probe", f"s-{number}")) for number in range(2)]
            first, second = [await address_of(door) for door in doors]
            assert first != second
            await doors[0].invoke({"serve": 8000})
            assert (await doors[0].invoke({"connect": [first, 8000]})).json()["connect"] is None
            gateway = f"{first.rpartition('.')[0]}.1"
            with listening() as port:
                for target in ([first, 8000], [gateway, port], [own_address(), port], ["169.254.169.254", 80]):
                    assert (await doors[1].invoke({"connect": target})).json()["connect"] is not None, target
            interfaces = (await doors[0].invoke({"read": "/proc/net/dev"})).json()["read"]
            assert {line.partition(":")[0].strip() for line in interfaces.splitlines()[2:]} == {"lo", "eth0"}

    run(test())


def test_sandboxes_reach_the_world_by_the_hosts_address(oci_case: Case) -> None:
    namespace = f"rie-test-{os.getpid()}"

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)

    async def test() -> None:
        async with oci_case.engine() as engine:
            door = await connect(await oci_case.start(engine, "probe"))
            outside = begin("ip", "netns", "exec", namespace, sys.executable, "-c", SERVER)
            try:
                assert outside.stdout is not None
                assert (await door.invoke({"connect": ["198.51.100.2", 7000]})).json()["connect"] is None
                assert outside.stdout.readline() == "198.51.100.1\n"  # who asked, as the world sees it
            finally:
                outside.kill()
                outside.wait()

    # A machine of the world: another network namespace behind an interface of the host.
    ip("netns", "add", namespace)
    try:
        ip("link", "add", "rietest0", "type", "veth", "peer", "name", "eth0", "netns", namespace)
        ip("addr", "add", "198.51.100.1/24", "dev", "rietest0")
        ip("link", "set", "rietest0", "up")
        ip("-n", namespace, "addr", "add", "198.51.100.2/24", "dev", "eth0")
        ip("-n", namespace, "link", "set", "eth0", "up")
        run(test())
    finally:
        ip("netns", "del", namespace)


SERVER = """
import socket
server = socket.socket()
server.bind(("0.0.0.0", 7000))
server.listen()
print("ready", flush=True)
print(server.accept()[1][0], flush=True)
"""


def test_members_of_a_private_network_reach_each_other_and_nobody_else(oci_case: Case) -> None:
    async def test() -> None:
        async with oci_case.engine() as engine:
            networks = ("blue", "blue", "green", None)
            doors = [
                await connect(await oci_case.start(engine, "probe", f"s-{number}", network=network))
                for number, network in enumerate(networks)
            ]
            address = await address_of(doors[0])
            await doors[0].invoke({"serve": 8000})
            reached = [(await door.invoke({"connect": [address, 8000]})).json()["connect"] for door in doors]
            assert reached[0] is reached[1] is None
            assert reached[2] is not None and reached[3] is not None
            with listening() as port:
                assert (await doors[0].invoke({"connect": [own_address(), port]})).json()["connect"] is not None

    run(test())


def test_a_network_can_be_denied(oci_case: Case) -> None:
    oci_case.settings = replace(oci_case.settings, network="none")

    async def test() -> None:
        async with oci_case.engine() as engine:
            found = await probe(oci_case, engine, {"read": "/proc/net/dev"})
            names = [line.partition(":")[0].strip() for line in found["read"].splitlines()[2:]]
            assert names == ["lo"]
            assert bridges.aliases() == {} or oci_case.settings.owner not in str(bridges.aliases())

    run(test())


def test_an_endpoint_of_the_host_is_reached_by_its_passage_and_nothing_else_is(oci_case: Case) -> None:
    async def test() -> None:
        with listening("127.0.0.1") as allowed, listening("127.0.0.1") as other:
            url = f"http://localhost:{allowed}"
            oci_case.settings = replace(oci_case.settings, host_urls=(url, "http://192.0.2.1"))
            async with oci_case.engine() as engine:
                inside = urlsplit(engine.url_inside(url))
                networks = (None, "blue", "none")
                open_door, *closed = [
                    await connect(await oci_case.start(engine, "probe", f"s-{number}", network=network))
                    for number, network in enumerate(networks)
                ]
                place = [inside.hostname, inside.port]
                assert (await open_door.invoke({"connect": place})).json()["connect"] is None
                for port in (allowed, other, (inside.port or 0) + 1):
                    target = [inside.hostname, port]
                    assert (await open_door.invoke({"connect": target})).json()["connect"] == "Connection refused"
                for door in closed:
                    assert (await door.invoke({"connect": place})).json()["connect"] == "Connection refused"

    run(test())
