"""Network interfaces by netlink: what `ip` does, without starting it: rtnetlink(7) as far as it is needed."""

import _socket as socket
import os
import struct

# Numbers: linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h.
RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_DELADDR, RTM_NEWROUTE = 16, 17, 20, 21, 24
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 1, 4, 0x200, 0x400
NLMSG_ERROR = 2
IFLA_IFNAME, IFLA_MASTER, IFLA_LINKINFO, IFLA_IFALIAS, IFLA_NET_NS_FD = 3, 10, 18, 20, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA, VETH_INFO_PEER = 1, 2, 4, 5, 1
IFLA_BRPORT_ISOLATED = 33
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_GATEWAY = 5
IFF_UP = 1
NESTED = 0x8000
RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST = 254, 4, 0, 1


class Link:
    """A netlink socket in the network namespace that it was opened in, wherever its process goes."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Let the socket go."""
        self._socket.close()

    def add_bridge(self, name: str, alias: str) -> None:
        """Make a bridge; `alias` is a text that is kept with it."""
        info = _nested(IFLA_LINKINFO, _text(IFLA_INFO_KIND, "bridge"))
        self._change(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, _link(), _text(IFLA_IFNAME, name) + info)
        self._change(RTM_NEWLINK, 0, _link(self.index(name)), _text(IFLA_IFALIAS, alias))

    def add_port(self, name: str, bridge: int, peer: str, peer_namespace: int, *, is_isolated: bool) -> None:
        """Make a veth pair: `name` here, on a bridge; `peer` in the network namespace of a descriptor.

        Isolated ports reach the bridge's host, not each other.
        """
        other = _link() + _text(IFLA_IFNAME, peer) + _attribute(IFLA_NET_NS_FD, struct.pack("=I", peer_namespace))
        data = _nested(IFLA_INFO_DATA, _attribute(VETH_INFO_PEER, other))
        info = _nested(IFLA_LINKINFO, _text(IFLA_INFO_KIND, "veth") + data)
        master = _attribute(IFLA_MASTER, struct.pack("=I", bridge))
        named = _text(IFLA_IFNAME, name)
        self._change(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, _link(), named + master + info)
        if is_isolated:
            port = _nested(IFLA_INFO_SLAVE_DATA, _attribute(IFLA_BRPORT_ISOLATED, b"\x01"))
            self._change(
                RTM_NEWLINK, 0, _link(), named + _nested(IFLA_LINKINFO, _text(IFLA_INFO_SLAVE_KIND, "bridge") + port)
            )
        self._change(RTM_NEWLINK, 0, _link(0, IFF_UP), named)

    def index(self, name: str) -> int:
        """The number of an interface, where this process is now."""
        return socket.if_nametoindex(name)

    def up(self, index: int) -> None:
        """Switch an interface on."""
        self._change(RTM_NEWLINK, 0, _link(index, IFF_UP), b"")

    def add_address(self, index: int, address: str, prefix: int) -> None:
        """Give an interface an IPv4 address."""
        raw = socket.inet_aton(address)
        body = struct.pack("=BBBBI", socket.AF_INET, prefix, 0, RT_SCOPE_UNIVERSE, index)
        flags = NLM_F_CREATE | NLM_F_EXCL
        self._change(RTM_NEWADDR, flags, body, _attribute(IFA_LOCAL, raw) + _attribute(IFA_ADDRESS, raw))

    def remove_address(self, index: int, address: str, prefix: int) -> None:
        """Take it away again."""
        body = struct.pack("=BBBBI", socket.AF_INET, prefix, 0, RT_SCOPE_UNIVERSE, index)
        self._change(RTM_DELADDR, 0, body, _attribute(IFA_LOCAL, socket.inet_aton(address)))

    def add_default_route(self, gateway: str) -> None:
        """Send what is for nobody here to a gateway."""
        body = struct.pack(
            "=8BI", socket.AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0
        )
        self._change(RTM_NEWROUTE, NLM_F_CREATE, body, _attribute(RTA_GATEWAY, socket.inet_aton(gateway)))

    def remove(self, name: str) -> None:
        """Remove an interface."""
        self._change(RTM_DELLINK, 0, _link(self.index(name)), b"")

    def _change(self, kind: int, flags: int, body: bytes, attributes: bytes) -> None:
        """Ask the kernel for a change and wait for its word. Raises OSError."""
        self._sequence += 1
        length = 16 + len(body) + len(attributes)
        head = struct.pack("=IHHII", length, kind, NLM_F_REQUEST | NLM_F_ACK | flags, self._sequence, 0)
        self._socket.send(head + body + attributes)
        answer = self._socket.recv(65536)
        (answered,) = struct.unpack_from("=H", answer, 4)
        (code,) = struct.unpack_from("=i", answer, 16)
        if answered == NLMSG_ERROR and code != 0:
            raise OSError(-code, f"change a network interface: {os.strerror(-code)}")


def _link(index: int = 0, flags: int = 0, family: int = socket.AF_UNSPEC) -> bytes:
    """struct ifinfomsg; `flags` are those to set."""
    return struct.pack("=BBHiII", family, 0, 0, index, flags, flags)


def _attribute(kind: int, value: bytes) -> bytes:
    padding = -len(value) % 4
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(padding)


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _nested(kind: int, attributes: bytes) -> bytes:
    return _attribute(kind | NESTED, attributes)
