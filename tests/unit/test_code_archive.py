"""Archives: what is kept of a good one, and that a hostile one is refused or harmless."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from rie.code import archive
from rie.code.archive import EMPTY, NO_ZIP, TOO_LARGE, unpack
from rie.code.merge import merge
from rie.errors import ArchiveInvalid

LINK = stat.S_IFLNK | 0o777


def entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def packed(*entries: tuple[zipfile.ZipInfo | str, bytes]) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for info, content in entries:
            made.writestr(info, content)
    file.seek(0)
    return file


def refusal(file: io.BytesIO, target: Path) -> ArchiveInvalid:
    with pytest.raises(ArchiveInvalid) as refused:
        unpack(file, target)
    return refused.value


def test_modes_and_links_are_kept_and_directories_made(tmp_path: Path) -> None:
    size = unpack(
        packed(
            (entry("bin/run", stat.S_IFREG | 0o755), b"#!/bin/sh\n"),
            (entry("secret", stat.S_IFREG | 0o600), b"x"),
            (entry("lib/real.so", stat.S_IFREG | 0o644), b"12345"),
            (entry("lib/link.so", LINK), b"real.so"),
            (entry("empty/", stat.S_IFDIR | 0o700), b""),
        ),
        tmp_path,
    )
    assert size == 10 + 1 + 5
    assert stat.S_IMODE((tmp_path / "bin/run").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert os.readlink(tmp_path / "lib/link.so") == "real.so"
    assert stat.S_IMODE((tmp_path / "empty").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "bin").stat().st_mode) == 0o755


def test_archives_without_modes_get_readable_files(tmp_path: Path) -> None:
    windows = zipfile.ZipInfo("b.py")
    windows.create_system = 0
    windows.external_attr = 0x20
    program = entry("run", 0o755)
    unpack(packed(("a.py", b"x"), (windows, b"x"), (program, b"x")), tmp_path)  # a.py: 0600 without a kind
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in tmp_path.iterdir()}
    assert modes == {"a.py": "0o644", "b.py": "0o444", "run": "0o755"}


def test_set_user_id_is_dropped(tmp_path: Path) -> None:
    unpack(packed((entry("su", stat.S_IFREG | 0o6755), b"x")), tmp_path)
    assert stat.S_IMODE((tmp_path / "su").stat().st_mode) == 0o755


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/passwd", "a/..", "..", "//x"])
def test_names_that_lead_out_are_refused_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    assert refusal(packed(("fine", b"x"), (name, b"x")), inside).answer == NO_ZIP
    assert list(inside.iterdir()) == []
    assert list(tmp_path.iterdir()) == [inside]


@pytest.mark.parametrize("to", [b"/etc", b"../../..", b".."])
def test_nothing_is_written_through_a_link_that_leads_out(to: bytes, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    assert refusal(packed((entry("d", LINK), to), ("d/planted", b"x")), inside).answer == NO_ZIP
    assert not (tmp_path / "planted").exists()
    unpack(packed((entry("d", LINK), to)), inside)  # alone it is harmless: nobody here follows it
    assert os.readlink(inside / "d").encode() == to


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_devices_and_their_like_are_refused(kind: int, tmp_path: Path) -> None:
    assert refusal(packed((entry("sda", kind | 0o666), b"")), tmp_path).answer == NO_ZIP


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a", "./a"), ("x/y/z", "x/y")])
def test_two_entries_of_one_name_are_refused(names: tuple[str, str], tmp_path: Path) -> None:
    assert refusal(packed(*((entry(name), b"x") for name in names)), tmp_path).answer == NO_ZIP


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    content = bytearray(packed(("a", b"x")).getvalue())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    assert refusal(io.BytesIO(bytes(content)), tmp_path).answer == NO_ZIP


def test_a_bomb_is_refused_by_what_it_says_and_by_what_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_UNPACKED", 10_000)
    honest = packed(("zeros", bytes(10_000)))
    assert refusal(honest, tmp_path).answer == TOO_LARGE
    assert list(tmp_path.iterdir()) == []
    liar = bytearray(packed(("zeros", bytes(1_000_000))).getvalue())
    central = liar.index(b"PK\x01\x02")
    liar[22:26] = liar[central + 24 : central + 28] = (9_000).to_bytes(4, "little")
    unpacked = refusal(io.BytesIO(bytes(liar)), tmp_path)
    assert unpacked.answer in (TOO_LARGE, NO_ZIP)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10_000


@pytest.mark.parametrize("spoil", [lambda zipped: b"not a zip", lambda zipped: zipped[:-9], lambda zipped: b""])
def test_what_is_no_archive_is_refused(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    assert refusal(io.BytesIO(spoil(packed(("a", b"x")).getvalue())), tmp_path).answer == NO_ZIP


def test_damaged_content_is_refused(tmp_path: Path) -> None:
    content = packed((entry("a"), os.urandom(2_000))).getvalue()
    broken = content[:500] + bytes(100) + content[600:]
    assert refusal(io.BytesIO(broken), tmp_path).answer == NO_ZIP


def test_an_archive_without_entries_is_refused(tmp_path: Path) -> None:
    assert refusal(packed(), tmp_path).answer == EMPTY


# -- layers over each other --------------------------------------------------------------------------------------


def tree(path: Path, **files: str) -> Path:
    for name, content in files.items():
        place = path / name.replace("__", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
    return path


def test_a_later_layer_replaces_files_of_an_earlier_one(tmp_path: Path) -> None:
    first = tree(tmp_path / "1", python__a="1", python__only="1", kind__file="1", other="1")
    second = tree(tmp_path / "2", python__a="2", kind="2", other__below="2")
    target = tmp_path / "opt"
    target.mkdir()
    merge([first, second], target)
    assert (target / "python/a").read_text() == "2"
    assert (target / "python/only").read_text() == "1"
    assert (target / "kind").read_text() == "2"
    assert (target / "other/below").read_text() == "2"
    assert (first / "python/a").read_text() == "1"
    assert (target / "python/only").stat().st_ino == (first / "python/only").stat().st_ino


def test_a_layers_links_are_not_followed_when_another_lies_over_them(tmp_path: Path) -> None:
    outside = tree(tmp_path / "outside", secret="x")
    first = tree(tmp_path / "1", a="1")
    (first / "lib").symlink_to(outside)
    second = tree(tmp_path / "2", lib__planted="2")
    target = tmp_path / "opt"
    target.mkdir()
    merge([first, second], target)
    assert (target / "lib/planted").read_text() == "2"
    assert not (target / "lib").is_symlink()
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_the_bundles_place_is_an_empty_directory_whatever_a_layer_has_there(tmp_path: Path) -> None:
    for number, layer in enumerate((tree(tmp_path / "1", rie__bootstrap="evil"), tree(tmp_path / "2", rie="evil"))):
        target = tmp_path / f"opt{number}"
        target.mkdir()
        merge([layer], target)
        assert (target / "rie").is_dir()
        assert list((target / "rie").iterdir()) == []
        assert (layer / "rie").exists()
