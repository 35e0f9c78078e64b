"""The SQL store's own: its failures, its file, its schema, its dialects."""

from __future__ import annotations

import dataclasses
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import orjson
import pytest
from sqlalchemy import event, insert, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from rie.errors import SettingsError, StoreFailed
from rie.model.event import Event
from rie.model.function import Configuration, Function, FunctionKey
from rie.model.image import Image
from rie.store import SqlStore
from rie.store.codec import decode, encode
from rie.store.events import AddEvent
from rie.store.schema import FUNCTIONS, MIGRATIONS, SCHEMA

KEY = FunctionKey("123456789012", "us-east-1", "f")
FUNCTION = Function(
    KEY, Configuration("c", "role", "uri", Image("r@sha256:0", "sha256:0", "x86_64")), None, "r1", "now"
)


def test_a_write_that_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import os, signal, sys
        sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
        from test_store_sql import FUNCTION
        from rie.store import SqlStore
        assert SqlStore("sqlite:///{tmp_path}/rie.db").add(FUNCTION)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    ended = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert ended.returncode == -9
    assert SqlStore(f"sqlite:///{tmp_path}/rie.db").find(KEY) == FUNCTION


def test_every_commit_reaches_the_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/rie.db")
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        full = 2
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == full


def test_a_database_that_another_process_holds_is_a_failure_with_a_name(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/rie.db", lock_timeout_s=0.05)
    other = sqlite3.connect(tmp_path / "rie.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreFailed, match="cannot store a function: database is locked"):
        store.add(FUNCTION)
    assert store.find(KEY) is None  # reading goes on
    other.close()
    assert store.add(FUNCTION)


def test_a_full_disk_is_a_failure_with_a_name_and_leaves_the_store_usable() -> None:
    store = SqlStore("sqlite://")
    with store._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    big = dataclasses.replace(FUNCTION, description="x" * 100_000)
    with pytest.raises(StoreFailed, match="cannot store a function: database or disk is full"):
        store.add(big)
    assert store.find(KEY) is None
    assert store.add(FUNCTION)


def test_a_file_that_is_no_database_is_a_failure_with_a_name(tmp_path: Path) -> None:
    (tmp_path / "rie.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreFailed, match="cannot open the database: file is not a database"):
        SqlStore(f"sqlite:///{tmp_path}/rie.db")


def test_a_place_where_no_file_can_be_is_a_failure_with_a_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreFailed, match="cannot open the database: "):
        SqlStore(f"sqlite:///{tmp_path}/file/rie.db")
    with pytest.raises(StoreFailed, match="cannot open the database: "):
        SqlStore(f"sqlite:///{tmp_path}")


def test_failures_do_not_tell_the_values() -> None:
    store = SqlStore("sqlite://")
    with store._engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE functions")
    with pytest.raises(StoreFailed) as caught:
        store.add(dataclasses.replace(FUNCTION, description="secret"))
    assert "secret" not in str(caught.value)


def test_a_record_that_cannot_be_read_is_a_failure_with_a_name() -> None:
    store = SqlStore("sqlite://")
    store.add(FUNCTION)
    for record in ("{", "[]", "{}", '{"key": 1}'):
        with store._writer.begin() as connection:
            connection.execute(update(FUNCTIONS).values(record=record))
        with pytest.raises(StoreFailed, match="cannot read functions: "):
            store.find(KEY)


def test_a_database_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/rie.db"
    store = SqlStore(url)
    with store._writer.begin() as connection:
        assert connection.scalar(select(SCHEMA.c.version)) == len(MIGRATIONS)
        connection.execute(update(SCHEMA).values(version=99))
    with pytest.raises(StoreFailed, match="its schema is version 99"):
        SqlStore(url)


def test_a_database_from_before_tenants_takes_their_events(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/rie.db"
    store = SqlStore(url)
    with store._engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE events DROP COLUMN tenant_id")
        connection.execute(update(SCHEMA).values(version=3))
    store.close()
    store = SqlStore(url)
    waiting = Event("e", KEY, None, b"{}", 1.0, 1.0, tenant_id="a")
    store.events.apply([AddEvent(waiting)])
    assert store.events.find("e") == waiting
    store.close()


def test_a_step_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_connection: object) -> None:
        raise ValueError("no such step")

    monkeypatch.setattr("rie.store.schema.MIGRATIONS", (*MIGRATIONS, broken))
    url = f"sqlite:///{tmp_path}/rie.db"
    with pytest.raises(StoreFailed, match="no such step"):
        SqlStore(url)
    tables = sqlite3.connect(tmp_path / "rie.db").execute("SELECT name FROM sqlite_master").fetchall()
    assert tables == []


def test_records_of_an_older_and_of_a_newer_program_are_read() -> None:
    fields = orjson.loads(encode(FUNCTION))
    del fields["dead_letter_arn"]
    fields["from_the_future"] = [1]
    fields["configuration"]["from_the_future"] = {}
    assert decode(Function, orjson.dumps(fields).decode()) == FUNCTION


def test_every_statement_is_also_postgresqls() -> None:
    store = SqlStore("sqlite://")
    statements = []
    event.listen(store._engine, "before_execute", lambda _c, statement, *_: statements.append(statement))
    store.add(FUNCTION)
    store.replace(FUNCTION, "r1")
    store.page("1", "r", "a", 2)
    store.count("1", "r")
    store.unsettled()
    store.all()
    store.remove(KEY)
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    compiled = [str(statement.compile(dialect=dialect)) for statement in statements]
    assert len(compiled) == 8
    assert "BOOLEAN" in str(CreateTable(FUNCTIONS).compile(dialect=dialect))
    assert str(insert(FUNCTIONS).compile(dialect=dialect)) in compiled


def test_the_file_and_its_directory_are_made(tmp_path: Path) -> None:
    SqlStore(f"sqlite:///{tmp_path}/a/b/rie.db").close()
    assert (tmp_path / "a/b/rie.db").exists()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("rie.db", "it is no URL of a database"),
        ("postgresql://host:port/rie", "it is no URL of a database"),
        ("mysql://me:secret@host/rie", "no mysql, only SQLite and PostgreSQL"),
        ("postgresql+pg8000://me:secret@host/rie", "No module named 'pg8000'; pip install"),
        ("postgresql+nothing://me:secret@host/rie", "no driver nothing"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_with_what_could_and_without_its_password(url: str, why: str) -> None:
    with pytest.raises(SettingsError) as raised:
        SqlStore(url)
    assert why in str(raised.value)
    assert "secret" not in str(raised.value)
