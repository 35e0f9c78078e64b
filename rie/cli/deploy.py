"""`rie deploy`: a SAM or CloudFormation template made into running functions, queues, mappings and URLs."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rie.cli.client import ENDPOINT_HELP, endpoint_or_default
from rie.cli.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

    from rie.deploy.plan import Plan, Step
    from rie.deploy.stack import Stack

EXAMPLE = "Example: rie deploy template.yaml --parameter Stage=dev --dry-run"
MARKS = {
    "create": "[green]+ create [/]",
    "update": "[yellow]~ update [/]",
    "replace": "[magenta]± replace[/]",
    "delete": "[red]- delete [/]",
    "forget": "[dim]· leave  [/]",
    "keep": "[dim]= keep   [/]",
}


def deploy(
    template: Annotated[Path, typer.Argument(help="The template, YAML or JSON.")] = Path("template.yaml"),
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="May be repeated.")
    ] = None,
    stack_name: Annotated[
        str | None, typer.Option(help="What resources are named after. [default: the template's directory]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, touch nothing.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Delete what the stack has made.")] = False,
    registry: Annotated[
        str | None, typer.Option(metavar="HOST[:PORT]/PREFIX", help="Where images of Dockerfiles are pushed.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="What the stack has made. [default: .rie/STACK.json beside the template]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON document instead of text.")] = False,
    endpoint: Annotated[str | None, typer.Option(help=ENDPOINT_HELP)] = None,
    region: Annotated[str | None, typer.Option(help="[default: AWS_DEFAULT_REGION, or us-east-1]")] = None,
) -> None:
    """Deploy a template: create what is new, change what differs, delete what is no longer there.

    Functions go to the manager, everything else to the endpoint of AWS_ENDPOINT_URL. Whatever the template has that
    can't be made is named before anything is touched. A deployment that was cut off goes on when it is run again.

    Exit status: 0 done, 1 stopped on its way, 2 the template or a parameter is wrong and nothing was touched.
    """
    from rie.deploy.clients import Clients
    from rie.deploy.desired import desire
    from rie.deploy.stack import Stack
    from rie.deploy.state import StateFile
    from rie.deploy.template import read, refuse

    stack = _stack_name(stack_name, template)
    given = _parameters(parameter or [])
    path = state or template.resolve().parent / ".rie" / f"{stack}.json"
    clients = Clients(endpoint_or_default(endpoint), region or _region())
    written = None if delete else read(template)
    clients.learn_account()
    desired = desire(written, stack, given, clients, registry) if written else None
    file = StateFile(path, stack)
    with file.alone():
        report = _Report(as_json)
        running = Stack(file, clients, report.step)
        gone = running.refresh()
        if desired is not None:
            refuse(template.name, running.occupied(desired))
        plan = running.plan(desired)
        if dry_run:
            report.plan(stack, plan, gone)
            return
        report.begins(stack, plan, gone)
        try:
            done = running.apply(desired)
        finally:
            report.close()
        report.ends(running, done)


def _stack_name(given: str | None, template: Path) -> str:
    name = given or re.sub(r"[^A-Za-z0-9-]+", "-", template.resolve().parent.name).strip("-") or "stack"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,127}", name):
        what = "a letter, then letters, digits and hyphens, 128 at most"
        raise typer.BadParameter(f"cannot name a stack {name!r}: {what}; give one with --stack-name")
    return name


def _parameters(given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for name, equals, _ in pairs:
        if not equals:
            raise typer.BadParameter(f"--parameter {name}: NAME=VALUE is wanted")
    return {name: value for name, _, value in pairs}


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


class _Report:
    """What a person, or with `as_json` a script, is told."""

    def __init__(self, as_json: bool) -> None:
        from rich.console import Console

        self._as_json = as_json
        self._console: Console = Console(soft_wrap=True, highlight=False)
        self._status = self._console.status("") if self._console.is_terminal and not as_json else None

    def plan(self, stack: str, plan: Plan, gone: list[str]) -> None:
        """What would be done."""
        if self._as_json:
            self._print_json({"stack": stack, "plan": [_step(step) for step in plan.steps], "gone": gone})
            return
        self._missing(gone)
        for step in plan.steps:
            self._line(step)
        self._console.print(f"{stack}: {len(plan.changes)} of {len(plan.steps)} steps would change something")

    def begins(self, stack: str, plan: Plan, gone: list[str]) -> None:
        """A deployment starts."""
        if self._as_json:
            return
        self._missing(gone)
        if not plan.changes:
            self._console.print(f"{stack}: nothing to change")
        if self._status is not None:
            self._status.start()

    def step(self, step: Step, is_done: bool) -> None:
        """A step begins, or is done."""
        if self._as_json or step.action == "keep":
            return
        if is_done:
            self._line(step)
        elif self._status is not None:
            self._status.update(f"{step.action} {step.logical_id} ({step.type}) …")

    def close(self) -> None:
        """No more steps."""
        if self._status is not None:
            self._status.stop()

    def ends(self, stack: Stack, done: list[Step]) -> None:
        """What is there now."""
        state = stack.state
        if self._as_json:
            resources = {
                key: {"type": held.type, "physicalId": held.physical_id} for key, held in state.resources.items()
            }
            steps = [_step(step) for step in done]
            self._print_json({"stack": state.stack, "done": steps, "resources": resources, "outputs": state.outputs})
            return
        self._console.print(f"{state.stack}: {len(done)} changed, {len(state.resources)} resources")
        for name, value in state.outputs.items() if state.resources else ():
            self._console.print(f"{name} = {printable(str(value))}", markup=False)

    def _missing(self, gone: list[str]) -> None:
        if gone:
            self._console.print(f"no longer there, and made again: {', '.join(gone)}")

    def _line(self, step: Step) -> None:
        changed = f" ({', '.join(step.changed)})" if step.changed else ""
        self._console.print(f"{MARKS[step.action]} {step.logical_id} {step.type}{changed}")

    def _print_json(self, document: dict[str, Any]) -> None:
        typer.echo(json.dumps(document))


def _step(step: Step) -> dict[str, Any]:
    return {
        "action": step.action,
        "logicalId": step.logical_id,
        "type": step.type,
        "changed": list(step.changed),
        "physicalId": step.physical_id,
    }
