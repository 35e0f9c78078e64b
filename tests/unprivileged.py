"""Run a program as a user of this test's own, who has no privilege, whatever the machine has: needs root.

The user stands in a private mount namespace's /etc/passwd only, with further ids in /etc/subuid or without; places that
are closed to others (a checkout below /root) are open there, and Docker's socket is nobody's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Of this process alone, so that others who test at the same time are other users.
UID = 50_000 + os.getpid() % 10_000
FURTHER = 1_000
FIRST_FURTHER = UID * FURTHER
NAME = "rie-test-user"
ROOT = Path(__file__).parents[1]
SOCKETS = ("/var/run/docker.sock", "/run/docker.sock")


@dataclass(frozen=True)
class User:
    """`home` is a directory that belongs to it; `has_more_ids`: /etc/subuid gives it some; `groups` are control groups
    to join, by the file."""

    home: Path
    has_more_ids: bool
    groups: tuple[str, ...] = field(default=())

    def command(self, *argv: str) -> list[str]:
        """What root starts to have this user run a program."""
        places = [str(place) for place in (ROOT, Path(sys.prefix), self.home)]
        further = f"{NAME}:{FIRST_FURTHER}:{FURTHER}\n" if self.has_more_ids else ""
        spec = {"uid": UID, "home": str(self.home), "further": further, "places": places, "groups": self.groups}
        return [sys.executable, "-I", __file__, json.dumps(spec), *argv]

    def run(self, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program to its end."""
        return subprocess.run(self.command(*argv), capture_output=True, text=True, timeout=240, **options)

    def processes(self) -> list[str]:
        """The command lines of all that runs as this user or as one of its further ids."""
        found = []
        for place in Path("/proc").iterdir():
            if not place.name.isdigit():
                continue
            try:
                uid = place.stat().st_uid
                line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if uid == UID or FIRST_FURTHER <= uid < FIRST_FURTHER + FURTHER:
                found.append(f"{place.name} {line}")
        return found


@contextmanager
def living(has_more_ids: bool, groups: tuple[str, ...] = ()) -> Iterator[User]:
    """A user with a home, which must be gone in the end by the user's own hands, as far as there is anything in it."""
    assert os.geteuid() == 0, "these tests need root, to become another user"
    with tempfile.TemporaryDirectory(prefix="rie-user-") as place:
        home = Path(place, "home")
        home.mkdir(mode=0o700)
        os.chown(home, UID, UID)
        os.chmod(place, 0o755)
        user = User(home, has_more_ids, groups)
        yield user
        removed = user.run("rm", "-rf", *map(str, home.iterdir()))
        assert removed.returncode == 0, removed.stderr


def _main() -> None:
    spec = json.loads(sys.argv[1])
    uid = spec["uid"]
    for file in spec["groups"]:
        Path(file).write_text("0")
    _unshare()
    _mount("", "/", flags=MS_REC | MS_PRIVATE)
    _open(spec["places"])
    with tempfile.TemporaryDirectory(prefix="rie-etc-") as directory:
        passwd = Path("/etc/passwd").read_text() + f"{NAME}:x:{uid}:{uid}::{spec['home']}:/bin/sh\n"
        for name, text in {"passwd": passwd, "subuid": spec["further"], "subgid": spec["further"]}.items():
            source = Path(directory, name)
            source.write_text(text)
            source.chmod(0o644)
            Path("/etc", name).touch()
            _mount(str(source), f"/etc/{name}", flags=MS_BIND)
        for path in SOCKETS:
            if Path(path).exists():
                _mount("/dev/null", path, flags=MS_BIND)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    kept = ("PATH", "LANG", "DOCKER_HOST")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"HOME": spec["home"], "TMPDIR": spec["home"], "PYTHONDONTWRITEBYTECODE": "1"}
    os.chdir(spec["home"])
    os.execvpe(sys.argv[2], sys.argv[2:], environment)


MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
CLONE_NEWNS = 0x00020000


def _unshare() -> None:
    import ctypes

    assert ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) == 0


def _mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    texts = [text.encode() or None for text in (source, target, kind, options)]
    if libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {source} on {target}: {os.strerror(number)}")


def _open(places: Sequence[str]) -> None:
    """Let others pass to these directories: what is closed above them is hidden, and they stand alone in its place."""
    held: dict[str, int] = {}
    closed: list[str] = []
    for place in places:
        for above in list(Path(place).parents)[::-1]:
            if not above.stat().st_mode & 0o001:
                held[place] = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
                closed.append(str(above))
                break
    for above in dict.fromkeys(closed):
        _mount("tmpfs", above, "tmpfs", 0, "mode=0755")
    for place, descriptor in held.items():
        os.makedirs(place, exist_ok=True)
        _mount(f"/proc/self/fd/{descriptor}", place, flags=MS_BIND | MS_REC)
        os.close(descriptor)


if __name__ == "__main__":
    _main()
