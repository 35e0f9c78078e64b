"""What a stack has made, as a file: written before and after every step, so that one cut off can be run again."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rie.errors import DeployFailed

FORMAT = 1
CREATING, READY = "creating", "ready"


@dataclass(frozen=True, slots=True)
class Held:
    """A resource that was made, or begun.

    `name` was chosen before it was made; `status` CREATING until it is known to be there, and then `physical_id` is
    what `Ref` gives, `attributes` what `Fn::GetAtt` does, `properties` the resolved ones it was last given.
    `needs`: logical ids it was made after. `is_kept`: it stays when it leaves the template; `is_left`: it stays when
    another takes its place.
    """

    logical_id: str
    type: str
    name: str
    properties: dict[str, Any] = field(default_factory=dict)
    status: str = CREATING
    physical_id: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    needs: list[str] = field(default_factory=list)
    is_kept: bool = False
    is_left: bool = False


@dataclass
class State:
    """`leaving`: resources that were replaced, and are to be deleted once nothing needs them."""

    stack: str
    resources: dict[str, Held] = field(default_factory=dict)
    leaving: list[Held] = field(default_factory=list)
    generations: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)


class StateFile:
    """One stack's state. `save` is atomic and durable."""

    def __init__(self, path: Path, stack: str) -> None:
        self.path = path
        self._stack = stack

    def load(self) -> State:
        """What was saved last, an empty state at first. Raises DeployFailed for what this can't read."""
        try:
            document = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return State(self._stack)
        except (OSError, ValueError) as error:
            raise DeployFailed(f"cannot read the stack's state in {self.path}: {error}") from None
        if document.get("format") != FORMAT or document.get("stack") != self._stack:
            raise DeployFailed(f"cannot use {self.path}: it is not the state of stack {self._stack}")
        return State(
            stack=self._stack,
            resources={key: Held(**value) for key, value in document["resources"].items()},
            leaving=[Held(**value) for value in document["leaving"]],
            generations=document["generations"],
            outputs=document["outputs"],
        )

    def save(self, state: State) -> None:
        """Keep it, or raise DeployFailed with the last one kept as it was."""
        made = self.path.with_name(f".{self.path.name}-{secrets.token_hex(4)}")
        text = json.dumps({"format": FORMAT, **asdict(state)}, indent=1)
        try:
            # Variables of functions are in it, and they may be secrets.
            with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            made.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        except OSError as error:
            raise DeployFailed(f"cannot keep the stack's state in {self.path}: {error}") from None

    def remove(self) -> None:
        """Forget the stack."""
        self.path.unlink(missing_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others from deploying the same stack meanwhile. Raises DeployFailed if somebody does."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path.with_name(f"{self.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DeployFailed(f"cannot keep the stack's state in {self.path}: {error}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise DeployFailed(f"cannot deploy stack {self._stack}: another deployment of it is running") from None
        finally:
            os.close(lock)
