"""The rules of function URLs (service specification §9.1)."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, replace

from rie.arn import function_arn
from rie.clock import Clock, with_fraction
from rie.errors import ServiceError
from rie.functions.catalog import Catalog
from rie.functions.faults import refused
from rie.functions.ledger import Ledger
from rie.model.alias import ALIASES
from rie.model.function import LATEST, FunctionKey
from rie.model.function_url import FUNCTION_URLS, URL_IDS, Cors, FunctionUrl, UrlId, id_place
from rie.model.record import Place, place_of

ID_LENGTH = 32
URL_PATTERN = "http://{url_id}.lambda-url.{region}.localhost:9000/"
_ALPHABET = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True)
class UrlChange:
    """What a request says about a URL; None for what it does not."""

    auth_type: str | None
    invoke_mode: str | None
    cors: Cors | None


class Urls:
    """Every method blocks and may be called from any thread. `qualifier` is an alias, None for the function itself."""

    def __init__(self, catalog: Catalog, ledger: Ledger, clock: Clock, pattern: str = URL_PATTERN) -> None:
        """`pattern` is how URLs are spelt, with {url_id} and {region} in it."""
        self._catalog = catalog
        self._ledger = ledger
        self._clock = clock
        self._pattern = pattern

    def create(self, key: FunctionKey, qualifier: str | None, change: UrlChange) -> FunctionUrl:
        """Make a URL, with the id of an earlier one of that place. Raises ServiceError."""
        self._check_exists(key, qualifier)
        if self._catalog.get(key).tenancy_mode is not None:
            raise refused("Function URLs are not supported for functions with tenant isolation.")
        place = _place(key, qualifier)
        now = with_fraction(self._clock.now())
        url = FunctionUrl(
            url_id=self._id(place),
            auth_type=change.auth_type or "",
            created_at=now,
            modified_at=now,
            invoke_mode=change.invoke_mode,
            cors=_given(change.cors),
        )

        def decide(current: FunctionUrl | None) -> FunctionUrl:
            if current is not None:
                arn = function_arn(key, qualifier)
                raise ServiceError(
                    "ResourceConflictException",
                    f"Failed to create function url config for [functionArn = {arn}]. "
                    "Error message:  FunctionUrlConfig exists for this Lambda function",
                )
            return url

        self._ledger.change(FUNCTION_URLS, place, decide)
        return url

    def get(self, key: FunctionKey, qualifier: str | None) -> FunctionUrl:
        """Raises ServiceError ResourceNotFoundException."""
        url = self._ledger.find(FUNCTION_URLS, _place(key, qualifier)) if self._exists(key, qualifier) else None
        if url is None:
            raise _no_url()
        return url

    def update(self, key: FunctionKey, qualifier: str | None, change: UrlChange) -> FunctionUrl:
        """Change what was asked for. Raises ServiceError."""
        self._check_exists(key, qualifier)

        def decide(current: FunctionUrl | None) -> FunctionUrl:
            if current is None:
                raise _no_url()
            return replace(
                current,
                auth_type=change.auth_type or current.auth_type,
                invoke_mode=change.invoke_mode or current.invoke_mode,
                cors=current.cors if change.cors is None else _given(change.cors),
                modified_at=with_fraction(self._clock.now()),
            )

        changed = self._ledger.change(FUNCTION_URLS, _place(key, qualifier), decide)
        assert changed is not None
        return changed

    def delete(self, key: FunctionKey, qualifier: str | None) -> None:
        """Remove one URL; the others of the function stay. Raises ServiceError ResourceNotFoundException."""
        if not self._exists(key, qualifier) or not self._ledger.remove(FUNCTION_URLS, _place(key, qualifier)):
            raise _no_url()

    def of_function(self, key: FunctionKey) -> list[tuple[str | None, FunctionUrl]]:
        """The URLs of a function and its aliases: (qualifier, URL), by qualifier. Raises ServiceError."""
        self._check_exists(key, None)
        found = [
            (None if place.name == LATEST else place.name, url)
            for place, url in self._ledger.of_function(FUNCTION_URLS, key)
        ]
        return [(qualifier, url) for qualifier, url in found if self._exists(key, qualifier)]

    def spelt(self, url: FunctionUrl, region: str) -> str:
        """As callers write it."""
        return self._pattern.format(url_id=url.url_id, region=region)

    def _id(self, place: Place) -> str:
        made = UrlId("".join(secrets.choice(_ALPHABET) for _ in range(ID_LENGTH)))
        kept = self._ledger.change(URL_IDS, id_place(place), lambda current: current or made)
        assert kept is not None
        return kept.url_id

    def _exists(self, key: FunctionKey, qualifier: str | None) -> bool:
        if self._catalog.find(key) is None:
            return False
        return qualifier is None or self._ledger.find(ALIASES, place_of(key, qualifier)) is not None

    def _check_exists(self, key: FunctionKey, qualifier: str | None) -> None:
        if not self._exists(key, qualifier):
            raise ServiceError("ResourceNotFoundException", "Function does not exist")


def _place(key: FunctionKey, qualifier: str | None) -> Place:
    return place_of(key, qualifier or LATEST)


def _given(cors: Cors | None) -> Cors | None:
    """An empty one takes CORS away."""
    return None if cors == Cors() else cors


def _no_url() -> ServiceError:
    return ServiceError("ResourceNotFoundException", "The resource you requested does not exist.")
