"""The store in SQL: SQLite in a file by default, in memory for tests, PostgreSQL by URL."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Integer,
    QueuePool,
    case,
    cast,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.sql import ColumnElement

from rie.errors import StoreFailed
from rie.model.function import LATEST, Function, FunctionKey
from rie.model.record import place_of
from rie.store.codec import decode, encode
from rie.store.durable import SqlDurable
from rie.store.events import SqlEvents
from rie.store.records import SqlRecords, clear, remove_of
from rie.store.schema import FUNCTIONS, migrate
from rie.store.transactions import Taken, wrapped
from rie.store.url import read_url

HOLD_WAIT_S = 10.0  # a manager that was told to stop may still be cleaning up
_HOLD = 0x726965  # "rie": the advisory lock's number
_WRITES = "rie_writes"  # execution option of the engine that writers use
_T = FUNCTIONS.c
_ORDER = (_T.account, _T.region, _T.name, _T.version)
_NUMBER = case((_T.version == LATEST, 0), else_=cast(_T.version, Integer))


class SqlStore:
    """A `Store` in the database at `url` ("sqlite:////var/lib/rie/rie.db", "sqlite://", "postgresql+psycopg://…").

    Makes the tables, and the file and its directory, if they are missing. `lock_timeout_s` is how long a write waits
    for another one. Raises StoreFailed, SettingsError.
    """

    def __init__(self, url: str, *, lock_timeout_s: float = 10.0) -> None:
        parsed = read_url(url)
        self._engine = (
            _sqlite(parsed, lock_timeout_s)
            if parsed.get_backend_name() == "sqlite"
            else create_engine(parsed, pool_timeout=lock_timeout_s, pool_pre_ping=True)
        )
        self._held: Connection | None = None
        self._writer = self._engine.execution_options(**{_WRITES: True})
        self.records = SqlRecords(self._reading, self._writing)
        self.events = SqlEvents(self._reading, self._writing)
        self.durable = SqlDurable(self._reading, self._writing)
        with self._writing("open the database") as connection:
            migrate(connection)

    def hold(self, wait_s: float = HOLD_WAIT_S) -> None:
        """Have the database to ourselves until `close`, or the end of this process. Raises StoreFailed.

        Its events, executions and mappings are one manager's. An SQLite file goes with a data directory, which is held
        already.
        """
        if self._engine.dialect.name != "postgresql":
            return
        with wrapped("hold the database"):
            self._held = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            deadline = time.monotonic() + wait_s
            while not self._held.scalar(select(func.pg_try_advisory_lock(_HOLD))):
                if time.monotonic() > deadline:
                    raise StoreFailed("cannot use the database: another manager uses it; give each one its own")
                time.sleep(0.1)

    def add(self, *functions: Function) -> bool:
        """Store new functions and versions, all or none; False if one's key and version are taken."""
        try:
            with self._writing("store a function") as connection:
                _insert(connection, functions)
        except Taken:
            return False
        return True

    def replace(self, function: Function, expected_revision_id: str, *new: Function) -> bool:
        """Store a new state of a function, and versions that are `new` with it, in one transaction.

        False, and nothing is stored, if it is gone, or at another revision than expected, or if a new one is taken.
        """
        try:
            with self._writing("update a function") as connection:
                changed = connection.execute(
                    update(FUNCTIONS)
                    .where(_is(function.key), _T.version == function.version, _T.revision_id == expected_revision_id)
                    .values(**_state_columns(function))
                )
                if changed.rowcount == 1:
                    _insert(connection, new)
                return changed.rowcount == 1
        except Taken:
            return False

    def remove(self, key: FunctionKey) -> bool:
        """Remove every version of a function and all that hangs on it; False if there was none."""
        with self._writing("remove a function") as connection:
            remove_of(connection, key)
            return connection.execute(delete(FUNCTIONS).where(_is(key))).rowcount > 0

    def remove_version(self, key: FunctionKey, version: str) -> bool:
        """Remove one version of a function, and the records at its number; False if there was none."""
        with self._writing("remove a version") as connection:
            clear(connection, place_of(key, version))
            return connection.execute(delete(FUNCTIONS).where(_is(key), _T.version == version)).rowcount > 0

    def find(self, key: FunctionKey, version: str = LATEST) -> Function | None:
        """One version of a function."""
        found = self._select(_is(key), _T.version == version)
        return found[0] if found else None

    def versions(self, key: FunctionKey) -> list[Function]:
        """Every version of a function: $LATEST first, then the published ones ascending."""
        found = self._select(_is(key))
        return sorted(found, key=lambda each: 0 if each.version == LATEST else int(each.version))

    def page(self, account: str, region: str, after: str | None, limit: int) -> list[Function]:
        """Up to `limit` functions ($LATEST) whose names follow `after`, by name."""
        follows = [] if after is None else [_T.name > after]
        return self._select(_within(account, region), _T.version == LATEST, *follows, limit=limit)

    def page_versions(self, account: str, region: str, after: tuple[str, str] | None, limit: int) -> list[Function]:
        """Up to `limit` versions of all functions that follow `after` (name, version): by name, then as `versions`."""
        follows = []
        if after is not None:
            name, version = after
            is_later = _NUMBER.__gt__(0 if version == LATEST else int(version))
            follows = [(_T.name > name) | ((_T.name == name) & is_later)]
        return self._select(_within(account, region), *follows, limit=limit, order=(_T.name, _NUMBER))

    def count(self, account: str, region: str) -> int:
        """How many functions there are."""
        with self._reading("count functions") as connection:
            counted = select(func.count()).select_from(FUNCTIONS)
            return connection.scalar(counted.where(_within(account, region), _T.version == LATEST)) or 0

    def all(self) -> list[Function]:
        """Every version of every function of every account and region."""
        return self._select()

    def unsettled(self) -> list[Function]:
        """Those whose deployment has not ended: Pending, or with an update InProgress."""
        return self._select(_T.unsettled)

    def close(self) -> None:
        """Release what the store holds."""
        if self._held is not None:
            self._held.invalidate()  # the lock is the connection's: no pool may keep it
            self._held.close()
            self._held = None
        self._engine.dispose()

    def _select(
        self, *conditions: ColumnElement[bool], limit: int | None = None, order: Sequence[ColumnElement[Any]] = _ORDER
    ) -> list[Function]:
        statement = select(_T.record).where(*conditions).order_by(*order).limit(limit)
        with self._reading("read functions") as connection:
            return [decode(Function, record) for record in connection.scalars(statement)]

    @contextmanager
    def _reading(self, what: str) -> Iterator[Connection]:
        with wrapped(what), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self, what: str) -> Iterator[Connection]:
        with wrapped(what), self._writer.begin() as connection:
            yield connection


def _sqlite(url: URL, lock_timeout_s: float) -> Engine:
    """An engine whose transactions begin where SQLAlchemy says, not where Python's sqlite3 guesses."""
    options: dict[str, Any] = {}
    if url.database in (None, "", ":memory:"):
        # One connection, lent to one thread at a time: each further one would be a database of its own.
        options = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0}
    elif not url.database.startswith("file:"):
        try:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreFailed(f"cannot open the database: {error}") from error
    engine = create_engine(
        url,
        connect_args={"timeout": lock_timeout_s, "check_same_thread": False},
        pool_timeout=lock_timeout_s,
        **options,
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        # In WAL mode NORMAL survives kill -9 but not a power cut: FULL costs one fsync per deployment.
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        # A writer takes its lock at once: a deferred one that finds another writer fails without waiting.
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _within(account: str, region: str) -> ColumnElement[bool]:
    return (_T.account == account) & (_T.region == region)


def _is(key: FunctionKey) -> ColumnElement[bool]:
    return _within(key.account, key.region) & (_T.name == key.name)


def _insert(connection: Connection, functions: Iterable[Function]) -> None:
    for function in functions:
        connection.execute(insert(FUNCTIONS).values(**_key_columns(function), **_state_columns(function)))


def _key_columns(function: Function) -> dict[str, object]:
    key = function.key
    return {"account": key.account, "region": key.region, "name": key.name, "version": function.version}


def _state_columns(function: Function) -> dict[str, object]:
    return {
        "revision_id": function.revision_id,
        "unsettled": function.is_pending or function.is_updating,
        "record": encode(function),
    }
