"""The functions there are: made, changed, read and removed, one writer at a time."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from rie.clock import Clock, with_milliseconds
from rie.errors import HostFault
from rie.functions import changes as records
from rie.functions import faults, rules
from rie.functions.changes import Changes, NewCode, NewFunction, Stamp
from rie.model.function import Function, FunctionKey
from rie.model.image import Image
from rie.store import Store

Resolve = Callable[[str, str], Image]
"""(URI as the user typed it, architecture) → a pinned image. Blocks; raises ImageFault, HostFault."""
Deploy = Callable[[Function], None]
"""Asks for the deployment of a function's newest configuration; returns at once."""
Changed = Callable[[FunctionKey, Function | None], None]
"""Told of every commit in the order of commits: the newest record, None when the function is gone. Must be quick,
must not call the catalog, and runs on the thread of whoever committed."""

_ATTEMPTS = 5  # a commit is lost only to another node's; five in a row is a fault, not a race


class Catalog:
    """The domain rules of functions. Every method blocks and may be called from any thread.

    Raises ServiceError for callers' faults, ImageFault and HostFault as `resolve` and the store do.
    """

    def __init__(self, store: Store, resolve: Resolve, deploy: Deploy, changed: Changed, clock: Clock) -> None:
        self._store = store
        self._resolve = resolve
        self._deploy = deploy
        self._changed = changed
        self._clock = clock
        # Held from a read to the notice of the commit that follows from it, so that notices come in order.
        self._writing = threading.Lock()

    def create(self, new: NewFunction) -> Function:
        """Make a function, Pending, and ask for its deployment."""
        rules.check_name(new.key.name)
        rules.check_tags(new.tags)
        records.check(new.changes)
        if self._store.find(new.key) is not None:
            raise faults.name_taken(new.key.name)
        image = self._resolve(new.image_uri, new.architecture)
        function = records.created(new, image, self._stamp())
        with self._writing:
            if not self._store.add(function):
                raise faults.name_taken(new.key.name)
            self._changed(function.key, function)
        self._deploy(function)
        return function

    def update_configuration(self, key: FunctionKey, changes: Changes, revision_id: str | None = None) -> Function:
        """Change what was asked for, and ask for its deployment; the answer says InProgress."""
        records.check(changes)

        def decide(current: Function) -> Function:
            _check_changeable(current, revision_id)
            return records.reconfigured(current, changes, self._stamp())

        function = self._change(key, decide)
        self._deploy(function)
        return function

    def update_code(self, code: NewCode) -> Function:
        """Replace the code, and ask for its deployment; a dry run answers with what would be, and changes nothing."""
        current = self.get(code.key)
        _check_changeable(current, code.revision_id)
        image = self._resolve(code.image_uri, code.architecture or current.configuration.architecture)
        if code.is_dry_run:
            would_be = records.recoded(current, code, image, self._stamp())
            return replace(current, configuration=would_be.configuration)

        def decide(current: Function) -> Function:
            _check_changeable(current, code.revision_id)
            return records.recoded(current, code, image, self._stamp())

        function = self._change(code.key, decide)
        self._deploy(function)
        return function

    def find(self, key: FunctionKey) -> Function | None:
        """The function, or None."""
        return self._store.find(key)

    def get(self, key: FunctionKey, qualifier: str | None = None) -> Function:
        """The function; the not-found error prints the qualifier that was asked for."""
        function = self._store.find(key)
        if function is None or qualifier not in (None, function.version):
            raise faults.not_found(key, qualifier)
        return function

    def page(self, account: str, region: str, after: str | None, limit: int) -> tuple[list[Function], str | None]:
        """Up to `limit` functions whose names follow `after`, and the name to go on after if there are more."""
        found = self._store.page(account, region, after, limit + 1)
        return found[:limit], found[limit - 1].key.name if len(found) > limit else None

    def count(self, account: str, region: str) -> int:
        """How many functions there are."""
        return self._store.count(account, region)

    def all(self) -> list[Function]:
        """Every function of every account and region, for a node that starts."""
        return self._store.all()

    def unsettled(self) -> list[Function]:
        """Those whose deployment has not ended, for `Deployment.resume`."""
        return self._store.unsettled()

    def delete(self, key: FunctionKey, qualifier: str | None = None) -> None:
        """Remove a function, or one version of it (lambda.md §1.14)."""
        if self._store.find(key) is None:
            raise faults.not_found(key)
        if qualifier is not None:
            return _check_removable(qualifier)
        with self._writing:
            if not self._store.remove(key):
                raise faults.not_found(key)
            self._changed(key, None)
        return None

    def tag(self, key: FunctionKey, tags: Mapping[str, str]) -> None:
        """Add tags, or give those there are new values."""
        if not tags:
            raise faults.refused("An error occurred and the request cannot be processed.")

        def decide(current: Function) -> Function:
            together = {**current.tags, **tags}
            rules.check_tags(together)
            return replace(current, tags=together, revision_id=_random_id())

        self._change(key, decide)

    def untag(self, key: FunctionKey, names: Iterable[str]) -> None:
        """Take tags away; those that aren't there don't matter."""
        gone = set(names)

        def decide(current: Function) -> Function:
            left = {name: value for name, value in current.tags.items() if name not in gone}
            return replace(current, tags=left, revision_id=_random_id())

        self._change(key, decide)

    def mark_deployed(self, key: FunctionKey, configuration_id: str) -> None:
        """The configuration can serve. Ignored if it is not the newest any more, or was settled before."""
        self._settle(key, configuration_id, lambda function: records.deployed(function, _random_id()))

    def mark_failed(self, key: FunctionKey, configuration_id: str, code: str, reason: str) -> None:
        """The configuration can't serve; `code` is a StateReasonCode. Ignored as `mark_deployed` is."""
        self._settle(key, configuration_id, lambda function: records.failed(function, _random_id(), code, reason))

    def _settle(self, key: FunctionKey, configuration_id: str, decide: Callable[[Function], Function]) -> None:
        def unless_overtaken(current: Function) -> Function | None:
            waits = current.is_pending or current.is_updating
            return decide(current) if waits and current.configuration.configuration_id == configuration_id else None

        self._commit(key, unless_overtaken)

    def _change(self, key: FunctionKey, decide: Callable[[Function], Function]) -> Function:
        function = self._commit(key, decide)
        if function is None:
            raise faults.not_found(key)
        return function

    def _commit(self, key: FunctionKey, decide: Callable[[Function], Function | None]) -> Function | None:
        """Store what `decide` makes of the newest record; None if there is none, or it decides for nothing."""
        with self._writing:
            for _ in range(_ATTEMPTS):
                current = self._store.find(key)
                after = decide(current) if current is not None else None
                if current is None or after is None:
                    return None
                if self._store.replace(after, current.revision_id):
                    self._changed(key, after)
                    return after
        raise HostFault(f"cannot update {key.arn}: {_ATTEMPTS} attempts in a row were overtaken by another node")

    def _stamp(self) -> Stamp:
        return Stamp(_random_id(), _random_id(), with_milliseconds(self._clock.now()))


def _random_id() -> str:
    return str(uuid.uuid4())


def _check_changeable(function: Function, revision_id: str | None) -> None:
    """Raises ServiceError if the caller decided on an older state, or a deployment has not ended (lambda.md §1.4)."""
    if revision_id is not None and revision_id != function.revision_id:
        raise faults.stale_revision()
    if function.is_pending:
        raise faults.pending(function.state)
    if function.is_updating:
        raise faults.update_in_progress(function.key)


def _check_removable(qualifier: str) -> None:
    """Raises ServiceError unless the qualifier names a version, all of which are gone already."""
    if qualifier == "$LATEST":
        raise faults.refused("$LATEST version cannot be deleted without deleting the function.")
    if not qualifier.isdecimal():
        raise faults.refused("Deletion of aliases is not currently supported.")
