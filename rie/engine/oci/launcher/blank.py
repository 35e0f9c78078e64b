"""The life of one sandbox's first process: prepared without knowing its function, then told, closed, and become PID 1.

It is a fork of the launcher, which has imported the bootstrap, so that nothing has to be executed or imported when the
function is known. Its channel to the manager carries, in this order: "ready", with the sockets that listen in here for
the manager, or "error <why>"; from the manager, the sandbox as JSON with its length before it; "started" or "error
<why>"; "open" once the front door is, from a bootstrap that we become and don't execute; then whatever that says on its
standard error.
"""

import _socket
import array
import json
import os
import sys

from bootstrap.records import Record
from bootstrap.wire import BUNDLE, DIR_IN_SANDBOX, ENTRYPOINT

from . import checkpoint, criu, kernel, plan, seccomp, userns
from .netlink import Link
from .operations import Disk, Memory, Processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

READY, STARTED, OPEN, ERROR = b"ready\n", b"started\n", b"open\n", b"error "
NAMESPACES = kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
LOOPBACK = 1  # its index in every network namespace
INTERFACE = "eth0"
SIGKILL = 9
BACKLOG = 64


class Port(Record):
    """A sandbox's place on a bridge of the host: the interface's name there, and its address here."""

    bridge: int
    name: str
    address: str
    prefix: int
    gateway: str
    is_isolated: bool
    is_outbound: bool


class Order(Record):
    """What a sandbox can have before its function is known.

    Control groups to join (files), a port or None, a block device with a /tmp and how to mount it, or "", and where to
    listen for the manager: addresses and ports of the sandbox's own loopback; its number among those of the launcher.
    """

    groups: "list[str]"
    port: "Port | None"
    device: str
    device_options: str
    listen: "list[tuple[str, int]]"
    number: int


class Kit(Record):
    """What all sandboxes of a launcher have in common; `users` only of a launcher without root."""

    stage: plan.Stage
    program: kernel.Filter
    has_bootstrap: bool
    users: "userns.Users | None"


def live(channel: int, order: Order, kit: Kit) -> "NoReturn":
    """Never returns: the process ends with the bootstrap, or when the manager hangs up."""
    status = 1
    try:
        kernel.die_with_parent(SIGKILL)
        rootless = _prepare(order, kit)
        _hand_over(channel, order.listen)
        message = _receive(channel)
        if message:
            sandbox = plan.read(json.loads(message))
            # A function that is the same user as the bootstrap must not find the door and the log: they are no place in
            # the sandbox then, but a descriptor of the bootstrap's.
            run = kernel.clone_tree(sandbox.run) if rootless and not rootless.has_own_user else -1
            restore = _restore(sandbox)
            for operation in plan.plan(sandbox, kit.stage, _filter(sandbox, kit), rootless, restore):
                operation.execute()
            _settle(channel, run)
            if sandbox.is_kept:
                status = checkpoint.keep(sandbox, restore, (channel, STARTED))
            else:
                os.write(channel, STARTED)
                os.close(channel)
                status = _become(sandbox, kit.has_bootstrap, run)
    except BaseException as error:
        text = str(error) if isinstance(error, (OSError, ValueError)) else repr(error)
        _say(channel, ERROR + text.replace("\n", " ").encode("utf-8", "replace")[:2000] + b"\n")
    finally:
        os._exit(status)


def _restore(sandbox: plan.Sandbox) -> "criu.Restore | None":
    """Now, while the host's files can be seen."""
    if sandbox.restore is None:
        return None
    return criu.Restore(criu.open_up(criu.Command(**sandbox.restore["command"])), sandbox.restore["address"])


def _filter(sandbox: plan.Sandbox, kit: Kit) -> kernel.Filter:
    """Of who will be a snapshot another one, which what is made from it has, too."""
    if not sandbox.is_kept or sandbox.keeps:
        return kit.program
    return kernel.filter_of(seccomp.program(os.uname().machine, keeps_pages=True))


def _prepare(order: Order, kit: Kit) -> "plan.Rootless | None":
    stage = kit.stage
    for path in order.groups:
        _write(path, b"0")  # this process, whatever its number
    outside = Link() if order.port else None
    kernel.unshare(NAMESPACES)
    kernel.unshare(kernel.CLONE_NEWCGROUP)  # now: its root is where we are
    inside = Link()
    if order.port and outside:
        _plug(order.port, outside, inside)
        outside.close()
    inside.up(LOOPBACK)
    inside.close()
    Memory(stage.top, "size=64k,mode=0755").execute()
    if order.device:
        Disk(order.device, stage.disk, order.device_options).execute()
    Processes(stage.processes, f"{stage.devices}/null").execute()
    if kit.users is None:
        return None
    return plan.Rootless(userns.make(kit.users, order.number, stage.processes), kit.users.have_more)


def _plug(port: Port, outside: Link, inside: Link) -> None:
    try:
        _write("/proc/sys/net/ipv6/conf/default/disable_ipv6", b"1")  # of this namespace, and not of lo
    except OSError:
        pass  # a kernel without
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        outside.add_port(port.name, port.bridge, INTERFACE, namespace, is_isolated=port.is_isolated)
    finally:
        os.close(namespace)
    index = inside.index(INTERFACE)
    inside.add_address(index, port.address, port.prefix)
    inside.up(index)
    if port.is_outbound:
        inside.add_default_route(port.gateway)


def _hand_over(channel: int, places: "list[tuple[str, int]]") -> None:
    """Say that all is ready; who answers at these places is the manager, to whom the listening sockets go."""
    listeners = []
    for place in places:
        listeners.append(_socket.socket(_socket.AF_INET, _socket.SOCK_STREAM))
        listeners[-1].bind(place)
        listeners[-1].listen(BACKLOG)
    descriptors = array.array("i", [listener.fileno() for listener in listeners]).tobytes()
    sock = _socket.socket(fileno=channel)
    try:
        sock.sendmsg([READY], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptors)] if places else [])
    finally:
        sock.detach()
        for listener in listeners:
            listener.close()


def _receive(channel: int) -> bytes:
    """One message; b"" if the manager has hung up."""
    head = _read_exactly(channel, 4)
    return _read_exactly(channel, int.from_bytes(head, "big")) if head else b""


def _read_exactly(channel: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        block = os.read(channel, count - len(data))
        if not block:
            return b""
        data += block
    return data


def _settle(channel: int, run: int) -> None:
    """Standard input from nowhere, the rest to the manager; no other descriptor of the host is left."""
    nothing = os.open("/dev/null", os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(channel, 1)
    os.dup2(channel, 2)
    first = 3
    for kept in sorted({channel, run} - {-1}):
        os.closerange(first, kept)
        first = kept + 1
    os.closerange(first, 1024)
    os.umask(0o022)


def _become(sandbox: plan.Sandbox, has_bootstrap: bool, run: int) -> int:
    """Run the bootstrap as this very process; its exit status. What is in the run directory may be a descriptor's."""
    if not has_bootstrap:  # the bundle has another interpreter than we
        os.execve(ENTRYPOINT, [ENTRYPOINT, *sandbox.argv], sandbox.environment)
    os.environ.clear()
    os.environ.update(sandbox.environment)
    if run >= 0:
        for name, value in sandbox.environment.items():
            if value.startswith(f"{DIR_IN_SANDBOX}/"):
                os.environ[name] = f"/proc/self/fd/{run}{value[len(DIR_IN_SANDBOX) :]}"
    sys.argv[:] = [ENTRYPOINT, *sandbox.argv]
    _look_only_into_the_bundle()
    try:
        sys.modules["bootstrap.__main__"].main(on_open=lambda: os.write(2, OPEN))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    finally:
        sys.stderr.flush()
    return 0


def _look_only_into_the_bundle() -> None:
    """What is imported from now on comes from our own bundle, never from the image, whatever has the host's paths."""
    library = f"{BUNDLE}/lib/python{sys.version_info[0]}.{sys.version_info[1]}"
    host = os.path.dirname(os.__file__)
    sys.path[:] = [library, f"{library}/lib-dynload", f"{BUNDLE}/lib/rie"]
    sys.path_importer_cache.clear()
    for name, module in list(sys.modules.items()):
        places: Any = getattr(module, "__path__", None)
        if places is None:
            continue
        if name == "bootstrap":
            module.__path__ = [f"{BUNDLE}/lib/rie/bootstrap"]
        else:
            module.__path__ = [library + place[len(host) :] for place in places if place.startswith(f"{host}/")]


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _say(channel: int, line: bytes) -> None:
    try:
        os.write(channel, line)
    except OSError:
        pass  # the manager has hung up, or we had closed it
