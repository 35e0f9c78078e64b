"""Versions, aliases and concurrency with real sandboxes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.e2e.world import Deployed, Manager, wait_until

Deploy = Callable[..., Deployed]


def configure(function: Deployed, **members: Any) -> None:
    function.client.update_function_configuration(FunctionName=function.name, **members)
    waiter = function.client.get_waiter("function_updated_v2")
    waiter.wait(FunctionName=function.name, WaiterConfig={"Delay": 0.1})


def provision(function: Deployed, qualifier: str, count: int) -> None:
    of = {"FunctionName": function.name, "Qualifier": qualifier}
    function.client.put_provisioned_concurrency_config(**of, ProvisionedConcurrentExecutions=count)

    def is_ready() -> bool:
        found = function.client.get_provisioned_concurrency_config(**of)
        assert found["Status"] != "FAILED", found
        return bool(found["Status"] == "READY")

    wait_until(is_ready, 60, "what is provisioned is never ready")


def test_a_version_stays_what_it_was_while_latest_changes(deploy: Deploy) -> None:
    function = deploy(Publish=True, Environment={"Variables": {"WHICH": "one"}})
    configure(function, Environment={"Variables": {"WHICH": "two"}})
    for qualifier, which in (("1", "one"), ("$LATEST", "two")):
        answer = function.invoke({"verb": "describe"}, Qualifier=qualifier)
        assert answer.payload["variables"]["WHICH"] == which
        assert answer.raw["ExecutedVersion"] == qualifier
        assert f"Version: {qualifier}\n" in answer.tail


def test_an_alias_shares_its_calls_between_two_versions(deploy: Deploy) -> None:
    function = deploy(Publish=True)
    configure(function, Description="two")
    function.client.publish_version(FunctionName=function.name)
    weights = {"AdditionalVersionWeights": {"2": 0.5}}
    function.client.create_alias(FunctionName=function.name, Name="live", FunctionVersion="1", RoutingConfig=weights)
    answers = [function.invoke(Qualifier="live") for _ in range(60)]
    ran = [answer.raw["ExecutedVersion"] for answer in answers]
    assert set(ran) == {"1", "2"}
    assert all(f"Version: {version}\n" in answer.tail for version, answer in zip(ran, answers, strict=True))


def test_what_is_provisioned_has_no_cold_start(deploy: Deploy, manager: Manager) -> None:
    function = deploy(Publish=True)
    provision(function, "1", 1)
    logged = function.log(manager)
    assert logged.count("INIT_START") == 1
    assert "Phase: init\tStatus: success" in logged
    first = function.invoke({"verb": "describe"}, Qualifier="1")
    assert first.payload["variables"]["AWS_LAMBDA_INITIALIZATION_TYPE"] == "provisioned-concurrency"
    assert "REPORT" in first.tail
    assert "Init Duration" not in first.tail
    assert "Init Duration" in function.invoke().tail  # on demand


def test_where_one_slot_is_reserved_one_of_two_calls_is_throttled(deploy: Deploy) -> None:
    function = deploy()
    function.invoke()
    function.client.put_function_concurrency(FunctionName=function.name, ReservedConcurrentExecutions=1)

    def call(_: int) -> int:
        try:
            return int(function.invoke({"verb": "sleep", "seconds": 1}).raw["StatusCode"])
        except function.client.exceptions.TooManyRequestsException as error:
            assert error.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
            return 429

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(call, range(2))) == [200, 429]
