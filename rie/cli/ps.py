"""`rie ps`: the execution environments of a running manager, and the concurrency of its functions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rie.cli.client import ENDPOINT_HELP, endpoint_or_default, get

if TYPE_CHECKING:
    from rich.table import Table

EXAMPLE = "Example: rie ps --json | jq '.[] | select(.state == \"busy\")'"
COLOURS = {"busy": "green", "idle": "cyan", "starting": "yellow", "initialising": "yellow"}


def ps(
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list instead of a table.")] = False,
    functions: Annotated[bool, typer.Option("--functions", help="Only the functions' concurrency.")] = False,
    endpoint: Annotated[str | None, typer.Option(help=ENDPOINT_HELP)] = None,
) -> None:
    """List the execution environments, busy and idle, and how much concurrency each function uses.

    What a function needs on average, over the last minute, is its requests per second times their mean duration.
    """
    url = endpoint_or_default(endpoint)
    if as_json:
        typer.echo(json.dumps(get(url, "/_rie/concurrency" if functions else "/_rie/environments")))
        return
    if not functions:
        _print(_environments_table(get(url, "/_rie/environments")))
        typer.echo()
    _print(_functions_table(get(url, "/_rie/concurrency")))


def _environments_table(environments: list[dict[str, Any]]) -> Table:
    left = ("ENVIRONMENT", "FUNCTION", "VERSION", "STATE")
    table = _table(left, ("MEMORY", "MAX USED", "INVOCATIONS", "AGE", "IDLE"))
    for row in environments:
        colour = COLOURS.get(row["state"], "white")
        table.add_row(
            row["environment"][:12],
            row["function"],
            row["version"],
            f"[{colour}]{row['state']}[/]",
            f"{row['memoryMb']} MB",
            f"{row['maxMemoryMb']} MB" if row["maxMemoryMb"] else "-",
            str(row["invocations"]),
            _duration(row["ageS"]),
            _duration(row["idleS"]) if row["state"] == "idle" else "-",
        )
    return table


def _functions_table(functions: list[dict[str, Any]]) -> Table:
    right = ("IN USE", "RESERVED", "PROVISIONED", "SPILLED", "THROTTLED", "REQUESTS/S", "x DURATION", "= CONCURRENCY")
    table = _table(("FUNCTION",), right)
    for row in functions:
        throttled = row["throttled"]
        table.add_row(
            row["function"],
            str(row["inUse"]),
            "-" if row["reserved"] is None else str(row["reserved"]),
            str(row["provisioned"] or "-"),
            str(row["spilledOver"] or "-"),
            f"[red]{throttled}[/]" if throttled else "-",
            f"{row['requestsPerS']:.2f}",
            f"{row['meanDurationMs']:.1f} ms",
            f"{row['concurrency']:.2f}",
        )
    return table


def _table(left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in left:
        table.add_column(heading, no_wrap=True)
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    console = Console()
    # In a pipe there is no width to keep to: a line for each row, whole.
    console.print(table) if console.is_terminal else Console(width=200).print(table)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f}s"
    if seconds < 3600:
        return f"{seconds // 60:.0f}m{seconds % 60:02.0f}s"
    return f"{seconds // 3600:.0f}h{seconds % 3600 // 60:02.0f}m"
