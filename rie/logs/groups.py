"""Log groups as directories, with a small file that tells what each is called."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

FILE = "group.json"


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which lines of a group a function is told of, `destination` being its ARN; `distribution` as it was given."""

    name: str
    pattern: str
    destination: str
    created_at_ms: int
    distribution: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """A log group; `retention_days` 0 where it has no say of its own. `kms_key` is kept and shown, without effect."""

    name: str
    created_at_ms: int
    retention_days: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    log_class: str = "STANDARD"
    kms_key: str = ""
    subscriptions: tuple[Subscription, ...] = ()


def directory_of(root: Path, name: str) -> Path:
    """Groups are named by users: the name that a person can read is shortened, the hash tells groups apart."""
    readable = re.sub(r"[^a-zA-Z0-9_-]+", "-", name).strip("-")[:80]
    return root / f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def new_group(name: str) -> Group:
    """One that begins now."""
    return Group(name, int(time.time() * 1e3))


def read_group(directory: Path) -> Group | None:
    """The group of a directory, None if that is none. Raises nothing."""
    try:
        document = orjson.loads((directory / FILE).read_bytes())
        subscriptions = tuple(Subscription(**each) for each in document.pop("subscriptions", ()))
        return Group(**document, subscriptions=subscriptions)
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def write_group(directory: Path, group: Group) -> None:
    """Keep it. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    temporary = directory / f"{FILE}.new"
    temporary.write_bytes(orjson.dumps(asdict(group)))
    temporary.replace(directory / FILE)
