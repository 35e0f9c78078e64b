"""`rie keys`: the access keys that callers of a manager with --auth sign with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

EXAMPLE = "Example: rie keys add ada --policy invoke-only.json, then: rie serve --auth"
DATA_HELP = "The manager's data directory, where keys.json is. [default: as rie serve]"
KEYS_HELP = "Another file of keys (also RIE_KEYS)."

app = typer.Typer(help="Make, list and remove the access keys of `rie serve --auth`.", no_args_is_help=True)

Data = Annotated[Path | None, typer.Option(help=DATA_HELP)]
KeysFile = Annotated[Path | None, typer.Option("--keys", help=KEYS_HELP)]


@app.command(epilog=EXAMPLE)
def add(
    user: Annotated[str, typer.Argument(help="Whose key it is: the user's name in arn:aws:iam::…:user/NAME.")],
    account: Annotated[str | None, typer.Option(help="The user's account. [default: the manager's]")] = None,
    policy: Annotated[
        list[Path] | None,
        typer.Option(help="An IAM policy document; may be repeated. [default: everything in the account]"),
    ] = None,
    service: Annotated[
        str | None, typer.Option(help="The key of a service that pushes events: s3.amazonaws.com.")
    ] = None,
    data: Data = None,
    keys: KeysFile = None,
) -> None:
    """Make a key and print it as the lines of an environment, or of a file for `docker run --env-file`.

    A running manager knows it within a second.
    """
    from rie.errors import SettingsError
    from rie.iam.keys import read_keys
    from rie.iam.setup import add_key

    settings = _settings(data, keys)
    members: dict[str, Any] = {}
    if account:
        members["account"] = account
    if service:
        members["service"] = service
    if policy:
        members["policies"] = [_document(path) for path in policy]
    before = settings.keys_path.read_bytes() if settings.keys_path.exists() else None
    access_key = add_key(settings, user, **members)
    try:
        secret = read_keys(settings.keys_path, settings.account).keys[access_key].secret
    except SettingsError:
        if before is None:
            settings.keys_path.unlink()
        else:
            settings.keys_path.write_bytes(before)
        raise
    typer.echo(f"AWS_ACCESS_KEY_ID={access_key}\nAWS_SECRET_ACCESS_KEY={secret}")


@app.command("list", epilog="Example: rie keys list --json")
def show(
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list instead of lines.")] = False,
    data: Data = None,
    keys: KeysFile = None,
) -> None:
    """List the keys: id and whose it is, never the secret."""
    from rie.iam.keys import read_keys

    settings = _settings(data, keys)
    known = read_keys(settings.keys_path, settings.account).keys if settings.keys_path.exists() else {}
    rows = [_row(access_key, each.caller) for access_key, each in known.items()]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        typer.echo(f"{row['accessKey']}  {row['caller']}{'  limited by policies' if row['limited'] else ''}")


@app.command(epilog="Example: rie keys remove AKIAIOSFODNN7EXAMPLE")
def remove(
    access_key: Annotated[str, typer.Argument(help="The id of the key.")],
    data: Data = None,
    keys: KeysFile = None,
) -> None:
    """Remove a key; requests signed with it are refused within a second."""
    from rie.errors import SettingsError
    from rie.iam.keys import read_document, write_document

    path = _settings(data, keys).keys_path
    document = read_document(path) if path.exists() else {}
    if access_key not in document.get("keys", {}):
        raise SettingsError(f"cannot remove {access_key}: it is not in {path}")
    del document["keys"][access_key]
    write_document(path, document)


def _row(access_key: str, caller: Any) -> dict[str, Any]:
    limited = not caller.is_trusted
    return {"accessKey": access_key, "caller": caller.arn, "account": caller.account, "limited": limited}


def _settings(data: Path | None, keys: Path | None) -> Any:
    from rie import settings

    return settings.read(
        {name: value for name, value in os.environ.items() if name in ("RIE_DATA", "RIE_KEYS", "RIE_ACCOUNT")},
        data=data.absolute() if data else None,
        keys=keys.absolute() if keys else None,
    )


def _document(path: Path) -> Any:
    from rie.errors import SettingsError

    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot use the policy {path}: {error}") from None
