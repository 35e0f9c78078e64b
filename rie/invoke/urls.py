"""The function URLs as callers see them: by their id, on the event loop, told of every change."""

from __future__ import annotations

from dataclasses import dataclass

from rie.invoke.mirror import Mirror
from rie.model.function import LATEST, FunctionKey
from rie.model.function_url import FUNCTION_URLS, URL_IDS, FunctionUrl, UrlId
from rie.model.record import Place


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL calls; `qualifier` None for the function itself."""

    key: FunctionKey
    qualifier: str | None
    url: FunctionUrl


class UrlDirectory:
    """To be made before the mirror is loaded."""

    def __init__(self, mirror: Mirror) -> None:
        self._targets: dict[str, Target] = {}
        self._ids: dict[Place, str] = {}
        self._known: set[str] = set()
        mirror.watch(FUNCTION_URLS, self._changed)
        mirror.watch(URL_IDS, self._made)

    def find(self, url_id: str) -> Target | None:
        """What a URL calls; None if it was deleted, or never was."""
        return self._targets.get(url_id)

    def is_known(self, url_id: str) -> bool:
        """Whether there is, or was, a URL of that id."""
        return url_id in self._known

    def _changed(self, place: Place, url: FunctionUrl | None) -> None:
        if url is None:
            self._targets.pop(self._ids.pop(place, ""), None)
            return
        self._ids[place] = url.url_id
        self._known.add(url.url_id)
        self._targets[url.url_id] = Target(place.key, None if place.name == LATEST else place.name, url)

    def _made(self, place: Place, made: UrlId | None) -> None:
        if made is not None:
            self._known.add(made.url_id)
