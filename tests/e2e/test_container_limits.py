"""Limits that a container's bootstrap keeps by itself: by the kernel where it may, and said so where it may not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import requests

from rie import bundle
from tests.e2e.test_images import INVOKE, running
from tests.e2e.world import ROOT, wait_until

MEMORY_MB, TMP_MB = 128, 64
# What `--privileged` would give, and no more: control groups that can be written, and mount(2).
RIGHTS: dict[str, Any] = {"cap_add": ["SYS_ADMIN"]}
MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")
UNIFIED = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def limited(engine: docker.DockerClient, rights: bool, **variables: str) -> Iterator[tuple[Any, str]]:
    tree = bundle.ensure(ROOT / "build" / "bundle")
    volumes = {
        str(tree): {"bind": "/opt/rie", "mode": "ro"},
        str(ROOT / "tests" / "functions" / "app.py"): {"bind": "/var/task/app.py", "mode": "ro"},
    }
    options: dict[str, Any] = {}
    if rights:
        groups = str(MEMORY_GROUPS if MEMORY_GROUPS.exists() else UNIFIED)
        volumes[groups] = {"bind": groups, "mode": "rw"}
        options = RIGHTS
    environment = {
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY_MB),
        "AWS_LAMBDA_FUNCTION_EPHEMERAL_STORAGE": str(TMP_MB),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "60",
        **variables,
    }
    with running(
        engine, "rie/python:3.11", "app.handler", volumes=volumes, environment=environment, **options
    ) as container:
        yield container


def invoke(url: str, **event: Any) -> Any:
    return requests.post(url + INVOKE, json=event, timeout=90).json()


def test_where_it_may_the_kernel_keeps_memory_and_tmp(engine: docker.DockerClient) -> None:
    with limited(engine, rights=True) as (container, url):
        assert invoke(url, verb="allocate", mb=400)["errorMessage"].endswith("signal: killed")
        assert invoke(url, verb="allocate", mb=20) == 20
        assert "No space left on device" in invoke(url, verb="fill", mb=TMP_MB + 30)["errorMessage"]
        wait_until(lambda: container.logs().count(b"REPORT Req") == 3, 10, "no report")
        log = container.logs().decode()
        assert "rie:" not in log.replace("Runtime Version: rie:", "")
        report = next(line for line in log.splitlines() if "OutOfMemory" in line)
        assert f"Max Memory Used: {MEMORY_MB} MB" in report
        container.stop(timeout=10)
    assert not list(MEMORY_GROUPS.glob("**/rie-function-*"))


def test_where_it_may_each_environment_has_a_limit_of_its_own(engine: docker.DockerClient) -> None:
    with limited(engine, rights=True, RIE_ENVIRONMENTS="2") as (container, url):
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(2) as callers:
            sleeping = callers.submit(invoke, url, verb="sleep", seconds=5)
            assert invoke(url, verb="allocate", mb=400)["errorMessage"].endswith("signal: killed")
            assert "ended" in sleeping.result()
        wait_until(lambda: b"Runtime.OutOfMemory" in container.logs(), 10, "no report")
        assert container.logs().count(b"Runtime.OutOfMemory") == 1


def test_where_it_may_not_memory_is_watched_and_both_are_said(engine: docker.DockerClient) -> None:
    with limited(engine, rights=False) as (container, url):
        assert invoke(url, verb="allocate", mb=400)["errorMessage"].endswith("signal: killed")
        wait_until(lambda: b"Runtime.OutOfMemory" in container.logs(), 10, "no report")
        log = container.logs().decode()
        assert f"rie: the function held more than its {MEMORY_MB} MB and was killed\n" in log
        assert f"rie: /tmp is not bound to {TMP_MB} MB: operation not permitted; `docker run --tmpfs" in log


def test_a_tmp_that_was_mounted_with_that_size_is_bound(engine: docker.DockerClient) -> None:
    tree = bundle.ensure(ROOT / "build" / "bundle")
    volumes = {str(tree): {"bind": "/opt/rie", "mode": "ro"}}
    environment = {"AWS_LAMBDA_FUNCTION_EPHEMERAL_STORAGE": str(TMP_MB)}
    tmpfs = {"/tmp": f"exec,size={TMP_MB}m"}
    with running(engine, "rie/python:3.11", "app.handler", volumes=volumes, environment=environment, tmpfs=tmpfs) as (
        container,
        _,
    ):
        assert "not bound" not in container.logs().decode()


@pytest.mark.parametrize("value", ["x", "-1"])
def test_a_size_that_is_none_is_named(engine: docker.DockerClient, value: str) -> None:
    tree = bundle.ensure(ROOT / "build" / "bundle")
    container = engine.containers.create(
        "rie/python:3.11",
        "app.handler",
        volumes={str(tree): {"bind": "/opt/rie", "mode": "ro"}},
        environment={"AWS_LAMBDA_FUNCTION_EPHEMERAL_STORAGE": value},
    )
    try:
        container.start()
        assert container.wait(timeout=20)["StatusCode"] == 2
        assert b"cannot read AWS_LAMBDA_FUNCTION_EPHEMERAL_STORAGE" in container.logs()
    finally:
        container.remove(force=True)
