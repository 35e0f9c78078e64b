"""Reading, listing, deleting and tagging functions through the API (lambda.md §0.3, §0.4, §1.3, §1.14, §12.6)."""

from __future__ import annotations

from typing import Any

import pytest
from test_api_world import ARN, FUNCTIONS, World, breach, failure, refusal


@pytest.fixture
def world() -> World:
    return World()


def test_the_arn_echoes_how_the_function_was_addressed(world: World) -> None:
    world.create()
    for path, arn in (("f", "f"), ("f?Qualifier=%24LATEST", "f:$LATEST"), ("f%3A%24LATEST", "f:$LATEST")):
        assert world.call("GET", f"{FUNCTIONS}/{path}").json["Configuration"]["FunctionArn"] == ARN + arn


@pytest.mark.parametrize(
    ("asked", "printed"),
    [
        ("g", "g"),
        ("g?Qualifier=$LATEST", "g:$LATEST"),
        ("f?Qualifier=3", "f:3"),
        ("f:alias", "f:alias"),
        ("n" * 200, "n" * 200),
    ],
)
def test_what_is_not_there_is_not_found_under_the_arn_that_was_asked_for(
    world: World, asked: str, printed: str
) -> None:
    world.create()
    expected = (
        404,
        "ResourceNotFoundException",
        {"Type": "User", "Message": f"Function not found: {ARN}{printed}"},
    )
    assert failure(world.call("GET", f"{FUNCTIONS}/{asked}")) == expected


def test_delete_answers_204_without_a_body_and_then_404(world: World) -> None:
    world.create()
    response = world.call("DELETE", f"{FUNCTIONS}/f")
    assert (response.status_code, response.data) == (204, b"")
    expected = (404, "ResourceNotFoundException", {"Type": "User", "Message": f"Function not found: {ARN}f"})
    assert failure(world.call("DELETE", f"{FUNCTIONS}/f")) == expected
    assert failure(world.call("DELETE", f"{FUNCTIONS}/f?Qualifier=1")) == expected
    assert world.notices[-1][2] is None


def test_latest_and_aliases_cannot_be_deleted_and_a_version_that_is_gone_can(world: World) -> None:
    world.create()
    assert refusal(world.call("DELETE", f"{FUNCTIONS}/f?Qualifier=$LATEST")) == (
        "$LATEST version cannot be deleted without deleting the function."
    )
    assert refusal(world.call("DELETE", f"{FUNCTIONS}/f?Qualifier=live")) == (
        "Deletion of aliases is not currently supported."
    )
    assert world.call("DELETE", f"{FUNCTIONS}/f?Qualifier=7").status_code == 204
    assert world.call("GET", f"{FUNCTIONS}/f").status_code == 200


def test_lists_leave_the_state_out(world: World) -> None:
    world.active()
    (listed,) = world.call("GET", FUNCTIONS).json["Functions"]
    (version,) = world.call("GET", f"{FUNCTIONS}/f/versions").json["Versions"]
    for item in (listed, version):
        assert not [name for name in item if name.startswith(("State", "LastUpdate", "RuntimeVersion"))]
    assert (listed["FunctionArn"], version["FunctionArn"]) == (f"{ARN}f", f"{ARN}f:$LATEST")
    (qualified,) = world.call("GET", f"{FUNCTIONS}?FunctionVersion=ALL&MasterRegion=ALL").json["Functions"]
    assert qualified["FunctionArn"] == f"{ARN}f:$LATEST"
    assert "'functionVersion'" in breach(world.call("GET", f"{FUNCTIONS}?FunctionVersion=1"))


def test_lists_come_in_pages_by_name_and_the_last_has_no_marker(world: World) -> None:
    for number in range(5):
        world.create(f"f{number}")
    names: list[str] = []
    query = "?MaxItems=2"
    sizes = []
    while True:
        page = world.call("GET", FUNCTIONS + query).json
        sizes.append(len(page["Functions"]))
        names += [function["FunctionName"] for function in page["Functions"]]
        if "NextMarker" not in page:
            break
        query = f"?MaxItems=2&Marker={page['NextMarker']}"
    assert names == ["f0", "f1", "f2", "f3", "f4"]
    assert sizes == [2, 2, 1]


def test_a_page_has_at_most_50_functions(world: World) -> None:
    for number in range(51):
        world.create(f"f{number}")
    page = world.call("GET", f"{FUNCTIONS}?MaxItems=10000").json
    assert len(page["Functions"]) == 50
    assert page["NextMarker"]


@pytest.mark.parametrize("marker", ["x", "%ff", "dmVyc2lvbnM6YQ=="])
def test_a_marker_of_ones_own_is_refused(world: World, marker: str) -> None:
    assert refusal(world.call("GET", f"{FUNCTIONS}?Marker={marker}")).startswith("Invalid Marker: ")


def test_a_region_sees_its_own_functions_only(world: World) -> None:
    world.create()
    signed = "AWS4-HMAC-SHA256 Credential=AKID/20251125/eu-west-1/lambda/aws4_request, SignedHeaders=host, Signature=0"
    assert world.call("GET", FUNCTIONS, Authorization=signed).json == {"Functions": []}
    status, _, body = failure(world.call("GET", f"{FUNCTIONS}/f", Authorization=signed))
    assert (status, body["Message"]) == (404, "Function not found: arn:aws:lambda:eu-west-1:123456789012:function:f")


def test_small_reads_that_clients_insist_on(world: World) -> None:
    world.create()
    assert world.call("GET", "/2020-06-30/functions/f/code-signing-config").json == {}
    assert world.call("GET", "/2019-09-30/functions/f/concurrency").json == {}
    assert failure(world.call("GET", "/2019-09-30/functions/g/concurrency"))[2]["Message"] == (
        f"Function not found: {ARN}g"
    )
    settings = world.call("GET", "/2016-08-19/account-settings/").json
    assert settings["AccountUsage"] == {"TotalCodeSize": 0, "FunctionCount": 1}
    assert settings["AccountLimit"]["ConcurrentExecutions"] == 1000


def test_tags_are_merged_taken_away_and_change_the_revision(world: World) -> None:
    before = world.active(Tags={"a": "1"})["RevisionId"]
    path = f"/2017-03-31/tags/{ARN}f"
    assert world.call("POST", path, {"Tags": {"a": "2", "b": "3"}}).status_code == 204
    assert world.call("GET", path).json == {"Tags": {"a": "2", "b": "3"}}
    assert world.call("DELETE", f"{path}?tagKeys=a&tagKeys=b&tagKeys=zzz").status_code == 204
    assert world.call("GET", path.replace(":", "%3A")).json == {"Tags": {}}
    assert world.call("GET", f"{FUNCTIONS}/f/configuration").json["RevisionId"] != before


def test_what_tags_refuse(world: World) -> None:
    world.create()
    path = f"/2017-03-31/tags/{ARN}f"
    fifty = {f"k{number}": "" for number in range(50)}
    assert world.call("POST", path, {"Tags": fifty}).status_code == 204
    assert refusal(world.call("POST", path, {"Tags": {"one": "more"}})) == "Number of tags exceeds resource tag limit."
    assert refusal(world.create("g", Tags={**fifty, "z": ""})) == "Number of tags exceeds resource tag limit."
    assert refusal(world.call("POST", path, {"Tags": {}})) == ("An error occurred and the request cannot be processed.")
    assert refusal(world.call("GET", f"{path}:$LATEST")) == (
        "Tags on function aliases and versions are not supported. Please specify a function ARN."
    )
    assert breach(world.call("DELETE", path)) == (
        "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null"
    )
    assert "at 'resource' failed" in breach(world.call("GET", "/2017-03-31/tags/nonsense"))
    assert failure(world.call("GET", f"/2017-03-31/tags/{ARN}h"))[2]["Message"] == f"Function not found: {ARN}h"
    mapping = "arn:aws:lambda:us-east-1:123456789012:event-source-mapping:11111111-1111-1111-1111-111111111111"
    assert failure(world.call("GET", f"/2017-03-31/tags/{mapping}"))[2]["Message"] == (
        f"Event source mapping not found: {mapping}"
    )
    assert "Map keys must satisfy constraint" in breach(world.call("POST", path, {"Tags": {"a!": ""}}))
    assert "aws:mine" in refusal(world.call("POST", path, {"Tags": {"aws:mine": ""}}))
    assert world.create("i", Tags={"Größe 1_.:/=+-@": "日本"}).status_code == 201


def test_functions_survive_that_the_database_is_opened_again(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/rie.db"
    first = World(url)
    before = first.active(Environment={"Variables": {"AB": "c"}}, Tags={"k": "v"})
    first.store.close()
    second = World(url)
    assert second.call("GET", f"{FUNCTIONS}/f/configuration").json == before
    assert failure(second.create())[0] == 409
