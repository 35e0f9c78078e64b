"""`rie logs`: what a function has logged."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from typing import Annotated

import typer

from rie.cli.client import ENDPOINT_HELP, CannotReach, endpoint_or_default, get
from rie.cli.client import stream as lines_at
from rie.cli.terminal import printable

EXAMPLE = "Example: rie logs hello --follow --since 10m --grep 'order 7'"
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DIM, RESET = "\x1b[2m", "\x1b[0m"
LEVELS = {"TRACE": DIM, "DEBUG": DIM, "WARN": "\x1b[33m", "ERROR": "\x1b[31m", "FATAL": "\x1b[1;31m"}
SAME = {"WARNING": "WARN", "CRITICAL": "FATAL"}
PLATFORM = ("START ", "END ", "REPORT ", "INIT_START ", "INIT_REPORT ", "EXTENSION\t", "TELEMETRY\t", "LOGS\t")
# As AWS's clients write levels: Python's "[ERROR]", Node's "…Z<TAB>id<TAB>ERROR<TAB>…".
TEXT_LEVEL = re.compile(r"\[(\w+)\]|\S+Z\t[\w-]+\t(\w+)\t")


def logs(
    function: Annotated[str, typer.Argument(help="The function's name.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come, until Ctrl-C.")] = False,
    since: Annotated[str, typer.Option(help="How far back: 30s, 10m, 2h, 7d.")] = "1h",
    stream: Annotated[str, typer.Option(help="Only streams with this in their names: a version, an id.")] = "",
    grep: Annotated[str | None, typer.Option(help="Only lines in which this regular expression is found.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help='Lines of JSON: {"atMs", "stream", "text"}.')] = False,
    endpoint: Annotated[str | None, typer.Option(help=ENDPOINT_HELP)] = None,
) -> None:
    """Print a function's log lines, oldest first."""
    is_wanted = _pattern(grep)
    since_ms = int((time.time() - _seconds(since)) * 1e3)
    address = endpoint_or_default(endpoint)
    query: dict[str, str | int] = {"group": _log_group(address, function), "sinceMs": since_ms}
    if stream:
        query["stream"] = stream
    if follow:
        query["follow"] = 1
    try:
        for line in lines_at(address, "/_rie/logs", **query):
            if is_wanted(line["text"]):
                print(json.dumps(line) if as_json else _rendered(line["atMs"], line["text"]), flush=follow)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _log_group(address: str, function: str) -> str:
    """The group of a function; one that was deleted has left its log in the default group."""
    if not re.fullmatch(r"[a-zA-Z0-9-_]{1,64}", function):
        raise CannotReach(f"cannot show the log of {function!r}: it is not the name of a function")
    for row in get(address, "/_rie/functions"):
        if row["function"] == function:
            return str(row["logGroup"])
    return f"/aws/lambda/{function}"


def _pattern(text: str | None) -> Callable[[str], object]:
    if text is None:
        return lambda line: True
    try:
        return re.compile(text).search
    except re.error as error:
        raise typer.BadParameter(f"{text!r} is no regular expression: {error}", param_hint="--grep") from None


def _rendered(at_ms: int, text: str) -> str:
    """The time and the line; in a terminal what the platform says is dim, and warnings and errors have colours."""
    at = time.strftime("%H:%M:%S", time.localtime(at_ms / 1e3)) + f".{at_ms % 1000:03d}"
    # Python's runtime client joins the lines of a traceback with a carriage return.
    shown = printable(text.replace("\r", "\n"))
    if not sys.stdout.isatty():
        return f"{at} {shown}"
    colour = colour_of(text)
    return f"{DIM}{at}{RESET} {colour}{shown}{RESET if colour else ''}"


def colour_of(text: str) -> str:
    """The escape sequence that a line begins with in a terminal, "" for none."""
    if text.startswith("{"):
        return _colour_of_record(text)
    if text.startswith(PLATFORM):
        return LEVELS["ERROR"] if "Status: error" in text or "Status: timeout" in text else DIM
    if "Task timed out" in text or text.startswith("RequestId: "):
        return LEVELS["ERROR"]
    found = TEXT_LEVEL.match(text)
    return _colour_of_level(found[1] or found[2]) if found is not None else ""


def _colour_of_record(text: str) -> str:
    """Of a line in the JSON format."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if str(record.get("type", "")).startswith("platform."):
        content = record.get("record")
        status = content.get("status", "success") if isinstance(content, dict) else "error"
        return DIM if status == "success" else LEVELS["ERROR"]
    return _colour_of_level(str(record.get("level", "")))


def _colour_of_level(level: str) -> str:
    level = level.upper()
    return LEVELS.get(SAME.get(level, level), "")


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not like 30s, 10m, 2h or 7d", param_hint="--since")
    return float(found[1]) * UNITS[found[2]]
