"""The environment variables that a function sees under the manager (service specification §3.8)."""

from __future__ import annotations

from bootstrap.wire import PRIVATE_VARIABLES
from rie.model.function import Configuration, Function


def variables_for(
    function: Function, configuration: Configuration, log_stream: str, initialization_type: str = "on-demand"
) -> dict[str, str]:
    """The image's variables, then the user's, then those that nobody may override; the bootstrap adds defaults."""
    logging = configuration.logging
    image = configuration.image
    variables = {**(image.environment if image else {}), **(configuration.variables or {})}
    variables |= {
        "AWS_REGION": function.key.region,
        "AWS_DEFAULT_REGION": function.key.region,
        "AWS_LAMBDA_FUNCTION_NAME": function.key.name,
        "AWS_LAMBDA_FUNCTION_VERSION": function.version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(configuration.memory_mb),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(configuration.timeout_s),
        "AWS_LAMBDA_INITIALIZATION_TYPE": initialization_type,
        "AWS_LAMBDA_LOG_GROUP_NAME": logging.group or f"/aws/lambda/{function.key.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
    }
    if configuration.handler:
        variables["_HANDLER"] = configuration.handler
    if logging.format == "JSON":
        variables["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
        variables["AWS_LAMBDA_LOG_LEVEL"] = logging.application_level or "INFO"
    for name in PRIVATE_VARIABLES:
        variables.pop(name, None)  # they steer the bootstrap, and a function's variables are not to be trusted with it
    return variables
