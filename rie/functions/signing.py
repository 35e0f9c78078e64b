"""Code signing: configurations kept, functions bound to them, unsigned code refused where one enforces (§12.4)."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from rie.arn import Scope
from rie.clock import Clock, with_fraction
from rie.errors import ServiceError
from rie.functions import rules
from rie.functions.ledger import Ledger
from rie.model.function import LATEST, FunctionKey
from rie.model.record import Place, place_of
from rie.model.signing import ENFORCE, SIGNING_CONFIGS, SIGNINGS, Signing, SigningConfig

ID_LENGTH = 17
_ALPHABET = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True)
class SigningChanges:
    """Members to set; None leaves one as it is."""

    publishers: tuple[str, ...] | None = None
    policy: str | None = None
    description: str | None = None


class CodeSigning:
    """Blocks; may be called from any thread. Raises ServiceError, StoreFailed.

    Nothing here can verify a signature (that takes AWS Signer), so all code counts as unsigned.
    """

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def create(self, scope: Scope, changes: SigningChanges, tags: Mapping[str, str]) -> tuple[Place, SigningConfig]:
        """A configuration with an id of its own."""
        rules.check_tags(tags)
        config_id = "csc-" + "".join(secrets.choice(_ALPHABET) for _ in range(ID_LENGTH))
        place = Place(scope.account, scope.region, "", config_id)
        bare = SigningConfig(publishers=(), last_modified="", tags=dict(tags))
        return place, self._ledger.put(SIGNING_CONFIGS, place, self._changed(bare, changes))

    def get(self, arn: str) -> tuple[Place, SigningConfig]:
        """A configuration by its ARN."""
        place = read_arn(arn)
        found = self._ledger.find(SIGNING_CONFIGS, place)
        if found is None:
            raise not_found(arn)
        return place, found

    def update(self, arn: str, changes: SigningChanges) -> tuple[Place, SigningConfig]:
        """Change what is given."""
        return self._change(arn, lambda current: self._changed(current, changes))

    def delete(self, arn: str) -> None:
        """Remove a configuration that no function has."""
        place, _ = self.get(arn)
        users = self.functions_of(arn)
        if users:
            raise ServiceError(
                "ResourceConflictException",
                f"The code signing configuration {arn} cannot be deleted: it is used by {len(users)} functions. "
                "Remove it from them first.",
            )
        if not self._ledger.remove(SIGNING_CONFIGS, place):
            raise not_found(arn)

    def page(self, scope: Scope, after: str, limit: int) -> tuple[list[tuple[Place, SigningConfig]], bool]:
        """Up to `limit` configurations whose ids follow `after`, and whether there are more."""
        found = self._ledger.page(SIGNING_CONFIGS, scope.account, scope.region, after=("", after), limit=limit + 1)
        return found[:limit], len(found) > limit

    def functions_of(self, arn: str) -> list[FunctionKey]:
        """The functions that have a configuration, by name."""
        place, _ = self.get(arn)
        bound = self._ledger.page(SIGNINGS, place.account, place.region)
        found = [each.key for each, signing in bound if signing.config_arn == arn]
        return sorted(found, key=lambda key: key.name)

    def tag(self, arn: str, tags: Mapping[str, str]) -> None:
        """Add tags, or give those there are new values."""

        def decide(current: SigningConfig) -> SigningConfig:
            together = {**current.tags, **tags}
            rules.check_tags(together)
            return replace(current, tags=together)

        self._change(arn, decide)

    def untag(self, arn: str, names: Iterable[str]) -> None:
        """Take tags away; those that aren't there don't matter."""
        gone = set(names)
        self._change(
            arn,
            lambda current: replace(current, tags={k: v for k, v in current.tags.items() if k not in gone}),
        )

    def check_exists(self, arn: str) -> None:
        """Raises ServiceError as the operations do that name a configuration for a function."""
        if self._ledger.find(SIGNING_CONFIGS, read_arn(arn)) is None:
            raise ServiceError(
                "CodeSigningConfigNotFoundException",
                "The code signing configuration cannot be found. "
                f"Check that the provided configuration is not deleted: {arn}.",
            )

    def bind(self, key: FunctionKey, arn: str) -> None:
        """Have a function's code checked from its next deployment on."""
        self.check_exists(arn)
        self._ledger.put(SIGNINGS, place_of(key, LATEST), Signing(arn))

    def unbind(self, key: FunctionKey) -> None:
        """Check it no more; fine if it was not."""
        self._ledger.remove(SIGNINGS, place_of(key, LATEST))

    def bound(self, key: FunctionKey) -> str | None:
        """The ARN of the configuration that a function has."""
        found = self._ledger.find(SIGNINGS, place_of(key, LATEST))
        return found.config_arn if found else None

    def check_unsigned(self, arn: str | None) -> None:
        """Raises ServiceError if a configuration lets no unsigned code through."""
        config = self._ledger.find(SIGNING_CONFIGS, read_arn(arn)) if arn else None
        if config is not None and config.policy == ENFORCE:
            raise ServiceError(
                "CodeVerificationFailedException",
                "Lambda cannot deploy the function. The function or layer might be signed using a signature that the "
                "client is not configured to accept. Check the provided signature for unsigned.",
            )

    def _changed(self, config: SigningConfig, changes: SigningChanges) -> SigningConfig:
        return replace(
            config,
            publishers=config.publishers if changes.publishers is None else changes.publishers,
            policy=changes.policy or config.policy,
            description=config.description if changes.description is None else changes.description,
            last_modified=with_fraction(self._clock.now()),
        )

    def _change(self, arn: str, decide: Callable[[SigningConfig], SigningConfig]) -> tuple[Place, SigningConfig]:
        place = read_arn(arn)

        def unless_gone(current: SigningConfig | None) -> SigningConfig:
            if current is None:
                raise not_found(arn)
            return decide(current)

        after = self._ledger.change(SIGNING_CONFIGS, place, unless_gone)
        assert after is not None
        return place, after


def read_arn(arn: str) -> Place:
    """The place of a configuration's ARN, which the model's pattern has let through."""
    _, _, _, region, account, _, config_id = arn.split(":")
    return Place(account, region, "", config_id)


def not_found(arn: str) -> ServiceError:
    """No such configuration (404)."""
    return ServiceError("ResourceNotFoundException", f"The Lambda code signing configuration {arn} can not be found.")
