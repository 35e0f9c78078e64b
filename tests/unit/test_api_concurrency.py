"""Reserved and provisioned concurrency, and the account's figures, through the API (lambda.md §7.2, §7.3, §12.5)."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from test_api_world import ARN, FUNCTIONS, World, breach, failure, refusal
from werkzeug.test import TestResponse

from rie.environments.provisioning import Allocation
from rie.model.concurrency import PROVISIONED

PUT, GET = "/2017-10-31/functions", "/2019-09-30/functions"
UNQUALIFIED_ONLY = (
    "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. "
    "Please specify either a function name or an unqualified function ARN."
)
RESERVED_TOO_MUCH = (
    "Specified ReservedConcurrentExecutions for function decreases account's "
    "UnreservedConcurrentExecution below its minimum value of [100]."
)


@pytest.fixture
def world() -> World:
    """Two functions, with a version and an alias each."""
    made = World()
    for name in "fg":
        made.active(name, Publish=True)
        made.call("POST", f"{FUNCTIONS}/{name}/aliases", {"Name": "live", "FunctionVersion": "1"})
    return made


def reserve(world: World, slots: int, name: str = "f") -> TestResponse:
    return world.call("PUT", f"{PUT}/{name}/concurrency", {"ReservedConcurrentExecutions": slots})


def provision(world: World, slots: int, qualifier: str = "1", name: str = "f") -> TestResponse:
    body = {"ProvisionedConcurrentExecutions": slots}
    return world.call("PUT", f"{GET}/{name}/provisioned-concurrency?Qualifier={qualifier}", body)


def progress(world: World, qualifier: str = "1", name: str = "f") -> TestResponse:
    return world.call("GET", f"{GET}/{name}/provisioned-concurrency?Qualifier={qualifier}")


def unreserved(world: World) -> int:
    return int(world.call("GET", "/2016-08-19/account-settings").json["AccountLimit"]["UnreservedConcurrentExecutions"])


def conflict(answer: TestResponse) -> str:
    status, kind, body = failure(answer)
    assert (status, kind) == (409, "ResourceConflictException")
    return str(body["message"])


def token(world: World, qualifier: str = "1") -> str:
    found = [record.token for place, record in world.ledger.all(PROVISIONED) if place.name == qualifier]
    return found[0]


def test_a_reservation_is_put_read_shown_and_deleted(world: World) -> None:
    assert world.call("GET", f"{GET}/f/concurrency").json == {}
    assert reserve(world, 7).json == {"ReservedConcurrentExecutions": 7}
    assert world.call("GET", f"{GET}/f/concurrency").json == {"ReservedConcurrentExecutions": 7}
    assert world.call("GET", f"{FUNCTIONS}/f").json["Concurrency"] == {"ReservedConcurrentExecutions": 7}
    assert unreserved(world) == 993
    for _ in range(2):
        assert world.call("DELETE", f"{PUT}/f/concurrency").status_code == 204
    assert "Concurrency" not in world.call("GET", f"{FUNCTIONS}/f").json
    assert reserve(world, 0).json == {"ReservedConcurrentExecutions": 0}
    assert world.call("GET", f"{GET}/f/concurrency").json == {"ReservedConcurrentExecutions": 0}


def test_a_hundred_stay_unreserved(world: World) -> None:
    assert refusal(reserve(world, 901)) == RESERVED_TOO_MUCH
    assert refusal(reserve(world, 5_000)) == RESERVED_TOO_MUCH
    assert reserve(world, 900).status_code == 200
    assert refusal(reserve(world, 1, "g")) == RESERVED_TOO_MUCH
    assert reserve(world, 899).status_code == 200
    assert reserve(world, 1, "g").status_code == 200
    assert unreserved(world) == 100


@pytest.mark.parametrize("qualifier", ["1", "live"])
def test_versions_and_aliases_have_no_reservations(world: World, qualifier: str) -> None:
    assert refusal(reserve(world, 1, f"f:{qualifier}")) == UNQUALIFIED_ONLY


def test_reservations_of_what_is_not_there(world: World) -> None:
    assert failure(reserve(world, 1, "h"))[2]["Message"] == f"Function not found: {ARN}h:$LATEST"
    for method, prefix in (("GET", GET), ("DELETE", PUT)):
        answer = world.call(method, f"{prefix}/h/concurrency")
        assert failure(answer)[2]["Message"] == f"Function not found: {ARN}h"


def test_provisioned_concurrency_goes_from_in_progress_to_ready(world: World) -> None:
    answer = provision(world, 3)
    assert answer.status_code == 202
    begun = {
        "RequestedProvisionedConcurrentExecutions": 3,
        "AvailableProvisionedConcurrentExecutions": 0,
        "AllocatedProvisionedConcurrentExecutions": 0,
        "Status": "IN_PROGRESS",
        "LastModified": "2025-11-25T02:26:54+0000",
    }
    assert answer.json == begun
    assert progress(world).json == begun
    world.allocations[token(world)] = Allocation("1", 3, 3, "READY")
    assert progress(world).json == {
        **begun,
        "AvailableProvisionedConcurrentExecutions": 3,
        "AllocatedProvisionedConcurrentExecutions": 3,
        "Status": "READY",
    }
    listed = world.call("GET", f"{GET}/f/provisioned-concurrency?List=ALL").json["ProvisionedConcurrencyConfigs"]
    assert listed == [{"FunctionArn": f"{ARN}f:1", **progress(world).json}]
    assert unreserved(world) == 997
    for _ in range(2):
        assert world.call("DELETE", f"{GET}/f/provisioned-concurrency?Qualifier=1").status_code == 204
    expected = {"Type": "User", "message": "No Provisioned Concurrency Config found for this function"}
    assert failure(progress(world)) == (404, "ProvisionedConcurrencyConfigNotFoundException", expected)


def test_a_failure_is_told_with_its_reason(world: World) -> None:
    provision(world, 1)
    world.allocations[token(world)] = Allocation("1", 1, 0, "FAILED", "FUNCTION_ERROR_INIT_FAILURE")
    found = progress(world).json
    assert (found["Status"], found["StatusReason"]) == ("FAILED", "FUNCTION_ERROR_INIT_FAILURE")
    assert provision(world, 1).json["Status"] == "IN_PROGRESS"


def test_an_alias_that_moved_is_in_progress_with_the_counts_of_before(world: World) -> None:
    provision(world, 2, "live")
    world.allocations[token(world, "live")] = Allocation("1", 2, 2, "READY")
    assert progress(world, "live").json["Status"] == "READY"
    world.configure(Description="2")
    world.settle()
    world.call("POST", f"{FUNCTIONS}/f/versions", {})
    assert world.call("PUT", f"{FUNCTIONS}/f/aliases/live", {"FunctionVersion": "2"}).status_code == 200
    found = progress(world, "live").json
    assert (found["Status"], found["AvailableProvisionedConcurrentExecutions"]) == ("IN_PROGRESS", 2)
    world.call("DELETE", f"{FUNCTIONS}/f/aliases/live")
    assert world.call("GET", f"{GET}/f/provisioned-concurrency?List=ALL").json["ProvisionedConcurrencyConfigs"] == []


def test_only_what_is_published_can_be_provisioned(world: World) -> None:
    text = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
    assert refusal(provision(world, 1, "$LATEST")) == text
    text = "The function resource provided must be an alias or a published version."
    assert refusal(progress(world, "$LATEST")) == text
    assert refusal(world.call("DELETE", f"{GET}/f/provisioned-concurrency?Qualifier=$LATEST")) == text
    assert breach(provision(world, 0)) == (
        "1 validation error detected: Value '0' at 'provisionedConcurrentExecutions' failed to satisfy constraint: "
        "Member must have value greater than or equal to 1"
    )


@pytest.mark.parametrize("call", [lambda world, qualifier: provision(world, 1, qualifier), progress])
def test_what_is_not_there_is_said_by_the_kind_of_its_qualifier(world: World, call: Any) -> None:
    assert failure(call(world, "9"))[2]["Message"] == f"Function not found: {ARN}f:9"
    assert failure(call(world, "other"))[2]["Message"] == f"Cannot find alias arn: {ARN}f:other"


def test_a_version_and_an_alias_of_it_are_not_both_provisioned(world: World) -> None:
    provision(world, 1, "1")
    text = "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
    assert conflict(provision(world, 1, "live")) == text
    world.call("DELETE", f"{GET}/f/provisioned-concurrency?Qualifier=1")
    assert provision(world, 1, "live").status_code == 202
    assert conflict(provision(world, 1, "1")) == "Version is pointed by a Provisioned Concurrency alias"


def test_a_provisioned_alias_is_not_moved_onto_a_provisioned_version(world: World) -> None:
    provision(world, 1, "live")
    world.configure(Description="2")
    world.settle()
    world.call("POST", f"{FUNCTIONS}/f/versions", {})
    provision(world, 1, "2")
    moved = world.call("PUT", f"{FUNCTIONS}/f/aliases/live", {"FunctionVersion": "2"})
    assert conflict(moved).startswith("Alias can't be used for Provisioned Concurrency")


def test_while_an_alias_shares_its_calls_it_is_not_provisioned(world: World) -> None:
    world.configure(Description="2")
    world.settle()
    world.call("POST", f"{FUNCTIONS}/f/versions", {})
    weights = {"RoutingConfig": {"AdditionalVersionWeights": {"2": 0.5}}}
    world.call("PUT", f"{FUNCTIONS}/f/aliases/live", weights)
    assert refusal(provision(world, 1, "live")) == "Alias with weights can not be used with Provisioned Concurrency"


def test_provisioned_concurrency_has_limits(world: World) -> None:
    text = "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [1000]."
    assert refusal(provision(world, 1_001)) == text
    text = (
        "Specified ConcurrentExecutions for function decreases account's "
        "UnreservedConcurrentExecution below its minimum value of [100]."
    )
    assert refusal(provision(world, 901)) == text
    assert provision(world, 900).status_code == 202
    assert refusal(provision(world, 1, name="g")) == text
    assert provision(world, 2).status_code == 202
    text = " ReservedConcurrentExecutions  1 should not be lower than function's total provisioned concurrency [2]."
    assert refusal(reserve(world, 1)) == text
    assert reserve(world, 2).status_code == 200
    assert unreserved(world) == 998
    assert refusal(provision(world, 3)) == (
        "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
    )


def test_a_version_takes_what_is_provisioned_for_it_along(world: World) -> None:
    world.call("DELETE", f"{FUNCTIONS}/f/aliases/live")
    provision(world, 5)
    assert world.call("DELETE", f"{FUNCTIONS}/f?Qualifier=1").status_code == 204
    assert unreserved(world) == 1_000


def test_account_settings_count_what_is_set_aside(world: World) -> None:
    reserve(world, 10)
    provision(world, 5)
    provision(world, 20, name="g")
    answer = world.call("GET", "/2016-08-19/account-settings").json
    assert answer["AccountLimit"]["ConcurrentExecutions"] == 1_000
    assert answer["AccountLimit"]["UnreservedConcurrentExecutions"] == 970
    assert answer["AccountUsage"]["FunctionCount"] == 2


def test_pages_of_what_is_provisioned_lose_nothing(world: World) -> None:
    for number in range(2, 12):
        world.configure(Description=str(number))
        world.settle()
        assert world.call("POST", f"{FUNCTIONS}/f/versions", {}).json["Version"] == str(number)
    for qualifier in ("11", "live", "9", "10"):
        assert provision(world, 1, qualifier).status_code == 202
    listed, marker = [], ""
    while marker is not None:
        path = f"{GET}/f/provisioned-concurrency?List=ALL&MaxItems=1&Marker={marker}"
        answer = world.call("GET", path).json
        listed += [each["FunctionArn"].removeprefix(f"{ARN}f:") for each in answer["ProvisionedConcurrencyConfigs"]]
        marker = answer.get("NextMarker")
    assert listed == ["9", "10", "11", "live"]
    forged = base64.urlsafe_b64encode(b"provisioned:" + b"9" * 5000).decode()
    path = f"{GET}/f/provisioned-concurrency?List=ALL&Marker={forged}"
    assert world.call("GET", path).status_code == 200
