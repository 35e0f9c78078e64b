"""What a type of resource is: which properties it has, and how it is made, changed, found and deleted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rie.deploy.clients import Clients
from rie.deploy.state import Held

_GONE = ("NotFound", "NoSuch", "NonExistent", "DoesNotExist", "404")


@dataclass(frozen=True, slots=True)
class Made:
    """A resource that is there: what `Ref` and `Fn::GetAtt` give of it."""

    physical_id: str
    attributes: dict[str, Any] = field(default_factory=dict)


class ResourceType:
    """One type; stateless. Every method may raise botocore's errors.

    `known`: the properties that are understood; `replacing`: those that can't be changed of one that is there;
    `attributes`: what `Fn::GetAtt` gives; `named_by`: the property that gives its name, where it has one, of at most
    `longest_name` letters; `is_deleted_first`: of one that is replaced, the old can't be there beside the new.
    """

    type: ClassVar[str]
    service: ClassVar[str] = "lambda"
    known: ClassVar[frozenset[str]]
    required: ClassVar[frozenset[str]] = frozenset()
    replacing: ClassVar[frozenset[str]] = frozenset()
    attributes: ClassVar[frozenset[str]] = frozenset({"Arn"})
    named_by: ClassVar[str | None] = None
    is_deleted_first: ClassVar[bool] = False
    longest_name: ClassVar[int] = 64

    def name(self, chosen: str, properties: Mapping[str, Any]) -> str:
        """What it is called where the template doesn't say; `chosen` is its stack's and its own name."""
        return chosen

    def check(self, properties: dict[str, Any]) -> list[str]:
        """What is wrong with properties that are known and complete, seen before anything is made."""
        return []

    def create(self, clients: Clients, name: str, properties: dict[str, Any]) -> Made:
        """Make it."""
        raise NotImplementedError

    def update(self, clients: Clients, held: Held, properties: dict[str, Any], changed: Sequence[str]) -> Made:
        """Change one that is there; of one whose creation was cut off, every property counts as changed.

        Types whose every property is `replacing` are complete if they are there.
        """
        return Made(held.physical_id, dict(held.attributes))

    def delete(self, clients: Clients, held: Held) -> None:
        """Delete it; of one that is gone, botocore's error may be raised."""
        raise NotImplementedError

    def find(self, clients: Clients, held: Held) -> Made | None:
        """What there is of one that was made, or begun (by its name); None: it is gone."""
        raise NotImplementedError


def answer_of(ask: Callable[..., Any], **parameters: Any) -> Any | None:
    """What is answered, None if the answer is that there is no such thing."""
    from botocore.exceptions import ClientError

    try:
        return ask(**parameters)
    except ClientError as error:
        if is_gone(error):
            return None
        raise


def is_gone(error: Exception) -> bool:
    """Whether an error of botocore's says that a resource isn't there."""
    response = getattr(error, "response", {})
    code = str(response.get("Error", {}).get("Code", ""))
    return any(part in code for part in _GONE)


def shaped(client: Any, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with the types that the operation wants: in a template, "30" and true may be numbers and texts."""
    shape = client.meta.service_model.operation_model(operation).input_shape
    return dict(_shape(dict(parameters), shape))


def _shape(value: Any, shape: Any) -> Any:
    if shape.type_name == "structure" and isinstance(value, dict):
        members = shape.members
        return {key: _shape(each, members[key]) if key in members else each for key, each in value.items()}
    if shape.type_name == "list" and isinstance(value, list):
        return [_shape(each, shape.member) for each in value]
    if shape.type_name == "map" and isinstance(value, dict):
        return {key: _shape(each, shape.value) for key, each in value.items()}
    if shape.type_name in ("integer", "long") and isinstance(value, str) and value.lstrip("-").isdigit():
        return int(value)
    if shape.type_name == "boolean" and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if shape.type_name == "string" and not isinstance(value, str):
        return text(value)
    return value


def text(value: Any) -> str:
    """A value as APIs take it in a text: documents as JSON, true and false in small letters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True)
    return str(value)


def only(properties: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Those of the properties that are given."""
    return {name: properties[name] for name in names if name in properties}


def tags(properties: Mapping[str, Any]) -> dict[str, str]:
    """Tags by key, of either form that templates have."""
    given = properties.get("Tags") or {}
    if isinstance(given, dict):
        return {key: text(value) for key, value in given.items()}
    return {each["Key"]: text(each["Value"]) for each in given}


def tag_list(properties: Mapping[str, Any]) -> list[dict[str, str]]:
    """Tags as a list of Key and Value."""
    return [{"Key": key, "Value": value} for key, value in tags(properties).items()]
