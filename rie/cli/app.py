"""The `rie` command: its verbs, and how errors end it."""

from __future__ import annotations

import sys

import typer

from rie import __version__
from rie.cli import deploy, doctor, images, invoke, keys, logs, prune, ps, pull, serve, url
from rie.cli.client import CannotReach
from rie.errors import RieError, SettingsError, TemplateInvalid

EXIT_ERROR = 1  # what was asked for did not happen
EXIT_USAGE = 2  # it was asked for wrongly

app = typer.Typer(
    name="rie",
    help="Lambda for container images, on a machine of your own.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=serve.EXAMPLE)(serve.serve)
app.command(epilog=invoke.EXAMPLE)(invoke.invoke)
app.command(epilog=deploy.EXAMPLE)(deploy.deploy)
app.command(epilog=ps.EXAMPLE)(ps.ps)
app.command(epilog=logs.EXAMPLE)(logs.logs)
app.command(epilog=url.EXAMPLE)(url.url)
app.add_typer(keys.app, name="keys", epilog=keys.EXAMPLE)
app.command(epilog=pull.EXAMPLE)(pull.pull)
app.command(epilog=images.EXAMPLE)(images.images)
app.command(epilog=prune.EXAMPLE)(prune.prune)
app.command(epilog=doctor.EXAMPLE)(doctor.doctor)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"rie {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Print the version."),
) -> None:
    """Lambda for container images, on a machine of your own."""


def main() -> None:
    """Run the command; errors of ours are one line, never a traceback."""
    try:
        app()
    except (SettingsError, TemplateInvalid) as error:
        print(f"rie: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except (RieError, CannotReach) as error:
        print(f"rie: {error}", file=sys.stderr)
        sys.exit(EXIT_ERROR)
    except BrokenPipeError:
        sys.exit(EXIT_ERROR)
