"""Code under signed links, without a signature of the caller's: GET /_rie/code/{digest}?Expires=&Signature=."""

from __future__ import annotations

import asyncio
from typing import IO

from rie.code.links import PREFIX, Links
from rie.code.store import CodeStore
from rie.plane.connection import Connection, Request

BLOCK = 1 << 18
TEXT = [("Content-Type", "text/plain")]


class Downloads:
    """Answers the paths below /_rie/code/."""

    def __init__(self, links: Links, code: CodeStore) -> None:
        self._links = links
        self._code = code

    @staticmethod
    def takes(request: Request) -> bool:
        """Whether a request is for an archive."""
        return request.path.startswith(PREFIX)

    async def __call__(self, request: Request, exchange: Connection) -> None:
        if request.method not in ("GET", "HEAD"):
            exchange.respond(405, [("Allow", "GET, HEAD")])
            return
        sha256 = self._links.read(request.path, request.query)
        if sha256 is None:
            exchange.respond(403, TEXT, b"This link is not valid, or not any more.\n")
            return
        file = await asyncio.to_thread(self._open, sha256)
        if file is None:
            exchange.respond(404, TEXT, b"This code is not kept any more.\n")
            return
        with file:
            await _send(exchange, file, with_body=request.method == "GET")

    def _open(self, sha256: str) -> IO[bytes] | None:
        path = self._code.find(sha256)
        try:
            return path.open("rb") if path else None
        except FileNotFoundError:
            return None


async def _send(exchange: Connection, file: IO[bytes], *, with_body: bool) -> None:
    size = file.seek(0, 2)
    file.seek(0)
    exchange.begin(200, [("Content-Type", "application/zip")], size)
    while with_body and not exchange.has_gone and (block := await asyncio.to_thread(file.read, BLOCK)):
        if not exchange.write(block):
            await exchange.drained()
    exchange.end()
