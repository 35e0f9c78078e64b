"""The CPU control group of a process, versions 1 and 2: where it is, and how a quota is written to it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from rie.limits.share import Quota

HOST = "rie-host"  # where processes move to, out of a group that shall have groups (version 2)
WANTED = ("memory", "pids", "cpu", "freezer")
_ESCAPE = re.compile(r"\\([0-7]{3})")


def cpu_directory(pid: int, proc: Path = Path("/proc")) -> Path | None:
    """The directory of the control group that governs a process's CPU time, if it can be seen from here.

    None when the process is gone, the hierarchy is not mounted here, or no controller is there.
    """
    try:
        groups = (proc / str(pid) / "cgroup").read_text()
        mounts = (proc / "self" / "mountinfo").read_text()
    except OSError:
        return None
    for line in groups.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" or "cpu" in controllers.split(","):
            found = _under_mount(mounts, path, None if number == "0" else "cpu")
            if found is not None and any((found / name).exists() for name in ("cpu.cfs_quota_us", "cpu.max")):
                return found
    return None


def hierarchies(proc: Path = Path("/proc")) -> tuple[dict[str, Path], bool]:
    """Where each controller is mounted, and whether that is version 2 (the first that has memory wins).

    A version 2 hierarchy without controllers, beside version 1, does not count.
    """
    legacy: dict[str, Path] = {}
    unified: dict[str, Path] = {}
    for line in (proc / "self" / "mountinfo").read_text().splitlines():
        fields, _, tail = line.partition(" - ")
        kind, _, options = tail.split(" ", 2)
        point = Path(_unescape(fields.split(" ")[4]))
        if kind == "cgroup":
            legacy.update(dict.fromkeys(options.split(","), point))
        elif kind == "cgroup2":
            controllers = point / "cgroup.controllers"
            names = controllers.read_text().split() if controllers.exists() else []
            # Freezing is no controller there: every group can.
            unified.update(dict.fromkeys([*names, "freezer"] if names else [], point))
    return (unified, True) if "memory" in unified else (legacy, False)


def delegated(proc: Path = Path("/proc")) -> tuple[dict[str, Path], bool]:
    """This process's own groups by controller, where its user may make others in them, and whether it is version 2.

    Of version 2 only the controllers that were given to the group (systemd's Delegate=) can be there.
    """
    mounts = (proc / "self" / "mountinfo").read_text()
    legacy: dict[str, Path] = {}
    unified: dict[str, Path] = {}
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        names = controllers.split(",")
        for controller in ["memory"] if number == "0" else [name for name in WANTED if name in names]:
            found = _under_mount(mounts, path.removesuffix(f"/{HOST}") or "/", controller if number != "0" else None)
            if found is None or not all(os.access(place, os.W_OK) for place in (found, found / "cgroup.procs")):
                continue
            if number != "0":
                legacy[controller] = found
            elif given := _given(found):
                unified.update(dict.fromkeys([*given, "freezer"], found))
    return (unified, True) if unified else (legacy, False)


def _given(directory: Path) -> list[str]:
    try:
        names = (directory / "cgroup.controllers").read_text().split()
    except OSError:
        return []
    return [name for name in WANTED if name in names]


def write_quota(directory: Path, quota: Quota) -> None:
    """Limit the group's CPU time from now on. Raises OSError."""
    unified = directory / "cpu.max"
    if unified.exists():
        unified.write_text(f"{quota.quota_us} {quota.period_us}")
        return
    (directory / "cpu.cfs_period_us").write_text(str(quota.period_us))
    (directory / "cpu.cfs_quota_us").write_text(str(quota.quota_us))


def lift_quota(directory: Path) -> None:
    """Take the limit of the group's CPU time away. Raises OSError."""
    unified = directory / "cpu.max"
    if unified.exists():
        unified.write_text("max")
    else:
        (directory / "cpu.cfs_quota_us").write_text("-1")


def _under_mount(mounts: str, path: str, controller: str | None) -> Path | None:
    """Where a group's path is, given /proc/self/mountinfo; the newest mount that shows it wins.

    `controller` is one of version 1's, None stands for version 2.
    """
    for line in reversed(mounts.splitlines()):
        fields, _, tail = line.partition(" - ")
        kind, _, options = tail.split(" ", 2)
        if kind != ("cgroup" if controller else "cgroup2") or (controller and controller not in options.split(",")):
            continue
        _, _, _, root, point, *_ = fields.split(" ")
        root = "" if root == "/" else _unescape(root)
        if path == root or path.startswith(f"{root}/"):
            return Path(_unescape(point) + path[len(root) :])
    return None


def _unescape(text: str) -> str:
    """mountinfo writes blanks and backslashes in octal."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text)
