"""Zip functions through the API (lambda.md §1.1 to §1.6, §1.10, §1.11)."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from test_api_world import FUNCTIONS, World, encoded, failure, refusal, zipped

from rie.code.s3 import S3Object
from rie.functions import rules, uploads

OTHER = zipped({"app.py": "other = 1"})
LIMIT = 262_144_000


@pytest.fixture
def world() -> World:
    return World()


def sha256(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def update_code(world: World, **members: Any) -> Any:
    return world.call("PUT", f"{FUNCTIONS}/f/code", members)


def active(world: World, **members: Any) -> dict[str, Any]:
    assert world.create_zip(**members).status_code == 201
    world.settle()
    return dict(world.call("GET", f"{FUNCTIONS}/f/configuration").json)


def test_create_answers_with_the_members_of_a_zip_function(world: World) -> None:
    content = zipped()
    response = world.create_zip()
    assert response.status_code == 201
    answer = dict(response.json)
    assert (answer["PackageType"], answer["Runtime"], answer["Handler"]) == ("Zip", "python3.11", "app.handler")
    assert (answer["CodeSize"], answer["CodeSha256"]) == (len(content), sha256(content))
    assert (answer["State"], answer["StateReasonCode"]) == ("Pending", "Creating")
    assert answer["RuntimeVersionConfig"]["RuntimeVersionArn"].startswith("arn:aws:lambda:us-east-1::runtime:")
    assert len(answer["RuntimeVersionConfig"]["RuntimeVersionArn"].rpartition(":")[2]) == 64
    assert {"LastUpdateStatus", "Layers", "FileSystemConfigs", "ImageConfigResponse"}.isdisjoint(answer)
    assert answer["SnapStart"] == {"ApplyOn": "None", "OptimizationStatus": "Off"}


def test_zip_is_the_package_type_when_none_is_given(world: World) -> None:
    assert world.create_zip(PackageType=...).json["PackageType"] == "Zip"


def test_lists_lack_the_runtimes_version(world: World) -> None:
    active(world)
    (item,) = world.call("GET", FUNCTIONS).json["Functions"]
    assert item["Runtime"] == "python3.11"
    assert "RuntimeVersionConfig" not in item


def test_the_code_can_be_downloaded_by_the_name_that_the_caller_uses(world: World) -> None:
    world.create_zip()
    code = world.call("GET", f"{FUNCTIONS}/f", Host="lambda.test:9000").json["Code"]
    assert code["RepositoryType"] == "S3"
    assert set(code) == {"RepositoryType", "Location"}
    start = "http://lambda.test:9000"
    assert code["Location"].startswith(f"{start}/_rie/code/")
    path, _, query = code["Location"].removeprefix(start).partition("?")
    found = world.code.find(world.links.read(path, query) or "")
    assert found is not None
    assert found.read_bytes() == zipped()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"no zip", "Could not unzip uploaded file. Please check your file, then try to upload again."),
        (zipped({"../x": ""}), "Could not unzip uploaded file. Please check your file, then try to upload again."),
        (zipped({}), "Uploaded file must be a non-empty zip"),
    ],
)
def test_what_cannot_be_unzipped_is_refused_and_nothing_is_stored(world: World, content: bytes, text: str) -> None:
    assert refusal(world.create_zip(content=content)) == text
    assert world.call("GET", f"{FUNCTIONS}/f").status_code == 404
    active(world)
    assert refusal(update_code(world, ZipFile=encoded(content))) == text


def test_the_limits_of_size_are_told_as_the_service_does(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    big = zipped({"zeros": bytes(LIMIT)})
    assert refusal(world.create_zip(content=big)) == f"Unzipped size must be smaller than {LIMIT} bytes"
    monkeypatch.setattr(uploads, "MAX_ZIPPED", len(zipped()))
    assert failure(world.create_zip()) == (
        413,
        "RequestEntityTooLargeException",
        {"message": f"Zipped size must be smaller than {len(zipped())} bytes"},
    )
    monkeypatch.undo()
    monkeypatch.setattr(uploads, "MAX_STORED", len(zipped()) - 1)
    assert failure(world.create_zip()) == (
        400,
        "CodeStorageExceededException",
        {"Type": "User", "message": "Code storage limit exceeded."},
    )


def test_a_request_without_code_or_with_two_places_for_it_is_refused(world: World) -> None:
    missing = "Please provide a source for function code."
    assert refusal(world.create_zip(Code={})) == missing
    assert refusal(world.create_zip(Code={"S3Bucket": "bucket"})) == missing
    assert refusal(world.create_zip(Code={"S3Key": "key"})) == missing
    assert refusal(world.create_zip(Code={"ZipFile": "UEs=", "S3Bucket": "bucket", "S3Key": "k"})) == (
        "Please do not provide other FunctionCode parameters when providing a ZipFile."
    )
    assert refusal(world.create_zip(Code={"ImageUri": "reg/app:1"})) == (
        "Please don't provide ImageUri when the intended function PackageType is Zip."
    )
    assert refusal(world.create_zip(ImageConfig={"Command": ["x"]})) == (
        "Please don't provide ImageConfig when the intended function PackageType is Zip."
    )


def test_code_comes_from_s3(world: World) -> None:
    world.bucket.objects[S3Object("bucket", "key")] = zipped()
    world.bucket.objects[S3Object("bucket", "key", "2")] = OTHER
    assert world.create_zip(Code={"S3Bucket": "bucket", "S3Key": "key"}).json["CodeSha256"] == sha256(zipped())
    world.settle()
    updated = update_code(world, S3Bucket="bucket", S3Key="key", S3ObjectVersion="2")
    assert updated.json["CodeSha256"] == sha256(OTHER)
    world.settle()
    assert refusal(update_code(world, S3Bucket="bucket", S3Key="other")) == (
        "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist."
    )


def test_new_code_serves_once_it_is_deployed(world: World) -> None:
    before = active(world)
    during = update_code(world, ZipFile=encoded(OTHER)).json
    assert during["CodeSha256"] == sha256(OTHER)
    assert (during["State"], during["LastUpdateStatus"]) == ("Active", "InProgress")
    assert during["RevisionId"] != before["RevisionId"]
    key = world.submitted[0].key
    serving = world.catalog.get(key).serving
    assert serving is not None
    assert serving.code_sha256 == before["CodeSha256"]
    world.settle()
    serving = world.catalog.get(key).serving
    assert serving is not None
    assert serving.code_sha256 == sha256(OTHER)


def test_a_dry_run_checks_everything_and_changes_nothing(world: World) -> None:
    before = active(world)
    answer = update_code(world, ZipFile=encoded(OTHER), DryRun=True).json
    assert answer["CodeSha256"] == sha256(OTHER)
    assert world.call("GET", f"{FUNCTIONS}/f/configuration").json == before
    assert world.submitted == []
    assert refusal(update_code(world, ZipFile="UEs=", DryRun=True)).startswith("Could not unzip")
    status, kind, _ = failure(update_code(world, ZipFile=encoded(OTHER), DryRun=True, RevisionId="stale"))
    assert (status, kind) == (412, "PreconditionFailedException")


def test_the_type_of_the_package_never_changes(world: World) -> None:
    active(world)
    assert refusal(update_code(world, ImageUri="reg/app:1")) == (
        "Please don't provide ImageUri when updating a function with packageType Zip."
    )
    world.active("image")
    assert refusal(world.call("PUT", f"{FUNCTIONS}/image/code", {"ZipFile": encoded(OTHER)})) == (
        "Please provide ImageUri when updating a function with packageType Image."
    )


def test_architecture_and_key_of_the_code_change_with_it(world: World) -> None:
    active(world, Code={"ZipFile": encoded(zipped()), "SourceKMSKeyArn": "arn:aws:kms:us-east-1:123456789012:key/k"})
    code = world.call("GET", f"{FUNCTIONS}/f").json["Code"]
    assert code["SourceKMSKeyArn"] == "arn:aws:kms:us-east-1:123456789012:key/k"
    assert update_code(world, ZipFile=encoded(OTHER), Architectures=["arm64"]).json["Architectures"] == ["arm64"]
    assert "SourceKMSKeyArn" not in world.call("GET", f"{FUNCTIONS}/f").json["Code"]


def test_runtime_and_handler_can_be_changed_and_the_runtime_is_checked(world: World) -> None:
    before = active(world)
    answer = world.configure(Runtime="python3.12", Handler="other.main").json
    assert (answer["Runtime"], answer["Handler"]) == ("python3.12", "other.main")
    assert answer["CodeSha256"] == before["CodeSha256"]
    world.settle()
    assert refusal(world.configure(Runtime="python9")).startswith("Value python9 at 'runtime'")
    assert "no longer supported" in refusal(world.configure(Runtime="nodejs12.x"))
    assert refusal(world.configure(ImageConfig={"Command": ["x"]})).startswith("Please don't provide ImageConfig")
    assert world.configure(ImageConfig={}).status_code == 200


FILE_SYSTEM = f"arn:aws:elasticfilesystem:us-east-1:123456789012:access-point/fsap-{'a' * 17}"
VPC = {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}


def test_file_systems_are_echoed_and_need_a_network(world: World) -> None:
    given = [{"Arn": FILE_SYSTEM, "LocalMountPath": "/mnt/a"}]
    assert refusal(world.create_zip(FileSystemConfigs=given)) == (
        f"Function must be configured to execute in a VPC to reference access point {FILE_SYSTEM}."
    )
    answer = active(world, FileSystemConfigs=given, VpcConfig=VPC)
    assert answer["FileSystemConfigs"] == given
    assert answer["VpcConfig"] == {**VPC, "VpcId": "", "Ipv6AllowedForDualStack": False}
    assert "FileSystemConfigs" not in world.configure(FileSystemConfigs=[]).json


def test_snapshots_are_echoed_for_runtimes_that_have_them(world: World) -> None:
    wanted = {"ApplyOn": "PublishedVersions"}
    assert refusal(world.create_zip(SnapStart=wanted)) == "python3.11 is not supported for SnapStart enabled functions."
    assert "512 MB" in refusal(world.create_zip(SnapStart=wanted, Runtime="java21", EphemeralStorage={"Size": 513}))
    answer = active(world, SnapStart=wanted, Runtime="python3.12")
    assert answer["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}
    assert "not supported for SnapStart" in refusal(world.configure(Runtime="python3.11"))
    assert world.configure(SnapStart={"ApplyOn": "None"}).json["SnapStart"]["ApplyOn"] == "None"


def test_the_key_of_the_environment_is_echoed_and_cleared(world: World) -> None:
    key = "arn:aws:kms:us-east-1:123456789012:key/k"
    assert active(world, KMSKeyArn=key)["KMSKeyArn"] == key
    assert "KMSKeyArn" not in world.configure(KMSKeyArn="").json


def test_the_account_has_used_what_its_zips_have(world: World) -> None:
    active(world)
    world.publish_layer(content=OTHER)
    world.active("image")
    usage = world.call("GET", "/2016-08-19/account-settings").json["AccountUsage"]
    assert usage == {"TotalCodeSize": len(zipped()) + len(OTHER), "FunctionCount": 2}


def test_code_and_layers_together_are_limited(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_UNPACKED", 1_000)
    layer = world.publish_layer(content=zipped({"x": "x" * 600})).json["LayerVersionArn"]
    text = (
        "Function code combined with layers exceeds the maximum allowed size of 1000 bytes. "
        "The actual size is 1100 bytes."
    )
    large, small = encoded(zipped({"x": "x" * 500})), encoded(zipped({"x": "x" * 400}))
    assert refusal(world.create_zip(Code={"ZipFile": large}, Layers=[layer])) == text
    active(world, Code={"ZipFile": small}, Layers=[layer])
    assert refusal(update_code(world, ZipFile=large)) == text
    assert update_code(world, ZipFile=small).status_code == 200


def test_a_function_that_has_the_name_is_told_before_the_code_is_looked_at(world: World) -> None:
    world.create_zip()
    status, kind, body = failure(world.create_zip(content=b"no zip"))
    assert (status, kind, body["message"]) == (409, "ResourceConflictException", "Function already exist: f")


def test_used_code_is_what_records_name(world: World) -> None:
    active(world)
    update_code(world, ZipFile=encoded(OTHER))
    world.publish_layer(content=zipped({"l": "l"}))
    used = {archive.sha256 for archives, _ in world.usage.uses() for archive in archives}
    assert used == {hashlib.sha256(each).hexdigest() for each in (zipped(), OTHER, zipped({"l": "l"}))}
    assert world.code.sweep(world.usage.uses(), at_once=True) == 0
    world.call("DELETE", f"{FUNCTIONS}/f")
    assert world.code.sweep(world.usage.uses(), at_once=True) == 4  # two zips, two trees


def test_publishing_the_same_code_again_makes_no_version_and_other_code_does(world: World) -> None:
    active(world)
    assert update_code(world, ZipFile=encoded(zipped()), Publish=True).json["Version"] == "1"
    world.settle()
    assert update_code(world, ZipFile=encoded(zipped()), Publish=True).json["Version"] == "1"
    world.settle()
    assert update_code(world, ZipFile=encoded(OTHER), Publish=True).json["Version"] == "2"
    world.settle()
    versions = world.call("GET", f"{FUNCTIONS}/f/versions").json["Versions"]
    assert [(each["Version"], each["CodeSha256"]) for each in versions] == [
        ("$LATEST", sha256(OTHER)),
        ("1", sha256(zipped())),
        ("2", sha256(OTHER)),
    ]
    usage = world.call("GET", "/2016-08-19/account-settings").json["AccountUsage"]
    assert usage["TotalCodeSize"] == 2 * len(OTHER) + len(zipped())
