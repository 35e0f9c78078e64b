"""The tables, and the steps that bring an older database up to them."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    insert,
    inspect,
    select,
    text,
    update,
)

METADATA = MetaData()

SCHEMA = Table("rie_schema", METADATA, Column("version", Integer, nullable=False))

FUNCTIONS = Table(
    "functions",
    METADATA,
    Column("account", String(12), primary_key=True),
    Column("region", String(64), primary_key=True),
    # "C" would be byte order on PostgreSQL; pages only need one order, and take the database's.
    Column("name", String(64), primary_key=True),
    Column("version", String(32), primary_key=True),
    Column("revision_id", String(36), nullable=False),
    Column("unsettled", Boolean, nullable=False),
    Column("record", Text, nullable=False),
)
RECORDS = Table(
    "records",
    METADATA,
    Column("kind", String(32), primary_key=True),
    Column("account", String(12), primary_key=True),
    Column("region", String(64), primary_key=True),
    Column("function", String(140), primary_key=True),
    Column("name", String(300), primary_key=True),
    Column("record", Text, nullable=False),
)
EVENTS = Table(
    "events",
    METADATA,
    Column("event_id", String(36), primary_key=True),
    Column("account", String(12), nullable=False),
    Column("region", String(64), nullable=False),
    Column("function", String(64), nullable=False),
    Column("qualifier", String(128)),
    Column("payload", LargeBinary, nullable=False),
    Column("accepted_at", Double, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("trace_id", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last", Text),
    Column("tenant_id", String(256), nullable=False, server_default=""),
)
EVENT_BATCHES = Table(  # see rie/store/event_batches.py
    "event_batches",
    METADATA,
    Column("batch_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
)
EVENT_ENDS = Table(  # apart from what is big: a bit that changes must not write the events again
    "event_ends",
    METADATA,
    Column("batch_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("ended", LargeBinary, nullable=False),
)
DELIVERIES = Table(
    "deliveries",
    METADATA,
    Column("delivery_id", String(36), primary_key=True),
    Column("due_at", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("record", Text, nullable=False),
)
EXECUTIONS = Table(
    "executions",
    METADATA,
    Column("execution_id", String(36), primary_key=True),
    Column("account", String(12), nullable=False),
    Column("region", String(64), nullable=False),
    Column("function", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("name", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("record", Text, nullable=False),
)
EXECUTION_OPERATIONS = Table(
    "execution_operations",
    METADATA,
    Column("execution_id", String(36), primary_key=True),
    Column("operation_id", String(64), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("record", Text, nullable=False),
)
EXECUTION_EVENTS = Table(
    "execution_events",
    METADATA,
    Column("execution_id", String(36), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("record", Text, nullable=False),
)
_EXECUTIONS_OF = Index(
    "executions_of", EXECUTIONS.c.account, EXECUTIONS.c.region, EXECUTIONS.c.function, EXECUTIONS.c.started_at
)
_UNSETTLED = Index("functions_unsettled", FUNCTIONS.c.unsettled)


def _first(connection: Connection) -> None:
    """Version 1: functions."""
    METADATA.create_all(connection, tables=[FUNCTIONS])


def _second(connection: Connection) -> None:
    """Version 2: records of every other kind."""
    METADATA.create_all(connection, tables=[RECORDS])


def _third(connection: Connection) -> None:
    """Version 3: the asynchronous queue."""
    METADATA.create_all(connection, tables=[EVENTS, DELIVERIES])


def _fourth(connection: Connection) -> None:
    """Version 4: events of tenants. A database that began later than version 3 has the column already."""
    if "tenant_id" not in {column["name"] for column in inspect(connection).get_columns("events")}:
        connection.execute(text("ALTER TABLE events ADD COLUMN tenant_id VARCHAR(256) DEFAULT '' NOT NULL"))


def _fifth(connection: Connection) -> None:
    """Version 5: durable executions."""
    METADATA.create_all(connection, tables=[EXECUTIONS, EXECUTION_OPERATIONS, EXECUTION_EVENTS])


def _sixth(connection: Connection) -> None:
    """Version 6: new events in batches; those that there are keep their rows."""
    METADATA.create_all(connection, tables=[EVENT_BATCHES, EVENT_ENDS])


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (_first, _second, _third, _fourth, _fifth, _sixth)
"""Step n leads from version n to n + 1. Steps are only ever appended, and say what they need in their own words."""


class SchemaTooNew(Exception):
    """The database was written by a later version of this program."""


def migrate(connection: Connection) -> None:
    """Run the steps that the database has not seen, inside the caller's transaction. Raises SchemaTooNew."""
    if inspect(connection).has_table(SCHEMA.name):
        found = connection.scalar(select(SCHEMA.c.version)) or 0
    else:
        SCHEMA.create(connection)
        connection.execute(insert(SCHEMA).values(version=0))
        found = 0
    if found > len(MIGRATIONS):
        raise SchemaTooNew(f"its schema is version {found}, this program knows up to {len(MIGRATIONS)}")
    for step in MIGRATIONS[found:]:
        step(connection)
    if found < len(MIGRATIONS):
        connection.execute(update(SCHEMA).values(version=len(MIGRATIONS)))
