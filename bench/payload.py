"""One call with a long event or a long answer, and how many megabytes passed in a second."""

from __future__ import annotations

import http.client
import time

from bench.client import PATH, Address, CallFailed, connect

# What bench/image/bare_runtime answers with 1, and what it answers ASK with.
LONG = b'"' + b"x" * 6_291_000 + b'"'
ASK = b'"long"'


def megabytes_per_s(address: Address, event: bytes, answer: bytes) -> float:
    """Of the longer of the two, from the first byte sent to the last one received. Raises CallFailed or OSError."""
    with connect(address) as sock:
        head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        began = time.perf_counter()
        sock.sendall(head % (PATH.encode(), len(event)))
        sock.sendall(event)
        response = http.client.HTTPResponse(sock)
        response.begin()
        body = response.read()
        elapsed_s = time.perf_counter() - began
    if response.status != 200 or len(body) < len(answer):  # the peer puts chunks into chunks
        raise CallFailed(f"cannot measure {address}: status {response.status}, the answer is another: {body[:300]!r}")
    return max(len(event), len(answer)) / elapsed_s / 1e6
