"""Headers and paths that only some runtimes use: tenants, deliveries, metadata, restored snapshots."""

from __future__ import annotations

import json
import re

import pytest

from bootstrap.metadata_api import zone_id
from tests.protocol.emulator import Start

METADATA = "/2026-01-15/metadata/execution-environment"
API = "/2018-06-01/runtime"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
RESTORED = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}


def test_the_tenant_reaches_the_runtime_and_only_that_invocation(emulate: Start) -> None:
    emulator = emulate([["next"], ["response", "1"], ["next"], ["response", "2"], ["next"]])
    emulator.invoke({}, X_Amz_Tenant_Id="a tenant/of:mine@x.y=+-_")
    emulator.invoke({})
    first, _, second, *_ = emulator.steps()
    assert first["headers"]["Lambda-Runtime-Aws-Tenant-Id"] == "a tenant/of:mine@x.y=+-_"
    assert "Lambda-Runtime-Aws-Tenant-Id" not in second["headers"]


@pytest.mark.parametrize("tenant", ["", "x" * 257, "a,b", "a'b", "\u00e9"])
def test_what_is_no_tenant_is_refused(emulate: Start, tenant: str) -> None:
    emulator = emulate([["loop"]])
    answer = emulator.invoke({}, X_Amz_Tenant_Id=tenant.encode("latin-1"))
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "ValidationException")
    assert emulator.invoke({}, X_Amz_Tenant_Id="x" * 256).status == 200


def test_every_delivery_has_an_id_of_its_own(emulate: Start) -> None:
    emulator = emulate([["next"], ["response", "1"], ["next"], ["response", "2"], ["next"]])
    for _ in range(2):
        emulator.invoke({}, X_Amzn_RequestId="11111111-2222-4333-8444-555555555555")
    first, _, second, *_ = (step["headers"] for step in emulator.steps())
    name = "Lambda-Runtime-Invocation-Id"
    assert UUID.fullmatch(first[name])
    assert UUID.fullmatch(second[name])
    assert first[name] != second[name]


def test_metadata_are_for_those_who_have_the_token(emulate: Start) -> None:
    script = [["metadata"], ["get", METADATA], ["get", METADATA, {"Authorization": "Bearer x"}]]
    script += [["post", METADATA, ""], ["get", METADATA + "/more"], ["loop"]]
    emulator = emulate(script, AWS_REGION="eu-west-1")
    emulator.invoke({})
    told, *refused = emulator.steps()
    assert (told["status"], told["body"]) == (200, '{"AvailabilityZoneID":"euw1-az1"}')
    assert told["headers"]["Cache-Control"] == "private, max-age=43200, immutable"
    assert told["headers"]["Content-Type"] == "application/json"
    assert [step["status"] for step in refused] == [401, 401, 405, 404]
    assert refused[0]["body"] == "Unauthorized\n"


@pytest.mark.parametrize(
    ("region", "zone"),
    [
        ("us-east-1", "use1-az1"),
        ("ap-southeast-2", "apse2-az1"),
        ("us-gov-west-1", "usgw1-az1"),
        ("ca-central-1", "cac1-az1"),
        ('"}', "-az1"),
    ],
)
def test_a_zone_is_named_after_its_region(region: str, zone: str) -> None:
    assert zone_id(region) == zone


def test_a_runtime_that_expects_a_snapshot_is_restored_at_once(emulate: Start) -> None:
    emulator = emulate([["get", f"{API}/restore/next"], ["next"], ["response", "1"], ["next"]], **RESTORED)
    assert emulator.invoke({}).body == b"1"
    assert emulator.steps()[0]["status"] == 200


def test_an_error_of_its_hooks_fails_init(emulate: Start) -> None:
    body = '{"errorMessage":"hook","errorType":"Runtime.AfterRestoreError"}'
    script = [["get", f"{API}/restore/next"], ["post", f"{API}/restore/error", body], ["exit", 1]]
    emulator = emulate(script, **RESTORED)
    emulator.wait_for("INIT_REPORT")
    assert emulator.steps()[1]["status"] == 202
    assert emulator.invoke({}).body == body.encode()


def test_others_are_told_that_there_is_no_such_path(emulate: Start) -> None:
    emulator = emulate([["get", f"{API}/restore/next"], ["post", f"{API}/restore/error", "{}"], ["loop"]])
    emulator.invoke({})
    assert [step["status"] for step in emulator.steps()] == [404, 404]


def test_an_identity_of_cognito_reaches_the_runtime_and_what_is_none_is_refused(emulate: Start) -> None:
    emulator = emulate([["next"], ["response", "1"], ["next"]])
    for wrong in ("x", "[]", "7", '{"cognitoIdentityId":7}'):
        assert emulator.invoke({}, X_Rie_Cognito_Identity=wrong).status == 400
    identity = {"cognitoIdentityId": "eu-west-1:\u00e9", "cognitoIdentityPoolId": "p"}
    assert emulator.invoke({}, X_Rie_Cognito_Identity=json.dumps(identity)).status == 200
    assert json.loads(emulator.steps(1)[0]["headers"]["Lambda-Runtime-Cognito-Identity"]) == identity
