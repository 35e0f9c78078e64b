"""`rie invoke`: call a function and show what it answered."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Annotated

import typer

from rie.cli.client import ENDPOINT_HELP, CannotReach, endpoint_or_default, lambda_client
from rie.cli.terminal import printable

EXAMPLE = 'Example: rie invoke hello \'{"name": "Ada"}\' --log'
EXIT_FUNCTION_ERROR = 3
READ_LIMIT_S = 905  # the longest that a function may run, and a little


def invoke(
    function: Annotated[str, typer.Argument(help="Name or ARN, with a qualifier if wanted (name:1).")],
    payload: Annotated[str, typer.Argument(help="The event: JSON, @file, or - for standard input.")] = "{}",
    log: Annotated[bool, typer.Option("--log", help="Show the end of the invocation's log too.")] = False,
    endpoint: Annotated[str | None, typer.Option(help=ENDPOINT_HELP)] = None,
) -> None:
    """Invoke a function synchronously; its answer goes to standard output, its log to standard error.

    Exit status: 0 the function answered, 3 it failed (its error is the answer), 1 it could not be invoked.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    address = endpoint_or_default(endpoint)
    try:
        answer = lambda_client(address, READ_LIMIT_S).invoke(
            FunctionName=function, Payload=_payload(payload), LogType="Tail" if log else "None"
        )
        body = answer["Payload"].read()
    except (ClientError, BotoCoreError) as error:
        raise CannotReach(f"cannot invoke {function} at {address}: {error}") from None
    if log:
        tail = base64.b64decode(answer.get("LogResult", "")).decode("utf-8", "replace")
        sys.stderr.write(printable(tail) if sys.stderr.isatty() else tail)
        sys.stderr.flush()
    if sys.stdout.isatty():
        body = printable(body.decode("utf-8", "replace")).encode()
    sys.stdout.buffer.write(body + b"\n")
    sys.stdout.flush()
    if "FunctionError" in answer:
        raise typer.Exit(EXIT_FUNCTION_ERROR)


def _payload(text: str) -> bytes:
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_bytes()
        except OSError as error:
            raise typer.BadParameter(f"cannot read {text[1:]}: {error.strerror}") from None
    return text.encode()
