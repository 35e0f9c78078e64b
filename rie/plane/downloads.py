"""Code under signed links, without a signature of the caller's: GET /_rie/code/{digest}?Expires=&Signature=."""

from __future__ import annotations

import asyncio
from typing import IO

from rie.code.links import PREFIX, Links
from rie.code.store import CodeStore
from rie.plane.http import AsgiScope, Receive, Send, respond

BLOCK = 1 << 18
PATH = PREFIX.encode()


class Downloads:
    """An ASGI application for the paths below /_rie/code/."""

    def __init__(self, links: Links, code: CodeStore) -> None:
        self._links = links
        self._code = code

    @staticmethod
    def takes(raw_path: bytes) -> bool:
        """Whether a request is for an archive."""
        return raw_path.startswith(PATH)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        if method not in ("GET", "HEAD"):
            await respond(send, 405, [("Allow", "GET, HEAD")], b"")
            return
        sha256 = self._links.read(scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1"))
        if sha256 is None:
            await respond(send, 403, [("Content-Type", "text/plain")], b"This link is not valid, or not any more.\n")
            return
        file = await asyncio.to_thread(self._open, sha256)
        if file is None:
            await respond(send, 404, [("Content-Type", "text/plain")], b"This code is not kept any more.\n")
            return
        with file:
            await _send(send, file, with_body=method == "GET")

    def _open(self, sha256: str) -> IO[bytes] | None:
        path = self._code.find(sha256)
        try:
            return path.open("rb") if path else None
        except FileNotFoundError:
            return None


async def _send(send: Send, file: IO[bytes], *, with_body: bool) -> None:
    size = file.seek(0, 2)
    file.seek(0)
    headers = [(b"content-type", b"application/zip"), (b"content-length", b"%d" % size)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while with_body and (block := await asyncio.to_thread(file.read, BLOCK)):
        await send({"type": "http.response.body", "body": block, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
