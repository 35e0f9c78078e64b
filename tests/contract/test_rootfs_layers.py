"""Layers, honest and hostile: what Docker makes of them, and nothing outside."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from rie.errors import ImageInvalid
from rie.rootfs import overlay
from rie.rootfs.images import Images
from tests.contract.conftest import docker
from tests.layers import (
    Item,
    archive,
    device,
    directory,
    file,
    hard_link,
    item,
    listing,
    opaque,
    symlink,
    whiteout,
)
from tests.registry import Registry, assemble
from tests.scripted_registry import scripted


@contextmanager
def mounted(root: Path, layers: Sequence[bytes]) -> Iterator[Path]:
    """The root filesystem of an image with these layers."""
    images = Images(root / "images")
    target = root / "mounted"
    target.mkdir()
    with scripted(assemble(layers)) as registry:
        image = images.resolve(registry.reference, "x86_64")
        images.prepare(image)
    overlay.mount(images.layers(image), target)
    try:
        yield target
    finally:
        overlay.unmount(target)


BASE = archive(
    directory("", mode=0o755),
    directory("usr"),
    directory("usr/bin"),
    file("usr/bin/tool", b"#!", mode=0o755),
    file("usr/bin/set-user", b"#!", mode=0o4755),
    hard_link("usr/bin/other", "usr/bin/tool"),
    symlink("bin", "usr/bin"),
    symlink("absolute", "/usr/bin/tool"),
    symlink("dangling", "/nowhere/../.."),
    directory("tmp", mode=0o1777),
    directory("home", uid=1000, gid=1001, mode=0o2750),
    file("home/note", b"hello", uid=1000, gid=1001, mode=0o640, mtime=1234567890),
    item("pipe", tarfile.FIFOTYPE, mode=0o600),
    *(directory(f"d{number}") for number in range(1, 7)),
    *(file(f"d{number}/old", b"old") for number in range(1, 7)),
    directory("d1/deep"),
    file("d1/deep/er", b"1"),
    file("replaced", b"file"),
    file("n" * 200, b"long name"),
    *(directory("/".join(["long"] * depth)) for depth in range(1, 41)),
    file("/".join([*["long"] * 40, "ä" * 100]), b"long path"),
)
UPPER = archive(
    directory("", mode=0o755),
    whiteout("dangling"),
    directory("d1"),
    whiteout("d1/deep"),
    directory("d2"),
    opaque("d2"),
    file("d2/new", b"new"),
    whiteout("d3"),
    directory("d4"),
    file("d4/new", b"new"),
    opaque("d4"),  # after what it must not hide
    directory("d5"),
    whiteout("d5/old"),
    directory("replaced"),
    file("replaced/inside", b"1"),
    file("d6", b"now a file"),
    directory("home", uid=1000, gid=1001, mode=0o2750),
    file("home/note", b"changed", uid=5, gid=6, mode=0o600),
    directory("usr"),
    directory("usr/bin"),
    hard_link("usr/bin/third", "d4/new"),
)
THIRD = archive(
    directory("", mode=0o755),
    directory("d3"),
    file("d3/back", b"again"),
    directory("d2"),
    whiteout("d2/new"),
    file("dangling", b"a file now"),
)


def test_the_root_filesystem_is_the_one_that_docker_has(tmp_path: Path, registry: Registry) -> None:
    layers = [BASE, UPPER, THIRD]
    registry.push("rootfs/docker", "1", assemble(layers, Cmd=["/none"]))
    reference = registry.reference("rootfs/docker", "1")
    docker("pull", "-q", reference)
    name = docker("create", reference)
    try:
        exported = tmp_path / "docker"
        exported.mkdir()
        (tmp_path / "docker.tar").write_bytes(
            subprocess.run(["/usr/bin/docker", "export", name], capture_output=True, check=True).stdout
        )
        subprocess.run(["tar", "-xpf", tmp_path / "docker.tar", "-C", exported, "--numeric-owner"], check=True)
    finally:
        docker("rm", "-f", name)
        docker("image", "rm", "-f", reference)
    with mounted(tmp_path, layers) as ours:
        theirs, found = listing(exported), listing(ours)
        for added in (".dockerenv", "dev", "etc", "proc", "sys"):  # what Docker puts into every container
            for path in [path for path in theirs if path == added or path.startswith(f"{added}/")]:
                del theirs[path]
        assert found == theirs
    assert {"d2", "d3/back", "d4/new", "replaced/inside", "home/note"} <= set(found)
    assert not {"d1/deep", "d2/old", "d2/new", "d3/old", "d4/old", "d5/old", "d6/old"} & set(found)


def test_whiteouts_and_what_they_hide_may_come_in_any_order_within_a_layer(tmp_path: Path) -> None:
    below = archive(
        directory("d"), file("d/old", b"1"), directory("e"), file("e/old", b"1"), directory("f"), file("f/old")
    )
    above = archive(
        directory("d"), file("d/new"), whiteout("d"),  # the directory of this layer stays, what was below does not
        whiteout("e"), directory("e"), file("e/new"),
        whiteout("f"), file("f/new"),  # and no entry for the directory
    )  # fmt: skip
    with mounted(tmp_path, [below, above]) as root:
        assert set(listing(root)) == {"d", "d/new", "e", "e/new", "f", "f/new"}


def test_a_layer_that_hides_everything_hides_everything(tmp_path: Path) -> None:
    with mounted(tmp_path, [archive(file("old")), archive(file("new"), opaque("")), archive(file("top"))]) as root:
        assert set(listing(root)) == {"new", "top"}


def test_a_layer_that_comes_twice_wins_over_what_is_between(tmp_path: Path) -> None:
    again = archive(file("a", b"again"))
    with mounted(tmp_path, [again, archive(file("a", b"between"), file("b")), again]) as root:
        assert set(listing(root)) == {"a", "b"}
        assert (root / "a").read_bytes() == b"again"


@pytest.mark.parametrize("layers", [[], [archive(file("a"))], [archive()]])
def test_images_of_one_layer_or_none_can_be_mounted(tmp_path: Path, layers: list[bytes]) -> None:
    with mounted(tmp_path, layers) as root:
        assert set(listing(root)) <= {"a"}


def test_127_layers_are_stacked_in_order(tmp_path: Path) -> None:
    layers = [archive(file("last", str(number).encode()), file(f"f{number}")) for number in range(127)]
    with mounted(tmp_path, layers) as root:
        assert len(list(root.iterdir())) == 128
        assert (root / "last").read_bytes() == b"126"


def test_a_root_filesystem_is_read_only_or_writes_to_its_upper_directory(tmp_path: Path) -> None:
    images, target = Images(tmp_path / "images"), tmp_path / "root, with:colon"
    target.mkdir()
    with scripted(assemble([archive(file("a", b"1"))])) as registry:
        image = images.resolve(registry.reference, "x86_64")
        images.prepare(image)
    overlay.mount(images.layers(image), target)
    with pytest.raises(OSError, match="Read-only"):
        (target / "b").touch()
    overlay.unmount(target)
    upper = overlay.Upper(tmp_path / "upper, one", tmp_path / "work")
    for path in (upper.upper, upper.work):
        path.mkdir()
    overlay.mount(images.layers(image), target, upper=upper, label=image.digest)
    (target / "a").write_bytes(b"2")
    assert (upper.upper / "a").read_bytes() == b"2"
    assert (images.layers(image)[-1] / "a").read_bytes() == b"1"
    assert f"overlay {image.digest} " in Path("/proc/self/mountinfo").read_text()
    overlay.unmount(target)
    overlay.unmount(target)
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_attributes_and_times_are_kept_where_they_are_harmless(tmp_path: Path) -> None:
    capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    attributes = {
        "user.note": "hello",
        "security.capability": capability,
        "trusted.overlay.redirect": "/etc",
        "user.overlay.opaque": "y",
        "security.selinux": "label",
    }
    made = archive(
        file("a", b"1", mtime=1_600_000_000.5, xattrs=attributes), directory("d", mtime=1_500_000_000.25), file("d/f")
    )
    with mounted(tmp_path, [made]):
        images = Images(tmp_path / "images")
        (kept,) = images.list()
        layer = images.layers(kept.image)[-1]
    assert set(os.listxattr(layer / "a")) == {"user.note", "security.capability"}
    assert (layer / "a").stat().st_mtime_ns == 1_600_000_000_500_000_000
    assert (layer / "d").stat().st_mtime_ns == 1_500_000_000_250_000_000


def test_sparse_files_stay_sparse(tmp_path: Path) -> None:
    with (tmp_path / "holes").open("wb") as holes:
        holes.write(b"begin")
        holes.seek(1 << 30)
        holes.write(b"end")
    made = subprocess.run(
        ["tar", "--sparse", "-cf", "-", "-C", tmp_path, "holes"], capture_output=True, check=True
    ).stdout
    with mounted(tmp_path, [made]) as root:
        found = (root / "holes").stat()
        assert found.st_size == (1 << 30) + 3
        assert found.st_blocks * 512 < 1 << 20
        with (root / "holes").open("rb") as holes:
            assert holes.read(5) == b"begin"
            holes.seek(1 << 30)
            assert holes.read() == b"end"


def test_later_entries_replace_earlier_ones(tmp_path: Path) -> None:
    made = archive(
        directory("a"), file("a/gone"), file("a", b"file"),
        file("b"), directory("b"), file("b/new"),
        symlink("c", "a"), file("c", b"own"),
        file("d", b"1"), hard_link("e", "d"), file("d", b"2"),
        directory("f", mode=0o700), file("f/stays"), directory("f", mode=0o750),
    )  # fmt: skip
    with mounted(tmp_path, [made]) as root:
        assert set(listing(root)) == {"a", "b", "b/new", "c", "d", "e", "f", "f/stays"}
        assert [(root / name).read_bytes() for name in "acde"] == [b"file", b"own", b"2", b"1"]
        assert stat.S_IMODE((root / "f").stat().st_mode) == 0o750


# -- hostile -----------------------------------------------------------------------------------------------------------

HOSTILE: dict[str, tuple[Item, ...]] = {
    "a name above the root": (file("../escaped", b"x"),),
    "a name above the root, later": (file("a/../../escaped", b"x"),),
    "an absolute name above the root": (file("/../escaped", b"x"),),
    "a directory above the root": (directory("../escaped"),),
    "a link above the root": (symlink("../escaped", "/etc"),),
    "a whiteout above the root": (whiteout("../escaped"),),
    "a whiteout of its parent": (file("a/.wh..."),),
    "a hard link to above the root": (hard_link("a", "../outside"),),
    "a hard link to the host": (hard_link("a", "{outside}"),),
    "a hard link through a link": (symlink("l", "{parent}"), hard_link("a", "l/outside")),
    "a file through a link that leads nowhere here": (symlink("l", "{parent}"), file("l/outside", b"x")),
    "a file through a relative link": (symlink("l", "../../../../../../../{parent}"), file("l/outside", b"x")),
    "a whiteout through a link": (symlink("l", "{parent}"), whiteout("l/outside")),
    "a link loop": (symlink("l", "l"), file("l/f", b"x")),
    "a disk": (device("dev/sda", tarfile.BLKTYPE, 8, 0),),
    "memory": (device("memory", tarfile.CHRTYPE, 1, 1),),
    "memory called null": (device("dev/null", tarfile.CHRTYPE, 1, 1),),
    "the root as a file": (file("./", b"x"), item(".", tarfile.REGTYPE)),
    "the root as a link": (symlink(".", "/etc"),),
    "a name too long for a file": (file("a" * 300),),
    "a path too long": (file("a/" * 2500 + "f"),),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_layer_is_refused_and_touches_nothing(tmp_path: Path, what: str) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"untouched")
    made = archive(*(placed(entry, tmp_path) for entry in HOSTILE[what]))
    images = Images(tmp_path / "images")
    with scripted(assemble([made])) as registry:
        image = images.resolve(registry.reference, "x86_64")
        with pytest.raises(ImageInvalid, match="is broken"):
            images.prepare(image)
    assert outside.read_bytes() == b"untouched"
    assert outside.stat().st_nlink == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "outside"]
    assert not list(tmp_path.rglob("*escaped*"))
    for folder in ("layers", "unpacking", "images"):
        assert list((tmp_path / "images" / folder).iterdir()) == []


def placed(entry: Item, parent: Path) -> Item:
    """An entry whose names know where this test runs."""
    header, content = entry
    made = item(header.name, header.type, content, mode=header.mode, devmajor=header.devmajor, devminor=header.devminor)
    made[0].linkname = header.linkname.format(parent=parent, outside=parent / "outside")
    return made


@pytest.mark.parametrize("size", [60_000, 100_000])
def test_attributes_that_no_inode_holds_are_the_layers_fault(tmp_path: Path, size: int) -> None:
    images = Images(tmp_path / "images")
    image = assemble([archive(file("a", xattrs={"user.large": "x" * size}))])
    with scripted(image) as registry, pytest.raises(ImageInvalid, match="attributes that are too large"):
        images.prepare(images.resolve(registry.reference, "x86_64"))


def test_links_within_the_image_are_followed_as_docker_does_and_never_leave_it(tmp_path: Path) -> None:
    made = archive(
        directory("usr"), directory("usr/lib"), symlink("lib", "usr/lib"), file("lib/inside", b"1"),
        directory("etc"), symlink("escape", "/etc"), file("escape/passwd", b"ours"),
        symlink("up", "../../../../etc"), file("up/shadow", b"ours"),
    )  # fmt: skip
    before = Path("/etc/passwd").read_bytes()
    with mounted(tmp_path, [made]) as root:
        assert (root / "usr/lib/inside").read_bytes() == b"1"
        assert {"etc/passwd", "etc/shadow"} <= set(listing(root))
    assert Path("/etc/passwd").read_bytes() == before


def test_the_devices_that_every_sandbox_has_are_left_out(tmp_path: Path) -> None:
    made = archive(
        directory("dev"), device("dev/null", tarfile.CHRTYPE, 1, 3), device("./dev/console", tarfile.CHRTYPE, 5, 1)
    )
    with mounted(tmp_path, [made]) as root:
        assert set(listing(root)) == {"dev"}


def test_programs_with_set_user_bits_are_out_of_others_reach_and_without_effect(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with mounted(tmp_path, [archive(file("tool", b"#!/bin/sh\nid -u\n", mode=0o4755))]) as root:
        assert stat.S_IMODE((root / "tool").stat().st_mode) == 0o4755
        options = next(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(root) in line)
        assert {"nosuid", "nodev", "ro"} <= set(options.split()[5].split(","))
        layer = next((tmp_path / "images/layers").iterdir())
        found = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "ls", layer],
            capture_output=True,
            check=False,
        )
        assert b"Permission denied" in found.stderr


def test_deep_trees_can_be_made_and_removed(tmp_path: Path) -> None:
    """Deeper than a path can be, by links that lead on from where the last one ended."""
    far = "directory/" * 300
    entries = []
    for number in range(4):
        begin = f"l{number - 1}/" if number else ""
        entries += [directory(begin + far), symlink(f"l{number}", begin + far)]
    images = Images(tmp_path / "images")
    with scripted(assemble([archive(*entries)])) as registry:
        image = images.resolve(registry.reference, "x86_64")
        images.prepare(image)
    images.collect([])
    assert list((tmp_path / "images/layers").iterdir()) == []
    assert list((tmp_path / "images/unpacking").iterdir()) == []
