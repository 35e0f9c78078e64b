"""Layers laid over each other into one tree, as the service unzips them one after the other into /opt."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from rie.code.archive import DIRECTORY_MODE

# An image's own /opt/rie disappears under the merged tree; engines mount the bundle here.
MOUNT_POINT = "rie"


def merge(layers: Iterable[Path], target: Path) -> None:
    """Fill `target`, an empty directory, with the trees' contents: a later one's files replace an earlier one's.

    Files are hard links, copies where there can be none. Links are never followed. Raises OSError.
    """
    for layer in layers:
        _lay(layer, target)
    _make_directory(target / MOUNT_POINT)
    shutil.rmtree(target / MOUNT_POINT)
    (target / MOUNT_POINT).mkdir(mode=DIRECTORY_MODE)


def _lay(source: Path, target: Path) -> None:
    with os.scandir(source) as entries:
        for entry in entries:
            place = target / entry.name
            if entry.is_dir(follow_symlinks=False):
                _make_directory(place)
                _lay(Path(entry.path), place)
            else:
                _clear(place)
                _link(Path(entry.path), place)


def _make_directory(place: Path) -> None:
    if place.is_symlink() or not place.is_dir():
        _clear(place)
        place.mkdir(mode=DIRECTORY_MODE)


def _clear(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _link(source: Path, place: Path) -> None:
    try:
        os.link(source, place, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EXDEV, errno.EPERM):
            raise
        shutil.copy2(source, place, follow_symlinks=False)
