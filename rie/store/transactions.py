"""What the database says, as this package's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from rie.errors import StoreFailed
from rie.store.schema import SchemaTooNew


class Taken(Exception):
    """The row to insert is there already."""


@contextmanager
def wrapped(what: str) -> Iterator[None]:
    """Turn what the database says into Taken or StoreFailed, without the statement and its values."""
    try:
        yield
    except IntegrityError as error:
        raise Taken from error
    except (SQLAlchemyError, SchemaTooNew, ValueError) as error:
        why = error.orig if isinstance(error, DBAPIError) else error
        raise StoreFailed(f"cannot {what}: {why}") from error
