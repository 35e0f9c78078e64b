"""Functions through the API, on Flask's test client: answers and error texts of lambda.md §1."""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from test_api_world import ARN, DIGEST, FUNCTIONS, ROLE, World, breach, failure, refusal, resolve

from rie.functions.package import BLOCKED_RUNTIMES, RUNTIMES
from rie.functions.rules import RESERVED_VARIABLES
from rie.model.image import Image


@pytest.fixture
def world() -> World:
    return World()


def test_create_answers_201_with_every_member_that_is_always_there_and_pending(world: World) -> None:
    response = world.create()
    assert response.status_code == 201
    answer = dict(response.json)
    assert answer.pop("RevisionId")
    assert answer == {
        "FunctionName": "f",
        "FunctionArn": ARN + "f",
        "Role": ROLE,
        "CodeSize": 0,
        "CodeSha256": DIGEST,
        "Description": "",
        "Timeout": 3,
        "MemorySize": 128,
        "LastModified": "2025-11-25T02:26:54.123+0000",
        "Version": "$LATEST",
        "TracingConfig": {"Mode": "PassThrough"},
        "PackageType": "Image",
        "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/aws/lambda/f"},
        "State": "Pending",
        "StateReason": "The function is being created.",
        "StateReasonCode": "Creating",
    }


def test_once_deployed_a_function_is_active_and_successful_without_reasons_at_a_new_revision(world: World) -> None:
    before = world.create().json
    world.settle()
    after = world.call("GET", f"{FUNCTIONS}/f/configuration").json
    assert (after["State"], after["LastUpdateStatus"]) == ("Active", "Successful")
    assert not [name for name in after if "Reason" in name]
    assert after["RevisionId"] != before["RevisionId"]
    assert after["LastModified"] == before["LastModified"]


def test_get_function_has_configuration_code_and_tags_only_if_there_are_any(world: World) -> None:
    world.create("plain")
    world.create("tagged", Tags={"k": "v"})
    plain = world.call("GET", f"{FUNCTIONS}/plain").json
    assert plain["Code"] == {
        "RepositoryType": "ECR",
        "ImageUri": "reg/app:1",
        "ResolvedImageUri": f"reg/app@sha256:{DIGEST}",
    }
    assert set(plain) == {"Configuration", "Code"}
    assert world.call("GET", f"{FUNCTIONS}/tagged").json["Tags"] == {"k": "v"}


def test_members_that_were_given_are_echoed(world: World) -> None:
    answer = world.active(
        Description="d",
        Timeout=900,
        MemorySize=10240,
        EphemeralStorage={"Size": 10240},
        Architectures=["arm64"],
        Environment={"Variables": {"AB": "ü"}},
        ImageConfig={"EntryPoint": ["/e"], "Command": ["a.b"], "WorkingDirectory": "/w"},
        KMSKeyArn="arn:aws:kms:us-east-1:123456789012:key/k",
        TracingConfig={"Mode": "Active"},
        DeadLetterConfig={"TargetArn": "arn:aws:sqs:us-east-1:123456789012:q"},
        VpcConfig={"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
    )
    assert answer["Description"] == "d"
    assert (answer["Timeout"], answer["MemorySize"], answer["EphemeralStorage"]) == (900, 10240, {"Size": 10240})
    assert answer["Architectures"] == ["arm64"]
    assert answer["Environment"] == {"Variables": {"AB": "ü"}}
    assert answer["ImageConfigResponse"] == {
        "ImageConfig": {"EntryPoint": ["/e"], "Command": ["a.b"], "WorkingDirectory": "/w"}
    }
    assert answer["KMSKeyArn"].endswith("key/k")
    assert answer["TracingConfig"] == {"Mode": "Active"}
    assert answer["DeadLetterConfig"] == {"TargetArn": "arn:aws:sqs:us-east-1:123456789012:q"}
    assert answer["VpcConfig"] == {
        "SubnetIds": ["subnet-1"],
        "SecurityGroupIds": ["sg-1"],
        "VpcId": "",
        "Ipv6AllowedForDualStack": False,
    }


def test_an_explicitly_empty_environment_is_echoed_by_create(world: World) -> None:
    assert world.create("a", Environment={}).json["Environment"] == {"Variables": {}}
    assert "Environment" not in world.create("b").json


def test_a_name_that_is_taken_is_a_conflict(world: World) -> None:
    world.create()
    assert failure(world.create()) == (
        409,
        "ResourceConflictException",
        {"Type": "User", "message": "Function already exist: f"},
    )


def test_of_parallel_creates_of_one_name_exactly_one_succeeds(tmp_path: Any) -> None:
    together = Barrier(8)

    def slow(uri: str, architecture: str) -> Image:
        together.wait(20)  # all have seen that the name is free
        return resolve(uri, architecture)

    world = World(f"sqlite:///{tmp_path}/rie.db", slow)
    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(lambda _: world.app.test_client().post(FUNCTIONS, json=BODY).status_code, range(8)))
    assert statuses == [201] + [409] * 7
    assert len(world.submitted) == len(world.notices) == 1


BODY = {"FunctionName": "f", "Role": ROLE, "PackageType": "Image", "Code": {"ImageUri": "reg/app:1"}}


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (
            "r/missing:1",
            (
                400,
                "InvalidParameterValueException",
                {"Type": "User", "message": "Source image r/missing:1 does not exist. Provide a valid source image."},
            ),
        ),
        (
            "r/broken:1",
            (
                400,
                "InvalidParameterValueException",
                {"Type": "User", "message": "Source image r/broken:1 is not valid. Provide a valid source image."},
            ),
        ),
        (
            "r/denied:1",
            (
                403,
                "AccessDeniedException",
                {"Message": "Lambda does not have permission to access the ECR image. Check the ECR permissions."},
            ),
        ),
        (
            "r/down:1",
            (
                500,
                "ServiceException",
                {"Type": "Service", "Message": "cannot read r/down:1: connection refused"},
            ),
        ),
    ],
)
def test_an_image_that_cannot_be_used_is_told_and_nothing_is_stored(world: World, uri: str, expected: Any) -> None:
    assert failure(world.create(Code={"ImageUri": uri})) == expected
    assert world.call("GET", f"{FUNCTIONS}/f").status_code == 404


def test_an_unexpected_error_is_logged_once_and_its_internals_stay_inside(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        status, kind, body = failure(world.create(Code={"ImageUri": "bug"}))
    assert (status, kind, body["Type"]) == (500, "ServiceException", "Service")
    assert "secret" not in body["Message"]
    assert len(caplog.records) == 1


def test_a_zip_function_needs_runtime_and_handler(world: World) -> None:
    text = "Runtime and Handler are mandatory parameters for functions created with deployment packages."
    zipped = {"PackageType": ..., "Code": {"ZipFile": "UEs="}}
    assert refusal(world.create(**zipped)) == text
    assert refusal(world.create(**zipped, Runtime="python3.13")) == text
    assert refusal(world.create(**zipped, Handler="a.b")) == text


def test_runtimes_that_never_were_and_those_that_are_no_more_are_refused(world: World) -> None:
    zipped = {"PackageType": "Zip", "Code": {"ZipFile": "UEs="}, "Handler": "a.b"}
    assert refusal(world.create(**zipped, Runtime="Python3.9")) == (
        "Value Python3.9 at 'runtime' failed to satisfy constraint: "
        f"Member must satisfy enum value set: [{', '.join(RUNTIMES)}] or be a valid ARN"
    )
    assert refusal(world.create(**zipped, Runtime="nodejs12.x")) == (
        "The runtime parameter of nodejs12.x is no longer supported for creating or updating AWS Lambda functions. "
        "We recommend you use a supported runtime while creating or updating functions."
    )
    assert not set(RUNTIMES) & set(BLOCKED_RUNTIMES)


@pytest.mark.parametrize(
    "given",
    [
        {"Runtime": "python3.13"},
        {"Handler": "a.b"},
        {"Layers": ["arn:aws:lambda:us-east-1:123456789012:layer:l:1"]},
    ],
)
def test_an_image_function_has_no_runtime_handler_or_layers(world: World, given: dict[str, Any]) -> None:
    text = "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."
    assert refusal(world.create(**given)) == text
    world.active()
    assert refusal(world.configure(**given)) == text
    assert world.configure(Layers=[]).status_code == 200


def test_an_image_function_needs_an_image(world: World) -> None:
    text = "Please provide ImageUri when the intended function PackageType is Image."
    assert refusal(world.create(Code={})) == text
    assert refusal(world.create(Code={"ZipFile": "UEs="})) == text
    assert refusal(world.create(Code={"ImageUri": "reg/app:1", "S3Bucket": "bucket", "S3Key": "k"})) == text


def test_a_bare_name_over_64_characters_is_refused_in_the_words_of_a_validation(world: World) -> None:
    name = "n" * 65
    assert refusal(world.create(name)) == (
        f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: "
        "Member must have length less than or equal to 64"
    )
    assert world.create("n" * 64).status_code == 201


def test_a_name_over_140_characters_is_a_validation_error(world: World) -> None:
    name = "n" * 141
    assert breach(world.create(name)) == (
        f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: "
        "Member must have length less than or equal to 140"
    )


def test_memory_above_the_accounts_limit_is_refused_and_below_the_models_is_a_validation_error(world: World) -> None:
    assert refusal(world.create(MemorySize=10241)) == (
        "'MemorySize' value failed to satisfy constraint: Member must have value less than or equal to 10240"
    )
    assert breach(world.create(MemorySize=64)) == (
        "1 validation error detected: Value '64' at 'memorySize' failed to satisfy constraint: "
        "Member must have value greater than or equal to 128"
    )


def _variables(size: int) -> dict[str, str]:
    """A map whose compact JSON has this many bytes."""
    return {"AB": "x" * (size - len('{"AB":""}'))}


def test_an_environment_of_4096_bytes_passes_and_one_more_fails_with_what_was_measured(world: World) -> None:
    assert world.create("fits", Environment={"Variables": _variables(4096)}).status_code == 201
    much = _variables(4097)
    assert refusal(world.create("much", Environment={"Variables": much})) == (
        "Lambda was unable to configure your environment variables because the environment variables you have "
        f"provided exceeded the 4KB limit. String measured: {json.dumps(much, separators=(',', ':'))}"
    )


def test_the_environment_is_measured_in_bytes_of_utf8(world: World) -> None:
    assert world.create("a", Environment={"Variables": {"AB": "ü" * 2043}}).status_code == 201
    assert "exceeded the 4KB limit" in refusal(world.create("b", Environment={"Variables": {"AB": "ü" * 2044}}))


def test_reserved_variables_are_refused_and_listed(world: World) -> None:
    given = {"AWS_REGION": "x", "MINE": "y", "AWS_LAMBDA_RUNTIME_API": "z"}
    assert refusal(world.create(Environment={"Variables": given})) == (
        "Lambda was unable to configure your environment variables because the environment variables you have "
        "provided contains reserved keys that are currently not supported for modification. "
        "Reserved keys used in this request: AWS_REGION, AWS_LAMBDA_RUNTIME_API"
    )
    assert "AWS_LAMBDA_EXEC_WRAPPER" not in RESERVED_VARIABLES


@pytest.mark.parametrize(
    "given",
    [
        {"AcceleratorConfig": {"AcceleratorMemorySize": 1}},
    ],
)
def test_a_promise_that_nothing_keeps_is_refused(world: World, given: dict[str, Any]) -> None:
    assert refusal(world.create(**given)) == f"These parameters are not available here: {', '.join(given)}."


def test_removal_idioms_for_what_is_not_available_are_accepted(world: World) -> None:
    assert world.create(FileSystemConfigs=[], Publish=False, SnapStart={"ApplyOn": "None"}).status_code == 201
    assert "SnapStart" in refusal(world.create("g", SnapStart={"ApplyOn": "PublishedVersions"}))


def test_a_code_signing_configuration_does_not_exist(world: World) -> None:
    arn = f"arn:aws:lambda:us-east-1:123456789012:code-signing-config:csc-{'a' * 17}"
    text = (
        f"The code signing configuration cannot be found. Check that the provided configuration is not deleted: {arn}."
    )
    assert failure(world.create(CodeSigningConfigArn=arn)) == (
        404,
        "CodeSigningConfigNotFoundException",
        {"Type": "User", "Message": text},
    )


def test_a_dead_letter_target_is_a_standard_queue_or_topic(world: World) -> None:
    for arn in ("arn:aws:s3:::bucket", "arn:aws:sqs:us-east-1:123456789012:q.fifo"):
        assert "must be the ARN of a standard" in refusal(world.create(DeadLetterConfig={"TargetArn": arn}))
    assert "DeadLetterConfig" not in world.create(DeadLetterConfig={"TargetArn": ""}).json


@pytest.mark.parametrize(
    ("member", "given"),
    [
        ("Environment", {"Environment": {"Variables": {"AB": "a\0b"}}}),
        ("ImageConfig", {"ImageConfig": {"EntryPoint": ["a\0b"]}}),
        ("ImageConfig", {"ImageConfig": {"Command": ["a", "\0"]}}),
        ("ImageConfig", {"ImageConfig": {"WorkingDirectory": "/\0"}}),
    ],
)
def test_what_no_process_can_be_told_is_refused(world: World, member: str, given: dict[str, Any]) -> None:
    assert refusal(world.create("nul", **given)) == f"{member} cannot contain the character NUL."
    world.active("f")
    assert refusal(world.configure(**given)) == f"{member} cannot contain the character NUL."


def test_a_handler_without_a_process_to_hold_it_is_refused(world: World) -> None:
    assert refusal(world.create_zip("nul", Handler="app\0.handler")) == "Handler cannot contain the character NUL."
