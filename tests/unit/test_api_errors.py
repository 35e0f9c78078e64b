"""Names, ARNs, validation grammar and error forms (lambda.md §0.2, §0.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from test_api_world import ARN, FUNCTIONS, World, breach, failure, refusal

from rie.api.context import signer
from rie.api.errors import as_service_error, render_error
from rie.api.model import service_model
from rie.api.service import create_app
from rie.arn import FUNCTION_NAME_PATTERN, QUALIFIER_PATTERN, parse_function_reference
from rie.errors import HostFault, ServiceError, StoreFailed
from rie.model.function import FunctionKey


@dataclass(frozen=True)
class Here:
    account: str = "123456789012"
    region: str = "us-east-1"


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("written", "qualifier", "expected"),
    [
        ("f", None, None),
        ("f", "1", "1"),
        ("f:1", None, "1"),
        ("f:1", "1", "1"),
        ("f:$LATEST", None, "$LATEST"),
        ("f:$LATEST.PUBLISHED", None, "$LATEST.PUBLISHED"),
        ("function:f", None, None),
        ("function:f:live", None, "live"),
        ("123456789012:function:f", None, None),
        ("123456789012:function:f:2", None, "2"),
        ("123456789012:f", None, None),
        ("us-east-1:123456789012:function:f", None, None),
        (f"{ARN}f", None, None),
        (f"{ARN}f:live", "live", "live"),
        (f"{ARN}f:$LATEST", None, "$LATEST"),
    ],
)
def test_every_form_of_a_name_is_read(written: str, qualifier: str | None, expected: str | None) -> None:
    key = FunctionKey("123456789012", "us-east-1", "f")
    assert parse_function_reference(written, qualifier, Here()) == (key, expected)


@pytest.mark.parametrize(
    ("written", "qualifier", "code", "text"),
    [
        (
            "f:1",
            "2",
            "InvalidParameterValueException",
            "The derived qualifier from the function name does not match the specified qualifier.",
        ),
        (
            "arn:aws:lambda:eu-west-1:123456789012:function:f",
            None,
            "ResourceNotFoundException",
            "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')",
        ),
        (
            "999999999999:function:f",
            None,
            "AccessDeniedException",
            "Functions of account 999999999999 are not accessible to account 123456789012.",
        ),
        (
            "f!",
            None,
            "ValidationException",
            "1 validation error detected: Value 'f!' at 'functionName' failed to satisfy constraint: "
            f"Member must satisfy regular expression pattern: {FUNCTION_NAME_PATTERN}",
        ),
        (
            "f",
            "a b",
            "ValidationException",
            "1 validation error detected: Value 'a b' at 'qualifier' failed to satisfy constraint: "
            f"Member must satisfy regular expression pattern: {QUALIFIER_PATTERN}",
        ),
        (
            "n" * 257,
            None,
            "ValidationException",
            f"1 validation error detected: Value '{'n' * 257}' at 'functionName' failed to satisfy constraint: "
            "Member must have length less than or equal to 256",
        ),
        (
            "",
            None,
            "ValidationException",
            "1 validation error detected: Value '' at 'functionName' failed to satisfy constraint: "
            f"Member must satisfy regular expression pattern: {FUNCTION_NAME_PATTERN}",
        ),
    ],
)
def test_what_is_no_name_of_ours_is_told_why(written: str, qualifier: str | None, code: str, text: str) -> None:
    with pytest.raises(ServiceError) as caught:
        parse_function_reference(written, qualifier, Here())
    assert (caught.value.code, caught.value.message) == (code, text)


def test_the_patterns_that_error_texts_print_are_those_of_the_model() -> None:
    model = service_model()
    assert model.shape_for("NamespacedFunctionName").metadata["pattern"] == FUNCTION_NAME_PATTERN
    assert model.shape_for("NamespacedFunctionName").metadata["max"] == 256
    assert model.shape_for("NumericLatestPublishedOrAliasQualifier").metadata["pattern"] == QUALIFIER_PATTERN


def test_reading_a_name_again_costs_next_to_nothing() -> None:
    first, _ = parse_function_reference(f"{ARN}f", None, Here())
    again, _ = parse_function_reference(f"{ARN}f", None, Here())
    assert first is again


def test_names_are_told_apart_over_the_wire(world: World) -> None:
    world.create()
    assert refusal(world.call("GET", f"{FUNCTIONS}/f:1?Qualifier=2")) == (
        "The derived qualifier from the function name does not match the specified qualifier."
    )
    other_region = "arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Af"
    assert failure(world.call("GET", f"{FUNCTIONS}/{other_region}")) == (
        404,
        "ResourceNotFoundException",
        {"Type": "User", "Message": "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"},
    )
    status, kind, body = failure(world.call("GET", f"{FUNCTIONS}/999999999999:function:f"))
    assert (status, kind, list(body)) == (403, "AccessDeniedException", ["Message"])


def test_breaches_are_counted_and_joined(world: World) -> None:
    text = breach(world.create(MemorySize=64, Timeout=901))
    assert text == (
        "2 validation errors detected: "
        "Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900; "
        "Value '64' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128"
    )


@pytest.mark.parametrize(
    ("given", "value", "path", "constraint"),
    [
        ({"Role": ...}, "null", "role", "Member must not be null"),
        ({"Role": None}, "null", "role", "Member must not be null"),
        (
            {"Role": "r1"},
            "'r1'",
            "role",
            "Member must satisfy regular expression pattern: "
            r"arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+",
        ),
        ({"EphemeralStorage": {}}, "null", "ephemeralStorage.size", "Member must not be null"),
        (
            {"EphemeralStorage": {"Size": 10241}},
            "'10241'",
            "ephemeralStorage.size",
            "Member must have value less than or equal to 10240",
        ),
        (
            {"Architectures": ["x86_64", "arm64"]},
            "'[x86_64, arm64]'",
            "architectures",
            "Member must have length less than or equal to 1",
        ),
        (
            {"Architectures": ["x86"]},
            "'[x86]'",
            "architectures",
            "Member must satisfy constraint: "
            "[Member must satisfy enum value set: [x86_64, arm64], Member must not be null]",
        ),
        (
            {"VpcConfig": {"SubnetIds": ["bad"], "SecurityGroupIds": []}},
            "'[bad]'",
            "vpcConfig.subnetIds",
            "Member must satisfy constraint: [Member must have length less than or equal to 1024, "
            "Member must have length greater than or equal to 0, "
            "Member must satisfy regular expression pattern: subnet-[0-9a-z]*, Member must not be null]",
        ),
        (
            {"Environment": {"Variables": {"1a": "b"}}},
            "'{1a=b}'",
            "environment.variables",
            "Map keys must satisfy constraint: "
            "[Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+, Member must not be null]",
        ),
        (
            {"Environment": {"Variables": {"AB": None}}},
            "'{AB=null}'",
            "environment.variables",
            "Map value must satisfy constraint: [Member must not be null]",
        ),
        (
            {"SnapStart": {"ApplyOn": "Always"}},
            "'Always'",
            "snapStart.applyOn",
            "Member must satisfy enum value set: [PublishedVersions, None]",
        ),
        (
            {"Description": "d" * 257},
            f"'{'d' * 257}'",
            "description",
            "Member must have length less than or equal to 256",
        ),
    ],
)
def test_the_grammar_of_a_breach(world: World, given: dict[str, Any], value: str, path: str, constraint: str) -> None:
    assert breach(world.create(**given)) == (
        f"1 validation error detected: Value {value} at '{path}' failed to satisfy constraint: {constraint}"
    )


def test_structures_in_lists_are_named_one_by_one(world: World) -> None:
    access_point = f"arn:aws:elasticfilesystem:us-east-1:123456789012:access-point/fsap-{'a' * 17}"
    text = breach(world.create(FileSystemConfigs=[{"Arn": access_point}]))
    assert "Value null at 'fileSystemConfigs.1.member.localMountPath' failed" in text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "Could not parse request body into json: "),
        (b'{"a": "\xff"}', "Could not parse request body into json: "),
        (b"[" * 100_000, "Could not parse request body into json: "),
        (b'{"Description": "\\ud800"}', "Could not parse request body into json: "),
        (b"[]", "START_ARRAY can not be converted to a Structure (at 'body')"),
        (b"null", "NULL_VALUE can not be converted to a Structure (at 'body')"),
        (b'{"Timeout": "3"}', "STRING_VALUE can not be converted to an Integer (at 'timeout')"),
        (b'{"Timeout": 3.5}', "NUMBER_VALUE can not be converted to an Integer (at 'timeout')"),
        (b'{"Timeout": 1e400}', "Could not parse request body into json: "),
        (b'{"Timeout": 1e300}', "NUMBER_VALUE can not be converted to an Integer (at 'timeout')"),
        (b'{"Timeout": 99999999999999999999999}', "NUMBER_VALUE can not be converted to an Integer (at 'timeout')"),
        (b'{"Timeout": true}', "TRUE_VALUE can not be converted to an Integer (at 'timeout')"),
        (b'{"Role": 1}', "NUMBER_VALUE can not be converted to a String (at 'role')"),
        (b'{"Publish": "true"}', "STRING_VALUE can not be converted to a Boolean (at 'publish')"),
        (b'{"Code": []}', "START_ARRAY can not be converted to a Structure (at 'code')"),
        (b'{"Code": {"ZipFile": "%"}}', "STRING_VALUE can not be converted to a ByteBuffer (at 'code.zipFile')"),
        (b'{"Layers": {}}', "START_OBJECT can not be converted to a List (at 'layers')"),
        (b'{"Tags": []}', "START_ARRAY can not be converted to a Map (at 'tags')"),
    ],
)
def test_a_body_that_cannot_be_read_is_told_why(world: World, body: bytes, text: str) -> None:
    status, kind, answer = failure(world.call("POST", FUNCTIONS, body))
    assert (status, kind, list(answer)) == (400, "SerializationException", ["message"])
    assert answer["message"].startswith(text)


def test_members_that_nobody_knows_are_ignored(world: World) -> None:
    assert world.create(Nonsense={"a": [1]}).status_code == 201


def test_values_in_the_query_are_typed(world: World) -> None:
    status, kind, answer = failure(world.call("GET", f"{FUNCTIONS}?MaxItems=many"))
    assert (status, kind) == (400, "SerializationException")
    assert answer["message"] == "STRING_VALUE can not be converted to an Integer (at 'maxItems')"
    assert "'maxItems'" in breach(world.call("GET", f"{FUNCTIONS}?MaxItems=0"))


def test_a_body_past_the_limit_is_refused_unread(world: World) -> None:
    response = world.client.post(FUNCTIONS, environ_overrides={"CONTENT_LENGTH": "70167211"})
    assert failure(response) == (
        413,
        "RequestEntityTooLargeException",
        {"message": "Request must be smaller than 70167211 bytes for the CreateFunction operation"},
    )


def test_paths_and_methods_that_nobody_knows(world: World) -> None:
    for path in ("/", "//", "/2015-03-31/functions//configuration", "/2099-01-01/functions", "/%ff"):
        status, kind, _ = failure(world.call("GET", path))
        assert (status, kind) == (404, "UnknownOperationException")
    for method in ("PATCH", "PUT", "PROPFIND"):
        status, kind, answer = failure(world.call(method, FUNCTIONS))
        assert (status, kind) == (405, "MethodNotAllowedException")
        assert answer["message"] == f"{method} is not allowed at {FUNCTIONS}, only GET, POST."


def test_an_operation_without_a_handler_is_not_available() -> None:
    assert failure(create_app({}).test_client().get(f"{FUNCTIONS}/f/policy")) == (
        501,
        "NotImplementedException",
        {"message": "The operation GetPolicy is not available here."},
    )


def test_a_modelled_error_has_its_status_its_keys_case_and_its_blame() -> None:
    for code, status, body in (
        ("ResourceNotFoundException", 404, {"Type": "User", "Message": "m"}),
        ("InvalidParameterValueException", 400, {"Type": "User", "message": "m"}),
        ("ServiceException", 500, {"Type": "Service", "Message": "m"}),
        ("ResourceNotReadyException", 502, {"Type": "Service", "message": "m"}),
        ("EFSIOException", 410, {"Type": "User", "Message": "m"}),
        ("ValidationException", 400, {"message": "m"}),
    ):
        got_status, headers, got_body = render_error(ServiceError(code, "m"), "id")
        assert (got_status, orjson.loads(got_body)) == (status, body)
        assert (headers["x-amzn-ErrorType"], headers["x-amzn-RequestId"]) == (code, "id")


def test_a_throttled_callers_answer_is_byte_exact() -> None:
    error = ServiceError("TooManyRequestsException", "Rate Exceeded.", extra={"Reason": "CallerRateLimitExceeded"})
    status, _, body = render_error(error)
    assert status == 429
    assert body == b'{"Reason":"CallerRateLimitExceeded","Type":"User","message":"Rate Exceeded."}'


def test_an_error_may_have_no_text_and_a_status_of_its_own() -> None:
    status, _, body = render_error(ServiceError("AccessDeniedException", None, status=401))
    assert (status, body) == (401, b'{"Message":null}')


def test_host_faults_are_service_exceptions_and_bugs_are_nothing_to_tell() -> None:
    known = as_service_error(StoreFailed("cannot store a function: disk full"))
    assert known is not None
    assert (known.code, known.message) == ("ServiceException", "cannot store a function: disk full")
    assert as_service_error(HostFault("x")) is not None
    assert as_service_error(KeyError("x")) is None


def test_the_signer_is_read_from_the_header_or_from_a_presigned_url() -> None:
    header = "AWS4-HMAC-SHA256 Credential=AKID/20251125/eu-west-1/lambda/aws4_request, SignedHeaders=host, Signature=0"
    assert signer(header, None) == ("AKID", "eu-west-1")
    assert signer(None, "AKID/20251125/eu-west-1/lambda/aws4_request") == ("AKID", "eu-west-1")
    assert signer("Bearer x", None) is None
    assert signer(None, None) is None
