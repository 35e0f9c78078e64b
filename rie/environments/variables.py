"""The environment variables that a function sees under the manager (service specification §3.8)."""

from __future__ import annotations

from bootstrap.wire import PRIVATE_VARIABLES
from rie.logs.names import log_group
from rie.model.function import Configuration, Function

SYSTEM_LOG_LEVEL = "RIE_SYSTEM_LOG_LEVEL"  # the bootstrap's alone: the function doesn't see it


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
        "AWS_LAMBDA_LOG_GROUP_NAME": log_group(function.key, configuration),
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
    }
    if configuration.handler:
        variables["_HANDLER"] = configuration.handler
    # What says how the log looks is LoggingConfig, whatever the image or the function's variables say.
    variables.pop("AWS_LAMBDA_LOG_FORMAT", None)
    variables.pop("AWS_LAMBDA_LOG_LEVEL", None)
    if logging.format == "JSON":
        variables["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
        variables["AWS_LAMBDA_LOG_LEVEL"] = logging.application_level or "INFO"
    for name in PRIVATE_VARIABLES:
        variables.pop(name, None)  # they steer the bootstrap, and a function's variables are not to be trusted with it
    if logging.format == "JSON":
        variables[SYSTEM_LOG_LEVEL] = logging.system_level or "INFO"
    return variables
