"""The HTTP layer: what it reads, what it refuses, and that no bytes can surprise it."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootstrap import responses
from bootstrap.errors import ProtocolError
from bootstrap.http1 import Request, RequestParser
from bootstrap.responses import response, response_head

GET = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"


def parse(data: bytes, max_body: int = 1_000) -> list[Request]:
    parser = RequestParser(max_body)
    parser.feed(data)
    found = []
    while (request := parser.next_request()) is not None:
        found.append(request)
    return found


def test_a_request_is_read_in_its_parts() -> None:
    (request,) = parse(b"POST /a%20b?q=1&r HTTP/1.1\r\nHost: h\r\nX-One:  two \r\nContent-Length: 3\r\n\r\nabc")
    assert (request.method, request.path, request.query) == ("POST", "/a%20b", "q=1&r")
    assert request.headers == {"host": "h", "x-one": "two", "content-length": "3"}
    assert request.body == b"abc"
    assert request.keep_alive


def test_requests_that_come_together_are_read_one_by_one() -> None:
    assert len(parse(GET * 3)) == 3


def test_a_request_that_comes_byte_by_byte_is_the_same() -> None:
    data = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nT: 1\r\n\r\n"
    parser = RequestParser(100)
    found = []
    for byte in data:
        parser.feed(bytes([byte]))
        request = parser.next_request()
        if request is not None:
            found.append(request)
    assert [request.body for request in found] == [b"abcd"]
    assert found[0].trailers == {"t": "1"}


def test_a_header_of_a_mebibyte_is_taken() -> None:
    value = "x" * 1_048_576
    (request,) = parse(f"GET / HTTP/1.1\r\nBig: {value}\r\n\r\n".encode())
    assert request.headers["big"] == value


@pytest.mark.parametrize("framing", [b"Content-Length: 2000\r\n\r\n" + b"x" * 2000, None])
def test_a_body_past_the_limit_is_read_but_not_kept_and_the_connection_goes_on(framing: bytes | None) -> None:
    chunked = b"Transfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n"
    first, second = parse(b"POST / HTTP/1.1\r\n" + (framing or chunked) + GET, max_body=1_999)
    assert first.too_large
    assert first.body == b""
    assert second.path == "/x"


def test_a_body_at_the_limit_is_kept() -> None:
    (request,) = parse(b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)
    assert not request.too_large
    assert len(request.body) == 1000


@pytest.mark.parametrize(
    ("head", "keeps"),
    [
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: x, keep-alive\r\n\r\n", True),
    ],
)
def test_the_connection_header_says_whether_it_goes_on(head: bytes, keeps: bool) -> None:
    assert parse(head)[0].keep_alive is keeps


def test_a_client_that_waits_for_leave_to_send_is_told_to() -> None:
    parser = RequestParser(100)
    parser.feed(b"POST / HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
    assert parser.next_request() is None
    assert parser.wants_continue


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET x HTTP/1.1\r\n\r\n", 400),
        (b"G\x00T / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nNo colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nName : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\x00c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\nB: c\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: \u00b2\r\n\r\n".encode("latin-1"), 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 5000, 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nExpect: magic\r\n\r\n", 417),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 1_200_000, 431),
    ],
)
def test_what_could_be_read_two_ways_is_refused(data: bytes, status: int) -> None:
    with pytest.raises(ProtocolError) as refusal:
        parse(data)
    assert refusal.value.status == status


def test_a_response_leaves_in_one_piece() -> None:
    assert response(200, [("A", "b")], b"xy") == b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\nxy"
    assert response(204, [], b"") == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert b"Connection: close\r\n" in response_head(400, [], 0, keep_alive=False)
    assert response(202, [("A", "b")], b"", "Date: x\r\n").split(b"\r\n")[1:3] == [b"Date: x", b"A: b"]


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.999, 1.0, 61.5, -1.0, -86_400.0])
def test_the_date_is_that_of_the_second_whether_the_clock_goes_on_or_back(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    for at in (1_795_791_600.5, 1_795_791_600.5 + seconds):
        monkeypatch.setattr(responses.time, "time", lambda at=at: at)
        for _ in range(2):
            assert responses.date_line() == f"Date: {format_datetime(datetime.fromtimestamp(int(at), UTC), True)}\r\n"


def test_a_request_that_was_read_before_is_the_same_again_and_one_with_a_body_has_its_own() -> None:
    parser = RequestParser(100)
    asked = b"GET /a?b HTTP/1.0\r\nX: 1\r\n\r\n"
    posted = b"POST /a HTTP/1.1\r\nContent-Length: 1\r\n\r\n"
    for data in (asked, posted + b"1"):
        parser.feed(data)
        parser.next_request()
    for _ in range(3):
        request = parser.whole(asked)
        assert request is not None
        found = (request.method, request.path, request.query, request.keep_alive, request.headers, request.body)
        assert found == ("GET", "/a", "b", False, {"x": "1"}, b"")
    bodies = [parser.whole(posted + body) for body in (b"1", b"2")]
    assert [request and request.body for request in bodies] == [b"1", b"2"]


PIECES = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"POST /2018-06-01/runtime/invocation/next HTTP/1.1\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"hello",
        b"\n",
        b"\x00",
        b":",
        b"A: b\r\n",
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(PIECES, st.binary(max_size=12)), max_size=14), st.integers(1, 40))
def test_any_bytes_give_requests_or_a_refusal_and_cutting_them_makes_no_difference(
    pieces: list[bytes], step: int
) -> None:
    data = b"".join(pieces)

    def outcome(cuts: list[bytes]) -> list[object]:
        parser = RequestParser(100)
        found: list[object] = []
        try:
            for cut in cuts:
                parser.feed(cut)
                while (request := parser.next_request()) is not None:
                    found.append((request.method, request.path, request.headers, request.body, request.trailers))
        except ProtocolError as error:
            found.append(error.status)
        return found

    assert outcome([data]) == outcome([data[i : i + step] for i in range(0, len(data), step)])


@given(st.lists(st.integers(1, 200_000), max_size=8))
def test_a_long_body_is_the_same_however_it_is_read(counts: list[int]) -> None:
    body = bytes(range(256)) * 1_200
    whole = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    parser, at, found = RequestParser(len(body)), 0, None
    while found is None:
        space = parser.space()
        if space is not None:
            count = min(counts.pop() if counts else len(space), len(space))
            space[:count] = whole[at : at + count]
            parser.fill(count)
        else:
            count = counts.pop() if counts else 65_536
            # No more than one request, as from a client that waits for its answer.
            parser.feed(whole[at : at + count])
        at += count
        found = parser.next_request()
    assert found.body == body
    parser.feed(GET)
    following = parser.next_request()
    assert following is not None and following.path == "/x"


def test_a_body_past_the_limit_has_no_space_made_for_it() -> None:
    parser = RequestParser(1_000)
    parser.feed(b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
    assert parser.next_request() is None
    assert parser.space() is None


LINES = [
    "GET / HTTP/1.1",
    "POST /a?b=c HTTP/1.1",
    "POST /a HTTP/1.0",
    "GET  / HTTP/1.1",
    "",
    "GET / HTTP/3",
    "HEAD x HTTP/1.1",
]
HEADERS = [
    *("", "Host: a", "Content-Length: 3", "Content-Length: 0", "Content-Length: 99", "Content-Length: x"),
    *("Connection: close", "Expect: 100-continue", "Transfer-Encoding: chunked", "X: y\r\nContent-Length: 3", "broken"),
    *(
        "Content-Length: 3\r\nLambda-Runtime-Function-Response-Mode: streaming",
        "Content-Length: 3\r\nContent-Length: 3",
    ),
]


@given(
    st.sampled_from(LINES),
    st.sampled_from(HEADERS),
    st.sampled_from([b"", b"abc", b"abcd", b"ab", b"\r\n", b"0\r\n\r\n"]),
)
def test_a_request_that_comes_whole_is_what_it_would_be_in_pieces(line: str, headers: str, body: bytes) -> None:
    data = f"{line}\r\n{headers}{chr(13) + chr(10) if headers else ''}\r\n".encode() + body

    def in_pieces() -> tuple[Any, ...] | str:
        parser = RequestParser(5)
        parser.feed(data)
        try:
            request = parser.next_request()
        except ProtocolError as error:
            return str(error)
        return seen(request) if request is not None and parser.is_between_requests else "not whole"

    expected = in_pieces()  # which makes the lines known
    request = RequestParser(5).whole(data)
    assert request is None or seen(request) == expected
    if headers in ("Host: a", "Content-Length: 3") and isinstance(expected, tuple):
        assert request is not None


def seen(request: Request) -> tuple[Any, ...]:
    return tuple(getattr(request, name) for name in Request.__slots__)


def test_nothing_is_whole_while_another_request_is_being_read() -> None:
    data = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    parser = RequestParser(5)
    parser.feed(data)
    assert parser.next_request() is not None
    assert parser.whole(data) is not None
    parser.feed(data[:-1])
    assert parser.next_request() is None
    assert parser.whole(data) is None
