"""Function URLs: one for a function ("$LATEST") and one for each of its aliases, where it has them."""

from __future__ import annotations

from dataclasses import dataclass

from rie.model.record import Kind, Place

NONE, AWS_IAM = "NONE", "AWS_IAM"
BUFFERED, RESPONSE_STREAM = "BUFFERED", "RESPONSE_STREAM"


@dataclass(frozen=True, slots=True)
class Cors:
    """Which pages may call (service specification §9.6); None for what was not given."""

    allow_credentials: bool | None = None
    allow_headers: tuple[str, ...] | None = None
    allow_methods: tuple[str, ...] | None = None
    allow_origins: tuple[str, ...] | None = None
    expose_headers: tuple[str, ...] | None = None
    max_age_s: int | None = None


@dataclass(frozen=True, slots=True)
class FunctionUrl:
    """Its place has the function and the qualifier; `invoke_mode` None until one was asked for."""

    url_id: str
    auth_type: str
    created_at: str
    modified_at: str
    invoke_mode: str | None = None
    cors: Cors | None = None

    @property
    def is_streamed(self) -> bool:
        """Whether callers get the answer as the runtime makes it."""
        return self.invoke_mode == RESPONSE_STREAM


@dataclass(frozen=True, slots=True)
class UrlId:
    """The id that a function's qualifier has for ever, once it has one: of the same name, the same URL."""

    url_id: str


FUNCTION_URLS = Kind("function-url", FunctionUrl)
URL_IDS = Kind("function-url-id", UrlId)


def id_place(place: Place) -> Place:
    """Where the id for a URL's place lies: beside the function, so that it outlives it."""
    return Place(place.account, place.region, "", f"{place.function}:{place.name}")
