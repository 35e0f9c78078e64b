"""Read the environment, assemble the parts, and become PID 1."""

import _socket
import gc
import os
import sys

from . import wire
from .environments import Environments
from .errors import SettingsError
from .extensions_api import ExtensionsApi
from .front_door import FrontDoor
from .hosts import name_ourselves
from .lifecycle import Machine
from .log_lines import CompatLines, TextLines
from .loop import Loop
from .metadata_api import MetadataApi
from .output import Log
from .records import replace
from .runtime_api import RuntimeApi
from .selector import Selector
from .settings import Settings, read
from .supervisor import Supervisor
from .switch import Switch
from .telemetry_api import TelemetryApi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .concurrent import ConcurrentMachine
    from .events import InvokeReceived
    from .log_lines import Lines

VERSION = "0.1.0"
# Together well below the 1,024 descriptors that a container may be given.
RUNTIME_CONNECTIONS = 128
CALLER_CONNECTIONS = 640


def main(on_open: "Callable[[], None] | None" = None) -> None:
    """Run the environment until SIGTERM; exit status 2 says that it could not begin.

    `on_open` is called once callers can connect.
    """
    try:
        settings = read(os.environ, sys.argv[1:])
        runtime_api = _bind_tcp(settings.runtime_api)
        front_door = _bind_unix(settings.socket_path) if settings.is_managed else _bind_tcp(settings.front_door)
        log = Log(settings.log_path)
    except (SettingsError, OSError) as error:
        sys.stderr.write(f"rie: {error}\n")
        sys.exit(2)
    os.umask(0o022)
    if os.getpid() == 1:  # the container is ours alone
        name_ourselves()
    selector = Selector(log)
    environments = Environments(selector)
    if settings.environments == 1:
        loop = Loop(_machine(settings), settings, Supervisor(settings), log, _lines(settings), selector)
        environments.add(loop)
        callers = _front_door(settings, loop, loop.tell)
        _open_runtime_api(loop, runtime_api, RUNTIME_CONNECTIONS)
    else:
        callers = _several(settings, log, selector, environments, runtime_api)
    environments.loops[0].listen(front_door, callers, CALLER_CONNECTIONS)
    if on_open is not None:
        on_open()
    environments.watch_signals()
    if settings.tmp_mb:
        from .storage import bind_tmp

        notice = bind_tmp(settings.tmp_mb)
        if notice:
            log.write(f"{notice}\n".encode())
    environments.boot()
    if settings.watched:
        from .watch import Watch

        Watch(environments.loops[0], settings.watched, environments.tell_all)
    gc.freeze()  # what is here stays; looking through it again and again is for nothing
    gc.enable()  # the bundle begins without
    selector.run()
    environments.drain()
    log.flush()
    _leave(settings)


def _several(
    settings: Settings, log: Log, selector: Selector, environments: Environments, runtime_api: "_socket.socket"
) -> FrontDoor:
    """Add them all, and a pool that shares out what comes through the first one's front door."""
    from .memory import OomKills
    from .pool import Pool
    from .settings import one_of_several
    from .strand import Strand

    count, kills = settings.environments, OomKills()
    environments.pool = Pool(count, settings.max_concurrency or 1, settings.is_lazy)
    doors = []
    for number in range(1, count + 1):
        own = replace(settings, is_lazy=False)  # the pool decides when one begins, and then it does
        if number > 1:
            runtime_api = _bind_tcp((settings.runtime_api[0], 0))
            own = one_of_several(own, number, runtime_api.getsockname()[:2])
        mark = b"" if settings.log_format == "JSON" else b"[%d] " % number  # a record says whose it is
        supervisor = Supervisor(own, kills, is_alone=False)
        loop = Loop(_machine(own), own, supervisor, Strand(log, mark), _lines(own), selector)
        environments.add(loop)
        doors.append(_front_door(own, loop, environments.submit))
        environments.share(loop)
        _open_runtime_api(loop, runtime_api, max(16, RUNTIME_CONNECTIONS // count))
    return doors[0]


def _open_runtime_api(loop: Loop, sock: "_socket.socket", limit: int) -> None:
    """Everything that the environment asks of us comes in here."""
    runtime = RuntimeApi(loop)
    routes = {wire.RUNTIME_PREFIX: runtime.handle, wire.PING_PATH: runtime.handle}
    extensions = ExtensionsApi(loop)
    if loop.settings.has_extensions_api:
        routes[wire.EXTENSION_PREFIX] = extensions.handle
        telemetry = TelemetryApi(loop, VERSION)
        routes[wire.TELEMETRY_PATH] = routes[wire.LOGS_PATH] = telemetry.handle
    routes[wire.METADATA_PATH] = MetadataApi(loop).handle
    if loop.settings.credentials:
        from .credentials_api import CredentialsApi

        routes[wire.CREDENTIALS_PATH] = CredentialsApi(loop).handle
    loop.listen(sock, Switch(wire.MAX_RESPONSE, routes, runtime), limit)


def _machine(settings: Settings) -> "Machine | ConcurrentMachine":
    if settings.max_concurrency is None:
        is_ahead = settings.is_provisioned or settings.is_from_snapshot
        return Machine(settings.timeout_s, settings.grace_s, settings.is_lazy, is_ahead, settings.is_template)
    from .concurrent import ConcurrentMachine

    return ConcurrentMachine(settings.timeout_s, settings.grace_s, settings.max_concurrency)


def _lines(settings: Settings) -> "Lines":
    if settings.is_compat:
        return CompatLines(settings)
    if settings.log_format == "JSON":
        from .json_log import JsonLines

        return JsonLines(settings, VERSION)
    return TextLines(settings, VERSION)


def _front_door(settings: Settings, loop: Loop, submit: "Callable[[InvokeReceived], None]") -> FrontDoor:
    if not settings.is_compat:
        return FrontDoor(loop, submit)
    from .compat_door import CompatDoor

    return CompatDoor(loop, submit)


def _bind_tcp(address: "tuple[str, int]") -> "_socket.socket":
    family = _socket.AF_INET6 if ":" in address[0] else _socket.AF_INET
    sock = _socket.socket(family, _socket.SOCK_STREAM)
    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    try:
        sock.bind(address)
    except OSError as error:
        raise SettingsError(f"cannot listen on {address[0]}:{address[1]}: {error.strerror}") from None
    return sock


def _bind_unix(path: str) -> "_socket.socket":
    """Only root, or the user that we are, may connect: the function is another user."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(path)
    except OSError as error:
        raise SettingsError(f"cannot listen on {path}: {error.strerror}") from None
    finally:
        os.umask(before)
    return sock


def _leave(settings: Settings) -> None:
    if settings.socket_path:
        try:
            os.unlink(settings.socket_path)
        except OSError:
            pass
    # Nothing is left to clean up, and the interpreter's own farewell costs milliseconds.
    os._exit(0)


if __name__ == "__main__":
    main()
