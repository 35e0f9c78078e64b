"""A registry of one image that can be told to cut, stall or change what it sends, and that counts what it was asked.

with scripted(image) as registry:
    registry.cut_after = {digest: 1000}     # the first answer with that blob ends there
    ...
    registry.asked                          # [("/v2/…/blobs/sha256:…", "bytes=1000-"), …]
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.registry import Built, digest_of


@dataclass
class Scripted:
    """What the server knows and was asked."""

    image: Built
    host: str = ""
    cut_after: dict[str, int] = field(default_factory=dict)  # digest → bytes, for its next answer
    stall_after: dict[str, int] = field(default_factory=dict)  # digest → bytes, then silence until `go_on`
    has_ranges: bool = True
    replaced: dict[str, bytes] = field(default_factory=dict)  # digest → what is sent in its place
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    @property
    def reference(self) -> str:
        """Of the image."""
        return f"{self.host}/app:1"

    def ranges(self, digest: str) -> list[str | None]:
        """With which Range each request for a blob came."""
        return [wanted for path, wanted in self.asked if path.endswith(digest)]


@contextmanager
def scripted(image: Built) -> Iterator[Scripted]:
    """Serve the image for as long as the block lasts."""
    script = Scripted(image)
    blobs = {digest_of(blob): blob for blob in image.blobs}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers["Range"]
            script.asked.append((self.path, wanted))
            digest = self.path.rpartition("/")[2]
            if "/manifests/" in self.path:
                self._send(200, image.manifest, {"Content-Type": image.media_type})
                return
            blob = script.replaced.get(digest, blobs.get(digest, b""))
            if wanted and script.has_ranges:
                first = int(wanted.removeprefix("bytes=").partition("-")[0])
                where = f"bytes {first}-{len(blob) - 1}/{len(blob)}"
                self._send(206, blob[first:], {"Content-Range": where}, digest)
            else:
                self._send(200, blob, {}, digest)

        def _send(self, status: int, body: bytes, headers: dict[str, str], digest: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if digest in script.cut_after:
                self.wfile.write(body[: script.cut_after.pop(digest)])
                self.close_connection = True
            elif digest in script.stall_after:
                self.wfile.write(body[: script.stall_after.pop(digest)])
                self.wfile.flush()
                script.stalled.set()
                script.go_on.wait(30)
                self.close_connection = True
            else:
                self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    script.host = f"127.0.0.1:{server.server_address[1]}"
    try:
        yield script
    finally:
        script.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()
