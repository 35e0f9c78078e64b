"""Running without root: which ids this user has, what the kernel lets it do, and what then can't be had."""

from __future__ import annotations

import os
import platform
import pwd
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import bootstrap
from rie.engine.oci.launcher.userns import NEWGIDMAP, NEWUIDMAP, Users
from rie.limits.groups import Groups

SUBUID, SUBGID = Path("/etc/subuid"), Path("/etc/subgid")
# 5.11 lets users mount overlays, 5.14 counts processes in each user namespace.
OLDEST_LINUX = (5, 14)
PROBE_S = 30.0
PROGRAM = "import sys; sys.path += {paths!r}; from launcher.probe import main; main()"
SETTINGS = {  # what distributions switch user namespaces off by: the file, its value then, and the way back
    "/proc/sys/user/max_user_namespaces": ("0", "sysctl user.max_user_namespaces=10000"),
    "/proc/sys/kernel/unprivileged_userns_clone": ("0", "sysctl kernel.unprivileged_userns_clone=1"),
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
}


@dataclass(frozen=True, slots=True)
class Found:
    """`users` None: sandboxes can't be made, for the reason `why`; else `why` says what keeps the function from having
    a user of its own, "" if nothing does. `remedy` is a command, "" if there is none."""

    users: Users | None
    why: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Lack:
    """What functions don't have without root: `short` for one line of many, `text` whole, and what mends it."""

    short: str
    text: str
    remedy: str


@cache
def find() -> Found:
    """Try it, in a process of its own, once; some tens of milliseconds."""
    release = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])
    if release < OLDEST_LINUX:
        return Found(None, f"Linux {platform.release()} is older than {'.'.join(map(str, OLDEST_LINUX))}")
    own = Users(os.geteuid(), os.getegid())
    users, why, remedy = _further(own)
    if users is not None:
        why = _try(users)
        if not why:
            return Found(users)
        remedy = f"mend {SUBUID} and {SUBGID}, or reinstall uidmap"
    refusal = _try(own)
    if not refusal:
        return Found(own, why, remedy)
    return Found(None, f"the kernel refuses it: {refusal}", _way_back())


def lacks(groups: Groups, network: str | None) -> list[Lack]:
    """What functions of this user do without; `network` is what was asked for, None for nothing."""
    found = find()
    lacking = []
    if found.users is not None and not found.users.have_more:
        text = (
            f"function and bootstrap are the same user ({found.why}): the function can end its own environment and "
            "read files of its image that are root's alone, and only the watching bootstrap limits its memory"
        )
        lacking.append(Lack("no user of the function's own", text, found.remedy))
    lacking += _unlimited(groups)
    text = "/tmp is memory, exactly of its size, and counts as the function's"
    lacking.append(Lack("/tmp in the function's memory", text, "run it as root"))
    if network is not None:
        text = "functions reach the endpoints that they are told of (AWS_ENDPOINT_URL), and nothing else"
        lacking.append(Lack("no network but the endpoints", text, "run it as root, or --engine docker"))
    return lacking


def _unlimited(groups: Groups) -> list[Lack]:
    texts = {
        "memory": "memory is watched by the bootstrap twenty times a second, not bounded by the kernel",
        "pids": "processes are counted by the user namespace (RLIMIT_NPROC), not by a control group",
        "cpu": "no share of CPU: functions take what there is",
        "freezer": "idle environments are not frozen",
    }
    missing = [name for name in texts if name not in groups.roots]
    if not missing:
        return []
    remedy = "systemd-run --user --scope -p Delegate=yes rie serve (cpu: add it to Delegate= of user@.service)"
    short = f"no control group for {', '.join(missing)}"
    return [Lack(short, "; ".join(texts[name] for name in missing), remedy)]


def _further(own: Users) -> tuple[Users | None, str, str]:
    """The same user with the ids that it has beside its own; or why it has none, and the remedy."""
    if not all(os.access(tool, os.X_OK) for tool in (NEWUIDMAP, NEWGIDMAP)):
        return None, "newuidmap is not installed", "apt-get install uidmap"
    names = {str(own.uid)}
    try:
        name = pwd.getpwuid(own.uid).pw_name
        names.add(name)
    except KeyError:
        name = str(own.uid)
    uids, gids = (_range(path, names) for path in (SUBUID, SUBGID))
    if uids is None or gids is None:
        remedy = f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"
        return None, f"{SUBUID if uids is None else SUBGID} gives {name} no ids", remedy
    return Users(own.uid, own.gid, uids[0], gids[0], min(uids[1], gids[1])), "", ""


def _range(path: Path, names: set[str]) -> tuple[int, int] | None:
    """The first and the count of a user's further ids, as subuid(5) has them."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, *numbers = line.split(":")
        if name in names and len(numbers) == 2 and all(number.isdigit() for number in numbers) and int(numbers[1]):
            return int(numbers[0]), int(numbers[1])
    return None


def _try(users: Users) -> str:
    """ "" if sandboxes can be made with those ids, else what the kernel says."""
    paths = [str(Path(__file__).parent), str(Path(bootstrap.__file__).parents[1])]
    with tempfile.TemporaryDirectory(prefix="rie-probe-") as place:
        command = [sys.executable, "-I", "-S", "-c", PROGRAM.format(paths=paths), place, *map(str, _numbers(users))]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_S, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
    said = done.stdout.strip() or done.stderr.strip() or f"the attempt ended with status {done.returncode}"
    return "" if said == "ok" else said.splitlines()[-1]


def arguments(users: Users, groups: Groups) -> Sequence[int]:
    """What the launcher is told."""
    return int("memory" not in groups.roots), *_numbers(users)


def _numbers(users: Users) -> Sequence[int]:
    return users.uid, users.gid, users.first_uid, users.first_gid, users.count


def _way_back() -> str:
    for path, (value, remedy) in SETTINGS.items():
        try:
            if Path(path).read_text().strip() == value:
                return remedy
        except OSError:
            continue
    return "run it as root"
