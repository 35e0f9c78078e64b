"""`rie logs`: what a function has logged."""

from __future__ import annotations

import json
import re
import sys
import time
from typing import Annotated

import typer

from rie.cli.client import ENDPOINT_HELP, CannotReach, endpoint_or_default, get, stream
from rie.cli.terminal import printable

EXAMPLE = "Example: rie logs hello --follow --since 10m"
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DIM, RESET, RED = "\x1b[2m", "\x1b[0m", "\x1b[31m"
PLATFORM = ("START ", "END ", "REPORT ", "INIT_START ", "INIT_REPORT ")


def logs(
    function: Annotated[str, typer.Argument(help="The function's name.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come, until Ctrl-C.")] = False,
    since: Annotated[str, typer.Option(help="How far back: 30s, 10m, 2h, 7d.")] = "1h",
    as_json: Annotated[bool, typer.Option("--json", help='Lines of JSON: {"atMs", "stream", "text"}.')] = False,
    endpoint: Annotated[str | None, typer.Option(help=ENDPOINT_HELP)] = None,
) -> None:
    """Print a function's log lines, oldest first."""
    since_ms = int((time.time() - _seconds(since)) * 1e3)
    address = endpoint_or_default(endpoint)
    query: dict[str, str | int] = {"group": _log_group(address, function), "sinceMs": since_ms}
    if follow:
        query["follow"] = 1
    try:
        for line in stream(address, "/_rie/logs", **query):
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


def _rendered(at_ms: int, text: str) -> str:
    """The time and the line; in a terminal what the platform says is dim, and errors are red."""
    at = time.strftime("%H:%M:%S", time.localtime(at_ms / 1e3)) + f".{at_ms % 1000:03d}"
    text = printable(text.replace("\r", "\n"))  # Python's runtime client joins the lines of a traceback with it
    if not sys.stdout.isatty():
        return f"{at} {text}"
    if text.startswith(PLATFORM):
        colour = RED if "Status: error" in text or "Status: timeout" in text else DIM
        return f"{DIM}{at}{RESET} {colour}{text}{RESET}"
    if text.startswith("[ERROR]") or "Task timed out" in text:
        return f"{DIM}{at}{RESET} {RED}{text}{RESET}"
    return f"{DIM}{at}{RESET} {text}"


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not like 30s, 10m, 2h or 7d", param_hint="--since")
    return float(found[1]) * UNITS[found[2]]
