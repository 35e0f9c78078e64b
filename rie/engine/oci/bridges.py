"""Bridges on the host and the packet filter's rules for them: made, found and removed. Blocks for milliseconds."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from rie.engine.oci.launcher.netlink import Link
from rie.errors import EngineUnavailable

PREFIX = "rie-"
INTERFACES = Path("/sys/class/net")
ROUTES = Path("/proc/net/route")
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
LOCK = Path("/run/rie-network.lock")  # two engines must not choose the same addresses
# Ours to choose from, in pieces of 1,022 addresses; private (RFC 1918), and away from what others use by default.
POOLS = (IPv4Network("10.213.0.0/16"), IPv4Network("10.214.0.0/16"), IPv4Network("172.29.0.0/16"))
PIECE = 22
LINK_LOCAL = "169.254.0.0/16"
CONTAINERS = ("docker+", "br-+", "cni+", "podman+")
SBIN = "/usr/sbin:/sbin"
FILTER_S = 20.0


@dataclass(frozen=True, slots=True)
class Bridge:
    """One bridge; its host has the subnet's first address."""

    name: str
    index: int
    subnet: IPv4Network
    is_outbound: bool


def unavailable() -> str | None:
    """Why sandboxes can't be given a network here, or None when they can."""
    return None if _tool("iptables-restore") and _tool("iptables-save") else "no iptables"


def make(token: str, number: int, alias: str, others: Sequence[Bridge], *, is_outbound: bool) -> Bridge:
    """Make an engine's bridge and rewrite the rules of all its bridges, `others` being those that it has.

    Raises EngineUnavailable; then nothing of the new one is left.
    """
    why = unavailable()
    if why:
        raise EngineUnavailable(
            f"cannot give sandboxes a network: {why} on this machine; install iptables, or use RIE_NETWORK=none"
        )
    name = f"{PREFIX}{token}{number:x}"
    link = Link()
    try:
        with _locked():
            subnet = _free_subnet()
            link.add_bridge(name, alias)
            try:
                bridge = _set_up(link, name, subnet, is_outbound=is_outbound)
                _filter(_rules(token, [*others, bridge], is_first=not others))
            except BaseException:
                link.remove(name)
                raise
    except OSError as error:
        raise EngineUnavailable(f"cannot make bridge {name}: {error}") from error
    finally:
        link.close()
    return bridge


def remove(token: str) -> None:
    """Remove an engine's bridges and rules; nothing if there are none. Raises EngineUnavailable."""
    with suppress(FileNotFoundError):  # no iptables: no rules
        _filter(_removal(token))
    link = Link()
    try:
        for path in INTERFACES.glob(f"{PREFIX}{token}*"):
            with suppress(OSError):
                link.remove(path.name)
    finally:
        link.close()


def aliases() -> dict[str, str]:
    """Every bridge of ours on this host, whosever: its engine's token and its alias."""
    found = {}
    for path in INTERFACES.glob(f"{PREFIX}*"):
        with suppress(OSError):
            found[path.name[len(PREFIX) : len(PREFIX) + 8]] = (path / "ifalias").read_text().strip()
    return found


def _set_up(link: Link, name: str, subnet: IPv4Network, *, is_outbound: bool) -> Bridge:
    index = link.index(name)
    with suppress(OSError):
        # Else the host would have an IPv6 address on the bridge, which IPv4's rules don't protect.
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
    link.add_address(index, str(next(subnet.hosts())), subnet.prefixlen)
    link.up(index)
    if is_outbound and FORWARDING.read_text().strip() == "0":
        FORWARDING.write_text("1")
    return Bridge(name, index, subnet, is_outbound)


def _rules(token: str, bridges: Sequence[Bridge], *, is_first: bool) -> str:
    """For iptables-restore --noflush, which empties the chains it names and does all of it or nothing."""
    forward, incoming, nat = (f"RIE-{kind}-{token}" for kind in ("F", "I", "N"))
    lines = ["*filter", f":{forward} - [0:0]", f":{incoming} - [0:0]"]
    if is_first:
        # Before the rules of container engines, which let through or drop what they don't know.
        lines += [f"-I FORWARD 1 -j {forward}", f"-I INPUT 1 -j {incoming}"]
    for bridge in bridges:
        # Through the router, too, no sandbox may reach another, nor a container.
        refused = [f"-o {PREFIX}+", *(f"-o {name}" for name in CONTAINERS), f"-d {LINK_LOCAL}"]
        if bridge.is_outbound:
            lines += [f"-A {forward} -i {bridge.name} {what} -j REJECT" for what in refused]
            lines.append(f"-A {forward} -i {bridge.name} -j ACCEPT")
            lines.append(f"-A {forward} -o {bridge.name} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
        else:
            # Where bridged packets pass through here as well (br_netfilter).
            lines.append(f"-A {forward} -i {bridge.name} -o {bridge.name} -j ACCEPT")
            lines.append(f"-A {forward} -i {bridge.name} -j REJECT")
        lines += [f"-A {forward} -o {bridge.name} -j DROP", f"-A {incoming} -i {bridge.name} -j REJECT"]
    lines += ["COMMIT", "*nat", f":{nat} - [0:0]"]
    if is_first:
        lines.append(f"-I POSTROUTING 1 -j {nat}")
    lines += [f"-A {nat} -s {b.subnet} ! -o {b.name} -j MASQUERADE" for b in bridges if b.is_outbound]
    return "\n".join([*lines, "COMMIT", ""])


def _removal(token: str) -> str:
    """What takes an engine's rules away: read off the rules that there are, so that it fails on none that is not."""
    lines = []
    for line in _run("iptables-save").splitlines():
        if line.startswith("*") or line == "COMMIT":
            lines.append(line)
        elif line.startswith("-A ") and line.endswith(f"-{token}"):
            lines.append(f"-D {line[3:]}")
        elif line.startswith(":RIE-") and line.split(" ")[0].endswith(f"-{token}"):
            chain = line.split(" ")[0][1:]
            lines += [f"-F {chain}", f"-X {chain}"]
    # The jumps to a chain go before the chain.
    ordered: list[str] = []
    table: list[str] = []
    for line in lines:
        if line.startswith("*"):
            table = [line]
        elif line == "COMMIT":
            ordered += [table[0], *sorted(table[1:], key=lambda text: "DFX".index(text[1])), line]
        else:
            table.append(line)
    return "\n".join([*ordered, ""])


def _free_subnet() -> IPv4Network:
    taken = []
    for line in ROUTES.read_text().splitlines()[1:]:
        fields = line.split()
        address, mask = (int.from_bytes(bytes.fromhex(fields[place]), "little") for place in (1, 7))
        if mask:
            taken.append(IPv4Network((address, mask.bit_count())))
    pieces = [piece for pool in POOLS for piece in pool.subnets(new_prefix=PIECE)]
    random.shuffle(pieces)
    for piece in pieces:
        if not any(piece.overlaps(other) for other in taken):
            return piece
    raise EngineUnavailable("cannot give sandboxes a network: every address range of ours is in use")


@contextmanager
def _locked() -> Iterator[None]:
    fd = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _filter(rules: str) -> None:
    _run("iptables-restore", "--noflush", "--wait", "10", given=rules)


def _run(name: str, *arguments: str, given: str | None = None) -> str:
    tool = _tool(name)
    if tool is None:
        raise FileNotFoundError(name)
    done = subprocess.run([tool, *arguments], input=given, capture_output=True, text=True, timeout=FILTER_S)
    if done.returncode != 0:
        raise EngineUnavailable(f"cannot change the packet filter: {name}: {done.stderr.strip()}")
    return done.stdout


def _tool(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")
