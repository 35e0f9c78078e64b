"""From a reference to the source that it names: a registry, a directory or an archive."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from rie.rootfs import local, registry
from rie.rootfs.archive import ArchiveSource
from rie.rootfs.layout import LayoutSource
from rie.rootfs.pull import Source


@contextmanager
def opened(
    reference: str, *, insecure: Collection[str] = (), environ: Mapping[str, str] | None = None
) -> Iterator[Source]:
    """The source of an image for as long as the block lasts.

    Here and in its use it raises ImageNotFound, ImageAccessDenied, ImageInvalid and RegistryUnavailable.
    """
    found = local.parse(reference)
    if found is None:
        with registry.opened(reference, insecure=insecure, environ=environ) as source:
            yield source
    else:
        yield LayoutSource(found) if found.scheme == local.OCI else ArchiveSource(found)
