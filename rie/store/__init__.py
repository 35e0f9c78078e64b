"""What must survive: functions, in SQL. Imports rie.model and rie.errors, and nothing else of this package."""

from rie.store.base import Store
from rie.store.sql import SqlStore

__all__ = ["SqlStore", "Store"]
