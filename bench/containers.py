"""A throw-away image and its containers, through the Docker client as people use it; nothing of them stays."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bench.client import Address
from rie.errors import HostFault
from scripts import images

ROOT = Path(__file__).resolve().parent.parent
LABEL = "rie.bench"
BASE = f"rie/python:{images.PYTHON}"


@dataclass(frozen=True, slots=True)
class Container:
    """A running container: `door` is the port that Docker publishes, `own_address` the container's on its bridge."""

    container_id: str
    door: Address
    own_address: Address
    pid: int

    def pss_mb(self) -> float:
        """The proportional set size of its first process, in MiB. Raises OSError without the right to see it."""
        text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024


class Workbench:
    """`with Workbench(...) as bench`: the image is built on entry; it and all containers are gone on exit."""

    def __init__(self, scratch: Path, bundle: Path, rie: Path) -> None:
        self.docker = images.docker()
        self.mark = f"{LABEL}={os.getpid()}"
        self.image = f"rie-bench:{os.getpid()}"
        self._scratch = scratch
        self._bundle = bundle
        self._rie = rie

    def __enter__(self) -> Workbench:
        try:
            self._build()
        except BaseException:
            self._clear()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    def run(self, command: Sequence[str] = (), entrypoint: str = "") -> str:
        """`docker run` of the image, published on a free port of 127.0.0.1; returns the container's id."""
        flags = ["--detach", "--publish", "127.0.0.1::8080", "--label", self.mark]
        if entrypoint:
            flags += ["--entrypoint", entrypoint]
        return self.call("run", *flags, self.image, *command)

    def describe(self, container_id: str) -> Container:
        """Where a container that runs is reached."""
        template = (
            '{{(index (index .NetworkSettings.Ports "8080/tcp") 0).HostPort}} {{.State.Pid}} '
            "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        )
        port, pid, address = self.call("inspect", "--format", template, container_id).split()
        return Container(container_id, ("127.0.0.1", int(port)), (address, 8080), int(pid))

    def exit_status(self, container_id: str) -> int | None:
        """None while it runs."""
        template = "{{.State.Running}} {{.State.ExitCode}}"
        running, status = self.call("inspect", "--format", template, container_id).split()
        return None if running == "true" else int(status)

    def push(self, reference: str) -> None:
        """Put the image on a registry."""
        self.call("tag", self.image, reference)
        self.call("push", "--quiet", reference)

    def forget(self, reference: str, host: str) -> None:
        """Remove what pushing an image to a registry, and pulling it from there, left with the engine."""
        self.call("image", "rm", "--force", reference)
        template = "{{.Repository}}@{{.Digest}}"
        for name in self.call("image", "ls", "--digests", "--format", template).split():
            if name.startswith(f"{host}/") and not name.endswith("<none>"):
                self.call("image", "rm", "--force", name)

    def remove(self, *container_ids: str) -> None:
        """Kill and remove them."""
        self.call("rm", "--force", "--volumes", *container_ids)

    def call(self, *arguments: str) -> str:
        """The output of the Docker client. Raises HostFault with its words."""
        # Ctrl-C must not reach it: a client that dies half-way leaves a container that nobody knows of.
        with subprocess.Popen(
            [*self.docker, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=images.build_environment() if arguments[0] == "build" else None,
            start_new_session=True,
        ) as process:
            try:
                out, said = process.communicate()
            except BaseException:
                process.wait()
                raise
        if process.returncode:
            raise HostFault(f"cannot measure: docker {arguments[0]} ended with {process.returncode}: {said.strip()}")
        return out.strip()

    def _build(self) -> None:
        if not self.call("image", "ls", "--quiet", BASE):
            images.build(["python"])
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".context-", dir=self._scratch) as scratch:
            context = Path(scratch, "context")
            shutil.copytree(ROOT / "bench" / "image", context)
            shutil.copytree(self._bundle, context / "bundle")
            shutil.copy(self._rie, context / "aws-lambda-rie")
            self.call("build", "--quiet", "--tag", self.image, str(context))

    def _clear(self) -> None:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it
        try:
            left = self.call("ps", "--all", "--quiet", "--filter", f"label={self.mark}").split()
            if left:
                self.remove(*left)
            if self.call("image", "ls", "--quiet", self.image):
                self.call("image", "rm", "--force", self.image)
        finally:
            signal.signal(signal.SIGINT, before)
