"""Whether an event is JSON (RFC 8259): the `json` package costs 4 ms and a megabyte, and 2 ms for each of an event.

The scanner in C that the package is made around is used by itself. It looks at each character of a string, so a long
string is looked at here, at the speed of `memchr`, and the scanner gets the text with an empty one in its place.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

WHITESPACE = " \t\n\r"
LONG = 65_536  # a text; for a shorter one the scanner is quick enough
STEP = 16_384  # a string of twice that length is certainly found
BLOCK = 131_072  # of a string, at a time: what the processor's nearest caches hold
FORBIDDEN = (b"\\", *(bytes([code]) for code in range(32)))  # in a string that is taken as it is

_scan: "Callable[[str, int], tuple[object, int]] | None" = None  # made for the first event


def fault(text: "bytes | bytearray") -> str:
    """What is wrong with a text; empty if it is JSON."""
    if _is_json(text):
        return ""
    import json

    try:
        json.JSONDecoder(parse_constant=_no_constant, parse_int=float).decode(text.decode())
    except (ValueError, RecursionError) as error:
        return str(error) or type(error).__name__
    return ""


def _is_json(text: "bytes | bytearray") -> bool:
    global _scan
    if _scan is None:
        from _json import make_scanner

        _scan = make_scanner(_Context)  # type: ignore[arg-type]
    try:
        short = (_shortened(text) if len(text) >= LONG else text).decode()
        begin = len(short) - len(short.lstrip(WHITESPACE))
        return _scan(short, begin)[1] == len(short.rstrip(WHITESPACE))
    except (StopIteration, ValueError, RecursionError, SystemError):
        return (
            False  # its error is of a type of `json`; where nobody has imported that, CPython 3.11 raises SystemError
        )


def _no_constant(name: str) -> None:
    raise ValueError(f"Non-standard token '{name}'")


class _Context:
    """What the scanner asks for; integers of more digits than Python likes are looked at again, as floats."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_no_constant)
    memo: "dict[str, str]" = {}  # noqa: RUF012


def _shortened(text: "bytes | bytearray") -> bytes:
    """A text that is JSON if and only if the given one is: without the insides of its long strings.

    A quotation mark begins or ends a string unless a backslash stands before it that is not escaped itself. Where a
    backslash stands outside of a string the text is no JSON, and what follows does not matter.
    """
    is_ascii = text.isascii()
    parts = []
    kept = counted = 0  # up to there the text is in `parts`; up to there its quotation marks are counted
    is_inside = False  # of a string, at `counted`
    for begin, end in _gaps(text):
        is_inside ^= _marks(text[counted : begin + 1]) % 2 == 1
        counted = begin + 1
        if is_inside and _is_plain(text, begin + 1, end, is_ascii):
            parts.append(text[kept : begin + 1])
            kept = end
    parts.append(text[kept:])
    return b"".join(parts)


def _gaps(text: "bytes | bytearray") -> "Iterator[tuple[int, int]]":
    """The places of two neighbouring quotation marks that are far from each other."""
    last, at = 0, STEP
    while at < len(text):
        end = text.find(b'"', at)
        if end < 0:
            return
        begin = text.rfind(b'"', last, at)
        if begin >= 0 and end - begin > STEP:
            yield begin, end
        last, at = end, end + STEP


def _marks(text: "bytes | bytearray") -> int:
    """How many quotation marks are not escaped."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return text.count(b'"')


def _is_plain(text: "bytes | bytearray", begin: int, end: int, is_ascii: bool) -> bool:
    """Whether the inside of a string is nothing but characters that stand for themselves."""
    for first in range(begin, end, BLOCK):
        last = min(first + BLOCK, end)
        for octet in FORBIDDEN:
            if text.find(octet, first, last) >= 0:
                return False
    if not is_ascii:
        str(memoryview(text)[begin:end], "utf-8")  # UnicodeDecodeError, which is a ValueError, if it isn't
    return True
