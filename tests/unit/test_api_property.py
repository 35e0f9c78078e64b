"""Whatever is sent, no operation answers 500."""

from __future__ import annotations

import functools
import os
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import pytest
from botocore.model import Shape
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_api_world import ROLE, World, encoded, zipped

from rie.api.handlers import handlers
from rie.api.model import operation_model
from rie.api.parse import Parts, parse
from rie.api.routes import operations
from rie.api.validate import validate
from rie.errors import ServiceError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
# Names and values that lead past the front end, into the handlers.
TELLING = st.sampled_from(["f", "g", "f:$LATEST", "f:1", "$LATEST", "1", ROLE, "reg/app:1", "missing", "", "x" * 300])
ARN = "arn:aws:lambda:us-east-1:123456789012:function:f"
SANE = {
    "CallbackId": "e30=",
    "CheckpointToken": "e30=",
    "DurableExecutionArn": f"{ARN}:1/durable-execution/a/b",
    "Role": ROLE,
    "ImageUri": "reg/app:1",
    "PackageType": "Image",
    "Resource": ARN,
    "Policy": '{"Statement":{"Effect":"Allow","Principal":"*","Action":"lambda:*","Resource":"*"}}',
    "Code": {"ImageUri": "reg/app:1"},
    "Tags": {"team": "rie"},
    "Name": "live",
    "FunctionVersion": "$LATEST",
    "EventSourceArn": "arn:aws:sqs:us-east-1:123456789012:q",
    "BatchSize": 10,
    "Content": {"ZipFile": encoded(zipped())},
    "AllowedPublishers": {
        "SigningProfileVersionArns": ["arn:aws:signer:us-east-1:123456789012:/signing-profiles/p/abcdefghij"]
    },
    "Action": "lambda:GetLayerVersion",
    "Principal": "*",
    "CodeSigningConfigArn": f"arn:aws:lambda:us-east-1:123456789012:code-signing-config:csc-{'a' * 17}",
    "Arn": "arn:aws:lambda:us-east-1:123456789012:layer:l:1",
    "VersionNumber": "1",
    "UUID": "0e8a7bb0-51ae-4a40-a9a5-6a2b0b7b4c1d",
    "CapacityProviderName": "p",
    "PermissionsConfig": {"CapacityProviderOperatorRoleArn": ROLE},
    "VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": []},
}
# What can't succeed without an execution that runs is refused by its handler, and by nobody before.
FROM_HANDLERS = (b"Invalid checkpoint token", b"The callback has timed out")
EXAMPLES = int(os.environ.get("RIE_EXAMPLES", "150"))  # of each operation
MOSTLY = st.sampled_from([True] * 19 + [False])
HANDLED = sorted(handlers(World().catalog))


@functools.cache
def _likely(shape: Shape) -> st.SearchStrategy[Any]:
    """JSON values that are often what the shape wants."""
    kind = shape.type_name
    if kind == "structure":
        own = {name: _any(member) for name, member in shape.members.items()}
        required = {name: own.pop(name) for name in shape.required_members if name in own}
        optional = st.lists(st.sampled_from(sorted(own)), max_size=3, unique=True) if own else st.just([])
        return optional.flatmap(
            lambda names: st.fixed_dictionaries({**required, **{name: own[name] for name in names}})
        )
    if kind == "list":
        return st.lists(_any(shape.member), max_size=3)
    if kind == "map":
        return st.dictionaries(st.text(max_size=5) | st.just("AB"), _any(shape.value), max_size=3)
    if "enum" in shape.metadata:
        return st.sampled_from(shape.metadata["enum"])
    simple: dict[str, st.SearchStrategy[Any]] = {
        "boolean": st.booleans(),
        "integer": st.integers(-1, 11_000),
        "long": st.integers(),
        "double": st.floats(allow_nan=False, allow_infinity=False),
        "timestamp": st.floats(0, 2e9) | st.just("2025-11-25T02:26:54Z"),
        "blob": st.sampled_from(["", "UEs=", "%"]),
    }
    return simple[kind] if kind in simple else TELLING | st.text(max_size=20)


def _any(shape: Shape) -> st.SearchStrategy[Any]:
    return st.integers(0, 9).flatmap(lambda draw: JSON if draw == 0 else _likely(shape))


@st.composite
def requests(draw: st.DrawFn, operation: str) -> tuple[str, str, dict[str, str], Any]:
    """(method, path with query, headers, JSON body) of a call of this operation, sane or not."""
    model = operation_model(operation)
    path, _, fixed = model.http["requestUri"].partition("?")
    query, headers, body = [tuple(fixed.split("="))] if fixed else [], {}, {}
    members = model.input_shape.members if model.input_shape else {}
    odd = draw(st.just(set()) | st.sets(st.sampled_from(sorted(members)), max_size=2)) if members else set()
    for name, member in members.items():
        where, wire = member.serialization.get("location"), member.serialization.get("name", name)
        text = TELLING | st.text(max_size=10).filter(bool)
        if where == "uri":
            value = st.just("f" if wire.endswith("Name") else SANE.get(wire, ARN))
            path = path.replace(f"{{{wire}}}", quote(draw((value | text).filter(bool)), safe=""))
        elif where == "querystring" and name in SANE and draw(MOSTLY):
            query.append((wire, SANE[name]))
        elif where == "querystring" and (name in odd or name in model.input_shape.required_members):
            query += [(wire, value) for value in draw(st.lists(text | st.integers(-1, 60).map(str), max_size=2))]
        elif where == "querystring":
            continue
        elif where == "header":
            headers[wire] = "x"
        elif name in SANE and draw(MOSTLY):
            body[wire] = SANE[name]
        elif name in odd or name in model.input_shape.required_members:
            body[wire] = draw(_any(member))
    return model.http["method"], f"{path}?{urlencode(query)}", headers, body


@pytest.mark.parametrize("operation", operations())
def test_no_request_is_answered_with_500(operation: str) -> None:
    world = World()
    world.active()

    @settings(
        max_examples=EXAMPLES if operation in HANDLED else 5,
        deadline=None,
        derandomize=True,  # whether it reaches the handler must not be a matter of luck
        suppress_health_check=list(HealthCheck),
    )
    @given(requests(operation))
    def check(request: tuple[str, str, dict[str, str], Any]) -> None:
        method, path, headers, body = request
        response = world.call(method, path, body, **headers)
        assert response.status_code < 500 or (response.status_code == 501 and operation not in HANDLED), response.data
        reached.append(response.status_code != 400 or any(text in response.data for text in FROM_HANDLERS))
        world.settle()

    reached: list[bool] = []
    check()
    assert any(reached) or operation not in HANDLED, "none was sane enough to reach the handler"


@pytest.mark.parametrize("operation", HANDLED)
def test_no_body_is_answered_with_500(operation: str) -> None:
    world = World()
    model = operation_model(operation)
    path = model.http["requestUri"].replace("{FunctionName}", "f").replace("{Resource}", "r")

    @settings(max_examples=40, deadline=None)
    @given(st.binary(max_size=60) | JSON)
    def check(body: Any) -> None:
        assert world.call(model.http["method"], path, body).status_code < 500

    check()


@pytest.mark.parametrize("operation", operations())
def test_every_operations_parsing_and_validation_take_any_json(operation: str) -> None:
    model = operation_model(operation)
    shape = model.input_shape
    labels = {m.serialization["name"]: "f" for m in shape.members.values() if m.serialization.get("location") == "uri"}

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_likely(shape) if shape.members else st.just({}))
    def check(body: Any) -> None:
        try:
            document = orjson.dumps(body)
        except TypeError:  # integers past 64 bits, lone surrogates
            return
        try:
            validate(model, parse(model, Parts(labels, {}, {}, document)))
        except ServiceError as error:
            assert error.code in ("ValidationException", "SerializationException")

    check()
