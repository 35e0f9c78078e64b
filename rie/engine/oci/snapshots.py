"""Snapshots of sandboxes: which criu there is, what it is told, and what a snapshot's directory holds.

    images/   criu's
    memory    the pages that all its environments share (rie.engine.oci.sharing)
    tmp.ext4  the file system that was its /tmp, if anything was in it
    about     as JSON: the bootstrap's process number, the sandbox's address, and where all that is of use

A directory is a snapshot once "about" is in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bootstrap.wire import DIR_IN_SANDBOX
from rie import bundle as bundles
from rie.engine.oci import sharing
from rie.engine.passages import INSIDE
from rie.errors import HostFault, SandboxFailed
from rie.limits import storage

BOOT = Path("/proc/sys/kernel/random/boot_id")
OLDEST = (4, 2)  # 4.1 can't write down TCP sockets on Linux 6.16 and later, 3.17 nothing on 6.x: measured
ENV_CRIU = "RIE_CRIU"
SBIN = "/usr/sbin:/usr/local/sbin:/sbin"
VERSION_S = 10.0
IMAGES, MEMORY, TMP, ABOUT, FEATURES, LOG = "images", "memory", "tmp.ext4", "about", "features", "criu.log"
# criu runs as root where files are the image's: no configuration may be found there, nor plugins (launcher.checkpoint).
COMMON = ("--no-default-config", "--tcp-established", "--network-lock", "skip", "--manage-cgroups=ignore", "-v1")
# The keeper and the host are outside of the tree; files that were deleted while open are kept up to this size.
# The tree stays stopped, and with it its /tmp, until that is written down, too.
DUMP = ("dump", *COMMON, "--ghost-limit", str(64 << 20), "--leave-stopped", "--tree")
RESTORE = ("restore", *COMMON, "--restore-detached")
LAST_LINES = 4


@dataclass(frozen=True, slots=True)
class Criu:
    """A criu with the loader and the libraries that it was made for, so that it can be run in any file system."""

    program: Path
    loader: Path
    libraries: tuple[Path, ...]
    version: str


def find(environ: Mapping[str, str] = os.environ) -> Criu | str:
    """The criu that RIE_CRIU names, else the PATH's, or why there is none that can be used. Blocks."""
    named = environ.get(ENV_CRIU) or shutil.which("criu", path=f"{environ.get('PATH', '')}:{SBIN}")
    if not named:
        return "criu is not installed"
    try:
        program = Path(named).resolve(strict=True)
        return _examined(program, program.stat().st_mtime_ns)
    except OSError as error:
        return f"criu can't be used: {error}"


@lru_cache(maxsize=4)
def _examined(program: Path, changed_at: int) -> Criu | str:
    parts = program.parts
    # Its own root: "/" of an installed package, or where packages of a newer system were unpacked.
    root = Path(*parts[: parts.index("usr")]) if "usr" in parts else Path("/")
    loader = _first(root, ("lib64/ld-linux-*", "usr/lib64/ld-linux-*", "lib/ld-linux-*", "usr/lib/*/ld-linux-*"))
    if loader is None:
        return f"criu can't be used: no loader for it below {root}"
    libraries = [
        root / "usr/lib",
        *sorted(root.glob("usr/lib/*-linux-gnu")),
        root / "usr/lib64",
        root / "usr/local/lib",
    ]
    libraries = [path for path in libraries if path.is_dir()]
    command = [str(loader), "--library-path", ":".join(map(str, libraries)), str(program), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=VERSION_S, check=False)
    found = re.search(r"Version: ((\d+)\.(\d+)\S*)", done.stdout)
    if done.returncode != 0 or found is None:
        return f"criu can't be used: {(done.stderr or done.stdout).strip()[:200]}"
    if (int(found[2]), int(found[3])) < OLDEST:
        return f"criu {found[1]} is too old: snapshots take {OLDEST[0]}.{OLDEST[1]} or newer"
    command[-1:] = []
    listed = subprocess.run(
        [command[0], "--inhibit-cache", "--list", *command[1:]], capture_output=True, text=True, timeout=VERSION_S
    )
    for line in listed.stdout.splitlines():
        # What it does not bring along, it would look for in the image of whoever's snapshot is taken.
        name, arrow, place = line.strip().partition(" => ")
        if arrow and not any(place.startswith(f"{path}/") for path in libraries):
            return f"criu can't be used: {name} is not beside it"
    return Criu(program, loader, tuple(libraries), found[1])


def _first(root: Path, patterns: tuple[str, ...]) -> Path | None:
    return next((path for pattern in patterns for path in sorted(root.glob(pattern))), None)


def number_in(snapshot: Path) -> int:
    """The bootstrap's process number. Raises SandboxFailed if this is no snapshot."""
    try:
        return int(json.loads((snapshot / ABOUT).read_text())["number"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SandboxFailed(f"cannot read the snapshot {snapshot}: {error}") from error


def needed(snapshot: Path) -> Criu:
    """criu. Raises SandboxFailed. Blocks."""
    found = find()
    if isinstance(found, str):
        raise SandboxFailed(f"cannot use the snapshot {snapshot}: {found}")
    return found


def _address_in(snapshot: Path) -> str:
    """The sandbox's own, then; "" before the snapshot is whole, and where there was no network."""
    with contextlib.suppress(OSError, ValueError):
        return str(json.loads((snapshot / ABOUT).read_text()).get("address", ""))
    return ""


def tmp_in(snapshot: Path) -> Path | None:
    """The file system that was its /tmp; None if that was empty."""
    path = snapshot / TMP
    return path if path.exists() else None


def dump(criu: Criu, pid: int, groups: list[str], snapshot: Path, number: int) -> dict[str, object]:
    """launcher.checkpoint.Task: write down the process of that number and what descends from it, in the sandbox whose
    first process is `pid` (the host's number)."""
    command = _command(criu, (*DUMP, str(number)), snapshot, snapshot)
    return {"pid": pid, "groups": groups, "command": command, "apart": INSIDE}


def restore(criu: Criu, snapshot: Path, work: Path, own: str) -> dict[str, object]:
    """launcher.plan.Sandbox.restore: make them again in a sandbox whose address is `own`, "" for none."""
    before = _address_in(snapshot)
    return {"command": _command(criu, RESTORE, snapshot, work), "address": before if before != own else ""}


def _command(criu: Criu, arguments: tuple[str, ...], snapshot: Path, work: Path) -> dict[str, object]:
    features = snapshot / FEATURES
    return {
        "loader": str(criu.loader),
        "libraries": [str(path) for path in criu.libraries],
        "program": str(criu.program),
        "arguments": list(arguments),
        "images": str(snapshot / IMAGES),
        "log": str(work / LOG),
        "features": str(features) if features.exists() else "",
    }


def unavailable() -> str | None:
    """Why there can be no snapshots here, or None when there can. Blocks."""
    criu = find()
    return criu if isinstance(criu, str) else storage.unavailable()


def begin(directory: Path, keeper: int) -> int:
    """Make the directory; the number, within its sandbox, of the keeper's one child. Raises OSError, ValueError."""
    (directory / IMAGES).mkdir(mode=0o700, parents=True)
    child = int(Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()[0])
    lines = Path(f"/proc/{child}/status").read_text().splitlines()
    return next(int(line.split()[-1]) for line in lines if line.startswith("NSpid:"))


def finish(snapshot: Path, keeper: int, tmp_mb: int, templates: Path) -> None:
    """Once criu has written its images: keep what was in /tmp, and what criu knows of the kernel. Raises HostFault."""
    root = Path(f"/proc/{keeper}/root")
    sharing.share(snapshot / IMAGES, snapshot / MEMORY, f"{DIR_IN_SANDBOX}/{MEMORY}")
    with contextlib.suppress(OSError):
        shutil.copyfile(root / "run/criu.kdat", snapshot / FEATURES)
    with os.scandir(root / "tmp") as entries:
        has_files = next(entries, None) is not None
    if has_files:
        _keep_tmp(snapshot, root / "tmp", tmp_mb, templates)


def seal(snapshot: Path, number: int, address: str, bundle: Path) -> None:
    """It is whole. Raises OSError."""
    draft = snapshot / f".{ABOUT}"
    draft.write_text(json.dumps({"number": number, "address": address, "place": _place(bundle)}))
    draft.rename(snapshot / ABOUT)


def is_usable(snapshot: Path, bundle: Path) -> bool:
    """Whether it is whole, and was taken since this machine's start, with this criu and this bundle. Blocks."""
    try:
        return bool(json.loads((snapshot / ABOUT).read_text())["place"] == _place(bundle))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _place(bundle: Path) -> list[str]:
    """What a snapshot can't do without: clocks and addresses of the kernel's, the files that it has mapped."""
    criu = find()
    version = criu if isinstance(criu, str) else criu.version
    return [BOOT.read_text().strip(), version, str(bundle), (bundle / bundles.MANIFEST).read_text()]


def _keep_tmp(snapshot: Path, tmp: Path, size_mb: int, templates: Path) -> None:
    volume = storage.create(snapshot, size_mb, templates)
    try:
        done = subprocess.run(["cp", "-a", "--", f"{tmp}/.", str(volume.mount_point)], capture_output=True, check=False)
        if done.returncode != 0:
            raise HostFault(f"cannot keep /tmp in {snapshot}: {done.stderr.decode(errors='replace').strip()[:500]}")
    finally:
        storage.close(volume)


def last_words(work: Path) -> str:
    """The end of what criu has said."""
    with contextlib.suppress(OSError):
        lines = (work / LOG).read_text(errors="replace").splitlines()
        return "; ".join(line.strip() for line in lines[-LAST_LINES:])
    return "it has said nothing"
