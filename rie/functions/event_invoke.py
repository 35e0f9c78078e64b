"""What functions want done with their asynchronous events: the configuration and its rules (lambda.md §5.3)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from rie.arn import function_arn, parse_function_reference
from rie.clock import Clock
from rie.errors import ServiceError
from rie.functions.catalog import Catalog
from rie.functions.faults import refused
from rie.functions.ledger import Ledger
from rie.model.event import EVENT_INVOKE, EventInvokeConfig
from rie.model.function import LATEST, FunctionKey
from rie.model.record import place_of
from rie.model.scope import Scope

MISSING = "The function doesn't exist."
NOTHING_GIVEN = "You must specify at least one of error handling or destination setting."
SERVICES_ON_SUCCESS = ("sqs", "sns", "lambda", "events")
SERVICES_ON_FAILURE = (*SERVICES_ON_SUCCESS, "s3")
_ARN = re.compile(r"arn:aws[a-zA-Z0-9-]*:([a-z0-9-]+):.*")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller gave; None where nothing was, "" for a destination to be taken away."""

    max_retries: int | None = None
    max_age_s: int | None = None
    on_success: str | None = None
    on_failure: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was given."""
        return self == Wanted()


class EventInvokeConfigs:
    """One per function and qualifier. Blocks; from any thread."""

    def __init__(self, catalog: Catalog, ledger: Ledger, clock: Clock) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._clock = clock

    def put(self, key: FunctionKey, qualifier: str | None, wanted: Wanted) -> EventInvokeConfig:
        """Replace all of it. Raises ServiceError."""
        return self._write(key, qualifier, wanted, lambda before: EventInvokeConfig(0.0))

    def update(self, key: FunctionKey, qualifier: str | None, wanted: Wanted) -> EventInvokeConfig:
        """Change the members that are given. Raises ServiceError."""

        def begin(before: EventInvokeConfig | None) -> EventInvokeConfig:
            if before is None:
                raise absent(key, qualifier)
            return before

        return self._write(key, qualifier, wanted, begin)

    def get(self, key: FunctionKey, qualifier: str | None) -> EventInvokeConfig:
        """The configuration of exactly that qualifier. Raises ServiceError."""
        found = self._ledger.find(EVENT_INVOKE, place_of(key, qualifier or LATEST))
        if found is None:
            raise absent(key, qualifier)
        return found

    def delete(self, key: FunctionKey, qualifier: str | None) -> None:
        """Raises ServiceError if there is none."""
        if not self._ledger.remove(EVENT_INVOKE, place_of(key, qualifier or LATEST)):
            raise absent(key, qualifier)

    def of_function(self, key: FunctionKey) -> list[tuple[str, EventInvokeConfig]]:
        """(qualifier, configuration) of each that the function has. Raises ServiceError."""
        self._check_function(key, None)
        return [(place.name, config) for place, config in self._ledger.of_function(EVENT_INVOKE, key)]

    def _write(
        self,
        key: FunctionKey,
        qualifier: str | None,
        wanted: Wanted,
        begin: Callable[[EventInvokeConfig | None], EventInvokeConfig],
    ) -> EventInvokeConfig:
        if wanted.is_empty:
            raise refused(NOTHING_GIVEN)
        at = self._clock.now().timestamp()

        def decide(before: EventInvokeConfig | None) -> EventInvokeConfig:
            return _merged(begin(before), wanted, at)

        with self._ledger.exclusively():  # or its function could go between the look and the record
            self._check_function(key, qualifier)
            self._check_destinations(key, qualifier, wanted)
            after = self._ledger.change(EVENT_INVOKE, place_of(key, qualifier or LATEST), decide)
        assert after is not None
        return after

    def _check_function(self, key: FunctionKey, qualifier: str | None) -> None:
        try:
            self._catalog.get(key, qualifier)
        except ServiceError as error:
            raise ServiceError(error.code, MISSING) from None

    def _check_destinations(self, key: FunctionKey, qualifier: str | None, wanted: Wanted) -> None:
        given = {"onSuccess": wanted.on_success, "onFailure": wanted.on_failure}
        allowed = {"onSuccess": SERVICES_ON_SUCCESS, "onFailure": SERVICES_ON_FAILURE}
        for name, arn in given.items():
            if not arn:
                continue
            found = _ARN.fullmatch(arn)
            if found is None or found[1] not in allowed[name]:
                raise refused(_unsupported(wanted))
            if found[1] == "lambda":
                self._check_target(key, qualifier, arn)

    def _check_target(self, key: FunctionKey, qualifier: str | None, arn: str) -> None:
        """A function elsewhere can't be looked up from here; one of this account and region must exist."""
        invalid = refused(f"The destination ARN {arn} is invalid.")
        try:
            target, target_qualifier = parse_function_reference(arn, None, Scope(key.account, key.region))
        except ServiceError as error:
            if error.code in ("ResourceNotFoundException", "AccessDeniedException"):
                return
            raise invalid from None
        if target == key and (target_qualifier or LATEST) == (qualifier or LATEST):
            raise refused("You can't specify the function as a destination for itself.")
        try:
            self._catalog.get(target, target_qualifier)
        except ServiceError:
            raise invalid from None


def _merged(config: EventInvokeConfig, wanted: Wanted, at: float) -> EventInvokeConfig:
    """The configuration with what was given in it."""

    def target(given: str | None, current: str | None) -> str | None:
        return current if given is None else given or None

    return EventInvokeConfig(
        modified_at=at,
        max_retries=config.max_retries if wanted.max_retries is None else wanted.max_retries,
        max_age_s=config.max_age_s if wanted.max_age_s is None else wanted.max_age_s,
        on_success=target(wanted.on_success, config.on_success),
        on_failure=target(wanted.on_failure, config.on_failure),
    )


def absent(key: FunctionKey, qualifier: str | None) -> ServiceError:
    """There is no configuration (404)."""
    arn = function_arn(key, qualifier or LATEST)
    return ServiceError("ResourceNotFoundException", f"The function {arn} doesn't have an EventInvokeConfig")


def _unsupported(wanted: Wanted) -> str:
    parts = [
        f"{name}={'null' if arn is None else f'{kind}(destination={arn})'}"
        for name, kind, arn in (
            ("onSuccess", "OnSuccess", wanted.on_success),
            ("onFailure", "OnFailure", wanted.on_failure),
        )
    ]
    return f"The provided destination config DestinationConfig({', '.join(parts)}) is invalid."
