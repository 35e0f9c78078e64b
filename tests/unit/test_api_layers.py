"""Layers through the API: versions, lists, policies, and functions that name them (lambda.md §12.1 to §12.3)."""

from __future__ import annotations

import base64
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from test_api_world import ACCOUNT, FUNCTIONS, LAYERS, World, breach, failure, refusal, zipped

from rie.model.layer import LAYERS as KIND
from rie.model.layer import Grant
from rie.model.record import Place

ARN = f"arn:aws:lambda:us-east-1:{ACCOUNT}:layer:"
NOT_THERE = (
    404,
    "ResourceNotFoundException",
    {"Type": "User", "Message": "The resource you requested does not exist."},
)
OTHER_ACCOUNT = "999999999999"


@pytest.fixture
def world() -> World:
    return World()


def permission(world: World, sid: str = "s1", version: int = 1, query: str = "", **members: Any) -> Any:
    body = {"StatementId": sid, "Action": "lambda:GetLayerVersion", "Principal": "*", **members}
    return world.call("POST", f"{LAYERS}/l/versions/{version}/policy{query}", body)


def test_publishing_answers_201_with_everything(world: World) -> None:
    content = zipped()
    response = world.publish_layer(
        Description="d",
        LicenseInfo="MIT",
        CompatibleRuntimes=["python3.12", "python3.11"],
        CompatibleArchitectures=["arm64"],
    )
    assert response.status_code == 201
    answer = dict(response.json)
    place = answer.pop("Content")
    assert place["CodeSha256"] == base64.b64encode(hashlib.sha256(content).digest()).decode()
    assert place["CodeSize"] == len(content)
    assert place["Location"].startswith("http://localhost/_rie/code/")
    assert answer == {
        "LayerArn": f"{ARN}l",
        "LayerVersionArn": f"{ARN}l:1",
        "Description": "d",
        "CreatedDate": "2025-11-25T02:26:54.123+0000",
        "Version": 1,
        "CompatibleRuntimes": ["python3.12", "python3.11"],
        "CompatibleArchitectures": ["arm64"],
        "LicenseInfo": "MIT",
    }
    for path in (f"{LAYERS}/l/versions/1", f"{LAYERS}?find=LayerVersion&Arn={ARN}l:1"):
        found = dict(world.call("GET", path).json)
        assert found.pop("Content")["CodeSize"] == len(content)
        assert found == answer


def test_members_that_were_not_given_are_absent_and_empty_lists_stay_empty(world: World) -> None:
    bare = world.publish_layer().json
    assert bare["Description"] == ""
    assert {"CompatibleRuntimes", "CompatibleArchitectures", "LicenseInfo"}.isdisjoint(bare)
    empty = world.publish_layer(CompatibleRuntimes=[], CompatibleArchitectures=[]).json
    assert (empty["CompatibleRuntimes"], empty["CompatibleArchitectures"]) == ([], [])


def test_the_same_content_again_is_another_version_and_numbers_never_come_back(world: World) -> None:
    assert [world.publish_layer().json["Version"] for _ in range(3)] == [1, 2, 3]
    for number in (1, 2, 3, 3, 99):
        assert world.call("DELETE", f"{LAYERS}/l/versions/{number}").status_code == 204
    assert world.call("DELETE", f"{LAYERS}/unknown/versions/1").status_code == 204
    assert world.call("GET", LAYERS).json == {"Layers": []}
    assert world.publish_layer().json["Version"] == 4


def test_parallel_publishers_get_numbers_of_their_own(world: World) -> None:
    with ThreadPoolExecutor(6) as threads:
        numbers = list(threads.map(lambda _: world.app.test_client().post(
            f"{LAYERS}/l/versions", json={"Content": {"ZipFile": base64.b64encode(zipped()).decode()}}
        ).json["Version"], range(12)))  # fmt: skip
    assert sorted(numbers) == list(range(1, 13))


def test_a_version_that_is_not_there(world: World) -> None:
    assert failure(world.call("GET", f"{LAYERS}/l/versions/1")) == NOT_THERE
    world.publish_layer()
    assert failure(world.call("GET", f"{LAYERS}/l/versions/2")) == NOT_THERE
    assert failure(world.call("GET", f"{LAYERS}?find=LayerVersion&Arn={ARN}l:2")) == NOT_THERE
    assert refusal(world.call("GET", f"{LAYERS}/l/versions/0")) == "Layer Version Cannot be less than 1"
    assert world.call("GET", f"{LAYERS}/unknown/versions").json == {"LayerVersions": []}


def test_a_layer_may_be_named_by_its_arn(world: World) -> None:
    assert world.publish_layer(f"{ARN}l").json["LayerArn"] == f"{ARN}l"
    assert world.call("GET", f"{LAYERS}/{ARN.replace(':', '%3A')}l/versions/1").status_code == 200


def test_names_and_values_are_checked_by_the_model(world: World) -> None:
    assert (
        "at 'compatibleRuntimes' failed to satisfy constraint: Member must satisfy constraint: [Member must"
        in breach(world.publish_layer(CompatibleRuntimes=["python9"]))
    )
    assert "at 'layerName'" in breach(world.publish_layer("a.b"))
    assert "at 'layerName'" in breach(world.publish_layer("n" * 141))
    assert refusal(world.call("POST", f"{LAYERS}/l/versions", {"Content": {}})) == (
        "Please provide a source for function code."
    )
    assert refusal(world.publish_layer(content=b"no zip")).startswith("Could not unzip uploaded file.")


def test_versions_are_listed_newest_first_in_pages(world: World) -> None:
    for number in range(5):
        world.publish_layer(CompatibleRuntimes=["python3.12" if number % 2 else "nodejs22.x"])
    path = f"{LAYERS}/l/versions"
    first = world.call("GET", f"{path}?MaxItems=2").json
    assert [each["Version"] for each in first["LayerVersions"]] == [5, 4]
    assert "Content" not in first["LayerVersions"][0]
    second = world.call("GET", f"{path}?MaxItems=3&Marker={first['NextMarker']}").json
    assert [each["Version"] for each in second["LayerVersions"]] == [3, 2, 1]
    assert "NextMarker" not in second
    fitting = world.call("GET", f"{path}?CompatibleRuntime=python3.12").json["LayerVersions"]
    assert [each["Version"] for each in fitting] == [4, 2]
    assert refusal(world.call("GET", f"{path}?Marker=x")) == "Invalid Marker: x"


def test_layers_are_listed_with_their_newest_version_that_fits(world: World) -> None:
    for name in ("a", "b", "c"):
        world.publish_layer(name, CompatibleRuntimes=["python3.12"], CompatibleArchitectures=["x86_64"])
        world.publish_layer(name)
    first = world.call("GET", f"{LAYERS}?MaxItems=2").json
    assert [(each["LayerName"], each["LatestMatchingVersion"]["Version"]) for each in first["Layers"]] == [
        ("a", 2),
        ("b", 2),
    ]
    second = world.call("GET", f"{LAYERS}?Marker={first['NextMarker']}").json
    assert [each["LayerArn"] for each in second["Layers"]] == [f"{ARN}c"]
    assert "NextMarker" not in second
    fitting = world.call("GET", f"{LAYERS}?CompatibleRuntime=python3.12&CompatibleArchitecture=x86_64").json["Layers"]
    assert [each["LatestMatchingVersion"]["Version"] for each in fitting] == [1, 1, 1]
    assert world.call("GET", f"{LAYERS}?CompatibleArchitecture=arm64").json["Layers"] == []


# -- policies ------------------------------------------------------------------------------------------------------


def test_statements_are_rendered_as_the_service_does(world: World) -> None:
    world.publish_layer()
    arn = f"{ARN}l:1"
    answer = permission(world)
    assert answer.status_code == 201
    public = {"Sid": "s1", "Effect": "Allow", "Principal": "*", "Action": "lambda:GetLayerVersion", "Resource": arn}
    assert json.loads(answer.json["Statement"]) == public
    account = json.loads(permission(world, "s2", Principal=OTHER_ACCOUNT).json["Statement"])
    assert account["Principal"] == {"AWS": f"arn:aws:iam::{OTHER_ACCOUNT}:root"}
    organization = json.loads(permission(world, "s3", OrganizationId="o-abcdefghij").json["Statement"])
    assert organization == {
        **public,
        "Sid": "s3",
        "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-abcdefghij"}},
    }
    policy = world.call("GET", f"{LAYERS}/l/versions/1/policy").json
    assert json.loads(policy["Policy"]) == {
        "Version": "2012-10-17",
        "Id": "default",
        "Statement": [public, account, organization],
    }
    assert world.call("DELETE", f"{LAYERS}/l/versions/1/policy/s2").status_code == 204
    after = world.call("GET", f"{LAYERS}/l/versions/1/policy").json
    assert [each["Sid"] for each in json.loads(after["Policy"])["Statement"]] == ["s1", "s3"]
    assert after["RevisionId"] != policy["RevisionId"]


def test_what_is_wrong_with_a_policy_is_told(world: World) -> None:
    path = f"{LAYERS}/l/versions/1/policy"
    for response in (permission(world), world.call("GET", path), world.call("DELETE", f"{path}/s1")):
        status, kind, body = failure(response)
        assert (status, kind) == (404, "ResourceNotFoundException")
        assert body["Message"] == f"Layer version {ARN}l:1 does not exist."
    world.publish_layer()
    for response in (world.call("GET", path), world.call("DELETE", f"{path}/s1")):
        assert failure(response)[2]["Message"] == "No policy is associated with the given resource."
    revision = permission(world).json["RevisionId"]
    assert failure(permission(world)) == (
        409,
        "ResourceConflictException",
        {
            "Type": "User",
            "message": "The statement id (s1) provided already exists. "
            "Please provide a new statement id, or remove the existing statement.",
        },
    )
    assert failure(world.call("DELETE", f"{path}/s9"))[2]["Message"] == (
        "Statement s9 is not found in resource policy."
    )
    stale = (
        "The RevisionId provided does not match the latest RevisionId. "
        "Call the GetLayerPolicy API to retrieve the latest Revision Id"
    )
    for response in (permission(world, "s2", query="?RevisionId=x"), world.call("DELETE", f"{path}/s1?RevisionId=x")):
        status, kind, body = failure(response)
        assert (status, kind, body["message"]) == (412, "PreconditionFailedException", stale)
    assert permission(world, "s2", query=f"?RevisionId={revision}").status_code == 201
    assert "at 'action' failed to satisfy constraint" in breach(permission(world, "s3", Action="lambda:Invoke"))


def test_a_policy_has_a_bound(world: World) -> None:
    world.publish_layer()
    numbers = (permission(world, f"{'s' * 90}{number}") for number in range(200))
    refused = next(response for response in numbers if response.status_code != 201)
    assert failure(refused)[:2] == (400, "PolicyLengthExceededException")


# -- functions -----------------------------------------------------------------------------------------------------


def test_functions_have_layers_in_the_order_given_and_lose_them(world: World) -> None:
    for name in ("a", "b"):
        world.publish_layer(name)
    answer = world.create_zip(Layers=[f"{ARN}b:1", f"{ARN}a:1"]).json
    size = len(zipped())
    assert answer["Layers"] == [{"Arn": f"{ARN}b:1", "CodeSize": size}, {"Arn": f"{ARN}a:1", "CodeSize": size}]
    world.settle()
    assert world.configure(Description="d").json["Layers"] == answer["Layers"]
    world.settle()
    assert "Layers" not in world.configure(Layers=[]).json


def test_every_violation_has_its_text(world: World) -> None:
    for name in "abcdef":
        world.publish_layer(name)
    world.publish_layer("a")
    arns = [f"{ARN}{name}:1" for name in "abcdef"]

    def told(*layers: str) -> str:
        return refusal(world.create_zip(Layers=list(layers)))

    assert told(*arns) == "Cannot reference more than 5 layers."
    assert told(f"{ARN}x:1") == f"Layer version {ARN}x:1 does not exist."
    assert told(f"{ARN}a:9") == f"Layer version {ARN}a:9 does not exist."
    twice = (
        "Two different versions of the same layer are not allowed to be referenced in the same function. "
        "{} and {} are versions of the same layer."
    )
    assert told(f"{ARN}a:1", f"{ARN}a:2") == twice.format(f"{ARN}a:2", f"{ARN}a:1")
    assert told(f"{ARN}a:1", f"{ARN}a:1") == twice.format(f"{ARN}a:1", f"{ARN}a:1")
    assert told(f"arn:aws:lambda:eu-west-1:{ACCOUNT}:layer:a:1") == (
        "Layers are not in the same region as the function. Layers are expected to be in region us-east-1."
    )
    assert "at 'layers' failed to satisfy constraint: Member must satisfy constraint: [" in breach(
        world.create_zip(Layers=[f"{ARN}a"])
    )
    assert world.create_zip(Layers=arns[:5]).status_code == 201
    world.settle()
    assert refusal(world.configure(Layers=arns)) == "Cannot reference more than 5 layers."


def test_a_function_keeps_a_version_that_was_deleted_and_none_can_be_added(world: World) -> None:
    world.publish_layer("a")
    world.publish_layer("b")
    world.create_zip(Layers=[f"{ARN}a:1"])
    world.settle()
    world.call("DELETE", f"{LAYERS}/a/versions/1")
    world.call("DELETE", f"{LAYERS}/b/versions/1")
    assert world.configure(Timeout=9).status_code == 200
    world.settle()
    assert [each["Arn"] for each in world.configure(Layers=[f"{ARN}a:1"]).json["Layers"]] == [f"{ARN}a:1"]
    world.settle()
    assert refusal(world.configure(Layers=[f"{ARN}b:1"])) == f"Layer version {ARN}b:1 does not exist."
    assert world.code.sweep(world.usage.uses(), at_once=True) == 0


def test_layers_of_other_accounts_need_their_grant(world: World) -> None:
    world.publish_layer()
    layer = world.ledger.find(KIND, Place(ACCOUNT, "us-east-1", "", "l"))
    assert layer is not None
    foreign = Place(OTHER_ACCOUNT, "us-east-1", "", "l")
    arn = f"arn:aws:lambda:us-east-1:{OTHER_ACCOUNT}:layer:l:1"
    refused = (
        f"User: arn:aws:iam::{ACCOUNT}:root is not authorized to perform: lambda:GetLayerVersion on "
        f"resource: {arn} because no resource-based policy allows the lambda:GetLayerVersion action"
    )

    def granting(*grants: Grant) -> None:
        version = replace(layer.versions[0], grants=grants)
        world.ledger.put(KIND, foreign, replace(layer, versions=(version,)))

    for grants in ((), (Grant("s", "111111111111"),), (Grant("s", "*", "o-abcdefghij"),)):
        granting(*grants)
        for response in (
            world.create_zip(Layers=[arn]),
            world.call("GET", f"{LAYERS}?find=LayerVersion&Arn={arn}"),
        ):
            status, kind, body = failure(response)
            assert (status, kind, body["Message"]) == (403, "AccessDeniedException", refused)
    for number, principal in enumerate(("*", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root")):
        granting(Grant("s", principal))
        assert world.create_zip(f"f{number}", Layers=[arn]).status_code == 201
    assert world.call("DELETE", f"{LAYERS}/{arn.removesuffix(':1').replace(':', '%3A')}/versions/1").status_code == 400


def test_a_function_and_a_layer_of_one_name_live_their_own_lives(world: World) -> None:
    world.publish_layer("f")
    world.create_zip("f")
    assert world.call("DELETE", f"{FUNCTIONS}/f").status_code == 204
    assert world.call("GET", f"{LAYERS}/f/versions/1").status_code == 200
