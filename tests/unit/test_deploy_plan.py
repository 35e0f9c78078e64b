"""What a deployment decides before it does anything: the plan, the local code, and all that is refused."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from rie.deploy.clients import Clients
from rie.deploy.desired import Desired, desire
from rie.deploy.intrinsics import Unknown
from rie.deploy.packaging import zip_directory
from rie.deploy.plan import CREATE, DELETE, FORGET, KEEP, REPLACE, UPDATE, Wanted, decide, removals
from rie.deploy.resources import TYPES
from rie.deploy.resources.base import shaped
from rie.deploy.resources.buckets import notifications
from rie.deploy.state import CREATING, READY, Held, State, StateFile
from rie.deploy.template import parse
from rie.errors import DeployFailed, TemplateInvalid

TYPE = "AWS::SQS::Queue"
NOWHERE = "http://127.0.0.1:9"


def held(logical_id: str, **more: Any) -> Held:
    given = {"type": TYPE, "name": logical_id, "status": READY, "physical_id": f"id-{logical_id}", **more}
    return Held(logical_id, **given)


def wanted(properties: dict[str, Any], kind: str = TYPE) -> Wanted:
    return Wanted("Q", kind, properties, replacing=frozenset({"FifoQueue"}))


@pytest.mark.parametrize(
    ("properties", "before", "action", "changed"),
    [
        ({"DelaySeconds": 1}, None, CREATE, ()),
        ({"DelaySeconds": 1}, held("Q", properties={"DelaySeconds": 1}), KEEP, ()),
        ({"DelaySeconds": 2}, held("Q", properties={"DelaySeconds": 1}), UPDATE, ("DelaySeconds",)),
        ({}, held("Q", properties={"DelaySeconds": 1}), UPDATE, ("DelaySeconds",)),
        ({"FifoQueue": True}, held("Q"), REPLACE, ("FifoQueue",)),
        ({"RedrivePolicy": {"to": Unknown("D")}}, held("Q", properties={}), UPDATE, ("RedrivePolicy",)),
        ({"DelaySeconds": 1}, held("Q", properties={"DelaySeconds": 1}, status=CREATING), CREATE, ()),
        ({}, held("Q", type="AWS::SNS::Topic"), REPLACE, ("Type",)),
    ],
)
def test_a_resource_is_created_kept_updated_or_replaced(
    properties: dict[str, Any], before: Held | None, action: str, changed: tuple[str, ...]
) -> None:
    step = decide(wanted(properties), before)
    assert (step.action, step.changed) == (action, changed)


def test_what_leaves_goes_before_what_it_needs_and_what_is_retained_stays() -> None:
    state = State("s")
    for each in (held("A"), held("B", needs=["A", "C"]), held("C", needs=["A"]), held("D", is_kept=True), held("E")):
        state.resources[each.logical_id] = each
    state.leaving.append(held("E", physical_id="old"))
    steps = [(step.action, step.physical_id) for step in removals(["E"], state)]
    assert steps == [(FORGET, "id-D"), (DELETE, "id-B"), (DELETE, "id-C"), (DELETE, "id-A"), (DELETE, "old")]


def test_a_state_is_read_as_it_was_saved_and_belongs_to_its_stack_alone(tmp_path: Path) -> None:
    state = State("s", {"A": held("A", properties={"x": [1]})}, [held("B")], {"A": 2}, {"Out": "x"})
    file = StateFile(tmp_path / "deep" / "s.json", "s")
    with file.alone():
        file.save(state)
        with (
            pytest.raises(DeployFailed, match="another deployment of it is running"),
            StateFile(file.path, "s").alone(),
        ):
            pass
    assert file.load() == state
    assert (file.path.stat().st_mode & 0o777) == 0o600
    with pytest.raises(DeployFailed, match="not the state of stack other"):
        StateFile(file.path, "other").load()
    file.path.write_text("{")
    with pytest.raises(DeployFailed, match="cannot read the stack's state"):
        file.load()


def test_a_directory_is_the_same_zip_whatever_its_files_ages_and_order(tmp_path: Path) -> None:
    def make(name: str, names: list[str]) -> Path:
        for each in names:
            path = tmp_path / name / each
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(each)
            os.utime(path, (len(name), len(name)))
        (tmp_path / name / "run").chmod(0o700)
        (tmp_path / name / "link").symlink_to("run")
        return tmp_path / name

    one = make("one", ["run", "lib/a.py", "b.py", "__pycache__/b.pyc", ".rie/state"])
    two = make("twotwo", ["b.py", "lib/a.py", "run"])
    assert zip_directory(one) == zip_directory(two)
    with zipfile.ZipFile(io.BytesIO(zip_directory(one))) as archive:
        modes = {entry.filename: oct(entry.external_attr >> 16) for entry in archive.infolist()}
    assert modes == {"b.py": "0o100644", "lib/a.py": "0o100644", "link": "0o120777", "run": "0o100755"}
    (one / "b.py").write_text("changed")
    assert zip_directory(one) != zip_directory(two)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TemplateInvalid, match="is empty"):
        zip_directory(tmp_path / "empty")


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Reads a template whose code is in src/; nobody answers, so nothing can be touched."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", NOWHERE)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "app.py").write_text("def handler(event, context): ...")
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "Dockerfile").write_text("FROM scratch")

    def ask(text: str, registry: str | None = None, **given: str) -> Desired:
        clients = Clients(f"{NOWHERE}8", "us-east-1", account="123456789012")
        return desire(parse(text, tmp_path / "template.yaml"), "stack", given, clients, registry)

    return ask


def test_local_code_of_globals_functions_and_layers_becomes_archives(asked: Any) -> None:
    desired = asked(
        "Transform: AWS::Serverless-2016-10-31\n"
        "Globals: {Function: {Runtime: python3.11, Handler: app.handler, CodeUri: src}}\n"
        "Resources:\n"
        "  A: {Type: AWS::Serverless::Function}\n"
        "  B: {Type: AWS::Serverless::Function, Properties: {InlineCode: 'x = 1'}}\n"
        "  C: {Type: AWS::Serverless::Function, Properties: {CodeUri: s3://bucket/key.zip}}\n"
        "  D: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: src/}}\n"
        "  E: {Type: AWS::Lambda::Function, Properties: {Code: src, Role: r, Runtime: python3.11, Handler: h}}\n"
    )
    code = {key: value["Properties"].get("Code") for key, value in desired.resources.items()}
    digest = code["A"]["S3Key"]
    assert code["A"] == code["E"] == {"S3Bucket": "rie-local", "S3Key": digest}
    assert code["B"] == {"ZipFile": "x = 1"}
    assert code["C"] == {"S3Bucket": "bucket", "S3Key": "key.zip"}
    layer = next(value for value in desired.resources.values() if value["Type"] == "AWS::Lambda::LayerVersion")
    assert layer["Properties"]["Content"]["S3Key"] == digest


def test_what_is_not_known_is_named_all_at_once_with_its_line(asked: Any) -> None:
    with pytest.raises(TemplateInvalid) as refused:
        asked(
            "Resources:\n"
            "  A: {Type: AWS::EC2::Instance}\n"
            "  B: {Type: AWS::SQS::Queue, DependsOn: Nobody}\n"
            "  C: {Type: AWS::SQS::Queue, DeletionPolicy: Snapshot}\n"
        )
    assert str(refused.value).splitlines() == [
        "cannot deploy template.yaml: nothing was changed",
        "  A (template.yaml:2): AWS::EC2::Instance is not supported",
        "  B (template.yaml:3): DependsOn Nobody: there is no such resource",
        "  C (template.yaml:4): DeletionPolicy Snapshot is not supported",
    ]
    with pytest.raises(TemplateInvalid) as refused:
        asked(
            "Resources:\n"
            "  A: {Type: AWS::SQS::Queue, Properties: {Colour: red}}\n"
            "  B: {Type: AWS::Lambda::Function, Properties: {Role: r}}\n"
            "  C: {Type: AWS::SQS::Queue, Properties: {QueueName: !GetAtt A.Colour}}\n"
            "  D: {Type: AWS::Lambda::Function, Properties: {Role: r, Runtime: java21, Code: {ZipFile: x}}}\n"
            "  E: {Type: AWS::SQS::Queue, Properties: {QueueName: !GetAtt A.Arn}}\n"
            "Outputs:\n"
            "  O: {Value: !Ref Nobody}\n"
        )
    assert str(refused.value).splitlines()[1:] == [
        "  A (template.yaml:2): property Colour of AWS::SQS::Queue is not supported",
        "  B (template.yaml:3): property Code of AWS::Lambda::Function is missing",
        "  D (template.yaml:5): inline code is for python and nodejs, not for java21",
        "  C (template.yaml:4): Fn::GetAtt A.Colour: it has no such attribute (it has Arn, QueueName, QueueUrl)",
        "  E (template.yaml:6): QueueName can't be made of what isn't there yet",
        "  Outputs: Ref Nobody: there is no such parameter or resource",
    ]


def test_what_the_translator_refuses_is_told_with_its_line(asked: Any) -> None:
    with pytest.raises(TemplateInvalid, match=r"F \(template.yaml:3\): .*Handler"):
        asked(
            "Transform: AWS::Serverless-2016-10-31\nResources:\n"
            "  F: {Type: AWS::Serverless::Function, Properties: {Runtime: python3.11, CodeUri: src}}\n"
        )
    with pytest.raises(TemplateInvalid, match="wants `Transform: AWS::Serverless-2016-10-31`"):
        asked("Resources:\n  F: {Type: AWS::Serverless::Function}\n")
    with pytest.raises(TemplateInvalid, match=r"F: CodeUri: cannot read .*/nowhere"):
        asked(
            "Transform: AWS::Serverless-2016-10-31\nResources:\n"
            "  F: {Type: AWS::Serverless::Function, Properties: {CodeUri: nowhere}}\n"
        )


def test_a_service_that_nobody_stands_for_is_named(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    with pytest.raises(TemplateInvalid, match=r"Q \(template.yaml:2\): no endpoint stands for sqs; set AWS_ENDP"):
        asked(
            "Resources:\n  Q: {Type: AWS::SQS::Queue}\n"
            "  R: {Type: AWS::IAM::Role, Properties: {AssumeRolePolicyDocument: {}}}\n"
        )


def test_a_dockerfile_needs_a_registry_and_names_its_content(asked: Any, tmp_path: Path) -> None:
    text = (
        "Transform: AWS::Serverless-2016-10-31\nResources:\n"
        "  F:\n    Type: AWS::Serverless::Function\n    Properties: {PackageType: Image}\n"
        "    Metadata: {DockerContext: image, Dockerfile: Dockerfile}\n"
    )
    with pytest.raises(TemplateInvalid, match="--registry HOST"):
        asked(text)

    def image() -> str:
        desired = asked(text, registry="127.0.0.1:5000/team")
        return str(desired.resources["F"]["Properties"]["Code"]["ImageUri"])

    first = image()
    assert first.startswith("127.0.0.1:5000/team/stack-f:")
    assert image() == first
    (tmp_path / "image" / "Dockerfile").write_text("FROM scratch\nCMD x")
    assert image() != first


def test_resources_whose_condition_is_false_are_not_there(asked: Any) -> None:
    text = (
        "Parameters: {Stage: {Type: String, Default: dev}}\n"
        "Conditions: {IsProd: !Equals [!Ref Stage, prod]}\n"
        "Resources:\n"
        "  A: {Type: AWS::SQS::Queue, Condition: IsProd}\n"
        "  B: {Type: AWS::SQS::Queue, DependsOn: A, Properties: {DelaySeconds: !If [IsProd, 5, !Ref AWS::NoValue]}}\n"
        "Outputs: {O: {Condition: IsProd, Value: !Ref A}}\n"
    )
    assert asked(text).order == ("B",)
    assert asked(text, Stage="prod").order == ("A", "B")


def test_every_type_knows_what_it_requires_and_replaces() -> None:
    for kind in TYPES.values():
        assert kind.required <= kind.known, kind.type
        assert kind.replacing <= kind.known, kind.type
        assert kind.named_by is None or kind.named_by in kind.replacing, kind.type


def test_texts_become_the_types_that_operations_want() -> None:
    client = Clients(NOWHERE, "us-east-1").get("lambda")
    given = {"Timeout": "30", "Environment": {"Variables": {"A": 1, "B": True}}, "Publish": "true", "Layers": ["x"]}
    assert shaped(client, "CreateFunction", given) == {
        "Timeout": 30,
        "Environment": {"Variables": {"A": "1", "B": "true"}},
        "Publish": True,
        "Layers": ["x"],
    }


def test_a_buckets_notifications_are_those_of_the_api() -> None:
    rules = {"S3Key": {"Rules": [{"Name": "suffix", "Value": ".png"}]}}
    told = notifications(
        {
            "LambdaConfigurations": [{"Event": "s3:ObjectCreated:*", "Function": "f", "Filter": rules}],
            "QueueConfigurations": [{"Event": "s3:ObjectRemoved:*", "Queue": "q"}],
            "EventBridgeConfiguration": {"EventBridgeEnabled": True},
        }
    )
    assert told == {
        "LambdaFunctionConfigurations": [
            {
                "LambdaFunctionArn": "f",
                "Events": ["s3:ObjectCreated:*"],
                "Filter": {"Key": {"FilterRules": [{"Name": "suffix", "Value": ".png"}]}},
            }
        ],
        "QueueConfigurations": [{"QueueArn": "q", "Events": ["s3:ObjectRemoved:*"]}],
        "EventBridgeConfiguration": {},
    }
