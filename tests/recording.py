"""A proxy before an endpoint of AWS's services: who signed which call; a test may have it refuse some."""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

_CREDENTIAL = re.compile(r"Credential=([^/]+)/\d+/[^/]+/([^/]+)/")
_KEPT = ("authorization", "content-type", "x-amz-target", "x-amz-date", "x-amz-security-token", "x-amzn-query-mode")


@dataclass(frozen=True)
class Call:
    """`operation` as its header or its form names it; `session` the RoleSessionName of an AssumeRole."""

    service: str
    access_key: str
    operation: str
    session: str = ""


@dataclass
class Recorder:
    """`calls` so far, `issued` the access keys that STS gave, by session; `refuse` answers in its stead."""

    upstream: str
    port: int = 0
    calls: list[Call] = field(default_factory=list)
    issued: dict[str, set[str]] = field(default_factory=dict)
    refuse: Callable[[Call], tuple[int, bytes] | None] = lambda _: None

    def keys_of(self, service: str, operation: str = "") -> set[str]:
        """Who has called a service, or one of its operations."""
        return {
            call.access_key
            for call in list(self.calls)
            if call.service == service and operation in ("", call.operation)
        }

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        """(status, content type, body)"""
        call = _call(headers, body)
        self.calls.append(call)
        if (refused := self.refuse(call)) is not None:
            return refused[0], headers.get("content-type", ""), refused[1]
        kept = {name: value for name, value in headers.items() if name in _KEPT}
        request = urllib.request.Request(f"{self.upstream}{path}", body or None, kept, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, kind, content = answer.status, answer.headers.get("Content-Type", ""), answer.read()
        except urllib.error.HTTPError as error:
            status, kind, content = error.code, error.headers.get("Content-Type", ""), error.read()
        for key in re.findall(rb"<AccessKeyId>(.*?)</AccessKeyId>", content):
            self.issued.setdefault(call.session, set()).add(key.decode())
        return status, kind, content


def _call(headers: dict[str, str], body: bytes) -> Call:
    found = _CREDENTIAL.search(headers.get("authorization", ""))
    key, service = found.groups() if found else ("", "")
    form = parse_qs(body.decode("utf-8", "replace")) if "form" in headers.get("content-type", "") else {}
    operation = headers.get("x-amz-target", "").rpartition(".")[2] or form.get("Action", [""])[0]
    return Call(service, key, operation, form.get("RoleSessionName", [""])[0])


@contextmanager
def recording(upstream: str) -> Iterator[Recorder]:
    """A running one, before the endpoint at `upstream`."""
    recorder = Recorder(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, kind, content = recorder.answer(self.command, self.path, headers, body)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    recorder.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield recorder
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
