"""The functions there are: made, changed, read and removed, one writer at a time."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from rie.clock import Clock, with_milliseconds
from rie.errors import HostFault
from rie.functions import changes as records
from rie.functions import faults, publishing, rules
from rie.functions.changes import Changes, NewCode, NewFunction, Stamp
from rie.functions.publishing import NewVersion, Publication
from rie.model.alias import ALIASES
from rie.model.function import LATEST, LATEST_PUBLISHED, Function, FunctionKey
from rie.model.image import Image
from rie.model.record import place_of
from rie.store import Store

Resolve = Callable[[str, str], Image]
"""(URI as the user typed it, architecture) → a pinned image. Blocks; raises ImageFault, HostFault."""
Deploy = Callable[[Function], None]
"""Asks for the deployment of a function's newest configuration; returns at once."""
Changed = Callable[[FunctionKey, str, Function | None], None]
"""Told of every commit in the order of commits: a version's newest record, None when it is gone; with $LATEST the whole
function is. Must be quick, must not call the catalog, and runs on the thread of whoever committed."""

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
        self.check_new(new)
        image = None if new.archive else self._resolve(new.image_uri, new.architecture)
        function = records.created(new, image, self._stamp())
        made = [function]
        if new.is_published:
            publication = self._publication(function, NewVersion(new.key, is_latest_published=new.is_latest_published))
            made = [publication.latest, publication.version]
        with self._writing:
            if not self._store.add(*made):
                raise faults.name_taken(new.key.name)
            for each in made:
                self._changed(each.key, each.version, each)
        self._deploy(made[0])
        return made[-1]

    def check_new(self, new: NewFunction) -> None:
        """Raises ServiceError for all that can be said before the code is there."""
        rules.check_name(new.key.name)
        rules.check_tags(new.tags)
        records.check(new.changes)
        if self._store.find(new.key) is not None:
            raise faults.name_taken(new.key.name)

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
        architecture = code.architecture or current.configuration.architecture
        image = None if code.archive else self._resolve(code.image_uri, architecture)
        if code.is_dry_run:
            would_be = records.recoded(current, code, image, self._stamp())
            return replace(current, configuration=would_be.configuration)

        def decide(current: Function) -> Function:
            _check_changeable(current, code.revision_id)
            return records.recoded(current, code, image, self._stamp())

        if code.is_published:
            version, latest = self._publish(decide, NewVersion(code.key, is_latest_published=code.is_latest_published))
        else:
            version = latest = self._change(code.key, decide)
        self._deploy(latest)
        return version

    def publish(self, new: NewVersion) -> Function:
        """Make a version of $LATEST, or give back the last one if nothing has changed since (lambda.md §4.1)."""

        def decide(current: Function) -> Function:
            _check_changeable(current, new.revision_id)
            publishing.check(current, new)
            return current

        return self._publish(decide, new)[0]

    def check_changeable(self, current: Function, revision_id: str | None) -> None:
        """Raises ServiceError if a function can't be changed now, or not by someone who knows this revision."""
        _check_changeable(current, revision_id)

    def find(self, key: FunctionKey) -> Function | None:
        """The function ($LATEST), or None."""
        return self._store.find(key)

    def get(self, key: FunctionKey, qualifier: str | None = None) -> Function:
        """The version that a qualifier names: a number, $LATEST (None is as good), or an alias.

        The not-found error prints the qualifier that was asked for.
        """
        version = qualifier or LATEST
        if version == LATEST_PUBLISHED:
            latest = self._store.find(key)
            version = latest.latest_published if latest is not None else version
        elif not (version == LATEST or version.isdecimal()):
            alias = self._store.records.find(ALIASES, place_of(key, version))
            version = alias.version if alias is not None else version
        function = self._store.find(key, version)
        if function is None:
            raise faults.not_found(key, qualifier)
        return function

    def versions(self, key: FunctionKey) -> list[Function]:
        """Every version: $LATEST first, then by number. Raises ServiceError if there is no such function."""
        found = self._store.versions(key)
        if not found:
            raise faults.not_found(key)
        return found

    def page(self, account: str, region: str, after: str | None, limit: int) -> tuple[list[Function], str | None]:
        """Up to `limit` functions whose names follow `after`, and the name to go on after if there are more."""
        found = self._store.page(account, region, after, limit + 1)
        return found[:limit], found[limit - 1].key.name if len(found) > limit else None

    def page_versions(
        self, account: str, region: str, after: tuple[str, str] | None, limit: int
    ) -> tuple[list[Function], tuple[str, str] | None]:
        """As `page`, of all versions of all functions, and (name, version) to go on after."""
        found = self._store.page_versions(account, region, after, limit + 1)
        last = found[limit - 1] if len(found) > limit else None
        return found[:limit], None if last is None else (last.key.name, last.version)

    def count(self, account: str, region: str) -> int:
        """How many functions there are."""
        return self._store.count(account, region)

    def all(self) -> list[Function]:
        """Every version of every function of every account and region, for a node that starts."""
        return self._store.all()

    def unsettled(self) -> list[Function]:
        """Those whose deployment has not ended, for `Deployment.resume`."""
        return self._store.unsettled()

    def delete(self, key: FunctionKey) -> None:
        """Remove a function with all its versions, and all that hangs on it."""
        with self._writing:
            if not self._store.remove(key):
                raise faults.not_found(key)
            self._changed(key, LATEST, None)

    def delete_version(self, key: FunctionKey, version: str) -> None:
        """Remove a version, if it is there, and what hangs on its number. Whether it may go is `Versions`' matter."""
        with self._writing:
            if self._store.remove_version(key, version):
                self._changed(key, version, None)

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

    def revise(self, key: FunctionKey, version: str) -> None:
        """Give a version a new RevisionId, though nothing changes in it. Ignored if it is gone."""
        self._commit(key, lambda current: replace(current, revision_id=_random_id()), version)

    def mark_deployed(self, key: FunctionKey, configuration_id: str, image: Image | None = None) -> None:
        """The configuration can serve, on `image`. Ignored if it is not the newest any more, or was settled before."""
        self._settle(key, configuration_id, lambda function: records.deployed(function, _random_id(), image))

    def mark_failed(self, key: FunctionKey, configuration_id: str, code: str, reason: str) -> None:
        """The configuration can't serve; `code` is a StateReasonCode. Ignored as `mark_deployed` is."""
        self._settle(key, configuration_id, lambda function: records.failed(function, _random_id(), code, reason))

    def _settle(self, key: FunctionKey, configuration_id: str, decide: Callable[[Function], Function]) -> None:
        """Of all versions that were waiting for a configuration, $LATEST last: it must not be ready before them."""

        def unless_overtaken(current: Function) -> Function | None:
            waits = current.is_pending or current.is_updating
            return decide(current) if waits and current.configuration.configuration_id == configuration_id else None

        waiting = [each.version for each in self._store.unsettled() if each.key == key]
        for version in sorted(waiting, key=lambda each: each == LATEST):
            self._commit(key, unless_overtaken, version)

    def _change(self, key: FunctionKey, decide: Callable[[Function], Function]) -> Function:
        function = self._commit(key, decide)
        if function is None:
            raise faults.not_found(key)
        return function

    def _publish(self, decide: Callable[[Function], Function], new: NewVersion) -> tuple[Function, Function]:
        """Store what `decide` makes of $LATEST, and a version of it, in one step; answers the version and $LATEST."""
        answer: list[Function] = []

        def decide_and_publish(current: Function) -> tuple[Function, ...]:
            publication = self._publication(decide(current), new)
            answer[:] = [publication.version, publication.latest]
            if publication.is_new:
                return publication.latest, publication.version
            return () if publication.latest is current else (publication.latest,)

        if self._commit_all(new.key, decide_and_publish, LATEST) is None:
            raise faults.not_found(new.key)
        return answer[0], answer[1]

    def _publication(self, latest: Function, new: NewVersion) -> Publication:
        last = self._store.find(latest.key, str(latest.last_version)) if latest.last_version else None
        return publishing.publish(latest, last, new, (_random_id(), _random_id()), self._stamp().at)

    def _commit(
        self, key: FunctionKey, decide: Callable[[Function], Function | None], version: str = LATEST
    ) -> Function | None:
        """Store what `decide` makes of a version's newest record; None if there is none, or it decides for nothing."""

        def alone(current: Function) -> tuple[Function, ...]:
            after = decide(current)
            return () if after is None else (after,)

        stored = self._commit_all(key, alone, version)
        return stored[0] if stored else None

    def _commit_all(
        self, key: FunctionKey, decide: Callable[[Function], tuple[Function, ...]], version: str
    ) -> tuple[Function, ...] | None:
        """As `_commit`, but nothing is (); what follows the first record is new with it."""
        with self._writing:
            for _ in range(_ATTEMPTS):
                current = self._store.find(key, version)
                if current is None:
                    return None
                after = decide(current)
                if not after or self._store.replace(after[0], current.revision_id, *after[1:]):
                    for each in after:
                        self._changed(key, each.version, each)
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
