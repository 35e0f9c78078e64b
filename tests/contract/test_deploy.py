"""`rie deploy` with the examples and a template of everything: a manager over the stub engine, moto for the rest."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rie.cli.app import app
from rie.errors import DeployFailed, TemplateInvalid
from tests.cloud import Cloud, clouding
from tests.stub_manager import ROLE, StubManager, stub_managing

EXAMPLES = Path(__file__).parents[2] / "examples"


def runtimes(behaviour: str) -> tuple[str, ...]:
    """Both languages' functions do what the stub engine's of that name does."""
    images = (f"{runtime}=stub/{behaviour}:1" for runtime in ("nodejs22.x", "python3.11"))
    return tuple(argument for image in images for argument in ("--runtime", image))


pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with clouding(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="module")
def manager(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubManager]:
    with stub_managing(tmp_path_factory.mktemp("manager"), *runtimes("partial"), **cloud.environment) as running:
        yield running


@pytest.fixture(scope="module")
def recording(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubManager]:
    """A manager whose functions log their events."""
    with stub_managing(tmp_path_factory.mktemp("recording"), *runtimes("record"), **cloud.environment) as running:
        yield running


@dataclass
class Deploy:
    """Runs the command on a template of its own directory."""

    directory: Path
    environment: dict[str, str]

    @property
    def template(self) -> Path:
        return self.directory / "template.yaml"

    @property
    def state(self) -> Path:
        return self.directory / ".rie" / f"{self.directory.name}.json"

    def __call__(self, *arguments: str) -> dict[str, Any]:
        """What it answers with --json. Raises what the command does."""
        result = CliRunner().invoke(
            app, ["deploy", str(self.template), "--json", *arguments], env=self.environment, catch_exceptions=False
        )
        assert result.exit_code == 0, result.output
        return dict(json.loads(result.stdout))

    def process(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "rie", "deploy", str(self.template), *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env={**os.environ, **self.environment}, text=True, **pipes)  # type: ignore[call-overload]

    def edit(self, old: str, new: str, path: str = "template.yaml") -> None:
        text = (self.directory / path).read_text()
        assert old in text
        (self.directory / path).write_text(text.replace(old, new))


@pytest.fixture
def deploying(manager: StubManager, cloud: Cloud, tmp_path: Path) -> Iterator[Any]:
    """Makes a Deploy from an example's name or a template's text; what it deployed is deleted after the test."""
    made: list[Deploy] = []

    def make(name: str, text: str | None = None, at: StubManager = manager) -> Deploy:
        directory = tmp_path / name
        if text is None:
            shutil.copytree(EXAMPLES / name, directory)
        else:
            (directory / "src").mkdir(parents=True)
            (directory / "template.yaml").write_text(text)
            (directory / "src" / "app.py").write_text("def handler(event, context): ...")
        made.append(Deploy(directory, {**cloud.environment, "AWS_ENDPOINT_URL_LAMBDA": at.endpoint}))
        return made[-1]

    yield make
    for each in made:
        each("--delete")


def actions(answer: dict[str, Any]) -> dict[str, str]:
    return {step["logicalId"]: step["action"] for step in answer.get("done", answer.get("plan"))}


def changed(answer: dict[str, Any]) -> dict[str, list[str]]:
    return {step["logicalId"]: step["changed"] for step in answer["done"]}


def functions(manager: StubManager, stack: str) -> list[str]:
    listed = manager.client().list_functions()["Functions"]
    return [each["FunctionName"] for each in listed if each["FunctionName"].startswith(f"{stack}-")]


def queues(cloud: Cloud, stack: str) -> list[str]:
    return list(cloud.client("sqs").list_queues(QueueNamePrefix=f"{stack}-").get("QueueUrls", []))


def wait_for(holds: Any, otherwise: str, within_s: float = 60.0) -> Any:
    until = time.monotonic() + within_s
    while not (value := holds()):
        assert time.monotonic() < until, otherwise
        time.sleep(0.1)
    return value


@pytest.mark.parametrize("language", ["nodejs", "python"])
def test_the_orders_example_runs_sets_aside_and_changes_only_what_changed(
    deploying: Any, manager: StubManager, cloud: Cloud, language: str
) -> None:
    stack = f"orders-{language}"
    deploy = deploying(stack)
    assert set(actions(deploy("--dry-run")).values()) == {"create"}
    assert not functions(manager, stack)
    outputs = deploy()["outputs"]

    name = outputs["ProcessName"]
    mapping = manager.client().list_event_source_mappings(FunctionName=name)["EventSourceMappings"][0]
    assert (mapping["State"], mapping["FunctionResponseTypes"]) == ("Enabled", ["ReportBatchItemFailures"])
    sqs = cloud.client("sqs")
    for body in ("good", "bad"):
        sqs.send_message(QueueUrl=outputs["OrdersUrl"], MessageBody=body)
    sqs.set_queue_attributes(QueueUrl=outputs["OrdersUrl"], Attributes={"VisibilityTimeout": "1"})
    aside = wait_for(
        lambda: sqs.receive_message(QueueUrl=outputs["SetAsideUrl"], WaitTimeSeconds=1).get("Messages"),
        "nothing was set aside",
    )
    assert [message["Body"] for message in aside] == ["bad"]

    assert deploy()["done"] == []
    before = manager.client().get_function_configuration(FunctionName=name)
    assert changed(deploy("--parameter", "Currency=USD")) == {"Process": ["Environment"]}
    after = manager.client().get_function_configuration(FunctionName=name)
    assert after["Environment"]["Variables"] == {"CURRENCY": "USD"}
    assert after["CodeSha256"] == before["CodeSha256"]
    source = "src/index.mjs" if language == "nodejs" else "src/app.py"
    deploy.edit("order", "Order", source)
    deploy.edit("VisibilityTimeout: 5", "VisibilityTimeout: 6")
    assert changed(deploy("--parameter", "Currency=USD")) == {"Orders": ["VisibilityTimeout"], "Process": ["Code"]}
    assert manager.client().get_function_configuration(FunctionName=name)["CodeSha256"] != after["CodeSha256"]

    deploy("--delete")
    assert not functions(manager, stack)
    assert not queues(cloud, stack)
    assert not deploy.state.exists()


@pytest.mark.parametrize("language", ["nodejs", "python"])
def test_the_upload_example_is_woken_by_its_bucket_and_by_its_queue(
    deploying: Any, recording: StubManager, cloud: Cloud, language: str
) -> None:
    stack = f"upload-and-queue-{language}"
    deploy = deploying(stack, at=recording)
    outputs = deploy("--parameter", f"BucketName=uploads-{language}")["outputs"]
    told = cloud.client("s3").get_bucket_notification_configuration(Bucket=outputs["Bucket"])
    configured = told["LambdaFunctionConfigurations"][0]
    arn = recording.client().get_function_configuration(FunctionName=outputs["OnUploadName"])["FunctionArn"]
    assert (configured["LambdaFunctionArn"], configured["Events"]) == (arn, ["s3:ObjectCreated:*"])
    policy = json.loads(recording.client().get_policy(FunctionName=outputs["OnUploadName"])["Policy"])
    assert policy["Statement"][0]["Principal"] == {"Service": "s3.amazonaws.com"}

    cloud.client("sqs").send_message(QueueUrl=outputs["QueueUrl"], MessageBody="work")

    def logged(function: str) -> list[str]:
        url = f"{recording.endpoint}/_rie/logs?group=/aws/lambda/{function}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = [str(json.loads(line)["text"]) for line in answer.read().splitlines()]
        return [line for line in lines if line.startswith("EVENT ")]

    def is_tapped() -> bool:
        return "QueueConfigurations" in s3.get_bucket_notification_configuration(Bucket=outputs["Bucket"])

    s3 = cloud.client("s3")
    wait_for(is_tapped, "the manager does not listen to the bucket")
    s3.put_object(Bucket=outputs["Bucket"], Key="a file", Body=b"12345")
    told = wait_for(lambda: logged(outputs["OnTaskName"]), "the queue woke nobody")[0]
    assert json.loads(told.removeprefix("EVENT "))["Records"][0]["body"] == "work"
    arrived = wait_for(lambda: logged(outputs["OnUploadName"]), "the bucket woke nobody")[0]
    assert json.loads(arrived.removeprefix("EVENT "))["Records"][0]["s3"]["object"]["key"] == "a+file"
    s3.delete_object(Bucket=outputs["Bucket"], Key="a file")

    deploy.edit("s3:ObjectCreated:*", "s3:ObjectRemoved:*")
    again = deploy("--parameter", f"BucketName=uploads-{language}")
    assert changed(again) == {"Uploads": ["NotificationConfiguration"]}
    deploy.edit("  Tasks:\n", "  Jobs:\n")
    deploy.edit("Tasks.Arn", "Jobs.Arn")
    deploy.edit("!Ref Tasks", "!Ref Jobs")
    again = deploy("--parameter", f"BucketName=uploads-{language}")
    assert actions(again) == {"Jobs": "create", "OnTaskTask": "replace", "Tasks": "delete"}
    again = deploy("--parameter", f"BucketName=renamed-{language}")
    assert actions(again)["Uploads"] in ("replace", "delete")
    assert [each["Name"] for each in cloud.client("s3").list_buckets()["Buckets"]] == [f"renamed-{language}"]


EVERYTHING = """
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {Runtime: python3.11, Handler: app.handler, CodeUri: src/}
Conditions: {Never: !Equals [a, b]}
Resources:
  Libs:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: src/, CompatibleRuntimes: [python3.11]}
  Topic:
    Type: AWS::SNS::Topic
    Properties: {DisplayName: news}
  TopicPolicy:
    Type: AWS::SNS::TopicPolicy
    Properties:
      Topics: [!Ref Topic]
      PolicyDocument:
        Version: "2012-10-17"
        Statement: [{Effect: Allow, Principal: "*", Action: "sns:Publish", Resource: !Ref Topic}]
  Queue:
    Type: AWS::SQS::Queue
    Properties: {FifoQueue: true, ContentBasedDeduplication: "true", Tags: [{Key: a, Value: b}]}
  Plain: {Type: AWS::SQS::Queue}
  QueuePolicy:
    Type: AWS::SQS::QueuePolicy
    Properties:
      Queues: [!Ref Plain]
      PolicyDocument:
        Version: "2012-10-17"
        Statement: [{Effect: Allow, Principal: "*", Action: "sqs:SendMessage", Resource: !GetAtt Plain.Arn}]
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
      BillingMode: PAY_PER_REQUEST
      StreamSpecification: {StreamViewType: NEW_IMAGE}
  Simple: {Type: AWS::Serverless::SimpleTable}
  Stream:
    Type: AWS::Kinesis::Stream
    Properties: {ShardCount: 1, RetentionPeriodHours: 48, Tags: [{Key: a, Value: b}]}
  Bus: {Type: AWS::Events::EventBus, Properties: {Name: everything-bus}}
  Group:
    Type: AWS::Logs::LogGroup
    Properties: {RetentionInDays: 7}
  Bucket:
    Type: AWS::S3::Bucket
    Properties:
      VersioningConfiguration: {Status: Enabled}
      PublicAccessBlockConfiguration: {BlockPublicAcls: true}
      BucketEncryption: {ServerSideEncryptionConfiguration: [{ServerSideEncryptionByDefault: {SSEAlgorithm: AES256}}]}
  Absent: {Type: AWS::EC2::Instance, Condition: Never}
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      AutoPublishAlias: live
      Layers: [!Ref Libs]
      ReservedConcurrentExecutions: 5
      Environment: {Variables: {TABLE: !Ref Table, COUNT: 3, FLAG: true, GROUP: !Sub "${Group}"}}
      Policies: [AWSLambdaBasicExecutionRole, {DynamoDBCrudPolicy: {TableName: !Ref Table}}]
      EventInvokeConfig:
        MaximumRetryAttempts: 1
        DestinationConfig: {OnFailure: {Type: SQS, Destination: !GetAtt Plain.Arn}}
      Events:
        News: {Type: SNS, Properties: {Topic: !Ref Topic, FilterPolicy: {kind: [big]}}}
        Fifo: {Type: SQS, Properties: {Queue: !GetAtt Queue.Arn}}
        Rows: {Type: DynamoDB, Properties: {Stream: !GetAtt Table.StreamArn, StartingPosition: LATEST}}
        Data:
          Type: Kinesis
          Properties: {Stream: !GetAtt Stream.Arn, StartingPosition: LATEST, ParallelizationFactor: 2}
        Daily: {Type: Schedule, Properties: {Schedule: rate(1 day)}}
        Planned:
          Type: ScheduleV2
          Properties:
            ScheduleExpression: cron(0 8 * * ? *)
            ScheduleExpressionTimezone: Europe/Berlin
            GroupName: !Ref Plans
            FlexibleTimeWindow: {Mode: FLEXIBLE, MaximumWindowInMinutes: "15"}
            RetryPolicy: {MaximumRetryAttempts: 3}
            DeadLetterConfig: {Type: SQS}
        Own: {Type: EventBridgeRule, Properties: {EventBusName: !Ref Bus, Pattern: {source: [mine]}}}
  Plans: {Type: AWS::Scheduler::ScheduleGroup}
  Web:
    Type: AWS::Serverless::Function
    Properties:
      FunctionUrlConfig: {AuthType: NONE, Cors: {AllowOrigins: ["*"]}}
      Events:
        Pet: {Type: HttpApi, Properties: {Path: "/pets/{id}", Method: get}}
        Rest: {Type: HttpApi}
        Old: {Type: Api, Properties: {Path: "/old/{proxy+}", Method: any}}
        Image: {Type: Api, Properties: {Path: /image, Method: get, RestApiId: !Ref Images}}
  Images:
    Type: AWS::Serverless::Api
    Properties: {StageName: prod, BinaryMediaTypes: [image~1png, "*~1*"]}
Outputs:
  Url: {Value: !GetAtt WebUrl.FunctionUrl}
  Alias: {Value: !Ref Worker.Alias}
  Plain: {Value: !GetAtt Plain.QueueName}
"""


def test_a_template_of_every_type_is_deployed_kept_changed_and_deleted(
    deploying: Any, manager: StubManager, cloud: Cloud
) -> None:
    deploy = deploying("everything", EVERYTHING)
    deployed = deploy()
    worker = deployed["resources"]["Worker"]["physicalId"]
    client = manager.client()
    configuration = client.get_function(FunctionName=worker)
    assert configuration["Concurrency"]["ReservedConcurrentExecutions"] == 5
    variables = configuration["Configuration"]["Environment"]["Variables"]
    assert variables["COUNT"] == "3"
    assert variables["FLAG"] == "true"
    assert deployed["outputs"]["Alias"].endswith(f":{worker}:live")
    assert client.get_alias(FunctionName=worker, Name="live")["FunctionVersion"] == "1"
    invoked = client.get_function_event_invoke_config(FunctionName=worker, Qualifier="live")
    assert invoked["MaximumRetryAttempts"] == 1
    assert len(client.list_event_source_mappings()["EventSourceMappings"]) == 3
    subscribed = cloud.client("sns").list_subscriptions()["Subscriptions"]
    assert [(each["Protocol"], each["Endpoint"]) for each in subscribed] == [("lambda", deployed["outputs"]["Alias"])]
    rules = cloud.client("events").list_rules(EventBusName="everything-bus")["Rules"]
    assert json.loads(rules[0]["EventPattern"]) == {"source": ["mine"]}
    assert cloud.client("dynamodb").list_tables()["TableNames"]
    images = cloud.client("apigateway").get_rest_api(restApiId=deployed["resources"]["Images"]["physicalId"])
    assert images["binaryMediaTypes"] == ["image/png", "*/*"]
    plans = deployed["resources"]["Plans"]["physicalId"]
    planned = cloud.client("scheduler").get_schedule(GroupName=plans, Name="WorkerPlanned")
    assert planned["Target"]["Arn"] == deployed["outputs"]["Alias"]
    assert planned["FlexibleTimeWindow"] == {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 15}
    assert planned["Target"]["DeadLetterConfig"]["Arn"].rpartition(":")[2].startswith("everything-WorkerPlannedQueue")
    web = deployed["resources"]["Web"]["physicalId"]
    assert deployed["outputs"]["Url"] == client.get_function_url_config(FunctionName=web)["FunctionUrl"]
    api_id = deployed["resources"]["ServerlessHttpApi"]["physicalId"]
    routes = cloud.client("apigatewayv2").get_routes(ApiId=api_id)["Items"]
    assert {each["RouteKey"] for each in routes} == {"GET /pets/{id}", "$default"}
    rest_id = deployed["resources"]["ServerlessRestApi"]["physicalId"]
    listed = cloud.client("apigateway").get_resources(restApiId=rest_id, embed=["methods"])["items"]
    proxied = next(each for each in listed if each["path"] == "/old/{proxy+}")["resourceMethods"]["ANY"]
    assert f":function:{web}/invocations" in proxied["methodIntegration"]["uri"]

    assert deploy()["done"] == []
    deploy.edit("...", "return 1", "src/app.py")
    again = actions(deploy())
    assert {action for name, action in again.items() if not name.startswith(("Libs", "WorkerVersion"))} == {"update"}
    assert client.get_alias(FunctionName=worker, Name="live")["FunctionVersion"] == "2"
    deploy.edit("      ReservedConcurrentExecutions: 5\n", "")
    deploy.edit("RetentionPeriodHours: 48", "RetentionPeriodHours: 24")
    deploy.edit("DisplayName: news", "DisplayName: others")
    deploy.edit("rate(1 day)", "rate(2 days)")
    deploy.edit("ParallelizationFactor: 2", "ParallelizationFactor: 3")
    deploy.edit("/pets/", "/cats/")
    deploy.edit("/old/", "/older/")
    again = set(actions(deploy()))
    assert again >= {"Worker", "Stream", "Topic", "WorkerDaily", "WorkerData", "ServerlessHttpApi", "ServerlessRestApi"}
    assert not again & {"Queue", "Plain", "Table", "Bucket", "WorkerRole", "Web"}
    routes = cloud.client("apigatewayv2").get_routes(ApiId=api_id)["Items"]
    assert {each["RouteKey"] for each in routes} == {"GET /cats/{id}", "$default"}
    assert "Concurrency" not in client.get_function(FunctionName=worker)

    deploy("--delete")
    assert not functions(manager, "everything")
    assert not queues(cloud, "everything")
    assert not cloud.client("dynamodb").list_tables()["TableNames"]
    assert not cloud.client("sns").list_topics()["Topics"]
    assert not client.list_event_source_mappings()["EventSourceMappings"]


def test_what_was_made_but_not_noted_is_found_again(deploying: Any, manager: StubManager, cloud: Cloud) -> None:
    """A deployment may be killed between a resource's making and the note of it: here, of all of them."""
    deploy = deploying("noted", EVERYTHING.replace("everything-bus", "noted-bus"))
    before = deploy()["resources"]
    document = json.loads(deploy.state.read_text())
    for resource in document["resources"].values():
        resource |= {"status": "creating", "physical_id": "", "attributes": {}}
    deploy.state.write_text(json.dumps(document))
    assert deploy()["resources"] == before
    assert deploy()["done"] == []


def test_a_deployment_killed_on_its_way_is_run_again_to_its_end(
    deploying: Any, manager: StubManager, cloud: Cloud
) -> None:
    deploy = deploying("killed", EVERYTHING.replace("everything-bus", "killed-bus"))
    for noted in (5, 14):
        process = deploy.process()

        def is_so_far(noted: int = noted) -> bool:
            return deploy.state.exists() and len(json.loads(deploy.state.read_text())["resources"]) >= noted

        wait_for(is_so_far, "it did not get there")
        process.send_signal(signal.SIGKILL)
        process.communicate()
    resources = deploy()["resources"]
    assert len(functions(manager, "killed")) == 2
    assert len(queues(cloud, "killed")) == 3
    assert len(manager.client().list_event_source_mappings()["EventSourceMappings"]) == 3
    assert len(resources) == len(json.loads(deploy.state.read_text())["resources"])
    assert deploy()["done"] == []


def test_a_deployment_that_fails_says_what_is_there_and_goes_on_when_mended(
    deploying: Any, manager: StubManager, cloud: Cloud
) -> None:
    text = (
        "Resources:\n"
        "  Good: {Type: AWS::SQS::Queue}\n"
        "  Bad:\n    Type: AWS::Lambda::Function\n    DependsOn: Good\n"
        "    Properties: {Code: src, Handler: app.handler, Role: ROLE, Runtime: python3.11, Timeout: 7000}\n"
        "  Last: {Type: AWS::SQS::Queue, DependsOn: Bad}\n"
    )
    deploy = deploying("fails", text.replace("ROLE", ROLE))
    with pytest.raises(DeployFailed) as failed:
        deploy()
    assert "cannot create Bad (AWS::Lambda::Function)" in str(failed.value)
    assert "1 resources of the stack are there" in str(failed.value)
    assert len(queues(cloud, "fails")) == 1
    deploy.edit("7000", "7")
    assert actions(deploy()) == {"Bad": "create", "Last": "create"}


def test_what_somebody_else_made_is_refused_before_anything_is_touched(deploying: Any, cloud: Cloud) -> None:
    cloud.queue("taken")
    deploy = deploying(
        "foreign",
        "Resources:\n  Mine: {Type: AWS::SQS::Queue}\n"
        "  Theirs: {Type: AWS::SQS::Queue, Properties: {QueueName: taken}}\n",
    )
    why = r"Theirs \(template.yaml:3\): there is a taken already, which is not the stack's"
    with pytest.raises(TemplateInvalid, match=why):
        deploy()
    assert not queues(cloud, "foreign")
    deploy("--delete")
    assert cloud.client("sqs").get_queue_url(QueueName="taken")


def test_what_others_deleted_is_made_again(deploying: Any, cloud: Cloud, manager: StubManager) -> None:
    deploy = deploying("orders-python")
    outputs = deploy()["outputs"]
    manager.client().delete_function(FunctionName=outputs["ProcessName"])
    assert actions(deploy())["Process"] == "create"
    assert manager.client().get_function(FunctionName=outputs["ProcessName"])


def test_retained_resources_stay(deploying: Any, cloud: Cloud) -> None:
    deploy = deploying("keeps", "Resources:\n  Q: {Type: AWS::SQS::Queue, DeletionPolicy: Retain}\n")
    deploy()
    assert deploy("--delete")["done"] == []
    assert len(queues(cloud, "keeps")) == 1


def test_the_command_ends_with_2_for_what_is_asked_wrongly_and_shows_plain_lines_in_a_pipe(deploying: Any) -> None:
    deploy = deploying("orders-nodejs")
    wrong = deploy.process("--parameter", "Currency=YEN")
    _, told = wrong.communicate()
    assert wrong.returncode == 2
    assert (
        told
        == "rie: cannot deploy template.yaml: nothing was changed\n  parameter Currency: 'YEN' is none of EUR, USD\n"
    )
    right = deploy.process("--dry-run")
    shown, _ = right.communicate()
    assert right.returncode == 0
    assert shown.splitlines()[0] == "+ create  SetAside AWS::SQS::Queue"
    assert shown.splitlines()[-1] == "orders-nodejs: 5 of 5 steps would change something"
    nobody = Deploy(deploy.directory, {**deploy.environment, "AWS_ENDPOINT_URL_LAMBDA": "http://127.0.0.1:9"}).process()
    _, told = nobody.communicate()
    assert nobody.returncode == 1
    assert "is `rie serve` running?" in told
