"""`sam local start-lambda` with warm containers, on an image that has the name of AWS's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.client import Address
from bench.containers import BASE, ROOT
from bench.ready import free_port
from rie.errors import HostFault
from scripts import images

VARIABLE = "RIE_BENCH_SAM"
IMAGE = "public.ecr.aws/lambda/python:3.11-x86_64"
TEMPLATE = """\
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Resources:
  function:
    Type: AWS::Serverless::Function
    Properties: {Runtime: python3.11, Handler: app.handler, CodeUri: code, MemorySize: 1769, Timeout: 10}
"""
STOP_S = 60


def program() -> str | None:
    """The sam command, if there is one."""
    return os.environ.get(VARIABLE) or shutil.which("sam")


@contextmanager
def serving(sam: str) -> Iterator[Address]:
    """Where it listens, sooner or later; its containers and images are gone on exit."""
    docker = images.docker()
    had_image = _call(docker, "image", "ls", "--quiet", IMAGE)
    with tempfile.TemporaryDirectory(prefix="rie-bench-sam-") as directory:
        code = Path(directory, "code")
        code.mkdir()
        shutil.copy(ROOT / "bench" / "image" / "app.py", code)
        Path(directory, "template.yaml").write_text(TEMPLATE)
        if not had_image:
            _build_image(docker, Path(directory))
        port = free_port()
        command = [sam, "local", "start-lambda", "--warm-containers", "EAGER", "--skip-pull-image"]
        environment = {**os.environ, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "us-east-1"}
        before = set(_call(docker, "ps", "--all", "--quiet").split())
        with (
            Path(directory, "log").open("wb") as log,
            subprocess.Popen(
                [*command, "--port", str(port)], cwd=directory, env=environment, stdout=log, stderr=log
            ) as process,
        ):
            try:
                yield "127.0.0.1", port
            finally:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                _clear(docker, before, bool(had_image))


def _build_image(docker: list[str], directory: Path) -> None:
    """Our runtime client where AWS's images have it, and nothing else of ours."""
    (directory / "entry").write_text('#!/bin/sh\nexport _HANDLER="$1"\nexec /var/runtime/bootstrap "$@"\n')
    (directory / "entry").chmod(0o755)
    (directory / "Dockerfile").write_text(
        f"FROM {BASE}\nCOPY entry /lambda-entrypoint.sh\nWORKDIR /var/task\nENTRYPOINT []\n"
        'ENTRYPOINT ["/lambda-entrypoint.sh"]\n'
    )
    _call(docker, "build", "--quiet", "--tag", IMAGE, str(directory))


def _clear(docker: list[str], before: set[str], keeps_image: bool) -> None:
    """Its containers are told by their image: other people's containers start and end meanwhile."""
    for container in set(_call(docker, "ps", "--all", "--quiet").split()) - before:
        if "public.ecr.aws/lambda/python" in _call(docker, "inspect", "--format", "{{.Config.Image}}", container):
            _call(docker, "rm", "--force", "--volumes", container)
    listed = _call(docker, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "public.ecr.aws/lambda/python")
    for image in listed.split():
        if image != IMAGE or not keeps_image:
            _call(docker, "image", "rm", "--force", image)


def _call(docker: list[str], *arguments: str) -> str:
    done = subprocess.run([*docker, *arguments], capture_output=True, text=True, check=False)
    if done.returncode and arguments[0] == "build":
        raise HostFault(f"cannot measure: docker build ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()
