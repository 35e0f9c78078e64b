"""Zip functions and layers with real clients and the Docker engine: every runtime that there is an image for."""

from __future__ import annotations

import hashlib
import io
import stat
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.cloud import Cloud, clouding
from tests.e2e.world import ROLE, ROOT, Deployed, Manager, managing, wait_until

pytestmark = pytest.mark.timeout(900)  # the first time, rie/nodejs is compiled

PYTHON = """
import os, stat
import shared, second
calls = 0

def handler(event, context):
    global calls
    calls += 1
    answer = {
        "calls": calls,
        "shared": shared.WHO,
        "second": second.WHO,
        "handler": os.environ["_HANDLER"],
        "cwd": os.getcwd(),
        "mode": oct(stat.S_IMODE(os.stat("/var/task/tool").st_mode)),
        "link": os.readlink("/opt/python/link"),
        "opt": sorted(os.listdir("/opt")),
    }
    for path in ("/var/task/x", "/var/task/app.py", "/opt/x", "/opt/python/shared.py", "/opt/rie/x"):
        try:
            open(path, "a").close()
            answer[path] = "written"
        except OSError as error:
            answer[path] = error.strerror
    return answer
"""
BOOTSTRAP = """#!/bin/sh
API=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while true; do
  ID=$(curl -s -D - -o /dev/null "$API/next" | tr -d '\\r' | sed -n 's/^lambda-runtime-aws-request-id: //Ip')
  curl -s -o /dev/null -X POST "$API/$ID/response" -d "\\"$_HANDLER from $0\\""
done
"""


def zipped(files: dict[str, str], links: dict[str, str] | None = None, programs: tuple[str, ...] = ()) -> bytes:
    """A zip as the zip command makes it: with modes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**files, **(links or {})}.items():
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            kind = stat.S_IFLNK if name in (links or {}) else stat.S_IFREG
            info.external_attr = (kind | (0o755 if name in programs else 0o644)) << 16
            archive.writestr(info, content)
    return packed.getvalue()


@pytest.fixture
def functions(client: Any) -> Iterator[Any]:
    """Creates zip functions; they are deleted after the test."""
    made: list[Deployed] = []

    def make(name: str, code: dict[str, Any], **options: Any) -> Deployed:
        client.create_function(FunctionName=name, Role=ROLE, Code=code, **{"Timeout": 10, "MemorySize": 256, **options})
        made.append(Deployed(client, name))
        client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.1})
        return made[-1]

    yield make
    for function in made:
        client.delete_function(FunctionName=function.name)


def publish(client: Any, name: str, content: bytes) -> str:
    return str(client.publish_layer_version(LayerName=name, Content={"ZipFile": content})["LayerVersionArn"])


def download(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as response:
        return bytes(response.read())


def test_a_python_zip_with_two_layers_runs_cold_and_warm_and_is_updated(
    client: Any, functions: Any, manager: Manager
) -> None:
    lower = zipped(
        {"python/shared.py": "WHO = 'lower'", "python/second.py": "WHO = 'lower'"}, {"python/link": "shared.py"}
    )
    upper = zipped({"python/shared.py": "WHO = 'upper'"})
    layers = [publish(client, "lower", lower), publish(client, "upper", upper)]
    code = zipped({"app.py": PYTHON, "tool": "#!/bin/sh"}, programs=("tool",))
    function = functions("zip-python", {"ZipFile": code}, Runtime="python3.11", Handler="app.handler", Layers=layers)
    cold, warm = function.invoke(), function.invoke()
    assert cold.error is None, cold.tail
    assert "Init Duration" in cold.tail
    assert "Init Duration" not in warm.tail
    assert (cold.payload["calls"], warm.payload["calls"]) == (1, 2)
    assert (cold.payload["shared"], cold.payload["second"]) == ("upper", "lower")
    assert (cold.payload["handler"], cold.payload["cwd"]) == ("app.handler", "/var/task")
    assert (cold.payload["mode"], cold.payload["link"]) == ("0o755", "shared.py")
    assert cold.payload["opt"] == ["python", "rie"]
    assert not [path for path, told in cold.payload.items() if told == "written"]

    found = client.get_function(FunctionName=function.name)["Code"]["Location"]
    assert found.startswith(manager.endpoint)
    assert download(found) == code
    with pytest.raises(urllib.error.HTTPError, match="403"):
        download(found[:-1] + ("0" if found[-1] != "0" else "1"))
    layer = client.get_layer_version_by_arn(Arn=layers[0])
    assert hashlib.sha256(download(layer["Content"]["Location"])).digest() == hashlib.sha256(lower).digest()

    client.update_function_code(
        FunctionName=function.name, ZipFile=zipped({"app.py": "def handler(e, c): return 'new'"})
    )
    client.get_waiter("function_updated_v2").wait(FunctionName=function.name, WaiterConfig={"Delay": 0.1})
    assert function.invoke().payload == "new"


def test_a_runtime_of_ones_own_is_the_bootstrap_of_the_code_or_of_a_layer(client: Any, functions: Any) -> None:
    own = zipped({"bootstrap": BOOTSTRAP}, programs=("bootstrap",))
    function = functions(
        "zip-own", {"ZipFile": own}, Runtime="provided.al2023", Handler="any/thing at-all".replace(" ", "-")
    )
    assert function.invoke().payload == "any/thing-at-all from /var/task/bootstrap"
    layer = publish(client, "runtime", own)
    function = functions(
        "zip-layer", {"ZipFile": zipped({"x": ""})}, Runtime="provided.al2", Handler="h", Layers=[layer]
    )
    assert function.invoke().payload == "h from /opt/bootstrap"
    function = functions("zip-none", {"ZipFile": zipped({"x": ""})}, Runtime="provided.al2023", Handler="h")
    assert function.invoke().payload["errorType"] == "Runtime.InvalidEntrypoint"


def test_a_node_zip_runs(engine: docker.DockerClient, functions: Any) -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "images.py", "nodejs"], check=True)
    code = "exports.handler = async (event) => ({ got: event, version: process.version });"
    function = functions(
        "zip-node", {"ZipFile": zipped({"src/index.js": code})}, Runtime="nodejs22.x", Handler="src/index.handler"
    )
    answer = function.invoke({"a": 1})
    assert answer.error is None, answer.tail
    assert answer.payload["got"] == {"a": 1}
    assert answer.payload["version"].startswith("v2")


def test_a_runtime_without_an_image_fails_with_the_setting_to_give(client: Any) -> None:
    client.create_function(
        FunctionName="zip-ruby", Role=ROLE, Code={"ZipFile": zipped({"x": ""})}, Runtime="ruby3.3", Handler="a.b"
    )

    def failed() -> Any:
        found = client.get_function_configuration(FunctionName="zip-ruby")
        return found if found["State"] == "Failed" else None

    found = wait_until(failed, 20, "the function has not failed")
    assert found["StateReasonCode"] == "InvalidRuntime"
    assert "rie serve --runtime ruby3.3=IMAGE" in found["StateReason"]
    client.delete_function(FunctionName="zip-ruby")


@pytest.fixture
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with clouding(tmp_path_factory.mktemp("cloud")) as running:
        yield running


def test_code_comes_from_s3_and_outlives_the_manager(cloud: Cloud, engine: docker.DockerClient, tmp_path: Path) -> None:
    bucket = cloud.client("s3")
    bucket.create_bucket(Bucket="code.bucket")
    bucket.put_bucket_versioning(Bucket="code.bucket", VersioningConfiguration={"Status": "Enabled"})
    first = bucket.put_object(Bucket="code.bucket", Key="a/f.zip", Body=zipped({"a.py": "def h(e, c): return 'one'"}))
    bucket.put_object(Bucket="code.bucket", Key="a/f.zip", Body=zipped({"a.py": "def h(e, c): return 'two'"}))
    with managing(tmp_path, **cloud.environment) as manager:
        client = manager.client()
        place = {"S3Bucket": "code.bucket", "S3Key": "a/f.zip"}
        client.create_function(
            FunctionName="f", Role=ROLE, Code={**place, "S3ObjectVersion": first["VersionId"]}, Runtime="python3.11",
            Handler="a.h", MemorySize=256,
        )  # fmt: skip
        client.get_waiter("function_active_v2").wait(FunctionName="f", WaiterConfig={"Delay": 0.1})
        function = Deployed(client, "f")
        assert function.invoke().payload == "one"
        client.update_function_code(FunctionName="f", **place)
        client.get_waiter("function_updated_v2").wait(FunctionName="f", WaiterConfig={"Delay": 0.1})
        assert function.invoke().payload == "two"
        for wrong, code in (({"S3Bucket": "nowhere"}, "NoSuchBucket"), ({"S3Key": "nothing"}, "NoSuchKey")):
            with pytest.raises(client.exceptions.InvalidParameterValueException) as refused:
                client.update_function_code(FunctionName="f", **{**place, **wrong})
            text = refused.value.response["Error"]["Message"]
            assert text.startswith(f"Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: The spec")
        location = client.get_function(FunctionName="f")["Code"]["Location"]
        manager.kill()
        manager.start()
        assert function.invoke().payload == "two"
        assert download(location)[:2] == b"PK"
        trees = list((tmp_path / "code" / "tree").iterdir())
        assert len(trees) == 1, "the first code is not used any more, and swept at the start"
