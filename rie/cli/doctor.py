"""`rie doctor`: what this machine lacks to run functions, and the command that mends it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "Example: rie doctor --json"
MIN_FREE_BYTES = 2 << 30
MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """`state` is "ok", "warning" (something works less well) or "missing" (functions can't run)."""

    subject: str
    state: str
    detail: str
    remedy: str = ""


def doctor(as_json: Annotated[bool, typer.Option("--json", help="A JSON list instead of text.")] = False) -> None:
    """Check this machine. Exit status 1 if something is missing."""
    findings = []
    for check in CHECKS:
        found = check()
        findings += [found] if isinstance(found, Finding) else found
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        _print(findings)
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")


def _oci() -> Finding:
    from rie.engine.oci import bridges, rootless
    from rie.engine.oci.engine import unavailable

    if why := unavailable():
        remedy = "use --engine docker"
        if os.geteuid() != 0:
            remedy = rootless.find().remedy or "run `rie serve` as root"
        return Finding("oci engine", "warning", f"can't run here: {why}", remedy)
    if os.geteuid() != 0:
        return Finding("oci engine", "ok", "sandboxes without a daemon or root, in user namespaces; what they lack:")
    if why := bridges.unavailable():
        return Finding("oci engine", "warning", f"functions have no network: {why}", "apt-get install iptables")
    return Finding("oci engine", "ok", "sandboxes without a daemon, outbound network")


def _rootless() -> list[Finding]:
    """What functions don't have if this user starts the manager."""
    from rie.engine.oci import rootless
    from rie.engine.oci.engine import unavailable
    from rie.limits.groups import Groups

    if os.geteuid() == 0 or unavailable() is not None:
        return []
    lacks = rootless.lacks(Groups.find("check"), network="bridge")
    return [Finding("without root", "warning", lack.text, lack.remedy) for lack in lacks]


def _docker() -> Finding:
    import docker

    from rie.engine.oci.engine import unavailable

    try:
        client = docker.from_env(timeout=5)
        version = client.version()
        client.close()
    except Exception as error:
        remedy = (
            "start it: systemctl start docker, or dockerd &" if shutil.which("dockerd") else "apt-get install docker.io"
        )
        if "Permission denied" in str(error):
            remedy = "usermod --append --groups docker USER; its members are as good as root"
        if unavailable() is None:
            return Finding("docker engine", "warning", f"does not answer, not needed: {_first_line(error)}", remedy)
        return Finding("docker engine", "missing", f"does not answer: {_first_line(error)}", remedy)
    return Finding("docker engine", "ok", f"{version['Version']} on {version['Os']}/{version['Arch']}")


def _cgroups() -> list[Finding]:
    if os.geteuid() != 0:
        return []  # what counts is which of them this user may change: see `_rootless`
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        lacking = {"memory", "pids", "cpu"} - set((root / "cgroup.controllers").read_text().split())
        version = "version 2"
    else:
        lacking = {name for name in ("memory", "pids", "cpu") if not (root / name).is_dir()}
        version = "version 1"
    if lacking:
        why = f"{version} without {', '.join(sorted(lacking))}"
        return [Finding("cgroups", "missing", why, "mount the controllers")]
    return [Finding("cgroups", "ok", f"{version}: memory, cpu, pids")]


def _temporary_storage() -> list[Finding]:
    subject = "ephemeral storage"
    if os.geteuid() != 0:
        return []
    if not Path("/dev/loop-control").exists():
        detail = "no loop devices: /tmp of functions is held in memory and counts against their limit"
        return [Finding(subject, "warning", detail, "modprobe loop")]
    if not shutil.which("mke2fs", path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin"):
        return [Finding(subject, "warning", "mke2fs is not installed", "apt-get install e2fsprogs")]
    return [Finding(subject, "ok", "disk-backed /tmp, bounded by a file system of its own")]


def _disk() -> Finding:
    from rie.settings import default_data

    place = default_data()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < MIN_FREE_BYTES:
        return Finding(
            "disk", "warning", f"{free // MB} MB free below {place}", "docker image prune, or RIE_DATA elsewhere"
        )
    return Finding("disk", "ok", f"{free // MB:,} MB free below {place}")


def _bundle() -> Finding:
    from rie import bundle
    from rie.errors import RieError

    try:
        return Finding("bootstrap bundle", "ok", str(bundle.ensure()))
    except (RieError, OSError) as error:
        return Finding("bootstrap bundle", "missing", _first_line(error), "pip install --force-reinstall rie")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


CHECKS: tuple[Callable[[], Finding | list[Finding]], ...] = (
    *(_python, _oci, _rootless, _docker, _cgroups, _temporary_storage, _disk, _bundle),
)
MARKS = {"ok": "[green]ok     [/]", "warning": "[yellow]warning[/]", "missing": "[red]missing[/]"}


def _print(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(soft_wrap=True, highlight=False)
    for finding in findings:
        console.print(f"{MARKS[finding.state]} {finding.subject}: {escape(finding.detail)}")
        if finding.remedy:
            console.print(f"          → {escape(finding.remedy)}")
