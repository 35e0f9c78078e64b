"""The URL of a database, as SQLAlchemy has it."""

from __future__ import annotations

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from rie.errors import SettingsError

BACKENDS = ("sqlite", "postgresql")
EXAMPLES = "sqlite:////var/lib/rie/rie.db, postgresql+psycopg://user@host/database"


def read_url(text: str) -> URL:
    """The URL of a database that we know, with a driver that is installed. Raises SettingsError, with what to do."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # a port that is no number
        raise SettingsError(f"cannot use RIE_DATABASE: it is no URL of a database, as {EXAMPLES}") from None
    backend = url.get_backend_name()
    if backend not in BACKENDS:
        raise SettingsError(f"cannot use RIE_DATABASE: no {backend}, only SQLite and PostgreSQL: {EXAMPLES}")
    try:
        url.get_dialect().import_dbapi()
    except ModuleNotFoundError as error:
        raise SettingsError(f"cannot use RIE_DATABASE: {error}; pip install 'rie[postgresql]'") from None
    except ArgumentError:
        raise SettingsError(f"cannot use RIE_DATABASE: no driver {url.get_driver_name()}; {EXAMPLES}") from None
    return url
