"""`rie url`: give a function a URL that everybody may call, or one that asks for signatures."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

import typer

from rie.cli.client import ENDPOINT_HELP, CannotReach, endpoint_or_default, lambda_client

EXAMPLE = "Example: curl $(rie url hello --stream)"
# The statements that AWS's console adds. URLs made since October 2025 need the second one too (lambda.md §9.2); here
# they do where RIE_URL_NEEDS_INVOKE says so, and it does no harm elsewhere.
PUBLIC: tuple[dict[str, Any], ...] = (
    {
        "StatementId": "FunctionURLAllowPublicAccess",
        "Action": "lambda:InvokeFunctionUrl",
        "FunctionUrlAuthType": "NONE",
    },
    {
        "StatementId": "FunctionURLInvokeAllowPublicAccess",
        "Action": "lambda:InvokeFunction",
        "InvokedViaFunctionUrl": True,
    },
)


def url(
    function: Annotated[str, typer.Argument(help="Name or ARN of the function.")],
    qualifier: Annotated[str | None, typer.Option(help="An alias, for a URL of its own.")] = None,
    iam: Annotated[bool, typer.Option("--iam", help="Ask callers for a signature (AWS_IAM).")] = False,
    stream: Annotated[bool, typer.Option("--stream", help="Answer as the function writes, not at its end.")] = False,
    endpoint: Annotated[str | None, typer.Option(help=ENDPOINT_HELP)] = None,
) -> None:
    """Make a function's URL, or change the one it has, let everybody call it, and print it.

    With --iam nobody is let in by it: who may, his own policies and the function's say.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    address = endpoint_or_default(endpoint)
    named = {"FunctionName": function, **({"Qualifier": qualifier} if qualifier else {})}
    wanted = {"AuthType": "AWS_IAM" if iam else "NONE", "InvokeMode": "RESPONSE_STREAM" if stream else "BUFFERED"}
    try:
        client = lambda_client(address)
        try:
            made = client.create_function_url_config(**named, **wanted)
        except client.exceptions.ResourceConflictException:
            made = client.update_function_url_config(**named, **wanted)
        if not iam:
            _let_everybody_in(client, named)
    except (ClientError, BotoCoreError) as error:
        raise CannotReach(f"cannot give {function} a URL at {address}: {error}") from None
    typer.echo(made["FunctionUrl"])


def _let_everybody_in(client: Any, named: dict[str, str]) -> None:
    for statement in PUBLIC:
        with contextlib.suppress(client.exceptions.ResourceConflictException):  # it is there already
            client.add_permission(**named, Principal="*", **statement)
