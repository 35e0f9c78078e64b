"""A PostgreSQL of the tests' own: a socket in a directory of its own, a database for each test, nothing kept."""

from __future__ import annotations

import itertools
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

USER = "postgres"  # the server refuses to be root
# Nothing of it must survive a power cut; nobody can reach it but by the socket.
OPTIONS = "-c fsync=off -c full_page_writes=off -c listen_addresses= -c unix_socket_directories={place}"
BEGIN_S = 60.0


@dataclass
class Postgres:
    """A server that runs; `place` is its socket's directory."""

    place: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def database(self) -> str:
        """The URL of a new and empty database."""
        name = f"test{next(self._numbers)}"
        with psycopg.connect(host=str(self.place), user=USER, dbname=USER, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        return f"postgresql+psycopg://{USER}@/{name}?host={self.place}"


def _programs() -> Path:
    """Where Debian keeps them, whatever the version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert found, "PostgreSQL is not installed: scripts/provision packages"
    return found[-1]


@contextmanager
def serving() -> Iterator[Postgres]:
    """Run a server until the end of the block."""
    place = Path(tempfile.mkdtemp(prefix="rie-postgres-"))
    try:
        user = pwd.getpwnam(USER)
        shutil.chown(place, user.pw_uid, user.pw_gid)
        data = place / "data"
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"}
        make = [_programs() / "initdb", "-D", data, "-U", USER, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, **as_user)  # type: ignore[call-overload]
        command = [_programs() / "postgres", "-D", data, *OPTIONS.format(place=place).split()]
        with (place / "log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log, **as_user)  # type: ignore[call-overload]
        try:
            _await(place, server)
            yield Postgres(place)
        finally:
            server.send_signal(signal.SIGINT)  # it ends whoever is still there, and then itself
            server.wait(20)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _await(place: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + BEGIN_S
    while True:
        try:
            psycopg.connect(host=str(place), user=USER, dbname=USER).close()
            return
        except psycopg.OperationalError as error:
            assert server.poll() is None, (place / "log").read_text()
            assert time.monotonic() < deadline, error
            time.sleep(0.05)
