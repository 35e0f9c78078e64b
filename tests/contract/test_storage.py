"""/tmp on loop devices: needs root."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from rie.errors import HostFault
from rie.limits import loop, storage

MB = 1024 * 1024


def make(directory: Path, size_mb: int = 16) -> storage.Volume:
    """A volume in a directory of its own."""
    directory.mkdir()
    return storage.create(directory, size_mb, directory.parent / "templates")


@pytest.mark.parametrize("size_mb", [1, 16, 512, 10_240])
def test_there_is_room_for_exactly_what_was_asked_and_one_mb(tmp_path: Path, size_mb: int) -> None:
    volume = make(tmp_path / "a", size_mb)
    try:
        facts = os.statvfs(volume.mount_point)
        assert facts.f_bavail * facts.f_frsize == (size_mb + storage.MARGIN_MB) * MB
        assert volume.image.stat().st_blocks * 512 < MB
        assert volume.mount_point.stat().st_mode & 0o7777 == 0o1777
        assert list(volume.mount_point.iterdir()) == []
        assert facts.f_flag & (os.ST_NOSUID | os.ST_NODEV) == os.ST_NOSUID | os.ST_NODEV
    finally:
        storage.remove(volume)


def test_a_file_of_the_whole_size_fits_and_a_larger_one_does_not(tmp_path: Path) -> None:
    volume = make(tmp_path / "a")
    path = volume.mount_point / "file"
    try:
        path.write_bytes(b"x" * 16 * MB)
        # Root may use what is reserved; a function is not root. Relative, because only root gets here by path.
        (volume.mount_point / "more").touch()
        (volume.mount_point / "more").chmod(0o666)
        user = ["setpriv", "--reuid=993", "--regid=990", "--clear-groups"]
        done = subprocess.run(
            [*user, "dd", "if=/dev/zero", "of=more", "bs=1M", "count=2"],
            cwd=volume.mount_point,
            capture_output=True,
            check=False,
        )
        assert os.strerror(errno.ENOSPC).encode() in done.stderr
    finally:
        storage.remove(volume)


def test_what_is_deleted_goes_back_to_the_host(tmp_path: Path) -> None:
    volume = make(tmp_path / "a")
    try:
        path = volume.mount_point / "file"
        path.write_bytes(os.urandom(8 * MB))
        os.sync()
        assert volume.image.stat().st_blocks * 512 > 8 * MB
        path.unlink()
        os.sync()
        assert volume.image.stat().st_blocks * 512 < 2 * MB
    finally:
        storage.remove(volume)


def test_removing_twice_is_fine_and_leaves_no_device(tmp_path: Path) -> None:
    volume = make(tmp_path / "a")
    assert len(loop.devices_under(tmp_path)) == 1
    storage.remove(volume)
    storage.remove(volume)
    assert loop.devices_under(tmp_path) == loop.mounts_under(tmp_path) == []
    assert list((tmp_path / "a").iterdir()) == []


def test_removing_does_not_wait_for_those_who_still_use_it(tmp_path: Path) -> None:
    volume = make(tmp_path / "a")
    with (volume.mount_point / "open").open("w"):
        storage.remove(volume)
        assert loop.mounts_under(tmp_path) == []
    assert loop.devices_under(tmp_path) == []


def test_leftovers_are_found_unmounted_and_detached(tmp_path: Path) -> None:
    for name in ("a", "b", "c d"):
        make(tmp_path / name)
    (tmp_path / "deep").mkdir()
    assert storage.leftovers(tmp_path / "deep") == 0
    assert storage.leftovers(tmp_path) == 3
    assert loop.devices_under(tmp_path) == loop.mounts_under(tmp_path) == []
    assert storage.leftovers(tmp_path) == 0


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_template = make(tmp_path / "a")
    storage.remove(make_template)
    monkeypatch.setattr(storage, "MOUNT_OPTIONS", "no_such_option")
    with pytest.raises(HostFault, match="cannot make a /tmp of 16 MB"):
        make(tmp_path / "b")
    assert list((tmp_path / "b").iterdir()) == []
    assert loop.devices_under(tmp_path) == []
