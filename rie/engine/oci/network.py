"""Networks of sandboxes: none, outbound through a bridge of ours with NAT, or private ones by name.

Outbound sandboxes reach the world, but neither each other, nor the host's ports, nor containers, nor 169.254.0.0/16,
where clouds keep a machine's credentials. Those on a private network reach each other and nobody else. Every engine has
bridges of its own, so that what is left of a dead one can be removed whole.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from rie.engine.oci import bridges
from rie.errors import EngineUnavailable

NONE, OUTBOUND = "none", "bridge"
PASSAGES = "passages"  # no interface but the loopback, and on it the endpoints of this host
# The kernel's limit is 1,023 ports a bridge.
MAX_PORTS = 1_000


@dataclass(frozen=True, slots=True)
class Port:
    """A sandbox's place on a bridge: the interface's name on the host, and its address inside."""

    bridge: int
    name: str
    address: str
    prefix: int
    gateway: str
    is_isolated: bool
    is_outbound: bool


@dataclass(slots=True)
class _Net:
    """A bridge in use; the address that has been free for the longest comes first."""

    bridge: bridges.Bridge
    free: deque[str] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.free.extend(str(address) for address in itertools.islice(self.bridge.subnet.hosts(), 1, MAX_PORTS + 1))


class Networks:
    """Owned by the event loop; makes a bridge when the first sandbox needs it."""

    def __init__(self, alias: str, token: str) -> None:
        """`alias` marks this engine's bridges, `token` (8 hex digits) names them."""
        self._alias = alias
        self._token = token
        self._numbers = itertools.count(1)
        self._nets: dict[str, list[_Net]] = {}
        self._by_bridge: dict[int, _Net] = {}
        self._making = asyncio.Lock()

    async def take(self, network: str) -> Port | None:
        """A port for one sandbox; None on network "none" or "passages". Raises EngineUnavailable."""
        if network in (NONE, PASSAGES):
            return None
        net = self._free(network)
        if net is None:
            async with self._making:
                net = self._free(network) or await self._add(network)
        subnet: IPv4Network = net.bridge.subnet
        return Port(
            bridge=net.bridge.index,
            name=f"v{self._token}{next(self._numbers):x}",
            address=net.free.popleft(),
            prefix=subnet.prefixlen,
            gateway=str(next(subnet.hosts())),
            is_isolated=network == OUTBOUND,
            is_outbound=network == OUTBOUND,
        )

    def give_back(self, network: str, port: Port | None) -> None:
        """The sandbox is gone; its interface goes with its network namespace."""
        if port is not None and (net := self._by_bridge.get(port.bridge)) is not None:
            net.free.append(port.address)

    async def close(self) -> None:
        """Remove the bridges and their rules."""
        if self._by_bridge:
            self._nets.clear()
            self._by_bridge.clear()
            await asyncio.to_thread(bridges.remove, self._token)

    def _free(self, network: str) -> _Net | None:
        return next((net for net in self._nets.get(network, ()) if net.free), None)

    async def _add(self, network: str) -> _Net:
        nets = self._nets.setdefault(network, [])
        if nets and network != OUTBOUND:
            raise EngineUnavailable(f"cannot plug a sandbox into network {network}: {MAX_PORTS} are there already")
        others = [net.bridge for all_of_one in self._nets.values() for net in all_of_one]
        make: Callable[[], bridges.Bridge] = lambda: bridges.make(  # noqa: E731
            self._token, len(others), self._alias, others, is_outbound=network == OUTBOUND
        )
        net = _Net(await asyncio.to_thread(make))
        nets.append(net)
        self._by_bridge[net.bridge.index] = net
        return net
