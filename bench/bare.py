"""A runtime started bare: the image's own client in its own files, with a Runtime API that hands out one event."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rie.errors import HostFault

EVENT = b'{"a": 1}'
TRACE_ID = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0"
LIMIT_S = 30.0


class _Api(http.server.BaseHTTPRequestHandler):
    """The next event once; then it takes the answer."""

    protocol_version = "HTTP/1.1"
    answered: threading.Event
    is_given = False

    def do_GET(self) -> None:
        """The event; a second poll waits for ever."""
        if type(self).is_given:
            time.sleep(LIMIT_S)
            return
        type(self).is_given = True
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", "1")
        self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + LIMIT_S) * 1000)))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:f")
        self.send_header("Lambda-Runtime-Trace-Id", TRACE_ID)  # without one AWS's client does not go on
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(EVENT)))
        self.end_headers()
        self.wfile.write(EVENT)

    def do_POST(self) -> None:
        """The answer."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answered.set()
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


class _Server(http.server.ThreadingHTTPServer):
    """A connection that its client's death resets is nothing to tell of."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


def time_to_answer(root: Path, command: Sequence[str], variables: Mapping[str, str]) -> float:
    """From exec, in that root directory, to the answer of one event, in ms. Raises HostFault. Needs root."""
    api = type("Api", (_Api,), {"answered": threading.Event()})
    server = _Server(("127.0.0.1", 0), api)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_address[1]}"
    environment = {
        **variables,
        "AWS_LAMBDA_RUNTIME_API": address,
        "_HANDLER": command[-1],
        "LAMBDA_TASK_ROOT": "/var/task",
        "AWS_LAMBDA_FUNCTION_NAME": "f",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_LOG_GROUP_NAME": "g",
        "AWS_LAMBDA_LOG_STREAM_NAME": "s",
        "AWS_REGION": "us-east-1",
    }
    began = time.perf_counter()
    process = subprocess.Popen(
        ["/usr/sbin/chroot", "--userspec=993:990", str(root), *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=os.sep,
    )
    try:
        if not api.answered.wait(LIMIT_S):
            raise HostFault(f"cannot time {command}: no answer after {LIMIT_S:.0f} s")
        return (time.perf_counter() - began) * 1e3
    finally:
        process.kill()
        process.wait()
        server.shutdown()
        server.server_close()
