"""A /tmp of exactly its size, attached to a loop device, ready to be mounted by a sandbox. Blocks for milliseconds."""

from __future__ import annotations

from pathlib import Path

from rie.errors import HostFault
from rie.limits import loop, storage


def attach(
    directory: Path, size_mb: int, templates: Path, name: str = "tmp", source: Path | None = None
) -> tuple[str, int]:
    """The device's path, and a descriptor that keeps it until it is mounted; ("", -1) where a tmpfs has to do.

    With what `source`, such a file system, has in it. Its file, called after `name`, is gone from `directory` already:
    it goes with the device, however this process ends. Raises HostFault, DiskFull.
    """
    if storage.unavailable() is not None:
        return "", -1
    image = storage.image(directory, size_mb, templates, name, source)
    try:
        device, descriptor = loop.attach(image)
    except OSError as error:
        raise HostFault(f"cannot make a /tmp of {size_mb} MB: no loop device: {error}") from error
    finally:
        image.unlink()
    return str(device), descriptor
