"""Archives read as a stream, and what names in them mean (pure)."""

from __future__ import annotations

import contextlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rie.rootfs import names, tar
from rie.rootfs.tar import TarError
from tests.layers import archive, device, directory, file, hard_link, item, symlink


class Bytes:
    """A source in memory."""

    def __init__(self, content: bytes) -> None:
        self.stream = io.BytesIO(content)

    def take(self, size: int) -> bytes:
        return self.stream.read(size)

    def skip(self, size: int) -> None:
        if len(self.stream.read(size)) < size:
            raise TarError("it ends within an entry")


def read(content: bytes) -> list[tuple[tar.Entry, bytes]]:
    source = Bytes(content)
    found = []
    for entry in tar.entries(source):
        data = source.take(entry.size)
        if len(data) < entry.size:
            raise TarError("it ends within an entry")
        found.append((entry, data))
    return found


def one(content: bytes) -> tar.Entry:
    ((entry, _),) = read(content)
    return entry


FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_same_entries(form: int) -> None:
    content = archive(
        directory("usr", mode=0o1777, uid=7, gid=8),
        file("usr/app", b"x" * 1500, mode=0o4755, mtime=123),
        symlink("bin", "usr/bin"),
        hard_link("usr/other", "usr/app"),
        item("pipe", tarfile.FIFOTYPE),
        device("null", tarfile.CHRTYPE, 1, 3),
        format=form,
    )
    found = [(entry.name, entry.kind, entry.size, entry.link, entry.device) for entry, _ in read(content)]
    assert found == [
        (b"usr/", tar.DIRECTORY, 0, b"", (0, 0)),
        (b"usr/app", tar.FILE, 1500, b"", (0, 0)),
        (b"bin", tar.SYMLINK, 0, b"usr/bin", (0, 0)),
        (b"usr/other", tar.HARD_LINK, 0, b"usr/app", (0, 0)),
        (b"pipe", tar.FIFO, 0, b"", (0, 0)),
        (b"null", tar.CHARACTER, 0, b"", (1, 3)),
    ]
    entry, data = read(content)[1]
    assert (entry.mode, entry.mtime_ns, data) == (0o4755, 123_000_000_000, b"x" * 1500)
    assert (read(content)[0][0].uid, read(content)[0][0].gid) == (7, 8)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_large_ids_and_links_are_read(form: int) -> None:
    name, target = "d/" * 200 + "ü", "../" * 100 + "t"
    found = read(archive(file(name, b"1", uid=3_000_000, gid=4_000_000), symlink("l", target), file("s"), format=form))
    assert found[0][0].name == name.encode()
    assert (found[0][0].uid, found[0][0].gid) == (3_000_000, 4_000_000)
    assert found[1][0].link == target.encode()
    assert found[2][0].name == b"s"  # what went before it says nothing of it


def test_a_long_name_of_ustar_comes_in_two_parts() -> None:
    name = "a" * 90 + "/" + "b" * 90
    assert one(archive(file(name), format=tarfile.USTAR_FORMAT)).name == name.encode()


def test_pax_brings_fractions_of_seconds_and_attributes() -> None:
    entry = one(archive(file("a", b"1", mtime=1.25, xattrs={"user.note": "hello", "security.capability": "cap"})))
    assert entry.mtime_ns == 1_250_000_000
    assert entry.xattrs == {"user.note": b"hello", "security.capability": b"cap"}


@pytest.mark.parametrize("form", ["gnu", "posix --sparse-version=0.0", "posix --sparse-version=0.1", "posix"])
def test_sparse_files_of_every_form_have_their_segments(tmp_path: Path, form: str) -> None:
    with (tmp_path / "holes").open("wb") as sparse:
        for at in range(0, 40 << 20, 1 << 20):  # more than fit into one header
            sparse.seek(at)
            sparse.write(b"data")
        sparse.truncate(64 << 20)
    made = subprocess.run(
        ["tar", "--sparse", *f"--format={form}".split(), "-cf", "-", "-C", str(tmp_path), "holes"],
        capture_output=True,
        check=True,
    )
    assert len(made.stdout) < 1 << 20
    ((entry, data),) = read(made.stdout)
    assert (entry.name, entry.kind, entry.length) == (b"holes", tar.FILE, 64 << 20)
    assert entry.segments is not None
    rebuilt = bytearray(entry.length)
    for offset, size in entry.segments:
        rebuilt[offset : offset + size], data = data[:size], data[size:]
    assert rebuilt == (tmp_path / "holes").read_bytes()


def test_the_end_may_be_missing_but_not_within_an_entry() -> None:
    content = archive(file("a", b"1"), file("b", b"2" * 600))
    assert len(read(content[: 512 * 5])) == 2
    for cut in (100, 512 + 100, 512 * 4):
        with pytest.raises(TarError):
            read(content[:cut])


def patched(at: int, value: bytes) -> bytes:
    """A header with other bytes at a place and a checksum that fits."""
    block = bytearray(archive(file("a", b"1"), format=tarfile.GNU_FORMAT))
    block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    return bytes(block)


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (124, b"-0000000001\0", "as size"),
        (124, b"\xff" * 12, "negative size"),
        (124, b"0_1\0", "as size"),
        (124, b"9\0", "as size"),
        (108, b"\x80\0\0\0\xff\xff\xff\xff", "belongs to user 4294967295"),
        (156, b"M", "no meaning in a layer"),
        (156, b"V", "no meaning in a layer"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(at: int, value: bytes, words: str) -> None:
    with pytest.raises(TarError, match=words):
        read(patched(at, value))


def test_a_wrong_checksum_is_refused() -> None:
    content = bytearray(archive(file("a", b"1")))
    content[0] ^= 1
    with pytest.raises(TarError, match="checksum"):
        read(bytes(content))


@pytest.mark.parametrize("records", [b"x", b"3 a", b"99 a=b\n", b"6 ab=\n"[:5], b"5 =b\n", b"0 a=b\n"])
def test_malformed_pax_records_are_refused(records: bytes) -> None:
    with pytest.raises(TarError, match="PAX"):
        read(archive(item("pax", tarfile.XHDTYPE, records), file("a"), format=tarfile.USTAR_FORMAT))


def test_records_without_bound_are_refused() -> None:
    with pytest.raises(TarError, match="more than"):
        read(archive(item("pax", tarfile.XHDTYPE, b"a" * (tar.MAX_SPECIAL + 1)), format=tarfile.USTAR_FORMAT))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_ends_in_an_error_or_in_entries_never_otherwise(data: st.DataObject) -> None:
    content = bytearray(
        archive(directory("d"), file("d/f", b"x" * 700, xattrs={"user.a": "b"}), symlink("l", "d" * 120))
    )
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(TarError):
        read(bytes(content[: data.draw(st.integers(0, len(content)))]))


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"a/b", b"a/b"),
        (b"./a/b/", b"a/b"),
        (b"/a//b/.", b"a/b"),
        (b"a/../b", b"b"),
        (b"a/..b/c..", b"a/..b/c.."),
        (b"./", b""),
        (b".", b""),
        (b"/", b""),
        (b"a/.b", b"a/.b"),
        (b"a/.", b"a"),
    ],
)
def test_a_name_is_a_path_below_the_root(name: bytes, path: bytes) -> None:
    assert names.path_of(name) == path


@pytest.mark.parametrize("name", [b"..", b"../a", b"a/../../b", b"/..", b"./../a"])
def test_a_name_that_leads_out_is_refused(name: bytes) -> None:
    with pytest.raises(TarError, match="outside the image"):
        names.path_of(name)


@settings(max_examples=500)
@given(st.lists(st.sampled_from([b"..", b".", b"", b"a", b"b.", b"..c", b".wh.x"]), max_size=6).map(b"/".join))
def test_no_path_has_a_part_that_leads_anywhere_else(name: bytes) -> None:
    try:
        path = names.path_of(name)
    except TarError:
        return
    assert not path or not {b"", b".", b".."} & set(path.split(b"/"))


def test_whiteouts_hide_what_they_are_named_after() -> None:
    assert names.hidden_by(b"a/.wh.b") == b"a/b"
    assert names.hidden_by(b".wh.b") == b"b"
    assert names.hidden_by(b"a/b.wh.c") is None
    assert names.hidden_by(b".wh.a/b") is None
    assert names.hidden_by(b"a/.wh..wh.plnk") is None
    assert names.is_reserved(b"a/.wh..wh.plnk")
    assert names.opaque_directory(b"a/.wh..wh..opq") == b"a"
    assert names.opaque_directory(b".wh..wh..opq") == b""
    assert names.opaque_directory(b"a/b") is None


@pytest.mark.parametrize("name", [b".wh.", b"a/.wh..", b"a/.wh..."])
def test_a_whiteout_of_nothing_is_refused(name: bytes) -> None:
    with pytest.raises(TarError, match="hides nothing"):
        names.hidden_by(name)


def test_only_the_devices_that_every_sandbox_has_may_come_and_are_left_out() -> None:
    assert names.is_own_device(one(archive(device("dev/null", tarfile.CHRTYPE, 1, 3))), b"dev/null")
    assert not names.is_own_device(one(archive(file("dev/null"))), b"dev/null")
    for name, kind, major, minor in (
        ("dev/null", tarfile.CHRTYPE, 1, 1),  # /dev/mem under another name
        ("dev/sda", tarfile.BLKTYPE, 8, 0),
        ("etc/null", tarfile.CHRTYPE, 1, 3),
        ("hidden", tarfile.CHRTYPE, 0, 0),  # a whiteout made by hand
    ):
        with pytest.raises(TarError, match="is a device node"):
            names.is_own_device(one(archive(device(name, kind, major, minor))), name.encode())


def test_attributes_that_overlayfs_or_the_host_obeys_are_not_set() -> None:
    assert names.is_safe_xattr("user.note")
    assert names.is_safe_xattr("security.capability")
    for name in ("trusted.overlay.redirect", "user.overlay.opaque", "security.selinux", "system.posix_acl_access"):
        assert not names.is_safe_xattr(name)
