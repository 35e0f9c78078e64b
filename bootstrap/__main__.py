"""Read the environment, assemble the parts, and become PID 1."""

import _socket
import os
import sys

from . import wire
from .errors import SettingsError
from .events import Booted
from .extensions_api import ExtensionsApi
from .front_door import FrontDoor
from .lifecycle import Machine
from .loop import Loop
from .metadata_api import MetadataApi
from .output import Log, init_start_line
from .runtime_api import RuntimeApi
from .settings import Settings, read
from .supervisor import Supervisor
from .switch import Switch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .concurrent import ConcurrentMachine

VERSION = "0.1.0"
# Together well below the 1,024 descriptors that a container may be given.
RUNTIME_CONNECTIONS = 128
CALLER_CONNECTIONS = 640


def main() -> None:
    """Run the environment until SIGTERM; exit status 2 says that it could not begin."""
    try:
        settings = read(os.environ, sys.argv[1:])
        runtime_api = _bind_tcp(settings.runtime_api)
        front_door = _bind_unix(settings.socket_path) if settings.is_managed else _bind_tcp(settings.front_door)
        log = Log(settings.log_path)
    except (SettingsError, OSError) as error:
        sys.stderr.write(f"rie: {error}\n")
        sys.exit(2)
    os.umask(0o022)
    supervisor = Supervisor(settings)
    loop = Loop(_machine(settings), settings, supervisor, log)
    callers = _front_door(settings, loop)
    runtime = RuntimeApi(loop)
    routes = {wire.PING_PATH: runtime.handle, wire.RUNTIME_PREFIX: runtime.handle}
    extensions = ExtensionsApi(loop)
    if settings.has_extensions_api:
        routes[wire.EXTENSION_PREFIX] = extensions.handle
    routes[wire.METADATA_PATH] = MetadataApi(loop).handle
    loop.listen(runtime_api, Switch(wire.MAX_RESPONSE, routes, runtime), RUNTIME_CONNECTIONS)
    loop.listen(front_door, callers, CALLER_CONNECTIONS)
    loop.watch_signals()
    if not settings.is_compat:
        log.write(init_start_line(VERSION).encode())
    loop.tell(Booted(supervisor.extension_names))
    if settings.watched:
        from .watch import Watch

        Watch(loop, settings.watched)
    loop.run()
    _leave(settings)


def _machine(settings: Settings) -> "Machine | ConcurrentMachine":
    if settings.max_concurrency is None:
        return Machine(settings.timeout_s, settings.grace_s, settings.is_lazy, settings.is_provisioned)
    from .concurrent import ConcurrentMachine

    return ConcurrentMachine(settings.timeout_s, settings.grace_s, settings.max_concurrency)


def _front_door(settings: Settings, loop: Loop) -> FrontDoor:
    if not settings.is_compat:
        return FrontDoor(loop)
    from .compat_door import CompatDoor

    return CompatDoor(loop)


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
