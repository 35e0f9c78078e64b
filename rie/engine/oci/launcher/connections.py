"""TCP connections that lead out of a sandbox: ended before it is written down, since nobody could go on with them.

What asks the kernel for them is `ss --kill`, without starting it: sock_diag(7).
"""

import _socket as socket
import errno
import os
import struct

# Numbers: linux/sock_diag.h, linux/inet_diag.h, linux/netlink.h, net/tcp_states.h.
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, SOCK_DESTROY = 4, 20, 21
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 1, 4, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
ESTABLISHED_LIKE = sum(1 << state for state in (1, 2, 3, 4, 5, 8, 9, 11))  # neither closed, waiting nor listening
HEAD, REQUEST, IDENTITY = 16, 8, 48  # bytes of the headers and of struct inet_diag_sockid
LOOPBACK_4, LOOPBACK_6 = b"\x7f", bytes(15) + b"\x01"


def end_those_out(apart: str) -> int:
    """End every connection of this network namespace but those within it; how many there were.

    `apart` is an address of the loopback network behind which the host answers. Raises OSError.
    """
    diagnosis = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
    try:
        diagnosis.bind((0, 0))
        ended = 0
        for family in (socket.AF_INET, socket.AF_INET6):
            for identity in _connections(diagnosis, family):
                if not _is_within(family, identity, socket.inet_aton(apart)):
                    _end(diagnosis, family, identity)
                    ended += 1
        return ended
    finally:
        diagnosis.close()


def _connections(diagnosis: "socket.socket", family: int) -> "list[bytes]":
    """The kernel's names of them."""
    _ask(diagnosis, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, family, bytes(IDENTITY))
    found: list[bytes] = []
    while True:
        data = diagnosis.recv(1 << 17)
        at = 0
        while at < len(data):
            length, kind = struct.unpack_from("=IH", data, at)
            if kind == NLMSG_DONE:
                return found
            if kind == NLMSG_ERROR:
                raise OSError(-struct.unpack_from("=i", data, at + HEAD)[0], "list connections")
            found.append(data[at + HEAD + 4 : at + HEAD + 4 + IDENTITY])
            at += (length + 3) & ~3


def _is_within(family: int, identity: bytes, apart: bytes) -> bool:
    ends = (identity[4:20], identity[20:36])
    if family == socket.AF_INET:
        return all(end[:1] == LOOPBACK_4 and end[:4] != apart for end in ends)
    mapped = bytes(10) + b"\xff\xff"
    return all(
        end == LOOPBACK_6 or (end[:12] == mapped and end[12:13] == LOOPBACK_4 and end[12:] != apart) for end in ends
    )


def _end(diagnosis: "socket.socket", family: int, identity: bytes) -> None:
    _ask(diagnosis, SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, family, identity)
    (code,) = struct.unpack_from("=i", diagnosis.recv(4096), HEAD)
    if code not in (0, -errno.ENOENT):
        raise OSError(-code, f"end a connection: {os.strerror(-code)}")


def _ask(diagnosis: "socket.socket", kind: int, flags: int, family: int, identity: bytes) -> None:
    request = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, ESTABLISHED_LIKE) + identity
    diagnosis.send(struct.pack("=IHHII", HEAD + REQUEST + IDENTITY, kind, flags, 1, 0) + request)
