"""What the files of a stream are called, and the lines in them: "<epoch ms> <text>", one for one line of log."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

from rie.logs.follow import LogLine, as_text

ANY = "*.log*"
"""Every file of every stream of a group's directory."""
PUT = ".put"
MAX_NAME = 200  # bytes; file systems take 255, suffixes included
MAX_HEADER = 8_192  # "# <epoch ms> <name>": names have 512 characters at most, AWS limit


def written_file(directory: Path, stream: str) -> Path:
    """Where an environment's lines go; of what was there before, the same name with ".1"."""
    return directory / f"{_encoded(stream)}.log"


def put_file(directory: Path, stream: str) -> Path:
    """Where what clients put into a stream goes. It begins with a header: when it was made, and the stream's name."""
    return directory / f"{_encoded(stream)}{PUT}.log"


def files_of(directory: Path, stream: str) -> list[Path]:
    """All files of one stream that are there."""
    name = _encoded(stream)
    paths = (directory / f"{name}{suffix}" for suffix in (".log", ".log.1", f"{PUT}.log", f"{PUT}.log.1"))
    return [path for path in paths if path.exists()]


def is_put(path: Path) -> bool:
    """Whether a file has what clients put."""
    return PUT in path.suffixes


def stream_of(path: Path) -> str:
    """The stream that a file belongs to. Raises nothing."""
    name = path.name.partition(".")[0]
    if "~" not in name:
        return unquote(name)
    found = read_header(path)
    return found[1] if found is not None else unquote(name)


def header(stream: str, at_ms: int) -> bytes:
    """The first line of a file of put events."""
    return b"# %d %s\n" % (at_ms, quote(stream, safe="").encode())


def read_header(path: Path) -> tuple[int, str] | None:
    """(epoch ms, stream) of a file that has one. Raises nothing."""
    try:
        with path.open("rb") as file:
            mark, at, name = file.readline(MAX_HEADER).split()
        return (int(at), unquote(name.decode())) if mark == b"#" else None
    except (OSError, ValueError):
        return None


def lines_of(path: Path, stream: str, since_ms: int = 0) -> Iterator[LogLine]:
    """The lines that a file has at this moment, since an instant, read as they are asked for. Raises OSError."""
    file = path.open("rb")
    return _lines(file, os.fstat(file.fileno()).st_size, stream, since_ms, "" if is_put(path) else "\n")


def _lines(file: BinaryIO, size: int, stream: str, since_ms: int, ending: str) -> Iterator[LogLine]:
    with file:
        while (left := size - (offset := file.tell())) > 0:
            at, _, text = file.readline(left).rstrip(b"\n").partition(b" ")
            if at.isdigit() and int(at) >= since_ms:
                yield LogLine(int(at), stream, as_text(text), offset, ending)


def _encoded(stream: str) -> str:
    # A dot ends the name of the stream in that of its file, "~" says that the name did not fit.
    name = quote(stream, safe="").replace(".", "%2E").replace("~", "%7E")
    if len(name) <= MAX_NAME:
        return name
    return f"{name[:100].rpartition('%')[0] or name[:100]}~{hashlib.sha256(stream.encode()).hexdigest()[:32]}"
