"""What a rule's target wants its function to be given: the event, a part of it, or a text of it; pure (§10.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

_PLACEHOLDER = re.compile(r"<([A-Za-z0-9_.-]+)>")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]|\['([^']+)'\]")

Json = Any


def payload_of(target: Mapping[str, Any], event: Mapping[str, Any], rule_arn: str) -> bytes:
    """`target` as PutTargets takes it: at most one of Input, InputPath and InputTransformer, each replaces it all."""
    if target.get("Input"):
        return str(target["Input"]).encode()
    if target.get("InputPath"):
        return orjson.dumps(at_path(event, target["InputPath"]))
    transformer = target.get("InputTransformer")
    if transformer:
        return transformed(transformer, event, rule_arn)
    return orjson.dumps(event)


def at_path(event: Json, path: str) -> Json:
    """The value at `$.detail.items[0]`; None where there is none."""
    if not path.startswith("$"):
        return None
    found = event
    for name, index, quoted in _STEP.findall(path[1:]):
        if index:
            found = found[int(index)] if isinstance(found, list) and int(index) < len(found) else None
        else:
            found = found.get(name or quoted) if isinstance(found, Mapping) else None
    return found


def transformed(transformer: Mapping[str, Any], event: Mapping[str, Any], rule_arn: str) -> bytes:
    """The template with its placeholders filled: bare inside a JSON string, as JSON anywhere else."""
    values = {name: at_path(event, path) for name, path in (transformer.get("InputPathsMap") or {}).items()}
    values |= {
        "aws.events.rule-arn": rule_arn,
        "aws.events.rule-name": rule_arn.rpartition("/")[2],
        "aws.events.event.ingestion-time": event.get("time"),
        "aws.events.event": {name: value for name, value in event.items() if name != "detail"},
        "aws.events.event.json": event,
    }
    template = str(transformer.get("InputTemplate", ""))
    made: list[str] = []
    last = 0
    in_string = False
    for found in _PLACEHOLDER.finditer(template):
        between = template[last : found.start()]
        in_string ^= _quotes(between) % 2 == 1
        made += [between, _filled(found, values, in_string=in_string)]
        last = found.end()
    text = "".join([*made, template[last:]])
    return text.encode() if _is_json(text) else orjson.dumps(text)


def _filled(found: re.Match[str], values: Mapping[str, Json], *, in_string: bool) -> str:
    if found[1] not in values:
        return found[0]
    value = values[found[1]]
    if not in_string:
        return "" if value is None else orjson.dumps(value).decode()
    text = "" if value is None else value if isinstance(value, str) else orjson.dumps(value).decode()
    return orjson.dumps(text).decode()[1:-1]


def _quotes(text: str) -> int:
    return text.replace('\\"', "").count('"')


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
