"""What log groups and streams are called (service specification §11.1)."""

from __future__ import annotations

import re
import time

from rie.model.function import Configuration, Function, FunctionKey

_STREAM = re.compile(r"\d{4}/\d\d/\d\d/([\w-]*)\[[^\]]*\][0-9a-f]*", re.ASCII)


def log_group(key: FunctionKey, configuration: Configuration) -> str:
    """The group that a function's environments write to."""
    return configuration.logging.group or default_group(key.name)


def default_group(function_name: str) -> str:
    """The group of a function that was given none."""
    return f"/aws/lambda/{function_name}"


def log_stream(function: Function, configuration: Configuration, environment_id: str) -> str:
    """The stream of one environment that begins now: in a group of the function's own, or in one that others share."""
    is_own = log_group(function.key, configuration) == default_group(function.key.name)
    name = "" if is_own else function.key.name
    return f"{time.strftime('%Y/%m/%d', time.gmtime())}/{name}[{function.version}]{environment_id}"


def function_in(stream: str) -> str:
    """The function that a stream of a shared group names, "" in a group of a function's own."""
    found = _STREAM.fullmatch(stream)
    return found[1] if found else ""
