"""The model's constraints on a request's members, in the front end's words (lambda.md §0.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cache
from typing import Any

from botocore.model import OperationModel, Shape

from rie.api.parse import Params, lower_camel
from rie.errors import ServiceError

NOT_NULL = "Member must not be null"
_SEPARATORS = "\\u0020\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"  # Unicode category Z


def validate(operation: OperationModel, params: Params) -> None:
    """Raises one ServiceError (ValidationException) that lists every breach, in the order of the model's members."""
    if operation.input_shape is None:
        return
    found = list(_of_structure(operation.input_shape, params, ""))
    if found:
        plural = "error" if len(found) == 1 else "errors"
        listed = "; ".join(found)
        raise ServiceError("ValidationException", f"{len(found)} validation {plural} detected: {listed}")


def breach(value: Any, path: str, constraint: str) -> str:
    """One entry of the list."""
    shown = "null" if value is None else f"'{printed(value)}'"
    return f"Value {shown} at '{path}' failed to satisfy constraint: {constraint}"


def printed(value: Any) -> str:
    """A value as error texts show it: lists as [a, b], maps as {k=v}."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(printed, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}={printed(each)}' for name, each in value.items())}}}"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _of_structure(shape: Shape, value: dict[str, Any], path: str) -> Iterator[str]:
    for name, member in shape.members.items():
        at = f"{path}.{lower_camel(name)}" if path else lower_camel(name)
        if name in value:
            yield from _of_value(member, value[name], at)
        elif name in shape.required_members:
            yield breach(None, at, NOT_NULL)


def _of_value(shape: Shape, value: Any, path: str) -> Iterator[str]:
    for constraint in broken(shape, value):
        yield breach(value, path, constraint)
    if shape.type_name == "structure":
        yield from _of_structure(shape, value, path)
    elif shape.type_name == "list":
        yield from _of_elements(shape, value, path)
    elif shape.type_name == "map":
        yield from _of_entries(shape, value, path)


def _of_elements(shape: Shape, value: list[Any], path: str) -> Iterator[str]:
    """Structures in a list are named one by one; of simple elements one entry tells the list's rule."""
    if shape.member.type_name == "structure":
        for number, each in enumerate(value, 1):
            yield from _of_member(shape.member, each, f"{path}.{number}.member")
    elif not all(_holds(shape.member, each) for each in value):
        yield breach(value, path, f"Member must satisfy constraint: [{_rule(shape.member)}]")


def _of_entries(shape: Shape, value: dict[str, Any], path: str) -> Iterator[str]:
    if not all(_holds(shape.key, name) for name in value):
        yield breach(value, path, f"Map keys must satisfy constraint: [{_rule(shape.key)}]")
    if shape.value.type_name == "structure":
        for name, each in value.items():
            yield from _of_member(shape.value, each, f"{path}.{name}.member")
    elif not all(_holds(shape.value, each) for each in value.values()):
        yield breach(value, path, f"Map value must satisfy constraint: [{_rule(shape.value)}]")


def _of_member(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if value is None:
        yield breach(None, path, NOT_NULL)
    else:
        yield from _of_value(shape, value, path)


def _holds(shape: Shape, value: Any) -> bool:
    return value is not None and not any(_of_value(shape, value, ""))


def _rule(shape: Shape) -> str:
    """All that an element must meet, whether the one at hand does or not."""
    own = [text for text, _ in _constraints(shape)]
    if shape.type_name == "list":
        own.append(f"Member must satisfy constraint: [{_rule(shape.member)}]")
    return ", ".join([*own, NOT_NULL])


def broken(shape: Shape, value: Any) -> Iterable[str]:
    """The constraints of one shape that a value breaks, its members' and elements' aside."""
    return [text for text, kind in _constraints(shape) if not _meets(shape, kind, value)]


def _constraints(shape: Shape) -> list[tuple[str, str]]:
    """(text, metadata key) of each constraint, in the order in which they are told."""
    rules = shape.metadata
    measured = "value" if shape.type_name in ("integer", "long", "double") else "length"
    told = []
    if "max" in rules:
        told.append((f"Member must have {measured} less than or equal to {rules['max']}", "max"))
    if "min" in rules:
        told.append((f"Member must have {measured} greater than or equal to {rules['min']}", "min"))
    if "pattern" in rules:
        told.append((f"Member must satisfy regular expression pattern: {rules['pattern']}", "pattern"))
    if "enum" in rules:
        told.append((f"Member must satisfy enum value set: [{', '.join(rules['enum'])}]", "enum"))
    return told


def _meets(shape: Shape, kind: str, value: Any) -> bool:
    rule = shape.metadata[kind]
    if kind == "pattern":
        return _pattern(rule).fullmatch(value) is not None
    if kind == "enum":
        return value in rule
    measured = value if shape.type_name in ("integer", "long", "double") else len(value)
    return bool(measured <= rule if kind == "max" else measured >= rule)


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """The service's Java pattern in Python's dialect."""
    if "\\p{" not in text:
        return re.compile(text, re.ASCII)  # Java's \d and \s know no Unicode
    # Tag keys and values. \w is letters, numbers and "_", which their class holds anyway.
    return re.compile(text.replace("\\p{L}", "\\w").replace("\\p{N}", "\\w").replace("\\p{Z}", _SEPARATORS))
