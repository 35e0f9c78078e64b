"""SnapStart on the daemonless engine: a version's environments are made from a snapshot of one that has initialised."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import uuid
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rie.engine.oci import snapshots
from tests.e2e.world import DOCKER, ROLE, ROOT, Deployed, Manager, managing, wait_until
from tests.registry import Registry

pytestmark = pytest.mark.timeout(300)
RUNTIME = "python3.12"
APP = """\
import json, os, random, ssl, tempfile, time, urllib.request, uuid
from snapshot_restore_py import register_after_restore, register_before_snapshot

EVENTS = []
CALLS = 0
LEFT_OPEN = []
if "REACHES" in os.environ:
    import socket, urllib.parse

    place = urllib.parse.urlsplit(os.environ["AWS_ENDPOINT_URL"])
    server = socket.create_server(("0.0.0.0", 8000))  # by our own address, which no other environment has
    LEFT_OPEN = [
        socket.create_connection((place.hostname, place.port)),
        socket.create_connection((socket.gethostbyname(socket.gethostname()), 8000)),
        server.accept()[0],
    ]
    server.close()
SEED = uuid.uuid4().hex
STARTED_AT = time.time()
with open("/tmp/init", "a") as file:
    file.write(SEED)
if os.environ.get("BROKEN") == "init":
    raise RuntimeError("no init today")


@register_before_snapshot
def before():
    EVENTS.append("before")


@register_after_restore
def after():
    EVENTS.append("after")
    if os.environ.get("BROKEN") == "restore":
        raise RuntimeError("no restore today")
    if os.environ.get("BROKEN") == "slow":
        time.sleep(60)


def credentials():
    url = os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    token = os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
    request = urllib.request.Request(url, headers={"Authorization": token})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.loads(answer.read())


def sent(connection):
    try:
        connection.sendall(b"x")
        return "sent"
    except OSError as error:
        return type(error).__name__


def handler(event, context):
    global CALLS
    CALLS += 1
    if "sleep" in event:
        time.sleep(event["sleep"])
    if "write" in event:
        open("/tmp/" + event["write"], "w").close()
    return {
        "seed": SEED,
        "startedAt": STARTED_AT,
        "now": time.time(),
        "events": EVENTS,
        "calls": CALLS,
        "random": random.random(),
        "uuid": str(uuid.uuid4()),
        "ssl": ssl.RAND_bytes(16).hex(),
        "tmp": sorted(os.listdir("/tmp")),
        "init": open("/tmp/init").read(),
        "type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"],
        "variables": sorted(os.environ),
        "key": credentials()["AccessKeyId"] if "credentials" in event else "",
        "requestId": context.aws_request_id,
        "leftOpen": [sent(connection) for connection in LEFT_OPEN],
    }
"""


@pytest.fixture(scope="module")
def runtime_image(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """rie/python with the runtime's first file as this tree has it."""
    reference = registry.reference("tests/snapstart", "1")
    place = tmp_path_factory.mktemp("snapstart-image")
    shutil.copy(ROOT / "images" / "python" / "bootstrap.py", place)
    (place / "Dockerfile").write_text("FROM rie/python:3.11\nCOPY bootstrap.py /var/runtime/\n")
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    for command in (["build", "-q", "-t", reference, str(place)], ["push", "-q", reference]):
        subprocess.run([DOCKER, *command], check=True, capture_output=True, env=environment)
    yield reference
    subprocess.run([DOCKER, "image", "rm", "-f", reference], check=False, capture_output=True)


@pytest.fixture(scope="module")
def snapping(runtime_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    """A manager on the daemonless engine that can take snapshots; what it started is gone in the end."""
    assert snapshots.unavailable() is None, "these tests take criu: scripts/provision criu, or RIE_CRIU"
    data = tmp_path_factory.mktemp("snapstart")
    # Never frozen: in version 1 of control groups nobody dies who is.
    settings = {"RIE_RUNTIMES": f"{RUNTIME}={runtime_image}", "RIE_FREEZE_S": "0"}
    with managing(data, "--engine", "oci", **settings) as running:
        yield running
        assert running.stop() == 0
        places = (running.data / "sandboxes" / running.owner).glob("engine-*/*")
        assert [path for path in places if path.name != "stage"] == []
        assert running.mounts() == []
        assert [path for path in Path("/sys/fs/cgroup").glob("*/*") if running.owner in path.name] == []


def archive(text: str = APP) -> bytes:
    """The function's code."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("app.py", text)
    return buffer.getvalue()


def create(manager: Manager, broken: str = "", **options: Any) -> Deployed:
    """A function whose versions take snapshots, Active."""
    client, name = manager.client(), f"snap-{uuid.uuid4().hex[:8]}"
    client.create_function(
        FunctionName=name,
        Role=ROLE,
        Runtime=RUNTIME,
        Handler="app.handler",
        Code={"ZipFile": archive()},
        SnapStart={"ApplyOn": "PublishedVersions"},
        **{"Timeout": 30, "MemorySize": 256, "Environment": {"Variables": {"BROKEN": broken}}, **options},
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.1})
    return Deployed(client, name)


def publish(function: Deployed) -> dict[str, Any]:
    """A version, Active: its configuration."""
    version = function.client.publish_version(FunctionName=function.name)["Version"]
    function.client.get_waiter("published_version_active").wait(
        FunctionName=function.name, Qualifier=version, WaiterConfig={"Delay": 0.1}
    )
    return configuration(function, version)


def configuration(function: Deployed, version: str) -> dict[str, Any]:
    """As the API has it."""
    found: dict[str, Any] = function.client.get_function_configuration(FunctionName=function.name, Qualifier=version)
    return found


def settled(function: Deployed, version: str) -> dict[str, Any]:
    """A version that is Pending no more."""
    found: dict[str, Any] = wait_until(
        lambda: (seen := configuration(function, version))["State"] != "Pending" and seen, 60, "it stays Pending"
    )
    return found


def both(function: Deployed, version: str) -> list[dict[str, Any]]:
    """What two environments at a time answer."""
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(function.invoke, {"sleep": 1, "credentials": 1}, Qualifier=version) for _ in range(2)]
        return [call.result().payload for call in calls]


@pytest.fixture(scope="module")
def published(snapping: Manager) -> Deployed:
    """A function with version 1, from a snapshot."""
    function = create(snapping)
    first = function.client.publish_version(FunctionName=function.name)
    assert (first["State"], first["StateReasonCode"]) == ("Pending", "Creating")
    assert first["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}
    with pytest.raises(ClientError) as refused:
        function.invoke(Qualifier="1")
    assert refused.value.response["Error"]["Code"] == "SnapStartNotReadyException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409
    after = settled(function, "1")
    assert after["State"] == "Active", snapping.log
    assert after["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}, snapping.log
    return function


def test_init_ran_once_and_both_hooks_run(published: Deployed) -> None:
    one, other = both(published, "1")
    assert one["seed"] == other["seed"] == one["init"] == other["init"]
    assert one["startedAt"] == other["startedAt"]
    assert one["events"] == other["events"] == ["before", "after"]
    assert (one["calls"], other["calls"]) == (1, 1)
    assert one["type"] == other["type"] == "snap-start"


def test_what_is_drawn_at_random_differs_between_environments(published: Deployed, snapping: Manager) -> None:
    kill_all(snapping)
    one, other = both(published, "1")
    for name in ("random", "uuid", "ssl", "requestId"):
        assert one[name] != other[name], name


def test_environments_share_no_files_and_no_memory(published: Deployed, snapping: Manager) -> None:
    kill_all(snapping)
    with ThreadPoolExecutor(2) as threads:
        events = [{"sleep": 1, "write": name} for name in ("a", "b")]
        calls = [threads.submit(published.invoke, event, Qualifier="1") for event in events]
        found = [call.result().payload["tmp"] for call in calls]
    assert found == [["a", "init"], ["b", "init"]]


def test_the_log_tells_of_init_once_and_of_each_restore(published: Deployed, snapping: Manager) -> None:
    kill_all(snapping)
    answer = published.invoke(Qualifier="1")
    assert "Restore Duration: " in answer.tail and "Billed Restore Duration: " in answer.tail
    assert "Init Duration: " not in answer.tail
    lines = published.log(snapping)
    assert lines.count("INIT_START ") == 1
    assert lines.count("INIT_REPORT Init Duration: ") == 1
    assert lines.count("RESTORE_START ") >= 1


def test_credentials_come_from_an_endpoint_and_not_from_variables(published: Deployed) -> None:
    answer = published.invoke({"credentials": 1}, Qualifier="1").payload
    assert answer["key"].startswith("ASIA")
    hidden = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_LOG_STREAM_NAME"}
    assert not hidden & set(answer["variables"])


def test_an_environment_serves_again_and_one_that_is_killed_is_replaced(published: Deployed, snapping: Manager) -> None:
    kill_all(snapping)
    assert published.invoke(Qualifier="1").payload["calls"] == 1
    assert published.invoke(Qualifier="1").payload["calls"] == 2
    kill_all(snapping)
    assert published.invoke(Qualifier="1").payload["calls"] == 1


def test_latest_initialises_as_ever(published: Deployed) -> None:
    answer = published.invoke()
    assert answer.payload["type"] == "on-demand"
    assert answer.payload["events"] == []
    assert "Init Duration: " in answer.tail


def test_provisioned_concurrency_is_refused(published: Deployed) -> None:
    with pytest.raises(ClientError, match="SnapStart"):
        published.client.put_provisioned_concurrency_config(
            FunctionName=published.name, Qualifier="1", ProvisionedConcurrentExecutions=1
        )


def test_an_init_that_fails_fails_the_version(snapping: Manager) -> None:
    function = create(snapping, "init")
    function.client.publish_version(FunctionName=function.name)
    seen = settled(function, "1")
    assert (seen["State"], seen["StateReasonCode"]) == ("Failed", "FunctionError.RuntimeInitError")


@pytest.mark.parametrize(("broken", "code"), [("restore", "SnapStartException"), ("slow", "SnapStartTimeoutException")])
def test_a_hook_that_fails_after_the_snapshot_is_told(snapping: Manager, broken: str, code: str) -> None:
    function = create(snapping, broken)
    assert publish(function)["SnapStart"]["OptimizationStatus"] == "On"
    with pytest.raises(ClientError) as failed:
        function.invoke(Qualifier="1")
    assert failed.value.response["Error"]["Code"] == code
    assert "RESTORE_REPORT Restore Duration: " in function.log(snapping)


def test_a_version_takes_its_snapshot_with_it(snapping: Manager) -> None:
    function = create(snapping)
    publish(function)
    found = set(snapshots_of(snapping))
    function.client.delete_function(FunctionName=function.name, Qualifier="1")
    wait_until(lambda: len(set(snapshots_of(snapping)) & found) == len(found) - 1, 10, "the snapshot is still there")


def test_snapshots_outlive_the_manager_and_those_of_nobody_are_swept(runtime_image: str, tmp_path: Path) -> None:
    with managing(tmp_path, "--engine", "oci", RIE_RUNTIMES=f"{RUNTIME}={runtime_image}") as manager:
        function = create(manager)
        publish(function)
        seed = function.invoke(Qualifier="1").payload["seed"]
        manager.stop()
        (tmp_path / "snapshots" / "of-nobody").mkdir()
        manager.start()
        assert Deployed(manager.client(), function.name).invoke(Qualifier="1").payload["seed"] == seed
        assert len(snapshots_of(manager)) == 1


def test_without_criu_versions_initialise_and_the_log_says_why(runtime_image: str, tmp_path: Path) -> None:
    with managing(tmp_path, "--engine", "oci", RIE_RUNTIMES=f"{RUNTIME}={runtime_image}", RIE_CRIU="/none") as manager:
        function = create(manager)
        seen = publish(function)
        assert seen["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}
        assert "has no snapshot, its environments initialise: criu can't be used" in manager.log
        assert function.invoke(Qualifier="1").payload["type"] == "on-demand"


def test_connections_that_init_leaves_open_have_ended_in_every_environment(runtime_image: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = {
            "RIE_RUNTIMES": f"{RUNTIME}={runtime_image}",
            "RIE_FUNCTION_ENDPOINT_URL": f"http://127.0.0.1:{server.getsockname()[1]}",
        }
        with managing(tmp_path, "--engine", "oci", **settings) as manager:
            function = create(manager, Environment={"Variables": {"REACHES": "it"}})
            assert publish(function)["SnapStart"]["OptimizationStatus"] == "On", manager.log
            answer = function.invoke(Qualifier="1").payload
            assert answer["type"] == "snap-start", manager.log
            assert len(answer["leftOpen"]) == 3
            assert "sent" not in answer["leftOpen"]


def snapshots_of(manager: Manager) -> list[str]:
    """The directories of a manager's snapshots."""
    return sorted(path.name for path in (manager.data / "snapshots").iterdir())


def kill_all(manager: Manager) -> None:
    """End every idle environment from outside, as the kernel would, and wait until the manager has seen it."""

    def none_is_left() -> bool:
        with contextlib.suppress(OSError):  # one is just being removed
            for groups in Path("/sys/fs/cgroup/memory").glob(f"rie-{manager.owner}*/*/*/cgroup.procs"):
                for pid in groups.read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
        return not manager.get("/_rie/environments")

    wait_until(none_is_left, 20, "environments are still there")
