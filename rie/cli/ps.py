"""`rie ps`: the execution environments of a running manager."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from rie.cli.client import ENDPOINT_HELP, endpoint_or_default, get

EXAMPLE = "Example: rie ps --json | jq '.[] | select(.state == \"busy\")'"
COLOURS = {"busy": "green", "idle": "cyan", "starting": "yellow", "initialising": "yellow"}


def ps(
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list instead of a table.")] = False,
    endpoint: Annotated[str | None, typer.Option(help=ENDPOINT_HELP)] = None,
) -> None:
    """List the execution environments, busy and idle."""
    environments = get(endpoint_or_default(endpoint), "/_rie/environments")
    if as_json:
        typer.echo(json.dumps(environments))
        return
    _print_table(environments)


def _print_table(environments: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("ENVIRONMENT", "FUNCTION", "VERSION", "STATE"):
        table.add_column(heading, no_wrap=True)
    for heading in ("MEMORY", "MAX USED", "INVOCATIONS", "AGE", "IDLE"):
        table.add_column(heading, justify="right", no_wrap=True)
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
    console = Console()
    # In a pipe there is no width to keep to: a line for each environment, whole.
    console.print(table) if console.is_terminal else Console(width=200).print(table)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f}s"
    if seconds < 3600:
        return f"{seconds // 60:.0f}m{seconds % 60:02.0f}s"
    return f"{seconds // 3600:.0f}h{seconds % 3600 // 60:02.0f}m"
