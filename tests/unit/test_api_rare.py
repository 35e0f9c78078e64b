"""Recursion, runtime management, tenants and capacity providers through the API (lambda.md §12.7, §12.8, §13)."""

from __future__ import annotations

from typing import Any

import pytest
from test_api_world import ARN, FUNCTIONS, ROLE, World, breach, failure, refusal
from werkzeug.test import TestResponse

RECURSION = "/2024-08-31/functions/f/recursion-config"
RUNTIME = "/2021-07-20/functions/f/runtime-management-config"
PROVIDERS = "/2025-11-30/capacity-providers"
PROVIDER_ARN = "arn:aws:lambda:us-east-1:123456789012:capacity-provider:p"
MANAGED = {"LambdaManagedInstancesCapacityProviderConfig": {"CapacityProviderArn": PROVIDER_ARN}}


@pytest.fixture
def world() -> World:
    return World()


def provider(world: World, name: str = "p", **more: Any) -> TestResponse:
    body = {
        "CapacityProviderName": name,
        "VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": []},
        "PermissionsConfig": {"CapacityProviderOperatorRoleArn": ROLE},
        **more,
    }
    return world.call("POST", PROVIDERS, body)


def test_recursion_is_stopped_unless_it_is_allowed(world: World) -> None:
    missing = failure(world.call("GET", RECURSION))
    assert missing[2]["Message"] == f"Function not found: {ARN}f"
    world.active()
    assert world.call("GET", RECURSION).json == {"RecursiveLoop": "Terminate"}
    assert world.call("PUT", RECURSION, {"RecursiveLoop": "Allow"}).json == {"RecursiveLoop": "Allow"}
    assert world.call("GET", RECURSION).json == {"RecursiveLoop": "Allow"}
    text = breach(world.call("PUT", RECURSION, {"RecursiveLoop": "Perhaps"}))
    assert text.startswith(
        "1 validation error detected: Value 'Perhaps' at 'recursiveLoop' failed to satisfy constraint: "
        "Member must satisfy enum value set: ["
    )
    qualified = world.call("GET", RECURSION.replace("/f/", "/f:1/"))
    assert "functionName" in breach(qualified) or qualified.status_code == 400


def test_runtime_management_is_kept_by_version(world: World) -> None:
    world.active(Publish=True)
    assert world.call("GET", RUNTIME).json == {"UpdateRuntimeOn": "Auto", "FunctionArn": f"{ARN}f"}
    version_arn = f"arn:aws:lambda:us-east-1::runtime:{'a' * 64}"
    manual = {"UpdateRuntimeOn": "Manual", "RuntimeVersionArn": version_arn}
    put = world.call("PUT", f"{RUNTIME}?Qualifier=1", manual).json
    assert put == {**manual, "FunctionArn": f"{ARN}f:1"}
    assert world.call("GET", f"{RUNTIME}?Qualifier=1").json == put
    assert world.call("GET", RUNTIME).json["UpdateRuntimeOn"] == "Auto"
    assert "only when" in refusal(world.call("PUT", RUNTIME, {**manual, "UpdateRuntimeOn": "Auto"}))
    assert "must specify" in refusal(world.call("PUT", RUNTIME, {"UpdateRuntimeOn": "Manual"}))


def test_tenant_isolation_is_for_ever(world: World) -> None:
    made = world.active(TenancyConfig={"TenantIsolationMode": "PER_TENANT"}, Publish=True)
    assert made["TenancyConfig"] == {"TenantIsolationMode": "PER_TENANT"}
    answer = world.call(
        "PUT",
        "/2019-09-30/functions/f/provisioned-concurrency?Qualifier=1",
        {"ProvisionedConcurrentExecutions": 1},
    )
    assert "tenant isolation" in refusal(answer)


def test_a_capacity_provider_is_made_read_changed_listed_and_deleted(world: World) -> None:
    answer = provider(world, Tags={"a": "b"})
    assert (answer.status_code, answer.json["CapacityProvider"]["State"]) == (202, "Pending")
    found = world.call("GET", f"{PROVIDERS}/p").json["CapacityProvider"]
    assert (found["CapacityProviderArn"], found["State"]) == (PROVIDER_ARN, "Active")
    assert found["VpcConfig"] == {"SubnetIds": ["subnet-1"], "SecurityGroupIds": []}
    text = f"Capacity provider already exists: {PROVIDER_ARN}"
    assert failure(provider(world))[2]["message"] == text
    scaling = {"MaxVCpuCount": 10, "ScalingMode": "Auto"}
    changed = world.call("PUT", f"{PROVIDERS}/p", {"CapacityProviderScalingConfig": scaling})
    assert (changed.status_code, changed.json["CapacityProvider"]["CapacityProviderScalingConfig"]) == (202, scaling)
    provider(world, "q")
    first = world.call("GET", f"{PROVIDERS}?MaxItems=1").json
    assert [each["CapacityProviderArn"] for each in first["CapacityProviders"]] == [PROVIDER_ARN]
    assert len(world.call("GET", f"{PROVIDERS}?Marker={first['NextMarker']}").json["CapacityProviders"]) == 1
    assert world.call("GET", f"{PROVIDERS}?State=Failed").json == {"CapacityProviders": []}
    tags = f"/2017-03-31/tags/{PROVIDER_ARN}"
    world.call("POST", tags, {"Tags": {"c": "d"}})
    assert world.call("DELETE", f"{tags}?tagKeys=a").status_code == 204
    assert world.call("GET", tags).json == {"Tags": {"c": "d"}}
    assert world.call("DELETE", f"{PROVIDERS}/p").json["CapacityProvider"]["State"] == "Deleting"
    expected = {"Type": "User", "Message": f"Capacity provider not found: {PROVIDER_ARN}"}
    assert failure(world.call("GET", f"{PROVIDERS}/p")) == (404, "ResourceNotFoundException", expected)


def test_functions_on_a_capacity_provider_hold_it_and_scale_by_their_versions(world: World) -> None:
    assert failure(world.create(CapacityProviderConfig=MANAGED))[0] == 404
    provider(world)
    made = world.active(CapacityProviderConfig=MANAGED, PublishTo="LATEST_PUBLISHED")
    assert made["CapacityProviderConfig"] == MANAGED
    users = world.call("GET", f"{PROVIDERS}/p/function-versions").json
    assert users["CapacityProviderArn"] == PROVIDER_ARN
    assert [each["FunctionArn"] for each in users["FunctionVersions"]] == [f"{ARN}f:$LATEST", f"{ARN}f:1"]
    assert failure(world.call("DELETE", f"{PROVIDERS}/p"))[0] == 409
    published = world.call("GET", f"{FUNCTIONS}/f/configuration?Qualifier=$LATEST.PUBLISHED").json
    assert (published["Version"], published["FunctionArn"]) == ("1", f"{ARN}f:$LATEST.PUBLISHED")
    path = "/2025-11-30/functions/f/function-scaling-config?Qualifier=1"
    limits = {"MinExecutionEnvironments": 1, "MaxExecutionEnvironments": 3}
    put = world.call("PUT", path, {"FunctionScalingConfig": limits})
    assert (put.status_code, put.json) == (202, {"FunctionState": "Active"})
    got = world.call("GET", path).json
    assert got["AppliedFunctionScalingConfig"] == got["RequestedFunctionScalingConfig"] == limits
    none = {"FunctionScalingConfig": {"MaxExecutionEnvironments": 0}}
    assert world.call("PUT", path, none).json == {"FunctionState": "Deactivating"}


def test_an_ordinary_function_does_not_move_to_a_capacity_provider(world: World) -> None:
    world.active()
    provider(world)
    text = "CapacityProviderConfig isn't supported for Lambda Default functions."
    assert refusal(world.configure(CapacityProviderConfig=MANAGED)) == text
