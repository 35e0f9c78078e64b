"""Images that only a Docker daemon on this machine has: taken over as `docker save` gives them, unpacked like others.

Functions name them by the daemon's own id; which of our images that is, is kept in a small file for each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rie.engine.base import LOCAL
from rie.errors import ImageNotFound
from rie.model.image import Image

if TYPE_CHECKING:
    from rie.engine.docker.client import Client
    from rie.engine.oci.engine import Images


class Borrowed:
    """Blocks; safe in many threads. Talks to the daemon only for images that are named as its own."""

    def __init__(self, images: Images, directory: Path, docker_host: str | None) -> None:
        self._images = images
        self._directory = directory
        self._docker_host = docker_host
        self._lock = threading.Lock()
        self._daemon: Client | None = None

    def resolve(self, reference: str, architecture: str) -> Image:
        """The daemon's image of that name, pinned by its id. Raises ImageNotFound, ImageInvalid, EngineUnavailable."""
        image = self._client().resolve(reference.removeprefix(LOCAL), architecture)
        if image is None:
            raise ImageNotFound(reference, "Docker does not have it")
        return image

    def prepare(self, image: Image, on_progress: Callable[[str], None] | None) -> None:
        """Have it here, unpacked. Raises as `Engine.prepare` does."""
        with self._lock:
            try:
                self._images.prepare(self.own(image), on_progress)
                return
            except ImageNotFound:
                pass
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            archive = self._directory / f"{_name(image)}.tar"
            try:
                self._client().save(image.reference.rpartition("@")[2], archive)
                found = self._images.resolve(f"docker-archive:{archive}", image.architecture)
                self._images.prepare(found, on_progress)
            finally:
                archive.unlink(missing_ok=True)
            (self._directory / _name(image)).write_text(found.reference)

    def own(self, image: Image) -> Image:
        """Ours for the daemon's. Raises ImageNotFound if it has not been prepared."""
        try:
            reference = (self._directory / _name(image)).read_text()
        except OSError:
            raise ImageNotFound(image.reference, "it has not been taken over from Docker") from None
        return self._images.resolve(reference, image.architecture)

    def _client(self) -> Client:
        if self._daemon is None:
            # Imported here: the SDK costs 150 ms, which nobody pays who does not use it.
            from rie.engine.docker.client import Client

            self._daemon = Client(self._docker_host)
        return self._daemon


def _name(image: Image) -> str:
    return image.reference.rpartition("sha256:")[2]
