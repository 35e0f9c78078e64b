"""Which endpoints there are: the one that runs beside the manager, and those that functions are told of."""

from __future__ import annotations

import os
from dataclasses import replace

from rie.cloud import child
from rie.cloud.child import Endpoint
from rie.engine import default
from rie.engine.base import Engine
from rie.iam.setup import are_roles_known_here
from rie.settings import Settings

LOGS = "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS"


def beside(settings: Settings) -> tuple[Endpoint, Settings]:
    """The endpoint to run beside the manager, and the settings that use it; boto3 has its own from the environment."""
    port, addresses, for_functions = child.place(settings.aws_port, settings.port + 1, settings.engine or default()[0])
    endpoint = Endpoint(port, addresses, settings.account, settings.data / "aws.log")
    os.environ["AWS_ENDPOINT_URL"] = endpoint.url
    return endpoint, replace(
        settings,
        function_endpoint_url=settings.function_endpoint_url or for_functions,
        # Those of its STS would be no keys of this manager's; it takes any itself.
        role_credentials="own" if settings.role_credentials == "auto" else settings.role_credentials,
    )


def told_to_functions(settings: Settings) -> dict[str, str]:
    """What functions may reach of this host's, by the variables that tell them so.

    This API is among it only where it asks everybody for a signature, and functions have credentials for one; or
    where whoever runs it says so.
    """
    found = {"AWS_ENDPOINT_URL": settings.function_endpoint_url or ""}
    if settings.port and are_roles_known_here(settings, os.environ):
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        found["AWS_ENDPOINT_URL_LAMBDA"] = f"http://{host}:{settings.port}"
    if settings.function_lambda_url:
        found["AWS_ENDPOINT_URL_LAMBDA"] = settings.function_lambda_url
    if "AWS_ENDPOINT_URL_LAMBDA" in found and not settings.function_endpoint_url:
        # Nobody else has the groups that functions log to; boto3's name for CloudWatch Logs.
        found[LOGS] = found["AWS_ENDPOINT_URL_LAMBDA"]
    return {name: url for name, url in found.items() if url}


def variables_inside(settings: Settings, engine: Engine) -> dict[str, str]:
    """The same as functions see them from within their sandboxes."""
    variables = {name: engine.url_inside(url) for name, url in told_to_functions(settings).items()}
    if engine.name == "docker" and settings.is_on_loopback and not settings.function_lambda_url:
        for name in ("AWS_ENDPOINT_URL_LAMBDA", LOGS):
            variables.pop(name, None)  # nobody listens where its sandboxes see this host
    return variables
