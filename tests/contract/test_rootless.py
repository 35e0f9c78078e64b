"""The daemonless engine as a user without privilege: what holds there as it does with root, and what is said not to."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from rie.limits import cgroup
from tests import layers
from tests.contract.conftest import RUNTIME, image_of
from tests.ports import free_port
from tests.registry import Registry, assemble, digest_of
from tests.unprivileged import FIRST_FURTHER, FURTHER, UID, User, living

MB = 1024 * 1024
REFUSED = "Operation not permitted"


@pytest.fixture(scope="module", params=[True, False], ids=["further ids", "one id"])
def user(request: pytest.FixtureRequest) -> Iterator[User]:
    """A user with ids for functions, and one without; nothing of either may run in the end."""
    with living(request.param) as user:
        yield user
        until(lambda: not user.processes(), lambda: str(user.processes()))


@pytest.fixture(scope="module")
def found(user: User, registry: Registry) -> dict[str, Any]:
    """What every scenario of tests/contract/rootless.py has come to."""
    registry.push("odd", "1", odd_image())
    return run_scenarios(user, registry)


def run_scenarios(user: User, registry: Registry, *names: str) -> dict[str, Any]:
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); "
    code += "from tests.contract.rootless import main; main()"
    done = user.run(sys.executable, "-c", code, registry.host, str(user.home), *names)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def odd_image() -> Any:
    """An image whose files are other users' and closed, with whiteouts between its layers."""
    closed = {"mode": 0, "uid": 12345, "gid": 54321}
    low = layers.archive(
        layers.directory("tmp"),
        layers.directory("var/task"),
        layers.file("var/task/runtime.py", RUNTIME.read_bytes(), mode=0o644),
        layers.directory("data"),
        layers.file("data/gone", b"x"),
        layers.directory("data/opaque"),
        layers.file("data/opaque/below", b"x"),
    )
    high = layers.archive(
        layers.file("data/secret", b"legible", mode=0o004, uid=12345, gid=54321),
        layers.directory("data/shut", **{**closed, "mode": 0o055}),
        layers.file("data/shut/file", b"x", mode=0o044),
        layers.whiteout("data/gone"),
        layers.opaque("data/opaque"),
        layers.file("data/opaque/above", b"x"),
    )
    config = json.loads(image_of("probe").blobs[0])["config"]
    return assemble([low, high], **config)


def until(condition: Callable[[], bool], why: Callable[[], str], within_s: float = 20) -> None:
    gives_up_at = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < gives_up_at, why()
        time.sleep(0.02)


def is_shared(user: User) -> bool:
    """Whether function and bootstrap are one user."""
    return not user.has_more_ids


# -- the sandbox -------------------------------------------------------------------------------------------------------


def test_a_function_answers_cold_and_warm(found: dict[str, Any]) -> None:
    assert found["answers"] == [1, 2]


def test_the_function_has_no_privilege_and_is_alone(found: dict[str, Any], user: User) -> None:
    status, tmp, processes, root, door, hostname = found["seen"]
    lines = dict(line.split(":\t", 1) for line in status["read"].splitlines() if ":\t" in line)
    assert lines["Uid"].split() == ["993"] * 4
    assert lines["Gid"].split() == ["990"] * 4
    assert [int(lines[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")] == [0, 0, 0, 0]
    assert (int(lines["CapBnd"], 16) == 0) == is_shared(user)
    assert (lines["NoNewPrivs"], lines["Seccomp"]) == ("1", "2")
    assert tmp["stat"] == {"mode": 0o1777, "uid": 993 if is_shared(user) else 0}
    assert processes["processes"][0] == 1 and len(processes["processes"]) == 2
    assert root["root"] == ["dev", "etc", "opt", "proc", "run", "sys", "tmp", "var"]
    assert door["exists"] is False
    assert hostname["hostname"] == "s-2"


def test_nothing_can_be_written_outside_tmp(found: dict[str, Any]) -> None:
    for path, answer in found["written"].items():
        assert answer["attempt-write"] is not None, path


def test_the_bootstrap_is_out_of_reach(found: dict[str, Any]) -> None:
    assert len(found["reached"]) == 14
    for event, answer in found["reached"]:
        (name,) = event
        allowed = ("Permission denied", REFUSED)
        assert answer[name] in allowed, (event, answer)


def test_the_functions_own_processes_are_its_own(found: dict[str, Any]) -> None:
    signalled, bound, slowed = found["own_processes"]
    assert signalled["attempt-signal"] == "No such process"
    assert (bound["attempt-affinity"], slowed["attempt-priority"]) == (None, None)


def test_every_function_is_a_user_of_its_own_if_there_are_ids(found: dict[str, Any], user: User) -> None:
    (first, one), (second, other) = found["users"]
    assert first == second == UID
    if is_shared(user):
        assert one == other == UID
    else:
        assert one != other
        assert all(FIRST_FURTHER <= uid < FIRST_FURTHER + FURTHER for uid in (one, other))


def test_tmp_is_bounded(found: dict[str, Any]) -> None:
    assert [answer["fill-tmp"] for answer in found["tmp"]] == [None, "No space left on device"]


def test_memory_beyond_the_limit_is_told_as_such(found: dict[str, Any]) -> None:
    within, error, report, after, log = found["memory"]
    assert within == {"allocate": 60 * MB}
    assert (error, report.split(";")[2]) == ("Unhandled", "128")
    assert after == {"allocate": MB}
    assert "Error Type: Runtime.OutOfMemory" in log


def test_memory_of_all_processes_and_of_tmp_counts(found: dict[str, Any]) -> None:
    assert "signal: killed" in found["memory_of_many"]
    assert found["memory_of_nobody"] == [{"attempt-memfd": REFUSED}]
    first, second = found["memory_of_files"]
    assert first == {"fill-tmp": None} and "signal: killed" in second


def test_each_sandbox_has_its_own_count_of_processes(found: dict[str, Any]) -> None:
    for ((answer),) in found["processes"]:
        forked, error = answer["fork"]
        assert 10 < forked < 20 and error == "Resource temporarily unavailable"


def test_a_function_that_takes_too_long_is_ended(found: dict[str, Any]) -> None:
    error, message = found["timeout"]
    assert error == "Unhandled" and "Task timed out after 1.00 seconds" in message


def test_functions_reach_the_endpoints_they_are_told_of_and_nothing_else(found: dict[str, Any]) -> None:
    told, direct, world, private = found["network"]
    assert told["connect"] is None
    assert direct["connect"] == "Connection refused"
    assert world["connect"] == "Network is unreachable"
    assert private == "cannot plug a sandbox into network private: without root there is none"


def test_a_bootstrap_that_cannot_begin_says_why(found: dict[str, Any]) -> None:
    assert "it ended with status 2: rie: cannot read AWS_LAMBDA_FUNCTION_TIMEOUT" in found["last_words"]


def test_layers_of_any_owner_and_mode_can_be_read_and_hide_what_they_should(found: dict[str, Any]) -> None:
    secret, shut, opaque, gone = found["odd_image"]
    assert secret == {"read": "legible"}
    assert shut == {"list": ["file"]}
    assert opaque == {"list": ["above"]}
    assert gone == {"exists": False}


def test_sandboxes_end_with_the_launcher_and_leave_nothing(found: dict[str, Any]) -> None:
    assert found["end_of_the_launcher"] == 7
    assert found["left"] == []


def test_what_is_lacking_is_in_the_engines_first_line(found: dict[str, Any], user: User) -> None:
    line = found["described"]
    assert line.startswith("oci, without a daemon or root: Linux ")
    assert ("no user of the function's own" in line) == is_shared(user)
    for text in ("no control group for memory", "/tmp in the function's memory", "no network but the endpoints"):
        assert text in line


# -- the manager -------------------------------------------------------------------------------------------------------


@contextmanager
def serving(user: User, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[bytes], Path]]:
    """`rie serve` as that user: its URL, its process and its log."""
    port = free_port()
    log = user.home / "serve.log"
    command = user.command(
        *(sys.executable, "-m", "rie", "serve", "--port", str(port), "--data", str(user.home / "data"), *arguments)
    )
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        until(lambda: f"http://127.0.0.1:{port}" in log.read_text(), log.read_text, 60)
        yield f"http://127.0.0.1:{port}", process, log
    finally:
        process.terminate()
        process.wait(60)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def client_of(url: str) -> Any:
    return boto3.client(
        "lambda",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=60),
    )


def test_the_manager_serves_says_why_and_leaves_nothing_behind_even_if_it_is_killed(
    user: User, registry: Registry
) -> None:
    with serving(user) as (url, process, log):
        assert re.search(
            r"engine oci, without a daemon or root: .*\(oci because: not root, Docker does not", log.read_text()
        )
        client = client_of(url)
        client.create_function(
            FunctionName="echo",
            PackageType="Image",
            Code={"ImageUri": f"{registry.host}/echo:1"},
            Role="arn:aws:iam::123456789012:role/tests",
        )
        client.get_waiter("function_active_v2").wait(FunctionName="echo", WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        for number in (1, 2):
            answer = client.invoke(FunctionName="echo", Payload=json.dumps(number))
            assert json.loads(answer["Payload"].read()) == number
        answered = user.run(sys.executable, "-m", "rie", "invoke", "echo", "3", "--endpoint", url)
        assert (answered.stdout.strip(), answered.returncode) == ("3", 0), answered.stderr
        for pid in (*children_of(process.pid), process.pid):  # gunicorn's two, and not the launcher
            os.kill(pid, signal.SIGKILL)
        process.wait()
        until(lambda: not user.processes(), lambda: str(user.processes()))
        assert list((user.home / "data" / "sandboxes").glob("*/engine-*/*"))
    with serving(user) as (url, process, log):
        assert json.loads(client_of(url).invoke(FunctionName="echo", Payload=b"4")["Payload"].read()) == 4
    assert process.returncode == 0, log.read_text()
    assert not list((user.home / "data" / "sandboxes").glob("*/engine-*"))


def test_an_image_is_pulled_from_a_layout(user: User, registry: Registry) -> None:
    layout = user.home / "layout"
    write_layout(layout)
    pulled = user.run(sys.executable, "-m", "rie", "pull", f"oci:{layout}", "--data", str(user.home / "pulled"))
    assert pulled.returncode == 0, pulled.stderr
    (secret,) = (user.home / "pulled" / "images" / "layers").glob("*/fs/data/secret")
    assert secret.stat().st_uid == UID
    assert secret.read_bytes() == b"legible"


def write_layout(directory: Path) -> None:
    """An OCI layout with the odd image."""
    image = odd_image()
    (directory / "blobs" / "sha256").mkdir(parents=True)
    for blob in (*image.blobs, image.manifest):
        (directory / "blobs" / "sha256" / digest_of(blob).partition(":")[2]).write_bytes(blob)
    described = {"mediaType": image.media_type, "digest": digest_of(image.manifest), "size": len(image.manifest)}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    (directory / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    for path in (directory, *directory.rglob("*")):
        os.chown(path, UID, UID)


def test_the_doctor_names_what_is_impossible_and_what_mends_it(user: User) -> None:
    done = user.run(sys.executable, "-m", "rie", "doctor", "--json")
    assert done.returncode == 0, done.stderr
    findings = json.loads(done.stdout)
    assert [each["state"] for each in findings if each["subject"] == "oci engine"] == ["ok"]
    lacking = {each["detail"]: each["remedy"] for each in findings if each["subject"] == "without root"}
    assert len(lacking) == (4 if is_shared(user) else 3)
    assert all(lacking.values())
    text = " ".join(lacking)
    for word in ("memory is watched", "no share of CPU", "not frozen", "/tmp is memory", "AWS_ENDPOINT_URL"):
        assert word in text
    assert ("usermod --add-subuids" in " ".join(lacking.values())) == is_shared(user)


# -- control groups that were given to the user ------------------------------------------------------------------------


def test_groups_that_belong_to_the_user_bound_memory_processes_and_cpu(registry: Registry) -> None:
    with delegated() as groups, living(True, groups) as user:
        found = run_scenarios(user, registry, "described", "memory", "memory_of_nobody", "processes", "frozen", "spun")
        assert "no control group" not in found["described"]
        assert found["memory"][1] == "Unhandled"
        assert "Error Type: Runtime.OutOfMemory" in found["memory"][-1]
        assert "held more than its" not in found["memory"][-1]  # the kernel's doing, and not the bootstrap's
        assert found["memory_of_nobody"] == [{"attempt-memfd": None}]
        for ((answer),) in found["processes"]:
            assert 10 < answer["fork"][0] < 20
        assert found["frozen"] is True
        assert found["spun"] < 0.5


@contextmanager
def delegated() -> Iterator[tuple[str, ...]]:
    """A group of the test user's in each hierarchy, as a service manager gives them to a session."""
    hierarchies, is_unified = cgroup.hierarchies()
    places = dict.fromkeys(hierarchies[kind] for kind in ("memory", "pids", "cpu", "freezer"))
    made = [place / f"rie-test-delegated-{os.getpid()}" for place in places]
    if is_unified:
        (made[0].parent / "cgroup.subtree_control").write_text("+memory +pids +cpu")
    for place in made:
        place.mkdir()
        for name in (".", "cgroup.procs", "cgroup.subtree_control" if is_unified else "tasks"):
            os.chown(place / name, UID, UID)
    try:
        yield tuple(str(place / "cgroup.procs") for place in made)
        left = [str(path) for place in made for path in place.glob("*/") if path.name != cgroup.HOST]
        assert not left, left
    finally:
        for place in made:
            for group in (place / cgroup.HOST, place):
                if group.exists():
                    until(lambda group=group: not (group / "cgroup.procs").read_text(), str)  # type: ignore[misc]
                    group.rmdir()
