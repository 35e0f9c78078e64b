"""One function in several languages, each in an image of another kind, under plain `docker run -p`."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import docker
import pytest
import requests

from rie import bundle
from tests.e2e.world import DOCKER, ROOT, free_port, wait_until

pytestmark = pytest.mark.timeout(900)  # the first time, rie/nodejs is compiled
FUNCTIONS = ROOT / "tests" / "functions" / "languages"
INVOKE = "/2015-03-31/functions/{}/invocations"
TIMEOUT_S = 3
EPOCH_SLACK_MS = 100  # of handlers that compute the deadline back from a remaining time in whole milliseconds


@dataclass(frozen=True)
class Language:
    """How the function of tests/functions/languages runs in one kind of image."""

    directory: str
    handler: str = ""
    command: tuple[str, ...] = ()
    is_mounted: bool = False  # the image has no bundle: it is mounted, and made the entry point
    variables: dict[str, str] = field(default_factory=dict)


LANGUAGES = {
    "python": Language("python", "app.handler"),
    "nodejs": Language("nodejs", "index.handler"),
    "nodejs, its client in JavaScript": Language(
        "nodejs", "index.handler", variables={"AWS_LAMBDA_NODEJS_USE_ALTERNATIVE_CLIENT_1": "true"}
    ),
    "shell": Language("shell"),
    "static C from scratch": Language("scratch"),
    "C on musl": Language("musl"),
    "made for AWS, its handler": Language("aws", "app.handler", ("app.handler",), is_mounted=True),
    "made for AWS, its entry point": Language(
        "aws", "app.handler", ("/lambda-entrypoint.sh", "app.handler"), is_mounted=True
    ),
}


@dataclass
class Running:
    """A container that answers."""

    language: Language
    container: Any
    url: str

    def invoke(self, event: Any, function: str = "function", **headers: str) -> requests.Response:
        answer = requests.post(self.url + INVOKE.format(function), json=event, headers=headers, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer

    def describe(self, **headers: str) -> Any:
        answer = self.invoke({"verb": "describe"}, **headers)
        assert "X-Amz-Function-Error" not in answer.headers, answer.text
        return answer.json()

    @property
    def log(self) -> str:
        return str(self.container.logs().decode())


@pytest.fixture(scope="module")
def images(engine: docker.DockerClient) -> Iterator[dict[str, str]]:
    """directory → image; what they stand on is built when it isn't there, which for Node takes a minute or two."""
    bases = ("python", "provided", "nodejs", "toolchain")
    subprocess.run([sys.executable, str(ROOT / "scripts" / "images.py"), *bases], check=True, cwd=ROOT)
    tags = {path.parent.name: f"rie-tests/language-{path.parent.name}" for path in FUNCTIONS.glob("*/Dockerfile")}
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    for directory, tag in tags.items():
        file = FUNCTIONS / directory / "Dockerfile"
        command = [DOCKER, "build", "-q", "-t", tag, "-f", str(file), str(FUNCTIONS)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    yield tags
    for tag in tags.values():
        engine.images.remove(tag, force=True)


@contextlib.contextmanager
def running(engine: docker.DockerClient, image: str, language: Language, **variables: str) -> Iterator[Running]:
    """`docker run -p PORT:8080 IMAGE`, with the bundle mounted where the image has none."""
    port = free_port()
    options: dict[str, Any] = {}
    if language.is_mounted:
        tree = bundle.ensure(ROOT / "build" / "bundle")
        options = {
            "entrypoint": ["/opt/rie/bootstrap"],
            "volumes": {str(tree): {"bind": "/opt/rie", "mode": "ro"}},
        }
    container = engine.containers.run(
        image,
        list(language.command) or None,
        detach=True,
        ports={"8080/tcp": ("127.0.0.1", port)},
        environment={"AWS_LAMBDA_FUNCTION_TIMEOUT": str(TIMEOUT_S), **language.variables, **variables},
        **options,
    )
    here = Running(language, container, f"http://127.0.0.1:{port}")
    try:
        wait_until(lambda: _listens(here), 20, "it does not listen")
        yield here
    finally:
        container.remove(force=True)


def _listens(here: Running) -> bool:
    here.container.reload()
    assert here.container.status in ("created", "running"), here.log
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(here.url, timeout=5).status_code == 404
    return False


@pytest.fixture(scope="module", params=LANGUAGES.values(), ids=LANGUAGES)
def here(request: pytest.FixtureRequest, engine: docker.DockerClient, images: dict[str, str]) -> Iterator[Running]:
    """One container for each language, for all of its tests."""
    language: Language = request.param
    with running(engine, images[language.directory], language) as container:
        yield container


def test_the_first_invocation_is_cold_and_those_after_it_are_warm(here: Running) -> None:
    counts = [here.describe()["invocations"] for _ in range(3)]
    assert counts == [counts[0], counts[0] + 1, counts[0] + 2]
    wait_until(lambda: here.log.count("REPORT RequestId") >= 3, 5, here.log)
    reports = [line for line in here.log.splitlines() if line.startswith("REPORT RequestId")]
    assert ["Init Duration" in report for report in reports[:3]] == [True, False, False]


def test_the_event_is_answered_byte_for_byte_as_json(here: Running) -> None:
    event = {"text": 'Grüße, "世界" \\ \u0001', "list": [1, 2.5, None, True], "nested": {"empty": {}}}
    answer = here.invoke(event)
    assert answer.json() == event
    assert answer.headers["X-Amz-Executed-Version"] == "$LATEST"
    assert "X-Amz-Function-Error" not in answer.headers


def test_an_event_of_a_megabyte_is_answered(here: Running) -> None:
    event = {"text": "x" * (1 << 20)}
    assert here.invoke(event).json() == event


def test_the_context_says_the_request_the_function_and_the_deadline(here: Running) -> None:
    before = int(time.time() * 1000)
    answer = here.invoke({"verb": "describe"}, function="orders")
    after = int(time.time() * 1000)
    seen = answer.json()
    assert seen["requestId"] == answer.headers["X-Amzn-RequestId"]
    assert uuid.UUID(seen["requestId"])
    assert seen["arn"] == "arn:aws:lambda:us-east-1:123456789012:function:orders"
    assert before - EPOCH_SLACK_MS <= seen["deadlineMs"] - TIMEOUT_S * 1000 <= after + EPOCH_SLACK_MS
    assert seen["function"] == "function"
    assert seen["handler"] == here.language.handler
    assert seen["uid"] == 993
    assert here.describe()["requestId"] != seen["requestId"]


def test_a_thrown_error_is_the_callers_answer_and_the_environment_stays(here: Running) -> None:
    count = here.describe()["invocations"]
    answer = here.invoke({"verb": "fail"})
    assert answer.headers["X-Amz-Function-Error"] == "Unhandled"
    error = answer.json()
    assert (error["errorType"], error["errorMessage"]) == ("Refused", "refused by verb")
    assert here.describe()["invocations"] == count + 2


def test_a_process_that_ends_is_an_exit_error_and_the_next_invocation_has_a_new_one(here: Running) -> None:
    here.describe()
    answer = here.invoke({"verb": "exit"})
    assert answer.headers["X-Amz-Function-Error"] == "Unhandled"
    message = f"RequestId: {answer.headers['X-Amzn-RequestId']} Error: Runtime exited with error: exit status 3"
    assert answer.json() == {"errorType": "Runtime.ExitError", "errorMessage": message}
    assert here.describe()["invocations"] == 1


def test_a_timeout_ends_the_process_and_the_next_invocation_has_a_new_one(here: Running) -> None:
    here.describe()
    started = time.monotonic()
    answer = here.invoke({"verb": "sleep"})
    assert TIMEOUT_S <= time.monotonic() - started < TIMEOUT_S + 2
    assert answer.headers["X-Amz-Function-Error"] == "Unhandled"
    error = answer.json()
    assert error["errorType"] == "Sandbox.Timedout"
    assert error["errorMessage"].endswith(f"Task timed out after {TIMEOUT_S}.00 seconds")
    assert here.describe()["invocations"] == 1


def test_the_image_from_scratch_holds_a_program_and_the_bundle_and_nothing_else(
    engine: docker.DockerClient, images: dict[str, str]
) -> None:
    with _files(engine, images["scratch"]) as files:
        assert [name for name in files if not name.startswith("opt/rie/")] == ["var/task/bootstrap"]


def test_the_image_of_musl_has_no_other_c_library_and_no_python(
    engine: docker.DockerClient, images: dict[str, str]
) -> None:
    with _files(engine, images["musl"]) as files:
        own = [name for name in files if not name.startswith("opt/rie/")]
        assert [name for name in own if re.search(r"libc\b|ld-|python", name)] == [
            name for name in own if "ld-musl-" in name
        ]
        assert any("ld-musl-" in name for name in own)


@contextlib.contextmanager
def _files(engine: docker.DockerClient, image: str) -> Iterator[list[str]]:
    """The regular files of an image, less those that the engine puts into every container."""
    container = engine.containers.create(image)
    try:
        with tarfile.open(fileobj=io.BytesIO(b"".join(container.export()))) as archive:
            names = [member.name for member in archive if member.isfile()]
        added = ("dev/", "etc/hostname", "etc/hosts", "etc/resolv.conf", ".dockerenv")
        yield sorted(name for name in names if not name.startswith(added))
    finally:
        container.remove(force=True)


def test_the_runtime_of_node_sets_what_the_services_does(engine: docker.DockerClient, images: dict[str, str]) -> None:
    with running(engine, images["nodejs"], LANGUAGES["nodejs"]) as here:
        seen = here.describe()
        assert seen["node"].startswith("v22.")
        assert seen["execution"] == "AWS_Lambda_nodejs22.x"
        assert seen["modules"] == (
            "/opt/nodejs/node22/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task"
        )


def test_the_stream_of_a_function_in_node_is_one_answer_to_who_asks_for_one(
    engine: docker.DockerClient, images: dict[str, str]
) -> None:
    with running(engine, images["nodejs"], Language("nodejs", command=("index.stream",))) as here:
        answer = here.invoke({"parts": ["one ", "two ", "three"], "pauseMs": 50})
        assert answer.text == "one two three"
        assert "X-Amz-Function-Error" not in answer.headers
        failed = here.invoke({"parts": ["one "], "fail": True})
        assert failed.headers["X-Amz-Function-Error"] == "Unhandled"
        assert failed.json()["errorType"] == "Refused"
        assert here.invoke({"parts": ["again"]}).text == "again"


def test_the_threads_of_node_work_on_many_invocations_at_a_time(
    engine: docker.DockerClient, images: dict[str, str]
) -> None:
    language = Language("nodejs", command=("threads.handler",), variables={"AWS_LAMBDA_MAX_CONCURRENCY": "4"})
    with running(engine, images["nodejs"], language) as here, ThreadPoolExecutor(12) as callers:
        here.invoke({})
        events = [{"n": number, "ms": 200} for number in range(24)]
        answers = list(callers.map(lambda event: here.invoke(event).json(), events))
        assert [answer["n"] for answer in answers] == list(range(24))
        assert len({answer["pid"] for answer in answers}) == 1
        assert len({answer["thread"] for answer in answers}) > 1
        wait_until(lambda: here.log.count("REPORT RequestId") == 25, 5, here.log)
        assert _most_at_once(here.log) == 4


def _most_at_once(log: str) -> int:
    running = most = 0
    for line in log.splitlines():
        running += line.startswith("START RequestId") - line.startswith("END RequestId")
        most = max(most, running)
    return most


def test_the_image_of_node_has_npm_and_none_of_its_settings_on_this_machine(engine: docker.DockerClient) -> None:
    search = "npm --version; find / -xdev -name .npmrc -o -path /proc -prune -false; ls /root -A"
    done = engine.containers.run("rie/nodejs:22", ["-c", search], entrypoint="/bin/sh", remove=True)
    assert re.fullmatch(rb"10\.\d+\.\d+\n", done), done


def test_the_example_in_javascript_answers(engine: docker.DockerClient, images: dict[str, str]) -> None:
    tag = "rie-tests/hello-nodejs"
    context = str(ROOT / "examples" / "hello-nodejs")
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    subprocess.run([DOCKER, "build", "-q", "-t", tag, context], check=True, capture_output=True, env=environment)
    try:
        with running(engine, tag, Language("nodejs")) as here:
            assert here.invoke({"name": "you"}).json()["message"] == "Hello, you!"
    finally:
        engine.images.remove(tag, force=True)
