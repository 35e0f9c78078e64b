"""How long an emulator takes from exec to a front door that listens, on the host, without a container engine around it.

Each runs in a mount namespace of its own, where our bundle stands at /opt/rie, the one place that it runs from.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bootstrap.wire import BUNDLE
from rie.errors import HostFault

LIMIT_S = 10.0
# The namespace and its mounts are there before the clock starts: `read` waits for our word.
IN_NAMESPACE = """\
mount -t tmpfs none /opt && mkdir -p "$1" && mount --bind "$0" "$1" || exit 1
echo ready
read -r word
shift
exec "$@"
"""


def ours(bundle: Path) -> float:
    """Our bootstrap's time to listen, in ms. Raises HostFault."""
    door, runtime = free_port(), free_port()
    variables = {"RIE_ADDRESS": f"127.0.0.1:{door}", "RIE_RUNTIME_API": f"127.0.0.1:{runtime}", "RIE_USER": "root"}
    return _time_to_listen(bundle, [f"{BUNDLE}/bootstrap", "/bin/sleep", "60"], door, variables)


def aws(bundle: Path, rie: Path) -> float:
    """That of AWS's RIE, started in the same way. Raises HostFault."""
    door, runtime = free_port(), free_port()
    flags = ["--runtime-interface-emulator-address", f"127.0.0.1:{door}"]
    flags += ["--runtime-api-address", f"127.0.0.1:{runtime}"]
    return _time_to_listen(bundle, [str(rie), *flags, "/bin/sleep", "60"], door, {})


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _time_to_listen(bundle: Path, command: Sequence[str], port: int, variables: dict[str, str]) -> float:
    rights = [] if os.geteuid() == 0 else ["--map-root-user"]
    process = subprocess.Popen(
        ["unshare", "--mount", *rights, "/bin/sh", "-c", IN_NAMESPACE, str(bundle), BUNDLE, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": os.environ.get("PATH", os.defpath), **variables},
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        said = process.stdout.readline()
        if said != b"ready\n":
            raise HostFault(f"cannot time {command[0]}: no mount namespace: {said.decode().strip()}")
        began = time.perf_counter()
        process.stdin.write(b"go\n")
        process.stdin.flush()
        return (_listens_at(port, began, command[0]) - began) * 1e3
    finally:
        process.terminate()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def _listens_at(port: int, began: float, name: str) -> float:
    """The instant at which `port` first accepts a connection; a pause between attempts would be measured too."""
    while time.perf_counter() < began + LIMIT_S:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return time.perf_counter()
    raise HostFault(f"cannot time {name}: it does not listen after {LIMIT_S:.0f} s")
