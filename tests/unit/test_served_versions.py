"""Versions, aliases, concurrency, tenants and loops as boto3 sees them: a manager with the stub engine in a process."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.stub_manager import ROLE, StubManager, stub_managing


def wait_until(condition: Callable[[], Any], within_s: float, otherwise: str) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, otherwise
        time.sleep(0.02)


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubManager]:
    with stub_managing(tmp_path_factory.mktemp("manager")) as running:
        yield running


@pytest.fixture(scope="module")
def client(manager: StubManager) -> Any:
    return manager.client()


def create(client: Any, kind: str = "environment", **more: Any) -> str:
    name = f"f-{uuid.uuid4().hex[:8]}"
    client.create_function(
        FunctionName=name, Role=ROLE, PackageType="Image", Code={"ImageUri": f"stub/{kind}:1"}, **more
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05})
    return name


def configure(client: Any, name: str, **members: Any) -> None:
    client.update_function_configuration(FunctionName=name, **members)
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.05})


def invoke(client: Any, name: str, event: Any = None, **more: Any) -> tuple[Any, dict[str, Any]]:
    answer = client.invoke(FunctionName=name, Payload=json.dumps(event or {}).encode(), **more)
    return json.loads(answer["Payload"].read()), answer


def is_ready(client: Any, name: str, qualifier: str) -> bool:
    found = client.get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)
    assert found["Status"] != "FAILED", found
    return bool(found["Status"] == "READY")


def test_a_version_stays_what_it_was_while_latest_changes(client: Any) -> None:
    name = create(client, Environment={"Variables": {"WHICH": "one"}}, Publish=True)
    client.get_waiter("published_version_active").wait(FunctionName=name, Qualifier="1", WaiterConfig={"Delay": 0.05})
    configure(client, name, Environment={"Variables": {"WHICH": "two"}})
    for qualifier, which, version in (("1", "one", "1"), ("$LATEST", "two", "$LATEST")):
        payload, answer = invoke(client, name, Qualifier=qualifier)
        assert payload["environment"]["WHICH"] == which
        assert payload["environment"]["AWS_LAMBDA_FUNCTION_VERSION"] == version
        assert answer["ExecutedVersion"] == version


def test_an_alias_shares_its_calls_and_says_which_version_ran(client: Any) -> None:
    name = create(client, Publish=True)
    configure(client, name, Description="two")
    assert client.publish_version(FunctionName=name)["Version"] == "2"
    weights = {"AdditionalVersionWeights": {"2": 0.3}}
    made = client.create_alias(FunctionName=name, Name="live", FunctionVersion="1", RoutingConfig=weights)
    ran = [invoke(client, made["AliasArn"])[1]["ExecutedVersion"] for _ in range(200)]
    assert 25 < ran.count("2") < 95  # five deviations
    client.update_alias(FunctionName=name, Name="live", FunctionVersion="2", RoutingConfig={})
    assert {invoke(client, name, Qualifier="live")[1]["ExecutedVersion"] for _ in range(5)} == {"2"}
    assert invoke(client, f"{name}:live")[1]["ExecutedVersion"] == "2"


def test_an_alias_that_moved_lets_the_environments_of_the_old_version_go(manager: StubManager, client: Any) -> None:
    name = create(client, Publish=True)
    configure(client, name, Description="two", Environment={"Variables": {"AB": "c"}})
    client.publish_version(FunctionName=name)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    invoke(client, name, Qualifier="live")

    def versions() -> list[str]:
        return [each["version"] for each in manager.get("/_rie/environments") if each["function"] == name]

    assert versions() == ["1"]
    client.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    wait_until(lambda: versions() == [], 10, "the old version's environment stays")


def test_a_deleted_version_is_not_invoked(client: Any) -> None:
    name = create(client, Publish=True)
    invoke(client, name, Qualifier="1")
    client.delete_function(FunctionName=name, Qualifier="1")
    with pytest.raises(client.exceptions.ResourceNotFoundException, match=rf"Function not found: .*:{name}:1$"):
        invoke(client, name, Qualifier="1")
    invoke(client, name)


def test_of_two_calls_at_a_time_one_is_throttled_where_one_slot_is_reserved(manager: StubManager, client: Any) -> None:
    name = create(client, "sleep")
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(invoke, client, name, {"seconds": 0.5})
        wait_until(lambda: _share(manager, name)["inUse"] == 1, 10, "the first one does not run")
        with pytest.raises(client.exceptions.TooManyRequestsException) as caught:
            invoke(client, name)
        assert running.result()[1]["StatusCode"] == 200
    response = caught.value.response
    assert response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert response["Error"]["Message"] == "Rate Exceeded."
    assert response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"
    share = _share(manager, name)
    assert (share["reserved"], share["throttled"], share["inUse"]) == (1, 1, 0)
    assert share["concurrency"] == pytest.approx(share["requestsPerS"] * share["meanDurationMs"] / 1e3, abs=0.01)
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    with pytest.raises(client.exceptions.TooManyRequestsException):
        invoke(client, name)
    client.delete_function_concurrency(FunctionName=name)
    assert invoke(client, name)[1]["StatusCode"] == 200


def _share(manager: StubManager, name: str) -> dict[str, Any]:
    found = [each for each in manager.get("/_rie/concurrency") if each["function"] == name]
    return dict(found[0]) if found else {"inUse": 0}


def test_provisioned_concurrency_follows_its_alias_and_ends_with_it(client: Any, manager: StubManager) -> None:
    name = create(client, Publish=True)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    client.put_provisioned_concurrency_config(FunctionName=name, Qualifier="live", ProvisionedConcurrentExecutions=2)
    wait_until(lambda: is_ready(client, name, "live"), 10, "never ready")
    assert _type(client, name, "live") == "provisioned-concurrency"
    configure(client, name, Description="two")
    client.publish_version(FunctionName=name)
    client.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    wait_until(lambda: is_ready(client, name, "live"), 10, "never ready again")
    assert (_type(client, name, "live"), _type(client, name, "1")) == ("provisioned-concurrency", "on-demand")
    client.delete_alias(FunctionName=name, Name="live")
    wait_until(lambda: _share(manager, name)["provisioned"] == 0, 10, "its slots are still held")


def _type(client: Any, name: str, qualifier: str) -> str:
    payload, _ = invoke(client, name, Qualifier=qualifier)
    return str(payload["environment"]["AWS_LAMBDA_INITIALIZATION_TYPE"])


def test_init_that_fails_ends_in_failed(client: Any) -> None:
    name = create(client, "fail-init", Publish=True)
    client.put_provisioned_concurrency_config(FunctionName=name, Qualifier="1", ProvisionedConcurrentExecutions=1)

    def status() -> dict[str, Any]:
        return dict(client.get_provisioned_concurrency_config(FunctionName=name, Qualifier="1"))

    wait_until(lambda: status()["Status"] == "FAILED", 10, "it never fails")
    assert status()["StatusReason"] == "FUNCTION_ERROR_INIT_FAILURE"
    assert status()["AvailableProvisionedConcurrentExecutions"] == 0


def test_a_chain_of_sixteen_runs_is_stopped_unless_it_is_allowed(client: Any) -> None:
    name = create(client, "echo")
    headers: dict[str, str] = {}

    def add(params: Any, **_: Any) -> None:
        params["headers"].update(headers)

    client.meta.events.register("before-call.lambda.Invoke", add)
    try:
        for _ in range(16):
            _, answer = invoke(client, name)
            headers["X-Amzn-Trace-Id"] = answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-trace-id"]
            assert "Lineage=1:" in headers["X-Amzn-Trace-Id"]
        with pytest.raises(client.exceptions.RecursiveInvocationException):
            invoke(client, name)
        client.put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")
        assert invoke(client, name)[1]["StatusCode"] == 200
    finally:
        client.meta.events.unregister("before-call.lambda.Invoke", add)


def test_tenants_have_environments_of_their_own_and_others_no_tenants(client: Any) -> None:
    name = create(client, TenancyConfig={"TenantIsolationMode": "PER_TENANT"})
    places = [invoke(client, name, TenantId=tenant)[0]["sandboxId"] for tenant in ("a", "b", "a")]
    assert places[0] == places[2] != places[1]
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="Add a valid tenant ID"):
        invoke(client, name)
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="Remove the tenant ID"):
        invoke(client, create(client), TenantId="a")
    with pytest.raises(client.exceptions.ClientError, match="'tenantId' failed to satisfy constraint"):
        invoke(client, name, TenantId="a;b")


def test_events_are_run_for_the_tenant_that_they_came_with(manager: StubManager, client: Any) -> None:
    name = create(client, TenancyConfig={"TenantIsolationMode": "PER_TENANT"})
    assert invoke_later(client, name, TenantId="a") == 202
    wait_until(lambda: _share(manager, name).get("requestsPerS"), 10, "the event is never run")
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="Add a valid tenant ID"):
        invoke_later(client, name)


def test_events_of_a_function_whose_reservation_is_none_fail_at_once(manager: StubManager, client: Any) -> None:
    name, told = create(client), create(client)
    arn = client.get_function_configuration(FunctionName=told)["FunctionArn"]
    client.put_function_event_invoke_config(FunctionName=name, DestinationConfig={"OnFailure": {"Destination": arn}})
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    assert invoke_later(client, name) == 202
    wait_until(lambda: _share(manager, told).get("requestsPerS"), 10, "its failure is never told")


def invoke_later(client: Any, name: str, **more: Any) -> int:
    return int(client.invoke(FunctionName=name, InvocationType="Event", Payload=b"{}", **more)["StatusCode"])


def test_functions_on_a_capacity_provider_run_what_was_published(client: Any) -> None:
    provider = client.create_capacity_provider(
        CapacityProviderName=f"p-{uuid.uuid4().hex[:8]}",
        VpcConfig={"SubnetIds": ["subnet-1"], "SecurityGroupIds": []},
        PermissionsConfig={"CapacityProviderOperatorRoleArn": ROLE},
    )["CapacityProvider"]
    managed = {"CapacityProviderArn": provider["CapacityProviderArn"]}
    config = {"LambdaManagedInstancesCapacityProviderConfig": managed}
    name = create(client, CapacityProviderConfig=config)
    with pytest.raises(client.exceptions.NoPublishedVersionException):
        invoke(client, name)
    client.publish_version(FunctionName=name, PublishTo="LATEST_PUBLISHED")
    for more in ({}, {"Qualifier": "$LATEST.PUBLISHED"}):
        assert invoke(client, name, **more)[1]["ExecutedVersion"] == "1"


def test_what_is_set_aside_is_set_aside_again_after_a_restart(tmp_path: Path) -> None:
    with stub_managing(tmp_path) as manager:
        client = manager.client()
        name = create(client, Publish=True)
        client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
        client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=2)
        client.put_provisioned_concurrency_config(
            FunctionName=name, Qualifier="live", ProvisionedConcurrentExecutions=2
        )
        wait_until(lambda: is_ready(client, name, "live"), 10, "never ready")
        manager.kill()
        manager.start()
        wait_until(lambda: is_ready(client, name, "live"), 10, "never ready again")
        share = _share(manager, name)
        assert (share["reserved"], share["provisioned"]) == (2, 2)
        assert _type(client, name, "live") == "provisioned-concurrency"
        with pytest.raises(client.exceptions.TooManyRequestsException):
            invoke(client, name)
