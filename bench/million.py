"""`python -m bench.million [N]`: very many invocations of one bootstrap, and that its memory stays as it is.

On the host, without a container engine. Ends with status 1 if memory has grown after the first part, or if an
invocation failed. A million take some minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.client import CallFailed, crowd
from bench.ready import free_port

ROOT = Path(__file__).resolve().parent.parent
RUNTIME = ROOT / "bench" / "image" / "bare_runtime"
CLIENTS = 4
SETTLED = 10_000  # invocations after which memory must not grow any more
SLACK_KB = 1_024  # the allocator's own comings and goings
LISTENS_WITHIN_S = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.million", description="Invoke very often; watch memory.")
    parser.add_argument("invocations", nargs="?", type=int, default=1_000_000)
    count = parser.parse_args().invocations
    if count < 2 * SETTLED:
        parser.error(f"cannot tell from {count} invocations: memory settles in the first {SETTLED}")
    with tempfile.TemporaryFile() as log:
        port = free_port()
        process = _start(port, log.fileno())
        try:
            sys.exit(_watch(process.pid, port, count))
        except (CallFailed, OSError) as error:
            sys.exit(f"cannot go on: {error}")
        finally:
            process.terminate()
            process.wait()


def _start(port: int, log: int) -> subprocess.Popen[bytes]:
    """The bootstrap of the tree; its log goes through a pipe to nobody, so that it does not fill a disk."""
    variables = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(ROOT),
        "RIE_ADDRESS": f"127.0.0.1:{port}",
        "RIE_RUNTIME_API": f"127.0.0.1:{free_port()}",
        "RIE_USER": "root",
        "RIE_LOG": "/dev/null",
    }
    command = [sys.executable, "-S", "-m", "bootstrap", sys.executable, "-IS", str(RUNTIME)]
    return subprocess.Popen(command, env=variables, stdout=log, stderr=log)


def _watch(pid: int, port: int, count: int) -> int:
    address = ("127.0.0.1", port)
    until = time.monotonic() + LISTENS_WITHIN_S
    while True:
        got = crowd(address, 1, 1) if _listens(address) else None
        if got is not None and not got.failure:
            break
        if time.monotonic() > until:
            raise CallFailed(f"no answer at {address}")
        time.sleep(0.01)
    part, done, settled_kb, began = max(SETTLED, count // 100), 0, 0, time.monotonic()
    while done < count:
        size = SETTLED if not done else min(part, count - done)
        got = crowd(address, CLIENTS, size)
        if got.failure:
            raise CallFailed(f"after {done + got.answered} invocations: {got.failure}")
        done += size
        now_kb = _resident_kb(pid)
        settled_kb = settled_kb or now_kb
        text = f"{done:>9,} invocations  {now_kb:>6,} kB resident  {_descriptors(pid)} descriptors  {got.rate:,.0f}/s"
        print(text, flush=True)
    grown_kb = _resident_kb(pid) - settled_kb
    print(f"{done:,} in {time.monotonic() - began:,.0f} s; {grown_kb:+,} kB since the first {SETTLED:,}")
    return int(grown_kb > SLACK_KB)


def _listens(address: tuple[str, int]) -> bool:
    import socket

    with socket.socket() as sock:
        return sock.connect_ex(address) == 0


def _resident_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


if __name__ == "__main__":
    main()
