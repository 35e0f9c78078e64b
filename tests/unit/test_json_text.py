"""Whether a text is JSON: as the standard library's decoder sees it, however long its strings are."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootstrap import json_text

MARKS = ['"', "\\", '\\"', "\\\\", "\\n", "{", "}", "[", "]", ",", ":"]
PIECES = [*MARKS, "a", "x" * 13, "1", " ", "\n", "\x01", "ä", "true"]


@pytest.fixture
def any_string_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LONG", 0), ("STEP", 3), ("BLOCK", 4)):
        monkeypatch.setattr(json_text, name, value)


def is_json(text: bytes) -> bool:
    """The standard library's word, without the constants that RFC 8259 doesn't know."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        json.JSONDecoder(parse_constant=refuse, parse_int=float).decode(text.decode())
    except ValueError:
        return False
    return True


@pytest.mark.usefixtures("any_string_is_long")
@given(st.lists(st.sampled_from(PIECES), max_size=14), st.booleans())
def test_anything_is_json_when_the_standard_library_says_so(pieces: list[str], is_quoted: bool) -> None:
    text = "".join(pieces)
    raw = (f'["{text}"]' if is_quoted else text).encode()
    assert (json_text.fault(raw) == "") is is_json(raw)


@pytest.mark.usefixtures("any_string_is_long")
@given(st.recursive(st.text() | st.integers() | st.booleans(), st.lists), st.integers(0), st.binary(max_size=1))
def test_a_document_with_one_octet_changed_too(document: object, at: int, octet: bytes) -> None:
    raw = bytearray(json.dumps(document, ensure_ascii=False).encode())
    assert json_text.fault(raw) == ""
    raw[at % len(raw) : at % len(raw) + 1] = octet
    assert (json_text.fault(bytes(raw)) == "") is is_json(bytes(raw))


@pytest.mark.parametrize("inside", [b"", b"\n", b"\xff", b"\xc3", b"\\q", b'"', b"\x1f"])
def test_a_long_string_is_looked_at_from_end_to_end(inside: bytes) -> None:
    for place in (0, 100_000, 199_999):
        text = bytearray(b"x" * 200_000)
        text[place:place] = inside
        fault = json_text.fault(b'{"a":"' + text + b'"}')
        assert bool(fault) is bool(inside), (inside, place)


def test_a_number_may_have_any_length() -> None:
    assert json_text.fault(b"9" * 10_000) == ""


def test_nesting_past_the_interpreters_bound_is_a_fault() -> None:
    assert "recursion" in json_text.fault(b"[" * 100_000)


def test_a_fault_is_told_where_the_package_has_not_been_imported() -> None:
    code = "from bootstrap.json_text import fault; import sys; assert 'json' not in sys.modules; print(fault(b'{'))"
    said = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False)
    assert said.stdout.startswith("Expecting property name"), said.stderr
